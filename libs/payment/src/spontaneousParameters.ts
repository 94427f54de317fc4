/** What a payment without an invoice needs (keysend, bLIP-3): the payer draws the preimage and puts it into the onion. */
import { sha256 } from '@fulmen/crypto';
import type { PaymentParameters } from './attempt.ts';
import {
  DEFAULT_MAX_ATTEMPTS,
  DEFAULT_TIMEOUT_SECONDS,
  MIN_PART_MSAT,
  type PayerLimits,
} from './invoiceParameters.ts';
import { DEFAULT_MAX_CLTV_DELTA } from './route.ts';

/** No invoice says how many blocks the payee wants: LND's default, above every implementation's least. */
export const KEYSEND_FINAL_CLTV_DELTA = 80;

export interface SpontaneousPayment {
  readonly payee: Uint8Array;
  readonly amountMsat: bigint;
  /** 32 bytes; the payee claims with it. */
  readonly preimage: Uint8Array;
}

/** Prepares a payment without an invoice; time in seconds since 1970. */
export function spontaneousPaymentParameters(
  { payee, amountMsat, preimage }: SpontaneousPayment,
  limits: Omit<PayerLimits, 'amountMsat'>,
  nowSeconds: number,
): PaymentParameters {
  return {
    paymentHash: sha256(preimage),
    payee,
    amountMsat,
    finalCltvDelta: KEYSEND_FINAL_CLTV_DELTA,
    shadowCltvDelta: limits.shadowCltvDelta ?? 0,
    final: { keysendPreimage: preimage },
    hints: [],
    maxFeeMsat: limits.maxFeeMsat,
    maxCltvDelta: limits.maxCltvDelta ?? DEFAULT_MAX_CLTV_DELTA,
    maxAttempts: limits.maxAttempts ?? DEFAULT_MAX_ATTEMPTS,
    // Without a payment secret, parts could not be told from a stranger's.
    maxParts: 1,
    minPartMsat: MIN_PART_MSAT,
    deadlineSeconds: nowSeconds + (limits.timeoutSeconds ?? DEFAULT_TIMEOUT_SECONDS),
  };
}
