/** Whether the holder may make an update: typed refusals, on both commitments of every funding. */
import type { Result } from '@fulmen/codec';
import { ok } from '@fulmen/codec';
import type { ChannelContext } from '../context.ts';
import type { ChannelError } from '../errors.ts';
import { refuse } from '../errors.ts';
import type { Part } from './limits.ts';
import {
  OWNERS,
  dearestCostSat,
  excessiveDustOn,
  fundingAt,
  isDustAnywhere,
  pessimisticSpec,
} from './limits.ts';

/** `state` already holds the new HTLC, of this amount. */
export function checkHolderAdd(
  ctx: ChannelContext,
  state: Part,
  amountMsat: bigint,
): Result<void, ChannelError> {
  const { counterparty, funder } = state.parameters;
  const isFunder = funder === 'holder';
  for (const [i] of state.fundings.entries()) {
    const funding = fundingAt(state, i);
    for (const owner of OWNERS) {
      const spec = pessimisticSpec(state, owner, i);
      if (spec.toHolderMsat < 0n) return refuse('insufficient_balance', 'the amount exceeds the balance');
      const reserveMsat = funding.holderReserveSat * 1000n;
      if (spec.toHolderMsat < reserveMsat)
        return refuse('channel_reserve', 'the balance would fall below the channel reserve');
      const costMsat = dearestCostSat(state, owner, spec) * 1000n;
      if (isFunder) {
        // BOLT 2: "MUST NOT offer amount_msat if, after adding that HTLC to its commitment transaction, it cannot
        // pay the fee for either the local or remote commitment transaction at the current feerate_per_kw while
        // maintaining its channel reserve", and the anchors above it.
        // "SHOULD NOT offer ... 'fee spike buffer' can handle twice the current feerate_per_kw".
        const spikeMsat =
          dearestCostSat(state, owner, spec, {
            extraHtlcs: 1,
            feerateMultiple: ctx.config.feeSpikeMultiple,
          }) * 1000n;
        if (spec.toHolderMsat < reserveMsat + spikeMsat)
          return refuse('cannot_afford_commitment_fee', 'the fee spike buffer would not be kept');
      } else if (spec.toCounterpartyMsat < funding.counterpartyReserveSat * 1000n + costMsat) {
        // BOLT 2: "SHOULD NOT offer amount_msat if, once the remote node adds that HTLC to its commitment
        // transaction, it cannot pay the fee".
        return refuse('counterparty_cannot_afford_fee', 'the counterparty could not pay for another HTLC');
      }
    }
    const offered = pessimisticSpec(state, 'counterparty', i).htlcs.filter(
      (htlc) => htlc.direction === 'outbound',
    );
    // BOLT 2: "if result would be offering more than the remote's max_accepted_htlcs HTLCs, in the remote commitment transaction: MUST NOT add an HTLC."
    if (offered.length > counterparty.maxAcceptedHtlcs)
      return refuse('too_many_htlcs', 'the counterparty accepts no more HTLCs');
    const inFlightMsat = offered.reduce((sum, htlc) => sum + htlc.amountMsat, 0n);
    // BOLT 2: "if the total value of offered HTLCs would exceed the remote's max_htlc_value_in_flight_msat: MUST NOT add an HTLC."
    if (inFlightMsat > counterparty.maxHtlcValueInFlightMsat)
      return refuse('max_htlc_value_in_flight', 'too much would be in flight');
  }
  if (
    isDustAnywhere(state, { direction: 'outbound', amountMsat }) &&
    excessiveDustOn(ctx, state) !== undefined
  ) {
    return refuse('dust_exposure', 'the exposure to dust would exceed its cap');
  }
  return ok(undefined);
}

/** `state` already holds the new feerate; the holder is the funder. */
export function checkHolderFee(ctx: ChannelContext, state: Part): Result<void, ChannelError> {
  for (const [i] of state.fundings.entries()) {
    for (const owner of OWNERS) {
      const spec = pessimisticSpec(state, owner, i);
      const needed = fundingAt(state, i).holderReserveSat + dearestCostSat(state, owner, spec);
      if (spec.toHolderMsat < needed * 1000n)
        return refuse('cannot_afford_commitment_fee', 'the feerate is not affordable');
    }
  }
  if (excessiveDustOn(ctx, state) !== undefined)
    return refuse('dust_exposure', 'the exposure to dust would exceed its cap');
  return ok(undefined);
}
