/** From a decoded BOLT 11 invoice to what a payment needs, with the payer's own limits. */
import type { Result } from '@fulmen/codec';
import { err, ok } from '@fulmen/codec';
import type { Invoice } from '@fulmen/invoice';
import { isExpired, minFinalCltvExpiryDelta } from '@fulmen/invoice';
import type { PaymentParameters } from './attempt.ts';
import { DEFAULT_MAX_CLTV_DELTA } from './route.ts';
import { MAX_SENT_PARTS } from './splitRoute.ts';

/** How far the payer goes. */
export interface PayerLimits {
  /** Required for an invoice without an amount; else absent, or up to twice the invoice's amount. */
  readonly amountMsat?: bigint;
  readonly maxFeeMsat: bigint;
  readonly maxCltvDelta?: number;
  /** HTLCs that may fail. */
  readonly maxAttempts?: number;
  /** 1: the payment is not split; `MAX_SENT_PARTS` if unset, and never more. */
  readonly maxParts?: number;
  /** Blocks of shadow route. */
  readonly shadowCltvDelta?: number;
  /** Seconds from now after which no attempt begins. */
  readonly timeoutSeconds?: number;
}

/** Why an invoice cannot be paid as asked. */
export type InvoiceParametersError =
  | 'expired'
  | 'wrong_network'
  | 'amount_required'
  | 'amount_too_low'
  | 'amount_too_high'
  | 'unknown_required_feature';

/**
 * Blocks beyond the payee's minimum: blocks may be found while the HTLC
 * travels, and the payee would refuse it.
 */
export const FINAL_CLTV_SAFETY = 3;
export const DEFAULT_MAX_ATTEMPTS = 10;
export const DEFAULT_TIMEOUT_SECONDS = 60;
/** A smaller part costs more in fees and on-chain than the splitting is worth. */
export const MIN_PART_MSAT = 10_000_000n;

/** Prepares the payment of an invoice; time in seconds since 1970. */
export function invoicePaymentParameters(
  invoice: Invoice,
  currency: Invoice['currency'],
  limits: PayerLimits,
  nowSeconds: number,
): Result<PaymentParameters, InvoiceParametersError> {
  if (invoice.currency !== currency) return err('wrong_network');
  // BOLT 11: "after the `timestamp` plus `expiry` has passed: SHOULD NOT attempt a payment."
  if (isExpired(invoice, nowSeconds)) return err('expired');
  // BOLT 11: "if the `9` field contains unknown _even_ bits that are non-zero: MUST fail the payment"
  if (invoice.features.unknownRequiredBits().length > 0) return err('unknown_required_feature');
  const amountMsat = limits.amountMsat ?? invoice.amountMsat;
  if (amountMsat === undefined || amountMsat <= 0n) return err('amount_required');
  if (invoice.amountMsat !== undefined) {
    if (amountMsat < invoice.amountMsat) return err('amount_too_low');
    // BOLT 4 lets the payee refuse "more than twice the amount expected".
    if (amountMsat > 2n * invoice.amountMsat) return err('amount_too_high');
  }
  const { paymentMetadata, features } = invoice;
  return ok({
    paymentHash: invoice.paymentHash,
    payee: invoice.payeeNodeId,
    amountMsat,
    finalCltvDelta: minFinalCltvExpiryDelta(invoice) + FINAL_CLTV_SAFETY,
    shadowCltvDelta: limits.shadowCltvDelta ?? 0,
    final: {
      paymentData: { paymentSecret: invoice.paymentSecret, totalMsat: amountMsat },
      ...(paymentMetadata === undefined ? {} : { paymentMetadata }),
    },
    hints: invoice.routeHints,
    maxFeeMsat: limits.maxFeeMsat,
    maxCltvDelta: limits.maxCltvDelta ?? DEFAULT_MAX_CLTV_DELTA,
    maxAttempts: limits.maxAttempts ?? DEFAULT_MAX_ATTEMPTS,
    // BOLT 4: "if the invoice offers the `basic_mpp` feature: MAY send more than one HTLC to pay the invoice […] otherwise: MUST set `total_msat` equal to `amt_to_forward`."
    maxParts: features.has('basic_mpp') ? Math.min(limits.maxParts ?? MAX_SENT_PARTS, MAX_SENT_PARTS) : 1,
    minPartMsat: MIN_PART_MSAT,
    deadlineSeconds: nowSeconds + (limits.timeoutSeconds ?? DEFAULT_TIMEOUT_SECONDS),
  });
}
