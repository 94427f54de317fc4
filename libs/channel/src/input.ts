/** Everything that can happen to a channel. */
import type { NegotiatedFeatures } from './context.ts';
import type { OutboundMessage, PeerMessage } from './effect.ts';
import type { ClosingFeerates } from './state.ts';

export type ChannelInput =
  /** A message of the peer for this channel (not open_channel: see `acceptChannel`). */
  | { readonly type: 'message'; readonly message: PeerMessage }
  /** commitment_signed of one batch (BOLT 2 `start_batch`), one per funding. */
  | {
      readonly type: 'commitment_signed_batch';
      readonly messages: readonly Extract<PeerMessage, { type: 'commitment_signed' }>[];
    }
  // Opening
  | {
      readonly type: 'funding_transaction_created';
      readonly fundingTxid: Uint8Array;
      readonly fundingOutputIndex: number;
    }
  /** The funding output, as the chain has it. Repeated as the depth grows, until announced. */
  | {
      readonly type: 'funding_confirmed';
      readonly fundingTxid: Uint8Array;
      readonly fundingOutputIndex: number;
      readonly valueSat: bigint;
      readonly scriptPubKey: Uint8Array;
      readonly depth: number;
      readonly blockHeight: number;
      readonly transactionIndex: number;
    }
  /** A reorganisation took the funding out of the chain. */
  | { readonly type: 'funding_reorganised_out'; readonly fundingTxid: Uint8Array }
  /** The funding never confirms: there is no channel. */
  | { readonly type: 'funding_lost'; readonly reason: string }
  /** Give up an opening before its funding exists. */
  | { readonly type: 'abandon_opening'; readonly reason: string }
  // Commands
  | {
      readonly type: 'add_htlc';
      readonly amountMsat: bigint;
      readonly paymentHash: Uint8Array;
      readonly cltvExpiryHeight: number;
      readonly onionRoutingPacket: Uint8Array;
      readonly pathKey?: Uint8Array;
    }
  | {
      readonly type: 'fulfil_htlc';
      readonly id: bigint;
      readonly preimage: Uint8Array;
      readonly attributionData?: Uint8Array;
    }
  | {
      readonly type: 'fail_htlc';
      readonly id: bigint;
      readonly reason: Uint8Array;
      readonly attributionData?: Uint8Array;
    }
  | {
      readonly type: 'fail_malformed_htlc';
      readonly id: bigint;
      readonly sha256OfOnion: Uint8Array;
      readonly failureCode: number;
    }
  | { readonly type: 'update_fee'; readonly feerateSatPerKw: number }
  /** Send commitment_signed if there is something to commit and none is outstanding; otherwise nothing happens. */
  | { readonly type: 'commit' }
  /** Again while the channel is shutting down: with other feerates, which the negotiation starts again with. */
  | { readonly type: 'shutdown'; readonly script?: Uint8Array; readonly feerates?: ClosingFeerates }
  | { readonly type: 'force_close'; readonly reason: string }
  /** Everything is resolved on-chain. */
  | { readonly type: 'closed'; readonly reason: string }
  /** The signer has signed or revoked what this state does not know: it is an old one. */
  | { readonly type: 'state_lost' }
  // Connection
  | { readonly type: 'peer_connected'; readonly features: NegotiatedFeatures }
  | { readonly type: 'peer_disconnected' }
  // Monitor
  /**
   * The last step's monitor update is not durable everywhere. The shell
   * dropped those of the step's messages for which `isHeld` is true, and
   * names them; the others went out.
   */
  | { readonly type: 'monitor_update_in_progress'; readonly held: readonly OutboundMessage[] }
  | { readonly type: 'monitor_update_completed'; readonly updateId: bigint };
