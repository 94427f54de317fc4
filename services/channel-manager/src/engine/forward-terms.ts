/** Whether this channel takes a forward, and what the sender hears when it does not. */
import { type ChannelError, type ChannelState, isTooLateToOffer } from '@fulmen/channel';
import type { FailureMessage } from '@fulmen/onion';
import { checkForward, type OutgoingChannelTerms } from '@fulmen/payment';
import type { ChannelPolicyRow, Intent } from '@fulmen/store';
import { hidesRealScid, realScid } from './own-gossip.ts';
import { publishedLimits } from './policy.ts';

/**
 * BOLT 4: nodes "are expected to transition away from including it" (the channel_update in failures). Want of liquidity
 * goes without; terms that were not met go with it, since the sender could not do better else, and LND reads none of
 * those failures without one.
 */
const NO_CHANNEL_UPDATE = new Uint8Array(0);
/** How long a forward waits for a peer that is not connected, before it fails back. */
const AWAY_PATIENCE_MS = 20_000;

/** Whether a forward may still wait: a peer is often away for a moment, because its gateway restarted or its shard moved. */
export function mayWait(intent: Intent, nowUnixMs: number): boolean {
  return nowUnixMs - intent.createdUnixMs < AWAY_PATIENCE_MS;
}

/** Whether this is a name of the channel: its real scid, or the alias that this node gave it. */
export function isNamed(state: ChannelState, shortChannelId: bigint): boolean {
  if (state.type !== 'established') return false;
  return state.aliasScid === shortChannelId || realScid(state) === shortChannelId;
}

/**
 * Whether an HTLC of somebody else's names a channel by the scid that its type hides. BOLT 2: "if channel_type has
 * option_scid_alias set: MUST NOT allow incoming HTLCs to this channel using the real short_channel_id".
 */
export function namesHiddenScid(state: ChannelState, { source, target }: Intent): boolean {
  if (source.type === 'payment' || target.type !== 'scid' || state.type !== 'established') return false;
  return hidesRealScid(state) && realScid(state) === target.shortChannelId;
}

/** What the sender hears when no channel with the peer of this one is in service; without a channel, there is none that could be. */
export function outOfService(named: ChannelState | undefined, intent: Intent): FailureMessage {
  return named === undefined || namesHiddenScid(named, intent)
    ? { kind: 'unknown_next_peer' }
    : { kind: 'temporary_channel_failure', channelUpdate: NO_CHANNEL_UPDATE };
}

/** The failure for a forward that breaks the policy of the outgoing channel; payments of our own obey none, and have time. */
export function forwardPolicyOf(
  state: ChannelState,
  policy: ChannelPolicyRow,
  intent: Intent,
  now: { readonly blockHeight: number; readonly nowUnixMs: number; readonly channelUpdate?: Uint8Array },
): FailureMessage | undefined {
  if (intent.source.type === 'payment')
    return isTooLateToOffer(intent.outgoingCltvExpiryHeight, now.blockHeight)
      ? { kind: 'expiry_too_soon', channelUpdate: NO_CHANNEL_UPDATE }
      : undefined;
  if (state.type !== 'established') return { kind: 'unknown_next_peer' };
  if (namesHiddenScid(state, intent)) return { kind: 'unknown_next_peer' };
  const current = {
    feeBaseMsat: policy.feeBaseMsat,
    feeProportionalMillionths: policy.feeProportionalMillionths,
    cltvExpiryDelta: policy.cltvExpiryDelta,
    ...publishedLimits(state, policy),
  };
  const terms: OutgoingChannelTerms = {
    policy: current,
    ...(policy.previous === undefined
      ? {}
      : {
          previous: {
            policy: { ...current, ...policy.previous },
            replacedAtSeconds: Math.floor(policy.updatedUnixMs / 1000),
          },
        }),
    status: 'enabled',
    channelUpdate: now.channelUpdate ?? NO_CHANNEL_UPDATE,
  };
  const checked = checkForward(
    {
      incomingAmountMsat: intent.incomingAmountMsat,
      incomingCltvExpiryHeight: intent.incomingCltvExpiryHeight,
      amountToForwardMsat: intent.outgoingAmountMsat,
      outgoingCltvExpiryHeight: intent.outgoingCltvExpiryHeight,
    },
    terms,
    now.blockHeight,
    Math.floor(now.nowUnixMs / 1000),
  );
  if (checked.ok) return undefined;
  const standsIn = intent.target.type === 'scid' && !isNamed(state, intent.target.shortChannelId);
  // The sender knows nothing of this channel's terms, and was held against them because the named one had no room.
  return standsIn && 'channelUpdate' in checked.error
    ? { kind: 'temporary_channel_failure', channelUpdate: NO_CHANNEL_UPDATE }
    : checked.error;
}

/** What the sender hears when the channel itself refuses the HTLC. */
export function refusalOf(error: ChannelError, intent: Intent): FailureMessage {
  // A forward was held against the peer's minimum before; this is a payment of our own.
  if (error.code === 'amount_below_minimum')
    return {
      kind: 'amount_below_minimum',
      htlcMsat: intent.outgoingAmountMsat,
      channelUpdate: NO_CHANNEL_UPDATE,
    };
  return { kind: 'temporary_channel_failure', channelUpdate: NO_CHANNEL_UPDATE };
}
