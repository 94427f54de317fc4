/**
 * What a channel asks of its shell. Effects are data; nothing happens before
 * the state that implies it is committed (law 2).
 */
import type { MessageOf } from '@fulmen/wire';
import type { ChannelMonitorUpdateStep, MonitorParameters } from '@fulmen/monitor';
import type { CommitmentSpec } from './commitment-spec.ts';
import type { HtlcBody, HtlcRemoval } from './htlc.ts';

/**
 * A message for the peer. Those that carry the holder's signatures, secrets
 * or points name only what the signer needs: signatures are not state, they
 * are made when the message is. The order of messages is the order to send in.
 */
export type OutboundMessage =
  | { readonly kind: 'ready'; readonly message: PeerMessage }
  /** Sign the counterparty's commitment (on every active funding). */
  | {
      readonly kind: 'commitment_signed';
      readonly channelId: Uint8Array;
      readonly spec: CommitmentSpec;
      readonly counterpartyPerCommitmentPoint: Uint8Array;
    }
  /** Validate holder commitment `revokedNumber + 1` (if not yet done), release secret `revokedNumber`, next point `revokedNumber + 2`. */
  | { readonly kind: 'revoke_and_ack'; readonly channelId: Uint8Array; readonly revokedNumber: bigint }
  /** Needs holder per-commitment point 1. */
  | { readonly kind: 'channel_ready'; readonly channelId: Uint8Array; readonly aliasScid?: bigint }
  /** v1 opening: sign counterparty commitment 0. */
  | {
      readonly kind: 'funding_created';
      readonly temporaryChannelId: Uint8Array;
      readonly fundingTxid: Uint8Array;
      readonly fundingOutputIndex: number;
      readonly spec: CommitmentSpec;
      readonly counterpartyPerCommitmentPoint: Uint8Array;
    }
  | {
      readonly kind: 'funding_signed';
      readonly channelId: Uint8Array;
      readonly spec: CommitmentSpec;
      readonly counterpartyPerCommitmentPoint: Uint8Array;
    }
  /** Needs the holder's point `nextCommitmentNumber - 1` (my_current_per_commitment_point). */
  | {
      readonly kind: 'channel_reestablish';
      readonly message: Omit<MessageOf<'channel_reestablish'>, 'myCurrentPerCommitmentPoint'>;
      readonly holderCommitmentNumber: bigint;
    }
  /** Sign a mutual close with this fee. */
  | {
      readonly kind: 'closing_signed';
      readonly channelId: Uint8Array;
      readonly closing: ClosingSpec;
      readonly feeRange?: { readonly minFeeSat: bigint; readonly maxFeeSat: bigint };
    }
  /** Node and funding key signatures over the channel_announcement. */
  | {
      readonly kind: 'announcement_signatures';
      readonly channelId: Uint8Array;
      readonly shortChannelId: bigint;
    };

/** A mutual close transaction (BOLT 3, "Closing Transaction"), before signatures. */
export interface ClosingSpec {
  readonly toHolderSat: bigint;
  readonly toCounterpartySat: bigint;
  readonly holderScript: Uint8Array;
  readonly counterpartyScript: Uint8Array;
  readonly feeSat: bigint;
}

/** Every peer message that a channel sends or receives. */
export type PeerMessage = MessageOf<
  | 'open_channel'
  | 'accept_channel'
  | 'funding_created'
  | 'funding_signed'
  | 'channel_ready'
  | 'update_add_htlc'
  | 'update_fulfill_htlc'
  | 'update_fail_htlc'
  | 'update_fail_malformed_htlc'
  | 'update_fee'
  | 'commitment_signed'
  | 'revoke_and_ack'
  | 'channel_reestablish'
  | 'shutdown'
  | 'closing_signed'
  | 'announcement_signatures'
  | 'stfu'
  | 'error'
  | 'warning'
>;

/** What the signer must do beside signing for messages, in the order of the step. */
export interface SignerWork {
  /** The counterparty revealed this secret; it rides on the next call. */
  readonly counterpartyRevocations: readonly {
    readonly commitmentNumber: bigint;
    readonly secret: Uint8Array;
  }[];
  /** A holder commitment with the counterparty's signatures, to validate before the old secret is released. */
  readonly holderCommitment?: {
    readonly spec: CommitmentSpec;
    readonly signatures: readonly {
      readonly fundingTxid: Uint8Array;
      readonly signature: Uint8Array;
      readonly htlcSignatures: readonly Uint8Array[];
    }[];
  };
}

export type ChannelEffect =
  | { readonly type: 'send'; readonly message: OutboundMessage }
  /** A new monitor (at funding_created / funding_signed): its birth row. */
  | { readonly type: 'watch_channel'; readonly parameters: MonitorParameters }
  /** Steps of this turn's ChannelMonitorUpdate; the state carries the update id. */
  | {
      readonly type: 'monitor_update';
      readonly updateId: bigint;
      readonly steps: readonly ChannelMonitorUpdateStep[];
    }
  /** An inbound HTLC is irrevocably committed on both sides: decode its onion, act on it (once; also after a restore until resolved). */
  | {
      readonly type: 'htlc_accepted';
      readonly htlc: HtlcBody;
      /** The channel carries too much dust: BOLT 2, "SHOULD fail this HTLC once it's committed". */
      readonly mustFail?: 'dust_exposure';
    }
  /** An outbound HTLC was fulfilled: the preimage goes upstream at once, before the dance ends. */
  | { readonly type: 'htlc_fulfilled'; readonly htlc: HtlcBody; readonly preimage: Uint8Array }
  /** An outbound HTLC is irrevocably removed with a failure: fail upstream. */
  | {
      readonly type: 'htlc_failed';
      readonly htlc: HtlcBody;
      readonly removal: Exclude<HtlcRemoval, { type: 'fulfilled' }>;
    }
  /** An outbound HTLC that was never committed vanished (disconnect before commitment_signed, close): treat as not sent. */
  | { readonly type: 'htlc_dropped'; readonly htlc: HtlcBody; readonly reason: string }
  /** An HTLC left both commitments for good; its rows may go once nothing needs them. */
  | {
      readonly type: 'htlc_settled';
      readonly direction: 'inbound' | 'outbound';
      readonly id: bigint;
      readonly outcome: 'fulfilled' | 'failed';
    }
  /** Build, and do not broadcast, a funding transaction with this output (LDK `FundingGenerationReady`); then `funding_transaction_created`. */
  | { readonly type: 'fund_channel'; readonly fundingValueSat: bigint; readonly scriptPubKey: Uint8Array }
  /** Watch for this output until it has `depth` confirmations; value and script must match. */
  | {
      readonly type: 'watch_funding';
      readonly fundingTxid: Uint8Array;
      readonly fundingOutputIndex: number;
      readonly fundingValueSat: bigint;
      readonly scriptPubKey: Uint8Array;
      readonly minimumDepth: number;
    }
  /** The funder's shell may broadcast the funding transaction now: the holder commitment 0 is signed and committed. */
  | { readonly type: 'broadcast_funding' }
  /** The mutual close is agreed; assemble with the signer's signature and broadcast. */
  | {
      readonly type: 'broadcast_closing';
      readonly closing: ClosingSpec;
      readonly counterpartySignature: Uint8Array;
    }
  /** Both halves of the announcement exist: assemble the channel_announcement (verifying the counterparty's signatures) and publish it. */
  | {
      readonly type: 'announce_channel';
      readonly shortChannelId: bigint;
      readonly counterpartyNodeSignature: Uint8Array;
      readonly counterpartyBitcoinSignature: Uint8Array;
    }
  /** Enter `closing` and let the chain side broadcast the holder commitment (or stay passive). */
  | { readonly type: 'force_close'; readonly reason: string; readonly broadcast: 'broadcast' | 'passive' }
  /** Tell the peer and, for 'error', consider the channel failed; messages are printable ASCII. */
  | { readonly type: 'disconnect'; readonly reason: string }
  | { readonly type: 'event'; readonly event: ChannelEvent };

/** LDK's vocabulary, for the event log. */
export type ChannelEvent =
  | {
      readonly type: 'channel_pending';
      readonly fundingTxid: Uint8Array;
      readonly fundingOutputIndex: number;
    }
  | { readonly type: 'channel_ready'; readonly shortChannelId: bigint | undefined }
  | { readonly type: 'channel_closed'; readonly reason: string };
