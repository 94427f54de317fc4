/** One group of claims in a plan: what stands in its way, and what it pays. */
import { txWeight } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/codec';
import { progressOf } from './claim-plans.ts';
import { type Replaced, replacementFeeSat } from './fee-function.ts';
import { type ClaimGroup, deadlineOf } from './group.ts';
import { outPointKeyOf } from './keys.ts';
import { type Obstacle, type Price, priceOf } from './price.ts';
import { isFeeRefusal } from './refusal.ts';
import type { PendingSweep, PlannedSweep, Rival, SweepPlanInput, WalletCoin } from './types.ts';

export interface Job {
  readonly group: ClaimGroup;
  /** Goes on waiting unless something better is sent. */
  readonly pending: PendingSweep | undefined;
  /** A transaction in the mempool that it is a part of, and must pay for. */
  readonly makesRoomFor: PendingSweep | undefined;
  readonly held: readonly WalletCoin[];
  readonly available: readonly WalletCoin[];
  /** Rivals, by txid, that another transaction of the same plan outbids. */
  readonly outbid: ReadonlySet<string>;
}

/** Whether the node cannot have it: it refuses it, or it has another that spends the same. */
export function isOut(input: SweepPlanInput, pending: PendingSweep): boolean {
  const isContested = pending.claims.some((at) => input.rivals.has(outPointKeyOf(at)));
  return pending.rejectReason !== undefined || isContested || isAllied(input, pending);
}

/** Whether another transaction with the holder's keys makes one of its claims, and may spend its coins too. */
export function isAllied({ allied }: SweepPlanInput, { claims }: PendingSweep): boolean {
  return claims.some((at) => allied.has(outPointKeyOf(at)));
}

export function priceJob(input: SweepPlanInput, job: Job): Price {
  const { group, pending, held, available } = job;
  const progress = group.members.map((one) => progressOf(input, one));
  const hasDeadline = deadlineOf(group.members) !== undefined;
  // Before a deadline it never falls, in whichever transaction it was tried before.
  const before = hasDeadline ? Math.max(...progress.map(({ feerateSatPerKw }) => feerateSatPerKw)) : 0;
  const requested = Math.max(0, ...progress.map((one) => one.requestedFeerateSatPerKw ?? 0));
  return priceOf(input, {
    group,
    firstHeight: Math.min(...progress.map(({ firstHeight }) => firstHeight)),
    lastSatPerKw: Math.max(before, pending?.feerateSatPerKw ?? 0),
    requestedSatPerKw: requested === 0 ? undefined : requested,
    obstacle: obstacleOf(input, job),
    otherwise: pending === undefined ? 'nothing' : 'unchanged',
    held,
    available,
  });
}

function obstacleOf(input: SweepPlanInput, job: Job): Obstacle {
  const { group, pending, makesRoomFor } = job;
  const before = makesRoomFor ?? pending;
  const rivals = rivalsOf(input, job);
  const known = rivals.flatMap(replacedBy);
  if (known.length > 0) {
    const { incrementalRelaySatPerKw } = input.feerates;
    const isBeaten =
      pending !== undefined &&
      pending.feeSat >= replacementFeeSat(known, txWeight(pending.tx), incrementalRelaySatPerKw);
    return isBeaten ? { type: 'none' } : { type: 'rivals', replaced: known };
  }
  const isHelped = group.members.some(({ claim }) => input.allied.has(outPointKeyOf(claim.outPoint)));
  if (before === undefined || isHelped) return { type: 'none' };
  if (before.rejectReason === undefined)
    // A rival in the mempool has ours put out of it.
    return rivals.length > 0
      ? { type: 'none' }
      : { type: 'ours', replaced: [{ feeSat: before.feeSat, weight: txWeight(before.tx) }] };
  // What an anchor's child may meet is another commitment: no fee of its own helps against that.
  return pending !== undefined && isFeeRefusal(before.rejectReason) && group.shape !== 'child'
    ? { type: 'unseen' }
    : { type: 'none' };
}

/** Each once, however many of the claims it spends. BIP 125, rule 3, counts transactions. */
function rivalsOf({ rivals }: SweepPlanInput, { group, outbid }: Job): readonly Rival[] {
  if (group.shape === 'child') return [];
  const found = new Map<string, Rival>();
  for (const { claim } of group.members) {
    const rival = rivals.get(outPointKeyOf(claim.outPoint));
    if (rival !== undefined && !outbid.has(toHex(rival.txid))) found.set(toHex(rival.txid), rival);
  }
  return [...found.values()];
}

function replacedBy({ offer }: Rival): readonly Replaced[] {
  return offer === undefined ? [] : [{ feeSat: offer.feeSat, weight: offer.vsize * 4 }];
}

/** Rivals, by txid, that the node lets go for this transaction. */
export function outbidBy(
  input: SweepPlanInput,
  job: Job,
  { feeSat, weight }: Pick<PlannedSweep, 'feeSat' | 'weight'>,
): readonly string[] {
  const { incrementalRelaySatPerKw } = input.feerates;
  return rivalsOf(input, job)
    .filter((rival) => {
      const replaced = replacedBy(rival);
      return replaced.length > 0 && feeSat >= replacementFeeSat(replaced, weight, incrementalRelaySatPerKw);
    })
    .map(({ txid }) => toHex(txid));
}
