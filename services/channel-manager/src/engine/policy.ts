import { type EstablishedChannel, primaryFunding } from '@fulmen/channel';
import type { ChannelPolicyRow } from '@fulmen/store';
import type { PolicyChange } from './api.ts';

/** Terms of forwarding for channels whose operator did not say otherwise. LDK's defaults: base 1000 msat, 0 ppm, delta 72. */
export interface PolicySettings {
  readonly feeBaseMsat: number;
  readonly feeProportionalMillionths: number;
  readonly cltvExpiryDelta: number;
}

export class PolicyDefaults {
  readonly #settings: PolicySettings;

  constructor(settings: PolicySettings) {
    this.#settings = settings;
  }

  /** A new channel's policy. */
  initial(capacitySat: bigint, announce: boolean, nowUnixMs: number): ChannelPolicyRow {
    return {
      ...this.#settings,
      htlcMinimumMsat: 1n,
      // Announced channels do not say how much they can really carry (LDK: a quarter in flight).
      htlcMaximumMsat: announce ? capacitySat * 250n : capacitySat * 1000n,
      updatedUnixMs: nowUnixMs,
    };
  }
}

/** The sizes of an HTLC that the channel really takes: what its operator wants, within what the peer accepts. */
export function publishedLimits(
  state: EstablishedChannel,
  policy: ChannelPolicyRow,
): { readonly htlcMinimumMsat: bigint; readonly htlcMaximumMsat: bigint } {
  const { counterparty } = state.parameters;
  const capacityMsat = primaryFunding(state).fundingValueSat * 1000n;
  return {
    // BOLT 7: "MUST set `htlc_minimum_msat` to the minimum HTLC value (in millisatoshi) that the channel peer will accept."
    htlcMinimumMsat: larger(policy.htlcMinimumMsat, counterparty.htlcMinimumMsat),
    // BOLT 7: "MUST set this to less than or equal to the channel capacity" and "to `max_htlc_value_in_flight_msat` it
    // received from the peer."
    htlcMaximumMsat: smaller(
      policy.htlcMaximumMsat,
      smaller(capacityMsat, counterparty.maxHtlcValueInFlightMsat),
    ),
  };
}

const larger = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const smaller = (a: bigint, b: bigint): bigint => (a < b ? a : b);

/** The policy after a change, remembering the terms before for BOLT 7's ten minutes. */
export function changedPolicy(
  policy: ChannelPolicyRow,
  change: PolicyChange,
  nowUnixMs: number,
): ChannelPolicyRow {
  const { feeBaseMsat, feeProportionalMillionths, cltvExpiryDelta } = policy;
  return {
    feeBaseMsat: change.feeBaseMsat ?? feeBaseMsat,
    feeProportionalMillionths: change.feeProportionalMillionths ?? feeProportionalMillionths,
    cltvExpiryDelta: change.cltvExpiryDelta ?? cltvExpiryDelta,
    htlcMinimumMsat: change.htlcMinimumMsat ?? policy.htlcMinimumMsat,
    htlcMaximumMsat: change.htlcMaximumMsat ?? policy.htlcMaximumMsat,
    updatedUnixMs: nowUnixMs,
    previous: { feeBaseMsat, feeProportionalMillionths, cltvExpiryDelta },
  };
}
