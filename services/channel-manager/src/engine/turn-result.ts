/** What goes into a turn of a channel beside its state and items, and what comes out of it. */
import type {
  ChannelContext,
  ChannelEffect,
  ChannelError,
  ChannelState,
  HtlcBody,
  OutboundMessage,
} from '@fulmen/channel';
import type { MonitorParameters } from '@fulmen/monitor';
import type { FailureMessage } from '@fulmen/onion';
import type { BroadcastOrder, FundingWatch, HtlcSource, Intent } from '@fulmen/store';
import type { GrowingForwarding, OutgoingLink } from './forwarding.ts';
import type { HtlcDecision } from './htlc-decision.ts';
import type { Reestablish } from './peer-order.ts';

/** What a turn may look at beside the state. */
export interface TurnContext {
  readonly core: ChannelContext;
  readonly channelId: Uint8Array;
  readonly nowUnixMs: number;
  /** The newest that is known, whether its block's item has come or not. */
  readonly blockHeight: number;
  /** What it may be by now: more, where the chain is in doubt. */
  readonly greatestHeight: number;
  /** Where a monitor update is complete: with its commit, or when enough towers have it (LDK `InProgress` until then). */
  readonly updatesComplete: 'at_commit' | 'at_towers';
  /** held: the chain is not known as it is; new HTLCs wait, and fail when they have waited long enough. */
  readonly newHtlcs: 'taken' | 'held';
  /** Of the connection that the turn begins with. */
  readonly reestablish: Reestablish;
  readonly decisions: ReadonlyMap<bigint, HtlcDecision>;
  readonly outgoing: ReadonlyMap<bigint, OutgoingLink>;
  /** Of forwards that were fulfilled past their deadline, and left the channel before this turn. */
  readonly fulfilledLateMsat: bigint;
  /** Whether an inbound HTLC's intent is written. */
  readonly isTakenUp: (inboundHtlcId: bigint) => boolean;
  /** Whether others are known to have settled an inbound HTLC's intent. */
  readonly isTakenByOthers: (inboundHtlcId: bigint) => boolean;
  readonly sharedSecretOf: (inboundHtlcId: bigint) => Uint8Array | undefined;
  /** Policy of the outgoing channel; undefined lets the HTLC pass. */
  readonly refuseForward: (intent: Intent) => FailureMessage | undefined;
  /** Forgets an HTLC's failure when the outgoing channel cannot carry it now. */
  readonly cannotCarry: (intent: Intent, error: ChannelError) => FailureMessage;
}

/** Effects that the actor carries out itself after the commit. */
export type FollowUp = Extract<
  ChannelEffect,
  {
    type:
      | 'fund_channel'
      | 'broadcast_funding'
      | 'broadcast_closing'
      | 'announce_channel'
      | 'force_close'
      | 'disconnect';
  }
>;

export interface TurnResult {
  readonly state: ChannelState;
  readonly messages: readonly OutboundMessage[];
  readonly monitorUpdates: readonly { readonly updateId: bigint; readonly payload: Uint8Array }[];
  readonly monitorBirth: MonitorParameters | undefined;
  /** The counterparty's secrets of this turn, for the signer's next call. */
  readonly revocations: readonly { readonly commitmentNumber: bigint; readonly secret: Uint8Array }[];
  readonly forwarding: GrowingForwarding;
  readonly watches: readonly FundingWatch[];
  readonly broadcasts: readonly BroadcastOrder[];
  readonly followUps: readonly FollowUp[];
  readonly settlements: readonly (() => void)[];
  /** Forwards that this channel has no room: another channel with the peer may. */
  readonly bounced: readonly Intent[];
  readonly acceptedWithoutDecision: readonly HtlcBody[];
  readonly removedOutgoing: readonly bigint[];
  readonly settledInbound: readonly bigint[];
  /** Of such forwards that left it in this turn. */
  readonly fulfilledLateMsat: bigint;
  readonly frames: readonly bigint[];
  /** Sources of intents that wait for the peer to come back. */
  readonly postponed: readonly HtlcSource[];
  readonly reestablish: Reestablish;
  /** Numbers of holder commitments whose points the core asked for in vain: with them, the turn is to be run again. */
  readonly missingPoints: readonly bigint[];
}
