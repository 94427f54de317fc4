/**
 * The parts of one incoming payment, collected until they make its total
 * (BOLT 4, "Basic Multi-Part Payments"). Keyed by payment hash by the caller.
 */
import type { Result } from '@fulmen/codec';
import { err, ok } from '@fulmen/codec';
import { constantTimeEqual } from '@fulmen/crypto';
import type { FailureMessage } from '@fulmen/onion/failure-message';

/** BOLT 4: "MUST fail all HTLCs in the HTLC set after some reasonable timeout. SHOULD wait for at least 60 seconds". */
export const MPP_TIMEOUT_SECONDS = 60;
/** More parts than any channel carries HTLCs. */
export const MAX_PARTS = 483;

/** One HTLC of the set, which the caller identifies (channel, direction, id) as `part`. */
export interface MppPart<P> {
  readonly part: P;
  /** `amt_to_forward` of its payload. */
  readonly amountMsat: bigint;
  readonly cltvExpiryHeight: number;
}

/** The parts so far. */
export interface MppSet<P> {
  readonly paymentSecret: Uint8Array;
  readonly totalMsat: bigint;
  readonly parts: readonly MppPart<P>[];
  readonly firstPartAtSeconds: number;
}

/** What has been collected. */
export function collectedMsat(set: MppSet<unknown>): bigint {
  return set.parts.reduce((sum, part) => sum + part.amountMsat, 0n);
}

/** True once the parts make the total, so that the payment may be claimed as a whole. */
export function isComplete(set: MppSet<unknown>): boolean {
  // BOLT 4: "if the total `amt_to_forward` of the HTLC set is equal to or greater than `total_msat`"
  return collectedMsat(set) >= set.totalMsat;
}

/** True when the set must be failed with `mpp_timeout`. */
export function isTimedOut(set: MppSet<unknown>, nowSeconds: number): boolean {
  return !isComplete(set) && nowSeconds - set.firstPartAtSeconds >= MPP_TIMEOUT_SECONDS;
}

/** The height at which the set's claim becomes unsafe: the earliest expiry of its parts. */
export function earliestExpiryHeight(set: MppSet<unknown>): number {
  return set.parts.reduce((height, part) => Math.min(height, part.cltvExpiryHeight), Number.MAX_SAFE_INTEGER);
}

/**
 * Adds a part that `checkFinalHop` accepted. The error is for this part alone;
 * the set stays as it was.
 *
 * @param set undefined for the first part.
 */
export function addPart<P>(
  set: MppSet<P> | undefined,
  part: MppPart<P>,
  paymentData: { readonly paymentSecret: Uint8Array; readonly totalMsat: bigint },
  at: { readonly currentHeight: number; readonly nowSeconds: number },
): Result<MppSet<P>, FailureMessage> {
  if (set === undefined) {
    return ok({ ...paymentData, parts: [part], firstPartAtSeconds: at.nowSeconds });
  }
  // BOLT 4: "MUST require `payment_secret` for all HTLCs in the set" and "fail the HTLC set if `total_msat` is not
  // the same for all HTLCs in the set": only the odd one is refused, or a stranger could fail a whole set.
  const fits =
    constantTimeEqual(set.paymentSecret, paymentData.paymentSecret) &&
    set.totalMsat === paymentData.totalMsat &&
    set.parts.length < MAX_PARTS &&
    !isComplete(set);
  if (fits) return ok({ ...set, parts: [...set.parts, part] });
  return err({
    kind: 'incorrect_or_unknown_payment_details',
    htlcMsat: part.amountMsat,
    height: at.currentHeight,
  });
}
