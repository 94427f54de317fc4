/**
 * The content of a BOLT 11 invoice, before and after it is signed. Times are
 * Unix seconds brought by the caller: this library has no clock.
 */
import type { FeatureBits } from '@fulmen/codec';

/** The chain, as the prefix names it. */
export type Currency = 'bc' | 'tb' | 'tbs' | 'bcrt';

/** What is paid for. */
export type InvoiceDescription =
  | { readonly kind: 'text'; readonly text: string }
  /** SHA-256 of a description that is given elsewhere. */
  | { readonly kind: 'hash'; readonly hash: Uint8Array };

/** An on-chain address to fall back to. */
export type FallbackAddress =
  | { readonly kind: 'p2pkh'; readonly hash: Uint8Array }
  | { readonly kind: 'p2sh'; readonly hash: Uint8Array }
  | { readonly kind: 'witness'; readonly version: number; readonly program: Uint8Array };

/** A channel on the way from a public node to the payee. */
export interface RouteHintHop {
  /** Node at the start of the channel. */
  readonly nodeId: Uint8Array;
  readonly shortChannelId: bigint;
  readonly feeBaseMsat: number;
  readonly feeProportionalMillionths: number;
  readonly cltvExpiryDelta: number;
}

/** A tagged field that is not understood, or of a length that readers skip; words are 5 bits each. */
export interface UnknownField {
  readonly type: number;
  readonly words: Uint8Array;
}

/** What the payee states. */
export interface UnsignedInvoice {
  readonly currency: Currency;
  /** Undefined: any amount. */
  readonly amountMsat?: bigint | undefined;
  readonly timestampUnixSeconds: number;
  readonly paymentHash: Uint8Array;
  readonly paymentSecret: Uint8Array;
  readonly description: InvoiceDescription;
  /** Undefined: DEFAULT_EXPIRY_SECONDS. */
  readonly expirySeconds?: number | undefined;
  /** Undefined: DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA. */
  readonly minFinalCltvExpiryDelta?: number | undefined;
  /** The `n` field: without it the reader recovers the payee from the signature. */
  readonly nodeIdField?: Uint8Array | undefined;
  readonly paymentMetadata?: Uint8Array | undefined;
  readonly features: FeatureBits;
  /** Most preferred first. */
  readonly fallbacks?: readonly FallbackAddress[];
  /** Most preferred first; each leads from a public node to the payee. */
  readonly routeHints?: readonly (readonly RouteHintHop[])[];
  readonly unknownFields?: readonly UnknownField[];
}

/** A decoded invoice, whose signature was checked. */
export interface Invoice extends UnsignedInvoice {
  readonly fallbacks: readonly FallbackAddress[];
  readonly routeHints: readonly (readonly RouteHintHop[])[];
  readonly unknownFields: readonly UnknownField[];
  /** The signer, from the `n` field or recovered. */
  readonly payeeNodeId: Uint8Array;
  /** 64 bytes, r ‖ s. */
  readonly signature: Uint8Array;
  readonly recoveryId: number;
  /** What was signed: a proof of the invoice together with the signature. */
  readonly signedHash: Uint8Array;
}

/** BOLT 11, field `x`: "Default is 3600 (1 hour) if not specified." */
export const DEFAULT_EXPIRY_SECONDS = 3600;
/** BOLT 11, field `c`: "Default is 18 if not specified." */
export const DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA = 18;

/** When the invoice expires, in Unix seconds. */
export function expiresAtUnixSeconds(invoice: UnsignedInvoice): number {
  return invoice.timestampUnixSeconds + (invoice.expirySeconds ?? DEFAULT_EXPIRY_SECONDS);
}

/** BOLT 11: "after the timestamp plus expiry has passed: SHOULD NOT attempt a payment." */
export function isExpired(invoice: UnsignedInvoice, nowUnixSeconds: number): boolean {
  return nowUnixSeconds > expiresAtUnixSeconds(invoice);
}

/** The invoice's `min_final_cltv_expiry_delta`, or the default. */
export function minFinalCltvExpiryDelta(invoice: UnsignedInvoice): number {
  return invoice.minFinalCltvExpiryDelta ?? DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA;
}
