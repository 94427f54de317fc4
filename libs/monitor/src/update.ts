/**
 * What a channel tells its monitor. Every step of a channel that changes what
 * may appear on-chain writes one `ChannelMonitorUpdate` in the same database
 * transaction as the channel itself; `updateId` grows by exactly one, and
 * updates are applied in that order.
 */

/** An HTLC as a commitment transaction carries it, seen from the holder. Identity is (channel, direction, id). */
export interface MonitorHtlc {
  /** inbound: offered by the counterparty; outbound: offered by the holder. */
  readonly direction: 'inbound' | 'outbound';
  readonly id: bigint;
  readonly amountMsat: bigint;
  readonly paymentHash: Uint8Array;
  readonly cltvExpiryHeight: number;
}

/** Names one HTLC of the channel. */
export interface HtlcRef {
  readonly direction: 'inbound' | 'outbound';
  readonly id: bigint;
}

/** Everything needed to rebuild one commitment transaction, but for the parameters of the channel. */
export interface CommitmentContent {
  /** Counts up from 0, per side. */
  readonly commitmentNumber: bigint;
  readonly feerateSatPerKw: number;
  readonly toHolderMsat: bigint;
  readonly toCounterpartyMsat: bigint;
  /** Every HTLC of the commitment, dust included. */
  readonly htlcs: readonly HtlcRef[];
}

/** The counterparty's signatures for one funding's holder commitment. */
export interface HolderCommitmentSignatures {
  readonly fundingTxid: Uint8Array;
  readonly signature: Uint8Array;
  /** One per untrimmed HTLC, in the order of the outputs. */
  readonly htlcSignatures: readonly Uint8Array[];
}

/** LDK's `ChannelMonitorUpdateStep`, with HTLC bodies carried once, when they first appear. */
export type ChannelMonitorUpdateStep =
  /** The counterparty signed this commitment for the holder. It is the one to broadcast from now on. */
  | {
      readonly type: 'latest_holder_commitment';
      readonly content: CommitmentContent;
      readonly newHtlcs: readonly MonitorHtlc[];
      readonly signatures: readonly HolderCommitmentSignatures[];
      /** The holder's, of this commitment: what its scripts are rebuilt from. Absent in updates of releases that did not write it. */
      readonly perCommitmentPoint?: Uint8Array;
    }
  /** The holder is about to sign this commitment for the counterparty. Two may be valid until the secret comes. */
  | {
      readonly type: 'latest_counterparty_commitment';
      readonly content: CommitmentContent;
      readonly newHtlcs: readonly MonitorHtlc[];
      readonly perCommitmentPoint: Uint8Array;
    }
  /** The counterparty revoked this commitment. */
  | { readonly type: 'commitment_secret'; readonly commitmentNumber: bigint; readonly secret: Uint8Array }
  /** The preimage of an inbound HTLC is known: it must be claimed, on-chain if need be. */
  | { readonly type: 'payment_preimage'; readonly htlc: HtlcRef; readonly preimage: Uint8Array }
  /** No further update of the commitment follows; the holder commitment is to be broadcast, or not (passive). */
  | {
      readonly type: 'channel_force_closed';
      readonly shouldBroadcast: 'broadcast' | 'passive';
      readonly reason: string;
    }
  /** Where a cooperative close pays the holder. */
  | { readonly type: 'shutdown_script'; readonly scriptPubKey: Uint8Array };

/** One entry of a channel's monitor log. */
export interface ChannelMonitorUpdate {
  readonly channelId: Uint8Array;
  readonly updateId: bigint;
  readonly steps: readonly ChannelMonitorUpdateStep[];
}

/** One side's fixed parameters, as far as scripts need them. */
export interface MonitorParty {
  readonly fundingPubkey: Uint8Array;
  readonly revocationBasepoint: Uint8Array;
  readonly paymentBasepoint: Uint8Array;
  readonly delayedPaymentBasepoint: Uint8Array;
  readonly htlcBasepoint: Uint8Array;
  readonly dustLimitSat: bigint;
  /** Blocks that this side's own to_local output waits (what the *other* side asked for). */
  readonly selfDelayBlocks: number;
}

/** What a monitor is born with (LDK's `watch_channel`): parameters that never change, and the first commitments. */
export interface MonitorParameters {
  readonly channelId: Uint8Array;
  readonly channelKeysId: Uint8Array;
  readonly commitmentFormat: 'static_remotekey' | 'anchors';
  /** Who opened the channel: pays the fees, and comes first in the obscuring factor. */
  readonly funder: 'holder' | 'counterparty';
  readonly holder: MonitorParty;
  readonly counterparty: MonitorParty;
  readonly fundings: readonly MonitorFunding[];
}

/** One funding of the channel; there is one until a splice adds more. */
export interface MonitorFunding {
  readonly fundingTxid: Uint8Array;
  readonly fundingOutputIndex: number;
  readonly fundingValueSat: bigint;
  readonly holderFundingPubkey: Uint8Array;
  readonly counterpartyFundingPubkey: Uint8Array;
}
