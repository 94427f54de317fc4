/**
 * Fees along blinded paths (BOLT 4, "payload format", Requirements): what a
 * blinded hop forwards, and what the recipient tells a sender that the whole
 * path costs. Integer arithmetic exactly as the specification rounds it.
 */

/** A hop's terms inside a blinded path (`payment_relay`). */
export interface PaymentRelay {
  readonly cltvExpiryDelta: number;
  readonly feeProportionalMillionths: number;
  readonly feeBaseMsat: number;
}

/** Terms of a whole path, as in an invoice's `blinded_payinfo`. */
export interface BlindedPathFees {
  readonly feeBaseMsat: bigint;
  readonly feeProportionalMillionths: bigint;
  readonly cltvExpiryDelta: number;
}

const MILLION = 1_000_000n;

/**
 * BOLT 4: "amt_to_forward = ((amount_msat - fee_base_msat) * 1000000 + 1000000
 * + fee_proportional_millionths - 1) / (1000000 + fee_proportional_millionths)".
 * Undefined when the HTLC does not even pay the base fee.
 */
export function blindedAmountToForward(amountMsat: bigint, relay: PaymentRelay): bigint | undefined {
  const withoutBase = amountMsat - BigInt(relay.feeBaseMsat);
  if (withoutBase < 0n) return undefined;
  const proportional = BigInt(relay.feeProportionalMillionths);
  return (withoutBase * MILLION + MILLION + proportional - 1n) / (MILLION + proportional);
}

/**
 * Sums up a path for its sender.
 *
 * @param relays of the non-final hops, from the introduction node on.
 * @param minFinalCltvExpiryDelta of the recipient.
 */
export function aggregateBlindedFees(
  relays: readonly PaymentRelay[],
  minFinalCltvExpiryDelta: number,
): BlindedPathFees {
  let base = 0n;
  let proportional = 0n;
  let cltvExpiryDelta = minFinalCltvExpiryDelta;
  for (const relay of relays.toReversed()) {
    const relayBase = BigInt(relay.feeBaseMsat);
    const relayProportional = BigInt(relay.feeProportionalMillionths);
    base = (relayBase * MILLION + base * (MILLION + relayProportional) + MILLION - 1n) / MILLION;
    proportional =
      ((proportional + relayProportional) * MILLION + proportional * relayProportional + MILLION - 1n) /
      MILLION;
    cltvExpiryDelta += relay.cltvExpiryDelta;
  }
  return { feeBaseMsat: base, feeProportionalMillionths: proportional, cltvExpiryDelta };
}
