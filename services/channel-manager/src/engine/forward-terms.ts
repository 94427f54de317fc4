/** Whether this channel takes a forward, and what the sender hears when it does not. */
import type { ChannelError, ChannelState } from '@fulmen/channel';
import type { FailureMessage } from '@fulmen/onion';
import { checkForward, type OutgoingChannelTerms } from '@fulmen/payment';
import type { ChannelPolicyRow, Intent } from '@fulmen/store';

/** BOLT 4: nodes "are expected to transition away from including it" (the channel_update in failures). */
const NO_CHANNEL_UPDATE = new Uint8Array(0);
/** How long a forward waits for a peer that is not connected, before it fails back. */
const AWAY_PATIENCE_MS = 20_000;

/** Whether a forward may still wait: a peer is often away for a moment, because its gateway restarted or its shard moved. */
export function mayWait(intent: Intent, nowUnixMs: number): boolean {
  return nowUnixMs - intent.createdUnixMs < AWAY_PATIENCE_MS;
}

/** The failure for a forward that breaks the policy of the outgoing channel; payments of our own obey none. */
export function forwardPolicyOf(
  state: ChannelState,
  policy: ChannelPolicyRow,
  intent: Intent,
  blockHeight: number,
  nowUnixMs: number,
): FailureMessage | undefined {
  if (intent.source.type === 'payment') return undefined;
  const current = {
    feeBaseMsat: policy.feeBaseMsat,
    feeProportionalMillionths: policy.feeProportionalMillionths,
    cltvExpiryDelta: policy.cltvExpiryDelta,
    htlcMinimumMsat: policy.htlcMinimumMsat,
    htlcMaximumMsat: policy.htlcMaximumMsat,
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
    channelUpdate: NO_CHANNEL_UPDATE,
  };
  const checked = checkForward(
    {
      incomingAmountMsat: intent.incomingAmountMsat,
      incomingCltvExpiryHeight: intent.incomingCltvExpiryHeight,
      amountToForwardMsat: intent.outgoingAmountMsat,
      outgoingCltvExpiryHeight: intent.outgoingCltvExpiryHeight,
    },
    state.type === 'established' ? terms : undefined,
    blockHeight,
    Math.floor(nowUnixMs / 1000),
  );
  return checked.ok ? undefined : checked.error;
}

/** What the sender hears when the channel itself refuses the HTLC. */
export function refusalOf(error: ChannelError): FailureMessage {
  if (error.code === 'amount_below_minimum')
    return { kind: 'amount_below_minimum', htlcMsat: 0n, channelUpdate: NO_CHANNEL_UPDATE };
  return { kind: 'temporary_channel_failure', channelUpdate: NO_CHANNEL_UPDATE };
}
