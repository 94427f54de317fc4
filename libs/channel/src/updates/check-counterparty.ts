/** Whether the counterparty was allowed to make an update. */
import type { Result } from '@fulmen/codec';
import { ok } from '@fulmen/codec';
import { paysForRelay } from '../commitment/fees.ts';
import type { ChannelContext } from '../context.ts';
import type { ChannelError } from '../errors.ts';
import { fault } from '../errors.ts';
import type { Part } from './limits.ts';
import {
  excessiveDustOn,
  fundingAt,
  funderCostSat,
  lenientCounterpartySpec,
  nextHolderSpec,
} from './limits.ts';
import { newestFeerate } from './spec.ts';

/**
 * `state` already holds the new HTLC.
 *
 * BOLT 2: "receiving an amount_msat that the sending node cannot afford at the
 * current feerate_per_kw (while maintaining its channel reserve and any
 * to_local_anchor and to_remote_anchor costs): SHOULD send a warning and close
 * the connection, or send an error and fail the channel."
 *
 * A holder that is the funder and cannot pay for the counterparty's HTLC dips
 * below its reserve: the fee is then less than the feerate asks for. It ends
 * where the commitment would not be relayed: all that is on the next one the
 * counterparty knew when it added.
 */
export function checkCounterpartyAdd(state: Part): Result<void, ChannelError> {
  const { holder, funder } = state.parameters;
  for (const [i] of state.fundings.entries()) {
    const reserveSat = fundingAt(state, i).counterpartyReserveSat;
    const next = nextHolderSpec(state, i);
    const own = lenientCounterpartySpec(state, i);
    for (const [owner, spec] of [
      ['holder', next],
      ['counterparty', own],
    ] as const) {
      const costSat = funder === 'counterparty' ? funderCostSat(state, owner, spec) : 0n;
      if (spec.toCounterpartyMsat < (reserveSat + costSat) * 1000n) {
        return fault(
          'insufficient_balance',
          'warning_disconnect',
          'update_add_htlc: amount cannot be afforded with reserve and fees',
        );
      }
    }
    if (funder === 'holder' && !paysForRelay({ parameters: state.parameters, owner: 'holder', spec: next }))
      return fault(
        'cannot_afford_commitment_fee',
        'warning_disconnect',
        'update_add_htlc: the funder cannot pay for it',
      );
    const inbound = next.htlcs.filter((htlc) => htlc.direction === 'inbound');
    // BOLT 2: "if a sending node adds more than receiver max_accepted_htlcs HTLCs to its local commitment transaction,
    // OR adds more than receiver max_htlc_value_in_flight_msat worth of offered HTLCs: SHOULD send a warning and close
    // the connection, or send an error and fail the channel."
    if (inbound.length > holder.maxAcceptedHtlcs)
      return fault('too_many_htlcs', 'warning_disconnect', 'update_add_htlc: more than max_accepted_htlcs');
    if (inbound.reduce((sum, htlc) => sum + htlc.amountMsat, 0n) > holder.maxHtlcValueInFlightMsat) {
      return fault(
        'max_htlc_value_in_flight',
        'warning_disconnect',
        'update_add_htlc: more than max_htlc_value_in_flight_msat',
      );
    }
  }
  return ok(undefined);
}

/**
 * `state` already holds the new feerate, `before` does not; the counterparty is the funder.
 *
 * A fall is what mends a reserve that was dipped into, and is taken below it, too. But where it gives outputs to HTLCs that
 * were trimmed, it may be the dearer feerate, and must then be paid for.
 */
export function checkCounterpartyFee(
  ctx: ChannelContext,
  before: Part,
  state: Part,
): Result<void, ChannelError> {
  const rises = newestFeerate(state.changes) > newestFeerate(before.changes);
  for (const [i] of state.fundings.entries()) {
    const next = nextHolderSpec(state, i);
    const costSat = funderCostSat(state, 'holder', next);
    const isDearer = costSat > funderCostSat(before, 'holder', nextHolderSpec(before, i));
    const neededSat = costSat + (rises ? fundingAt(state, i).counterpartyReserveSat : 0n);
    // BOLT 2: "if the sender cannot afford the new fee rate on the receiving node's current commitment transaction:
    // SHOULD send a warning and close the connection, or send an error and fail the channel".
    if ((rises || isDearer) && next.toCounterpartyMsat < neededSat * 1000n)
      return fault(
        'cannot_afford_commitment_fee',
        'warning_disconnect',
        'update_fee: feerate cannot be afforded',
      );
  }
  // BOLT 2: "if the dust balance ... at the updated feerate_per_kw is greater than max_dust_htlc_exposure_msat: MAY fail
  // the channel". The update is refused and the connection closed; the channel itself stays.
  if (rises && excessiveDustOn(ctx, state) !== undefined)
    return fault('dust_exposure', 'warning_disconnect', 'update_fee: exposure to dust exceeds its cap');
  return ok(undefined);
}
