/** What crosses shards: intents, who took them, how they ended, and what is written with that. */
import type { StoreEvent } from './manager-store.ts';

/** Identity of an incoming HTLC, or of one of our own payments' attempts. Nothing else names an HTLC. */
export type HtlcSource =
  | { readonly type: 'htlc'; readonly channelId: Uint8Array; readonly htlcId: bigint }
  | { readonly type: 'payment'; readonly attemptId: Uint8Array };

/** Where an irrevocably committed HTLC shall go. */
export type IntentTarget =
  | { readonly type: 'scid'; readonly shortChannelId: bigint }
  | { readonly type: 'local'; readonly paymentHash: Uint8Array };

/** An HTLC to be added elsewhere, or received here: written in the transaction that makes its source irrevocable. */
export interface Intent {
  readonly source: HtlcSource;
  readonly target: IntentTarget;
  /** Shard of the consumer: the outgoing channel's, or the payment hash's. */
  readonly targetShard: number;
  /** Shard of the source, where the resolution goes. */
  readonly sourceShard: number;
  readonly paymentHash: Uint8Array;
  readonly incomingAmountMsat: bigint;
  readonly incomingCltvExpiryHeight: number;
  readonly outgoingAmountMsat: bigint;
  readonly outgoingCltvExpiryHeight: number;
  /** What travels on: the next onion (1366 bytes), or, for a local target, the final payload's bytes. */
  readonly onion: Uint8Array;
  /** Secret shared with the origin for this hop; wraps failures. Empty for our own payments. */
  readonly sharedSecret: Uint8Array;
  readonly createdUnixMs: number;
}

/** How an intent ended, for its source. First insert wins, except that `fulfilled` replaces an unconsumed failure. */
export interface Resolution {
  readonly source: HtlcSource;
  readonly sourceShard: number;
  readonly outcome:
    | { readonly type: 'fulfilled'; readonly preimage: Uint8Array }
    /** From downstream: encrypted by those before us on the way back; to be wrapped once more. */
    | { readonly type: 'failed'; readonly reason: Uint8Array }
    /** Ours: encoded failure message (code and data), not yet encrypted. */
    | { readonly type: 'failed_here'; readonly failure: Uint8Array }
    | { readonly type: 'failed_malformed'; readonly sha256OfOnion: Uint8Array; readonly failureCode: number };
}

/** taken: by the channel or payment that answers for it from then on. cancelled: nothing came of it. */
export type IntentClaimOutcome = 'taken' | 'cancelled';

/** Where an intent stands among the pending ones. */
export type IntentPlace = Pick<Intent, 'createdUnixMs' | 'source'>;

/** Rows that cross shards; insert-only, so that no two owners update one row. */
export interface ForwardingWrites {
  readonly intents: readonly Intent[];
  /** Of intents that are still there. Must win, or the whole commit of this unit is refused with 'intent_lost'. */
  readonly intentClaims: readonly { readonly source: HtlcSource; readonly outcome: IntentClaimOutcome }[];
  /** One of a source. */
  readonly resolutions: readonly Resolution[];
  /**
   * Resolutions that this step acts on, as it read them, one of a source. One that a preimage replaced meanwhile refuses the
   * unit with 'resolution_changed': failing back after a preimage is known would lose the HTLC's amount.
   */
  readonly resolutionsTaken: readonly {
    readonly source: HtlcSource;
    readonly outcome: Resolution['outcome']['type'];
  }[];
  /** Upstream HTLCs that a preimage now makes claimable: enforcement data, written with the learning of it. */
  readonly preimages: readonly {
    readonly channelId: Uint8Array;
    readonly htlcId: bigint;
    readonly preimage: Uint8Array;
  }[];
  /** Links an outgoing HTLC with its source: read when it is fulfilled or failed. */
  readonly outgoing: readonly {
    readonly channelId: Uint8Array;
    readonly htlcId: bigint;
    readonly source: HtlcSource;
    readonly sourceShard: number;
    readonly incomingAmountMsat: bigint;
  }[];
  /** Onion replay entries, inserted once, keyed by all three. A conflict with another HTLC refuses the unit with 'onion_replay'. */
  readonly onionReplays: readonly {
    readonly sharedSecretHash: Uint8Array;
    readonly channelId: Uint8Array;
    readonly htlcId: bigint;
  }[];
  readonly events: readonly StoreEvent[];
}
