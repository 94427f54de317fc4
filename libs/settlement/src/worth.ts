/**
 * HTLC outputs that nobody pays to claim: above the dust limit, and yet worth
 * less than their claim costs. They hold up nothing: not the HTLC upstream,
 * whose channel would be lost for a few satoshis, and not the end of the close.
 */
import { FEERATE_FLOOR_SAT_PER_KW, feeForWeightRoundedUpSat } from '@fulmen/bitcoin';
import { IRREVOCABLE_DEPTH } from './constants.ts';
import type { Claim } from './types.ts';

/** Outpoint, sequence and empty script. */
const INPUT_WEIGHT = 4 * 41;
/** Of a transaction that the holder completes with a coin of the wallet's: the claim's own output, the coin's input and witness, the change. */
const SECOND_STAGE_WEIGHT = 4 * 43 + INPUT_WEIGHT + 108 + 4 * 31;
/** A claim may cost at most half of what it brings (the sweeper's budget with a deadline). */
const SHARE = 2n;

function isHtlc({ kind }: Claim): boolean {
  return kind.type === 'counterparty_htlc' || kind.type === 'holder_htlc';
}

/** What a claim adds to the fees of the transaction that makes it, at a feerate. */
export function claimFeeSat(claim: Claim, feerateSatPerKw: number): bigint {
  const { kind } = claim;
  if (kind.type === 'holder_htlc' && kind.aggregation === 'fixed')
    return claim.valueSat - kind.output.valueSat;
  const rest = kind.type === 'holder_htlc' ? SECOND_STAGE_WEIGHT : 0;
  return feeForWeightRoundedUpSat(INPUT_WEIGHT + claim.witnessWeight + rest, feerateSatPerKw);
}

/** Whether claiming an HTLC's output costs too much at this feerate. Transactions that are fixed by both sides cost what they cost. */
export function isTooDear(claim: Claim, feerateSatPerKw: number): boolean {
  const isFixed = claim.kind.type === 'holder_htlc' && claim.kind.aggregation === 'fixed';
  return isHtlc(claim) && !isFixed && claimFeeSat(claim, feerateSatPerKw) * SHARE > claim.valueSat;
}

/** Whether no feerate that relays makes it worth it. */
export function isWorthless(claim: Claim): boolean {
  return isTooDear(claim, FEERATE_FLOOR_SAT_PER_KW);
}

/** Whether the height is past which the claim was needed. */
export function isOverdue({ deadlineHeight }: Claim, bestHeight: number): boolean {
  return deadlineHeight !== undefined && bestHeight >= deadlineHeight;
}

/**
 * Whether nothing more is expected of an output that no feerate makes worth a claim: as long after its claim was needed
 * as BOLT 5 waits for what is "irrevocably resolved", and never before, for until it is spent anybody who can may take it.
 */
export function isGivenUp(claim: Claim, bestHeight: number): boolean {
  return isWorthless(claim) && isOverdue(claim, bestHeight - IRREVOCABLE_DEPTH);
}
