/** What happens to a claim next, for people. */
import { assertNever } from '@fulmen/codec';
import type { Price } from './price.ts';
import type { PendingSweep } from './types.ts';

/** The longest of a node's reasons that is repeated. */
const MAX_REASON_LENGTH = 200;

/** sat/vB with at most one decimal. */
export function satPerVb(feerateSatPerKw: number): string {
  return String(Math.round(feerateSatPerKw / 25) / 10);
}

function until(deadlineHeight: number | undefined): string {
  return deadlineHeight === undefined ? '' : `, to be home before block ${deadlineHeight}`;
}

export interface Situation {
  readonly price: Price;
  readonly bestHeight: number;
  readonly deadlineHeight: number | undefined;
  readonly lastSatPerKw: number;
  /** The transaction that holds the claim already. */
  readonly pending: PendingSweep | undefined;
}

export function nextActionOf(situation: Situation): string {
  const { price, bestHeight, deadlineHeight, lastSatPerKw, pending } = situation;
  switch (price.type) {
    case 'send': {
      const rate = satPerVb(price.sweep.feerateSatPerKw);
      const raised = pending !== undefined && lastSatPerKw > 0 && price.sweep.feerateSatPerKw > lastSatPerKw;
      return raised
        ? `in block ${bestHeight}: raised from ${satPerVb(lastSatPerKw)} to ${rate} sat/vB${until(deadlineHeight)}`
        : `in block ${bestHeight}: offered at ${rate} sat/vB${until(deadlineHeight)}`;
    }
    case 'keep': {
      if (pending?.rejectReason !== undefined)
        return `refused by the node (${pending.rejectReason.slice(0, MAX_REASON_LENGTH)}): tried again at every block${until(deadlineHeight)}`;
      return `waits for a block at ${satPerVb(pending?.feerateSatPerKw ?? lastSatPerKw)} sat/vB${until(deadlineHeight)}`;
    }
    case 'wait_for_fees':
      return `waits for lower fees: worth at most ${satPerVb(price.affordableSatPerKw)} sat/vB${until(deadlineHeight)}`;
    case 'wait_for_coins':
      return `waits for ${price.missingSat} sat more in the wallet to pay its fee${until(deadlineHeight)}`;
    case 'paid_by_itself':
      return `nothing: the commitment pays ${satPerVb(price.feerateSatPerKw)} sat/vB by itself`;
    default:
      return assertNever(price);
  }
}
