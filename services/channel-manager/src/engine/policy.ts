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
