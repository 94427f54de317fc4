/** Mutual close: only to known scripts, only with the balances of the signer's own last states. */
import {
  type BuiltClosing,
  MAX_OMITTED_OUTPUT_SAT,
  buildClosingTransaction,
  closingWeight,
  mayOmitHolder,
} from '@fulmen/channel/commitment/closing';
import { feeForWeightRoundedUpSat } from '@fulmen/bitcoin';
import { equalBytes, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import type { EnforcementContext } from './commitments.ts';
import { refuse } from './refuse.ts';
import type { ChannelRegistration, CommitmentRecord, Refusal, SignerChannelState } from './types.ts';

export interface ClosingRequest {
  readonly toHolderSat: bigint;
  readonly toCounterpartySat: bigint;
  readonly holderScript: Uint8Array;
  readonly counterpartyScript: Uint8Array;
  readonly feeSat: bigint;
}

/** @param walletScript the wallet's script for this channel, where money goes when nothing else was agreed. */
export function signClosing(
  ctx: EnforcementContext,
  state: SignerChannelState,
  request: ClosingRequest,
  walletScript: Uint8Array,
): Result<{ readonly state: SignerChannelState; readonly signature: Uint8Array }, Refusal> {
  const { registration } = state;
  if (state.lock.type === 'frozen' || state.lock.type === 'closing')
    return refuse('policy-commitment-not-closed', `the channel is locked (${state.lock.type})`);
  const last = [state.holderCommitments.at(-1), state.counterpartyCommitments.at(-1)];
  const holderUpfront = registration.holder.upfrontShutdownScript;
  const counterpartyUpfront = registration.counterparty.upfrontShutdownScript;
  const ours = holderUpfront === undefined ? [walletScript, ...ctx.limits.allowedScripts] : [holderUpfront];
  if (!ours.some((script) => equalBytes(script, request.holderScript)))
    return refuse('policy-mutual-destination', 'the holder’s script is not allowed');
  if (counterpartyUpfront !== undefined && !equalBytes(counterpartyUpfront, request.counterpartyScript)) {
    return refuse('policy-mutual-destination', 'not the script that the counterparty committed to');
  }
  // The highest fee: this weight at the highest feerate.
  const maximumFeeSat = feeForWeightRoundedUpSat(
    closingWeight([request.holderScript, request.counterpartyScript]),
    ctx.limits.maximumFeerateSatPerKw,
  );
  if (request.feeSat > maximumFeeSat)
    return refuse('policy-mutual-fee-range', `fee of ${request.feeSat} sat`);
  let shares: Shares = { holder: 0n, counterparty: 0n };
  for (const record of last) {
    if (record === undefined)
      return refuse('policy-commitment-initial-not-validated', 'the channel has no commitments yet');
    if (record.htlcCount > 0)
      return refuse('policy-mutual-no-pending-htlcs', `${record.htlcCount} HTLCs pending`);
    shares = sharesSat(registration, record, request.feeSat);
    const isOmitted =
      request.toHolderSat === 0n && mayOmitHolder(shares.holder, registration.counterparty.dustLimitSat);
    if (request.toHolderSat < shares.holder && !isOmitted)
      return refuse(
        'policy-mutual-value',
        `${request.toHolderSat} sat to the holder, who has ${record.toHolderMsat} msat`,
      );
  }
  const built = buildClosingTransaction({
    funding: registration.funding,
    closing: request,
    dustLimitSat: registration.holder.dustLimitSat,
  });
  if (!built.ok) return refuse('policy-mutual-value', built.error.type);
  if (built.value.feeSat > maximumFeeSat + omittedSat(built.value, shares) + ROUNDED_OFF_SAT)
    return refuse('policy-mutual-fee-range', `the transaction pays ${built.value.feeSat} sat`);
  const locked: SignerChannelState =
    state.lock.type === 'mutual_close' ? state : { ...state, lock: { type: 'mutual_close' } };
  return ok({ state: locked, signature: ctx.secp.sign(built.value.sighash, ctx.secrets.fundingSecret) });
}

interface Shares {
  readonly holder: bigint;
  readonly counterparty: bigint;
}

/** What a close leaves to each side; below zero where the funder cannot pay the fee. */
function sharesSat({ funder }: ChannelRegistration, record: CommitmentRecord, feeSat: bigint): Shares {
  return {
    holder: record.toHolderMsat / 1000n - (funder === 'holder' ? feeSat : 0n),
    counterparty: record.toCounterpartyMsat / 1000n - (funder === 'counterparty' ? feeSat : 0n),
  };
}

/** Balances are rounded down to whole satoshis. */
const ROUNDED_OFF_SAT = 2n;

/** What goes to the miners beside the fee: outputs that are too small to exist, or that their owner gave up. */
function omittedSat(built: BuiltClosing, shares: Shares): bigint {
  const omitted = [
    ...(built.holderOutputIndex === undefined ? [shares.holder] : []),
    ...(built.counterpartyOutputIndex === undefined ? [shares.counterparty] : []),
  ];
  return omitted
    .filter((valueSat) => valueSat > 0n && valueSat < MAX_OMITTED_OUTPUT_SAT)
    .reduce((sum, valueSat) => sum + valueSat, 0n);
}
