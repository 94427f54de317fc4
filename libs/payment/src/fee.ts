/** What a forwarding node charges (BOLT 7, "HTLC Fees"). */

/** The part of a policy that sets the fee. */
export interface FeeTerms {
  /** u32. */
  readonly feeBaseMsat: number;
  /** u32, millionths of the amount forwarded. */
  readonly feeProportionalMillionths: number;
}

/** BOLT 7: "fee_base_msat + ( amount_to_forward * fee_proportional_millionths / 1000000 )", rounded down. */
export function forwardingFeeMsat(amountToForwardMsat: bigint, terms: FeeTerms): bigint {
  return (
    BigInt(terms.feeBaseMsat) + (amountToForwardMsat * BigInt(terms.feeProportionalMillionths)) / 1_000_000n
  );
}

/** The same for path finding, exact for amounts below 2^53. */
export function forwardingFeeNumber(
  amountMsat: number,
  feeBaseMsat: number,
  feeProportionalMillionths: number,
): number {
  const product = amountMsat * feeProportionalMillionths;
  if (product > Number.MAX_SAFE_INTEGER) {
    return Number(forwardingFeeMsat(BigInt(amountMsat), { feeBaseMsat, feeProportionalMillionths }));
  }
  return feeBaseMsat + (product - (product % 1_000_000)) / 1_000_000;
}
