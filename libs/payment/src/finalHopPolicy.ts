/**
 * May this HTLC, whose last hop we are, be held for its payment? (BOLT 4,
 * "Failure Messages", for the final node). Whatever could tell a prober that
 * we are the payee gives one and the same answer.
 */
import type { Result } from '@fulmen/codec';
import { err, ok } from '@fulmen/codec';
import { constantTimeEqual, sha256 } from '@fulmen/crypto';
import type { FailureMessage } from '@fulmen/onion/failure-message';
import { HTLC_FAIL_BACK_BUFFER } from './forwardPolicy.ts';

/** The HTLC and its payload. */
export interface FinalHopRequest {
  readonly paymentHash: Uint8Array;
  readonly incomingAmountMsat: bigint;
  readonly incomingCltvExpiryHeight: number;
  readonly amountToForwardMsat: bigint;
  readonly outgoingCltvExpiryHeight: number;
  /** `payment_data`. */
  readonly paymentData?: { readonly paymentSecret: Uint8Array; readonly totalMsat: bigint };
  readonly paymentMetadata?: Uint8Array;
  readonly keysendPreimage?: Uint8Array;
}

/** What we promised for this payment hash. */
export interface InvoiceTerms {
  /** undefined: the payer chooses. */
  readonly amountMsat: bigint | undefined;
  readonly paymentSecret: Uint8Array;
  readonly minFinalCltvExpiryDelta: number;
  readonly expiresAtSeconds: number;
  readonly paymentMetadata?: Uint8Array;
  readonly status: 'open' | 'paid' | 'cancelled';
}

/** An HTLC to hold until its set is complete. */
export interface AcceptedFinalHop {
  readonly kind: 'invoice' | 'keysend';
  /** What all parts together bring. */
  readonly totalMsat: bigint;
}

/** Our side's circumstances. */
export interface FinalHopContext {
  readonly currentHeight: number;
  readonly nowSeconds: number;
  readonly keysend: 'accepted' | 'refused';
}

/** Checks a final HTLC against its invoice (undefined if we have none for the hash). */
export function checkFinalHop(
  request: FinalHopRequest,
  invoice: InvoiceTerms | undefined,
  context: FinalHopContext,
): Result<AcceptedFinalHop, FailureMessage> {
  // BOLT 4: "if the `cltv_expiry` from the final node's HTLC is below `outgoing_cltv_value`"
  if (request.incomingCltvExpiryHeight < request.outgoingCltvExpiryHeight) {
    return err({ kind: 'final_incorrect_cltv_expiry', cltvExpiryHeight: request.incomingCltvExpiryHeight });
  }
  // BOLT 4: "if `amount_msat` from the final node's HTLC is below `amt_to_forward`"
  if (request.incomingAmountMsat < request.amountToForwardMsat) {
    return err({ kind: 'final_incorrect_htlc_amount', incomingHtlcMsat: request.incomingAmountMsat });
  }
  const accepted =
    invoice === undefined ? acceptKeysend(request, context) : acceptInvoice(request, invoice, context);
  if (accepted !== undefined) return ok(accepted);
  return err({
    kind: 'incorrect_or_unknown_payment_details',
    htlcMsat: request.incomingAmountMsat,
    height: context.currentHeight,
  });
}

function expiresTooSoon(request: FinalHopRequest, delta: number, currentHeight: number): boolean {
  // BOLT 4: "if the `cltv_expiry` value is unreasonably near the present: MUST fail the HTLC."
  return request.incomingCltvExpiryHeight < currentHeight + Math.max(delta, HTLC_FAIL_BACK_BUFFER + 1);
}

function acceptInvoice(
  request: FinalHopRequest,
  invoice: InvoiceTerms,
  context: FinalHopContext,
): AcceptedFinalHop | undefined {
  const { paymentData } = request;
  // "if the `payment_secret` doesn't match […], or the `payment_secret` is required and is not present"
  if (paymentData === undefined || !constantTimeEqual(paymentData.paymentSecret, invoice.paymentSecret))
    return undefined;
  if (invoice.status !== 'open' || context.nowSeconds >= invoice.expiresAtSeconds) return undefined;
  if (invoice.paymentMetadata !== undefined) {
    const { paymentMetadata } = request;
    if (paymentMetadata === undefined || !constantTimeEqual(paymentMetadata, invoice.paymentMetadata))
      return undefined;
  }
  if (invoice.amountMsat !== undefined) {
    // "if the amount paid is less than the amount expected: MUST fail the HTLC."
    if (paymentData.totalMsat < invoice.amountMsat) return undefined;
    // "if the amount paid is more than twice the amount expected: SHOULD fail the HTLC."
    if (paymentData.totalMsat > 2n * invoice.amountMsat) return undefined;
  }
  if (paymentData.totalMsat === 0n) return undefined;
  // A single part that brings more than twice the total is gross overpayment too.
  if (request.incomingAmountMsat > 2n * paymentData.totalMsat) return undefined;
  if (expiresTooSoon(request, invoice.minFinalCltvExpiryDelta, context.currentHeight)) return undefined;
  return { kind: 'invoice', totalMsat: paymentData.totalMsat };
}

function acceptKeysend(request: FinalHopRequest, context: FinalHopContext): AcceptedFinalHop | undefined {
  const { keysendPreimage } = request;
  if (context.keysend === 'refused' || keysendPreimage === undefined || keysendPreimage.length !== 32)
    return undefined;
  if (!constantTimeEqual(sha256(keysendPreimage), request.paymentHash)) return undefined;
  // Without an invoice there is no secret that binds parts together, so a spontaneous payment has one part.
  if (request.paymentData !== undefined && request.paymentData.totalMsat > request.amountToForwardMsat)
    return undefined;
  if (expiresTooSoon(request, 0, context.currentHeight)) return undefined;
  return { kind: 'keysend', totalMsat: request.amountToForwardMsat };
}
