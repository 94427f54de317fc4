/** What lies in a channel actor's mailbox. */
import type { ChannelError, ChannelInput, NegotiatedFeatures } from '@fulmen/channel';
import type { BroadcastOrder, FundingStatus, HtlcSource, Intent, Resolution } from '@fulmen/store';

export type Item =
  /** A message of the peer; `frame` is acknowledged when its turn is committed. */
  | {
      readonly kind: 'message';
      readonly input: Extract<ChannelInput, { type: 'message' | 'commitment_signed_batch' }>;
      readonly generation: bigint;
      readonly frame: bigint;
    }
  | { readonly kind: 'connected'; readonly generation: bigint; readonly features: NegotiatedFeatures }
  | { readonly kind: 'disconnected'; readonly generation: bigint }
  /** An HTLC to add here, from an inbound HTLC elsewhere or a payment of ours. */
  | { readonly kind: 'forward'; readonly intent: Intent; readonly alternatives: 'untried' | 'none' }
  /** The end of an HTLC that came in here. */
  | { readonly kind: 'resolution'; readonly resolution: Resolution }
  | { readonly kind: 'funding_status'; readonly status: FundingStatus }
  /** A command of the operator, the clock or the shell; `settle` hears how it went, after the commit. */
  | {
      readonly kind: 'command';
      readonly input: ChannelInput;
      readonly settle: (outcome: CommandOutcome) => void;
    }
  /** A new block: HTLCs may have come to a deadline. */
  | { readonly kind: 'block'; readonly height: number }
  /** The chain's side decided that the channel closes: nothing else commits before this is done. */
  | { readonly kind: 'closing_decided'; readonly reason: string }
  /** The signer proved that the rows are older than what it signed: the channel is passive from here on. */
  | { readonly kind: 'state_lost' }
  /** Nobody took this HTLC's intent in time: take it back, if that still wins, and fail it. */
  | { readonly kind: 'cancel'; readonly source: HtlcSource & { readonly type: 'htlc' } }
  /** A transaction of this channel's for chain-monitor, made after the commit that decided it. */
  | { readonly kind: 'broadcast'; readonly order: BroadcastOrder }
  /** Every monitor update up to this one is durable at enough towers (LDK `Completed`). */
  | { readonly kind: 'monitor_completed'; readonly updateId: bigint }
  /** Inbound HTLCs that were committed before a restart and have no intent yet are taken up again. */
  | { readonly kind: 'resume' };

export type CommandOutcome =
  | { readonly ok: true }
  | { readonly ok: false; readonly error: Pick<ChannelError, 'code' | 'message'> };
