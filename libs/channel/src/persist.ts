/**
 * The persisted form of a channel, shaped so that the hot row stays small
 * (under 1.5 kB, not TOASTed): HTLC bodies and removals are rows written once,
 * revocation secrets are 49 small rows, the counterparty's signatures a row of
 * their own, and what changes rarely is a second blob.
 */
import type { HtlcBody, HtlcRemoval } from './htlc.ts';

/**
 * What one committed step writes. To be applied in this order: `settledHtlcs`
 * deletes HTLC and removal rows, then `newHtlcs` are inserted and `newRemovals`
 * upserted. After a disconnect an HTLC id may come back with another body
 * (it is then in both lists), and a removal that was rolled back may be
 * replaced by another; a removal row that `hot` does not refer to is void.
 */
export interface PersistedDelta {
  /** Numbers, balances, HTLC states (direction, id, state), fee states, points: versioned, small, always written. */
  readonly hot: Uint8Array;
  /** Parameters, fundings, opening/closing data: written only when they changed. */
  readonly cold?: Uint8Array;
  readonly newHtlcs: readonly HtlcBody[];
  readonly newRemovals: readonly {
    readonly direction: 'inbound' | 'outbound';
    readonly id: bigint;
    readonly removal: HtlcRemoval;
  }[];
  /** HTLCs that are on neither commitment any more. */
  readonly settledHtlcs: readonly { readonly direction: 'inbound' | 'outbound'; readonly id: bigint }[];
  /** Counterparty's revocation secrets (compact shachain): bucket 0..48. */
  readonly secretBuckets: readonly {
    readonly bucket: number;
    readonly index: bigint;
    readonly secret: Uint8Array;
  }[];
  /** Encoded counterparty signatures of the latest holder commitment: written only when new. */
  readonly holderSignatures?: Uint8Array;
}

/** What a load reads back. */
export interface PersistedChannel {
  readonly hot: Uint8Array;
  readonly cold: Uint8Array;
  readonly htlcs: readonly HtlcBody[];
  readonly removals: readonly {
    readonly direction: 'inbound' | 'outbound';
    readonly id: bigint;
    readonly removal: HtlcRemoval;
  }[];
  readonly secretBuckets: readonly {
    readonly bucket: number;
    readonly index: bigint;
    readonly secret: Uint8Array;
  }[];
  readonly holderSignatures: Uint8Array | undefined;
}
