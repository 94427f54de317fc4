/**
 * The state of a channel. Signatures are not part of it, but for the
 * counterparty's on the holder's latest commitment; every message can be made
 * again from the state, identically.
 *
 * A channel is either being opened (no parameters agreed, nothing at risk) or
 * established (a funding output may exist): two shapes, so that neither carries
 * what it cannot have.
 */
import { InternalError } from '@fulmen/codec';
import type { SecretStore } from '@fulmen/keys';
import type { NegotiatedFeatures } from './context.ts';
import type { ClosingSpec } from './effect.ts';
import type { HtlcBody, HtlcRemoval } from './htlc.ts';
import type { ChannelParameters, CommitmentFormatName, PartyParameters } from './parameters.ts';

export type ChannelState = OpeningChannel | EstablishedChannel;

// ---------------------------------------------------------------- opening

/** The holder's side of the parameters while an opening is negotiated. */
export interface OpeningTerms {
  readonly channelKeysId: Uint8Array;
  readonly counterpartyNodeId: Uint8Array;
  readonly commitmentFormat: CommitmentFormatName;
  readonly channelType: Uint8Array;
  readonly announce: boolean;
  readonly fundingSat: bigint;
  readonly pushMsat: bigint;
  readonly feerateSatPerKw: number;
  readonly holder: PartyParameters;
  /** Where a mutual close pays the holder, also when it did not commit to it upfront. */
  readonly shutdownScript: Uint8Array;
  /** Sent in channel_ready (BOLT 2 `alias`). */
  readonly aliasScid?: bigint;
  /** Of the connection on which the opening is negotiated; an opening does not outlive it. */
  readonly features: NegotiatedFeatures;
}

export interface OpeningChannel {
  readonly type: 'opening';
  readonly temporaryChannelId: Uint8Array;
  readonly terms: OpeningTerms;
  readonly phase: OpeningPhase;
}

/** What the counterparty brought with open_channel or accept_channel. */
export interface CounterpartyTerms {
  readonly parameters: PartyParameters;
  readonly firstPerCommitmentPoint: Uint8Array;
  /** Depth at which the holder sends channel_ready. */
  readonly minimumDepth: number;
}

export type OpeningPhase =
  /** Funder: open_channel went out. */
  | { readonly type: 'awaiting_accept' }
  /** Funder: the shell builds the funding transaction. */
  | { readonly type: 'awaiting_funding_transaction'; readonly counterparty: CounterpartyTerms }
  /** Funder: funding_created went out. */
  | {
      readonly type: 'awaiting_funding_signed';
      readonly counterparty: CounterpartyTerms;
      readonly fundingTxid: Uint8Array;
      readonly fundingOutputIndex: number;
    }
  /** Fundee: accept_channel went out. */
  | { readonly type: 'awaiting_funding_created'; readonly counterparty: CounterpartyTerms }
  /** Given up before any funding: nothing to enforce. */
  | { readonly type: 'abandoned'; readonly reason: string };

// ---------------------------------------------------------------- established

export interface EstablishedChannel {
  readonly type: 'established';
  readonly channelId: Uint8Array;
  readonly parameters: ChannelParameters;
  /** Where a mutual close pays the holder unless the user names another. */
  readonly shutdownScript: Uint8Array;
  readonly aliasScid?: bigint;
  /** The counterparty's alias, for route hints. */
  readonly counterpartyAliasScid?: bigint;
  /** Depth at which the holder sends channel_ready. */
  readonly minimumDepth: number;
  readonly changes: ChannelChanges;
  /** One until a splice adds more; every update holds on each. */
  readonly fundings: readonly Funding[];
  readonly phase: Phase;
  readonly connection: Connection;
  readonly monitor: MonitorProgress;
}

/** Common to all fundings. */
export interface ChannelChanges {
  readonly htlcs: readonly Htlc[];
  /** Oldest first; the first is irrevocably committed, the others on their way. */
  readonly feerates: readonly FeerateUpdate[];
  readonly nextOutboundHtlcId: bigint;
  readonly nextInboundHtlcId: bigint;
  /** Number of the holder's latest commitment; every earlier one is revoked (the message may be owed). */
  readonly holderCommitmentNumber: bigint;
  /** Number of the counterparty's latest commitment that the holder decided to sign. */
  readonly counterpartyCommitmentNumber: bigint;
  readonly counterpartyPoints: CounterpartyPoints;
  /** Its `count` is how many commitments the counterparty revoked: the number above, or one less while a secret is awaited. */
  readonly counterpartySecrets: SecretStore;
  /** Which of revoke_and_ack and commitment_signed went out last (BOLT 2: "in the same relative order as initially transmitted"). */
  readonly lastSent: 'revoke_and_ack' | 'commitment_signed';
}

/** The counterparty's per-commitment points. */
export interface CounterpartyPoints {
  /** Of commitment `counterpartyCommitmentNumber - 1`, while its secret is awaited. */
  readonly previous?: Uint8Array;
  /** Of commitment `counterpartyCommitmentNumber`. */
  readonly current: Uint8Array;
  /** Of the one after: from channel_ready or revoke_and_ack. */
  readonly next?: Uint8Array;
}

/**
 * Where an HTLC is. An update goes to its receiver's commitment first:
 *
 * ```
 *                    outbound (holder offers)            inbound (counterparty offers)
 * add_pending        sent                                received
 * add_signed         holder signed it for counterparty   ... after add_acked
 * add_acked          counterparty revoked: on its side   holder revoked: on the holder's side
 * committed          counterparty signed, holder revoked holder signed, counterparty revoked
 * removal_queued     -                                   decided, not sent (offline, frozen)
 * removal_pending    received                            sent
 * removal_signed     holder signed without it (last)     holder signed without it
 * removal_acked      holder revoked: off its side        counterparty revoked: off its side
 * ```
 *
 * outbound: add_pending → add_signed → add_acked → committed → removal_pending → removal_acked → removal_signed → gone
 * inbound:  add_pending → add_acked → add_signed → committed → removal_queued → removal_pending → removal_signed → removal_acked → gone
 *
 * The holder's revoke_and_ack is decided in the same step as it accepts a
 * commitment_signed, so no state stands between the two.
 */
export type Htlc =
  | { readonly body: HtlcBody; readonly state: HtlcAddState }
  | { readonly body: HtlcBody; readonly state: HtlcRemovalState; readonly removal: HtlcRemoval };

export type HtlcAddState = 'add_pending' | 'add_signed' | 'add_acked' | 'committed';
export type HtlcRemovalState = 'removal_queued' | 'removal_pending' | 'removal_signed' | 'removal_acked';
export type HtlcState = HtlcAddState | HtlcRemovalState;

/** A feerate, from update_fee or the opening; moves like the adding of an HTLC by the funder. */
export interface FeerateUpdate {
  readonly feerateSatPerKw: number;
  readonly state: HtlcAddState;
}

export interface Funding {
  readonly fundingTxid: Uint8Array;
  readonly fundingOutputIndex: number;
  readonly fundingValueSat: bigint;
  readonly holderFundingPubkey: Uint8Array;
  readonly counterpartyFundingPubkey: Uint8Array;
  /** What the holder must keep, and the counterparty. */
  readonly holderReserveSat: bigint;
  readonly counterpartyReserveSat: bigint;
  /** Balances with every pending HTLC still with its offerer; the two sum up to the value. */
  readonly holderBalanceMsat: bigint;
  readonly counterpartyBalanceMsat: bigint;
  /** The counterparty's signatures on the holder's latest commitment of this funding. */
  readonly signature: Uint8Array;
  readonly htlcSignatures: readonly Uint8Array[];
  readonly confirmation: FundingConfirmation;
  readonly announcement: AnnouncementProgress;
}

export type FundingConfirmation =
  | { readonly type: 'unconfirmed' }
  | { readonly type: 'confirmed'; readonly depth: number; readonly shortChannelId: bigint };

export type AnnouncementProgress =
  | { readonly type: 'unannounced' }
  | { readonly type: 'holder_sent' }
  | {
      readonly type: 'counterparty_signed';
      readonly holder: 'unsent' | 'sent' | 'answered';
      readonly shortChannelId: bigint;
      readonly nodeSignature: Uint8Array;
      readonly bitcoinSignature: Uint8Array;
    };

export type Phase =
  /** The holder has not sent channel_ready. */
  | { readonly type: 'awaiting_funding_confirmations' }
  /** The holder sent channel_ready, the counterparty did not. */
  | { readonly type: 'awaiting_channel_ready' }
  | { readonly type: 'open' }
  /** One side or both asked to close; HTLCs are being resolved. */
  | {
      readonly type: 'shutting_down';
      readonly holder: HolderShutdown;
      readonly counterparty: CounterpartyShutdown;
      /** Whether the holder had sent channel_ready. */
      readonly channelReady: 'sent' | 'unsent';
      readonly feerates?: ClosingFeerates;
    }
  | {
      readonly type: 'negotiating_closing';
      readonly holderScript: Uint8Array;
      readonly counterpartyScript: Uint8Array;
      readonly channelReady: 'sent' | 'unsent';
      readonly feerates?: ClosingFeerates;
      readonly holderOffer?: ClosingOffer;
      readonly counterpartyOffer?: ClosingOffer;
    }
  /** The mutual close is agreed and broadcast. */
  | {
      readonly type: 'closing_mutual';
      readonly closing: ClosingSpec;
      readonly counterpartySignature: Uint8Array;
    }
  /** The holder's latest commitment is (or is about to be) broadcast. */
  | { readonly type: 'closing_force'; readonly reason: string }
  /** The counterparty or the signer proved that this state is old: never broadcast, never sign. */
  | { readonly type: 'passive'; readonly reason: string }
  | { readonly type: 'closed'; readonly reason: string };

export type HolderShutdown =
  /** Waits until the holder's updates are committed. */
  | { readonly type: 'pending'; readonly script: Uint8Array }
  | { readonly type: 'sent'; readonly script: Uint8Array };

export type CounterpartyShutdown =
  | { readonly type: 'awaited' }
  | { readonly type: 'received'; readonly script: Uint8Array }
  /** Known from before a disconnect; the peer sends it again before the negotiation restarts. */
  | { readonly type: 'awaiting_retransmission'; readonly script: Uint8Array };

/** What the operator said about a mutual close's feerate, sat per 1000 weight units; what is absent is for the estimates. */
export interface ClosingFeerates {
  /** The least that is accepted; what a funder offers first. */
  readonly targetSatPerKw?: number;
  /** The most that a funder pays. */
  readonly maximumSatPerKw?: number;
}

export interface ClosingOffer {
  readonly feeSat: bigint;
  readonly feeRange?: { readonly minFeeSat: bigint; readonly maxFeeSat: bigint };
}

export type Connection =
  | { readonly type: 'disconnected' }
  /** channel_reestablish went out; the peer's is awaited. */
  | { readonly type: 'reestablishing'; readonly features: NegotiatedFeatures }
  | { readonly type: 'connected'; readonly features: NegotiatedFeatures };

/** The channel's monitor log: the last update's id, and whether one is not yet durable everywhere. */
export interface MonitorProgress {
  readonly updateId: bigint;
  readonly durability:
    | { readonly type: 'complete' }
    /** Frozen: what is owed goes out, made again from the state, when the last update completes. */
    | { readonly type: 'in_progress'; readonly owed: OwedMessages };
}

export interface OwedMessages {
  readonly fundingSigned: boolean;
  readonly channelReady: boolean;
  readonly revokeAndAck: boolean;
  /** Alone when its updates went out already; with them after a reestablish. */
  readonly commitmentSigned: 'none' | 'alone' | 'with_updates';
  readonly shutdown: boolean;
}

/** The oldest funding: the one whose terms the peer-visible numbers and messages carry. */
export function primaryFunding(state: EstablishedChannel): Funding {
  const [funding] = state.fundings;
  if (funding === undefined) throw new InternalError('a channel has at least one funding');
  return funding;
}
