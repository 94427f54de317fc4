/** Mutual close: only to known scripts, only with the balances of the signer's own last states. */
import { buildClosingTransaction, closingWeight } from '@fulmen/channel/commitment/closing';
import { feeForWeightRoundedUpSat } from '@fulmen/bitcoin';
import { equalBytes, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import type { EnforcementContext } from './commitments.ts';
import { refuse } from './refuse.ts';
import type { Refusal, SignerChannelState } from './types.ts';

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
  for (const record of last) {
    if (record === undefined)
      return refuse('policy-commitment-initial-not-validated', 'the channel has no commitments yet');
    if (record.htlcCount > 0)
      return refuse('policy-mutual-no-pending-htlcs', `${record.htlcCount} HTLCs pending`);
    const feeSat = registration.funder === 'holder' ? request.feeSat : 0n;
    const leastSat = record.toHolderMsat / 1000n - feeSat;
    if (request.toHolderSat < leastSat)
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
  if (built.value.feeSat > maximumFeeSat + dustAllowance(request, registration.holder.dustLimitSat))
    return refuse('policy-mutual-fee-range', `the transaction pays ${built.value.feeSat} sat`);
  const locked: SignerChannelState =
    state.lock.type === 'mutual_close' ? state : { ...state, lock: { type: 'mutual_close' } };
  return ok({ state: locked, signature: ctx.secp.sign(built.value.sighash, ctx.secrets.fundingSecret) });
}

/** Outputs too small to exist go to the miners, with what rounding cuts off. */
function dustAllowance(request: ClosingRequest, dustLimitSat: bigint): bigint {
  const generousSat = dustLimitSat > 10_000n ? dustLimitSat : 10_000n;
  const omitted = [request.toHolderSat, request.toCounterpartySat].filter(
    (valueSat) => valueSat < generousSat,
  );
  return omitted.reduce((sum, valueSat) => sum + valueSat, 2n);
}
