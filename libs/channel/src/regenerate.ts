/**
 * Makes owed messages again from the state: after a channel_reestablish, and
 * when a monitor update completes. Both are the same act; nothing is ever
 * kept in a buffer.
 */
import type { ChannelContext } from './context.ts';
import type { ChannelEffect, OutboundMessage } from './effect.ts';
import { advanceClosing, shutdownAgain } from './close/shutdown.ts';
import { commitmentMessage, revocationMessage } from './commit.ts';
import type { EstablishedChannel, OwedMessages } from './state.ts';
import type { Step } from './step.ts';
import { andThen, send, sendReady } from './step.ts';
import { addMessage } from './updates/add.ts';
import { feeMessage } from './updates/fee.ts';
import { replaceHtlc } from './updates/ready.ts';
import { removalMessage } from './updates/remove.ts';

export const NOTHING_OWED: OwedMessages = {
  fundingSigned: false,
  channelReady: false,
  revokeAndAck: false,
  commitmentSigned: 'none',
  shutdown: false,
};

/** The union of what two causes owe. */
export function owe(a: OwedMessages, b: Partial<OwedMessages>): OwedMessages {
  return {
    fundingSigned: a.fundingSigned || b.fundingSigned === true,
    channelReady: a.channelReady || b.channelReady === true,
    revokeAndAck: a.revokeAndAck || b.revokeAndAck === true,
    commitmentSigned: strongest(a.commitmentSigned, b.commitmentSigned ?? 'none'),
    shutdown: a.shutdown || b.shutdown === true,
  };
}

function strongest(
  a: OwedMessages['commitmentSigned'],
  b: OwedMessages['commitmentSigned'],
): OwedMessages['commitmentSigned'] {
  if (a === 'with_updates' || b === 'with_updates') return 'with_updates';
  return a === 'none' ? b : a;
}

/** The messages that a channel owes, in the order to send them, and the state once they are sent. */
export function regenerate(
  ctx: ChannelContext,
  state: EstablishedChannel,
  owed: OwedMessages,
): Step<EstablishedChannel> {
  const effects: ChannelEffect[] = [];
  if (owed.fundingSigned) effects.push(send(fundingSignedMessage(state)));
  if (owed.channelReady) effects.push(send(channelReadyMessage(state)));
  const revocation = owed.revokeAndAck ? [send(revocationMessage(state))] : [];
  const commitment =
    owed.commitmentSigned === 'none'
      ? []
      : [
          ...(owed.commitmentSigned === 'with_updates' ? signedUpdates(state) : []),
          send(commitmentMessage(state)),
        ];
  // BOLT 2: "MUST retransmit revoke_and_ack and commitment_signed in the same relative order as initially transmitted."
  effects.push(
    ...(state.changes.lastSent === 'revoke_and_ack'
      ? [...commitment, ...revocation]
      : [...revocation, ...commitment]),
  );
  if (owed.shutdown) effects.push(...shutdownAgain(state));
  const queued = sendQueuedRemovals(state);
  return andThen({ state: queued.state, effects: [...effects, ...queued.effects] }, (next) =>
    advanceClosing(ctx, next),
  );
}

/**
 * The updates that the latest, unacknowledged commitment_signed covers.
 * Removals first, then the feerate, then adds: each intermediate state is then
 * no harder to afford than the last, which was checked when they were made.
 */
function signedUpdates(state: EstablishedChannel): ChannelEffect[] {
  const removals: ChannelEffect[] = [];
  const adds: ChannelEffect[] = [];
  for (const htlc of state.changes.htlcs) {
    if (htlc.body.direction === 'inbound' && htlc.state === 'removal_signed' && 'removal' in htlc) {
      removals.push(sendReady(removalMessage(state.channelId, htlc.body.id, htlc.removal)));
    } else if (htlc.body.direction === 'outbound' && htlc.state === 'add_signed') {
      adds.push(sendReady(addMessage(state.channelId, htlc.body)));
    }
  }
  const isPayer = state.parameters.funder === 'holder';
  const fees = state.changes.feerates.filter((feerate) => isPayer && feerate.state === 'add_signed');
  return [
    ...removals,
    ...fees.map((fee) => sendReady(feeMessage(state.channelId, fee.feerateSatPerKw))),
    ...adds,
  ];
}

/** Removals that were decided while the peer was away or the channel frozen. */
function sendQueuedRemovals(state: EstablishedChannel): Step<EstablishedChannel> {
  if (state.phase.type !== 'open' && state.phase.type !== 'shutting_down') return { state, effects: [] };
  let next = state;
  const effects: ChannelEffect[] = [];
  for (const htlc of state.changes.htlcs) {
    if (htlc.state !== 'removal_queued' || !('removal' in htlc)) continue;
    next = replaceHtlc(next, { ...htlc, state: 'removal_pending' });
    effects.push(sendReady(removalMessage(state.channelId, htlc.body.id, htlc.removal)));
  }
  return { state: next, effects };
}

export function channelReadyMessage(state: EstablishedChannel): OutboundMessage {
  return {
    kind: 'channel_ready',
    channelId: state.channelId,
    ...(state.aliasScid === undefined ? {} : { aliasScid: state.aliasScid }),
  };
}

export function fundingSignedMessage(state: EstablishedChannel): OutboundMessage {
  return { ...commitmentMessage(state), kind: 'funding_signed' };
}
