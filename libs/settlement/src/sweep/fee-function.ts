/**
 * What a claim pays at a height. With a deadline: from the estimate on it
 * rises, slowly at first, and reaches what the budget allows in the last block
 * before the deadline; it never falls before it. Without: the estimate.
 */
import { feeForWeightRoundedUpSat } from '@fulmen/bitcoin';

export interface FeeCurve {
  /** The estimate of now. */
  readonly startSatPerKw: number;
  /** What the budget allows. */
  readonly capSatPerKw: number;
  readonly firstHeight: number;
  /** Absent: no hurry. */
  readonly deadlineHeight?: number;
  readonly bestHeight: number;
  /** Of the last attempt; 0: none. */
  readonly lastSatPerKw: number;
}

/** How far a claim has come, from 0 at its first height to 1 when the next block is the last before the deadline. */
export function urgency(curve: Pick<FeeCurve, 'firstHeight' | 'deadlineHeight' | 'bestHeight'>): number {
  if (curve.deadlineHeight === undefined) return 0;
  const totalBlocks = curve.deadlineHeight - (curve.firstHeight + 1);
  const leftBlocks = curve.deadlineHeight - (curve.bestHeight + 1);
  if (leftBlocks <= 1) return 1;
  if (totalBlocks <= 1) return 1;
  return Math.min(1, Math.max(0, (totalBlocks - leftBlocks) / (totalBlocks - 1)));
}

/** Feerate for the next block. At most the cap, but never below the last one. */
export function feerateAt(curve: FeeCurve): number {
  const { capSatPerKw, lastSatPerKw } = curve;
  const start = Math.min(curve.startSatPerKw, capSatPerKw);
  const way = urgency(curve);
  // The square keeps the early blocks cheap: an honest mempool takes the estimate, only an attacker needs the budget.
  const risen = way === 1 ? capSatPerKw : start + Math.floor((capSatPerKw - start) * way * way);
  return Math.max(risen, lastSatPerKw);
}

/** What a transaction replaces in the mempool. */
export interface Replaced {
  readonly feeSat: bigint;
  readonly weight: number;
}

/**
 * The least fee that replaces others. BIP 125, rule 3: "The replacement transaction pays an absolute fee of at least
 * the sum paid by the original transactions." Rule 4: "The replacement transaction must also pay for replacing the
 * original transactions at or above the rate set by the node's minimum relay fee setting." Its feerate must be above
 * each of theirs, too.
 */
export function replacementFeeSat(
  replaced: readonly Replaced[],
  weight: number,
  incrementalRelaySatPerKw: number,
): bigint {
  if (replaced.length === 0) return 0n;
  const vbytes = BigInt(Math.ceil(weight / 4));
  // A vbyte of relay weighs four, counted in whole vbytes as the node does.
  const relaySat = (vbytes * 4n * BigInt(incrementalRelaySatPerKw) + 999n) / 1000n;
  let feeSat = replaced.reduce((sum, old) => sum + old.feeSat, relaySat);
  for (const old of replaced) {
    const oldVbytes = BigInt(Math.ceil(old.weight / 4));
    const aboveItsRate = (old.feeSat * vbytes) / oldVbytes + 1n;
    if (aboveItsRate > feeSat) feeSat = aboveItsRate;
  }
  return feeSat;
}

/** The feerate that a fee gives a weight, rounded down. */
export function feerateOf(feeSat: bigint, weight: number): number {
  return Number((feeSat * 1000n) / BigInt(weight));
}

export { feeForWeightRoundedUpSat as feeAtSat };
