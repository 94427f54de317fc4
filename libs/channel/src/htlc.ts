/** HTLC bodies and identities. An HTLC is (channel, direction, id): never its hash, never its amount. */

export type HtlcDirection = 'inbound' | 'outbound';

/** The part of an HTLC that never changes after update_add_htlc. Written once. */
export interface HtlcBody {
  /** inbound: the counterparty offered it; outbound: the holder did. */
  readonly direction: HtlcDirection;
  readonly id: bigint;
  readonly amountMsat: bigint;
  readonly paymentHash: Uint8Array;
  readonly cltvExpiryHeight: number;
  /** 1366 bytes. */
  readonly onionRoutingPacket: Uint8Array;
  /** BOLT 4 path_key for blinded hops. */
  readonly pathKey?: Uint8Array;
}

/** How an HTLC ends. `attributionData` (BOLT 4) is kept as the 920 bytes of the message's TLV. */
export type HtlcRemoval =
  | { readonly type: 'fulfilled'; readonly preimage: Uint8Array; readonly attributionData?: Uint8Array }
  /** Encrypted failure for the origin (BOLT 4), relayed as it is. */
  | { readonly type: 'failed'; readonly reason: Uint8Array; readonly attributionData?: Uint8Array }
  | { readonly type: 'failed_malformed'; readonly sha256OfOnion: Uint8Array; readonly failureCode: number };
