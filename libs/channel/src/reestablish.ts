/** BOLT 2 "Message Retransmission": the loss of the connection, and channel_reestablish in all its cases. */
import { equalBytes } from '@fulmen/codec';
import { MAX_USABLE_COMMITMENT_NUMBER, lookupSecret } from '@fulmen/keys';
import type { MessageOf } from '@fulmen/wire';
import { goPassive } from './close/force.ts';
import { errorMessage } from './close/force.ts';
import { rewindClosing } from './close/shutdown.ts';
import type { ChannelContext, NegotiatedFeatures } from './context.ts';
import type { ChannelEffect } from './effect.ts';
import { fault } from './errors.ts';
import { forgetOwed, freeze } from './freeze.ts';
import { announcementOnReconnect } from './open/announce.ts';
import { NOTHING_OWED, owe, regenerate } from './regenerate.ts';
import type { EstablishedChannel, OwedMessages, Phase } from './state.ts';
import type { Step, StepResult } from './step.ts';
import { sendReady, stepOf } from './step.ts';
import { isFrozen } from './updates/ready.ts';
import { isAwaitingRevocation } from './updates/spec.ts';
import { move } from './updates/transitions.ts';

/**
 * The connection is lost. BOLT 2: "MUST reverse any uncommitted updates sent
 * by the other side". The holder's own uncommitted adds and feerate are given
 * back, too (`htlc_dropped`); its removals are kept and sent again.
 */
export function disconnect(state: EstablishedChannel): Step<EstablishedChannel> {
  if (state.connection.type === 'disconnected') return { state, effects: [] };
  // What was uncommitted in an old state may be committed since: nothing is reversed or given back.
  if (state.phase.type === 'passive')
    return { state: forgetOwed({ ...state, connection: { type: 'disconnected' } }), effects: [] };
  const moved = move(state, 'disconnect');
  const dropped = moved.dropped.filter((htlc) => htlc.body.direction === 'outbound');
  return {
    state: forgetOwed({
      ...state,
      changes: moved.changes,
      fundings: moved.fundings,
      phase: rewindClosing(state.phase),
      connection: { type: 'disconnected' },
    }),
    effects: dropped.map(({ body }): ChannelEffect => ({
      type: 'htlc_dropped',
      htlc: body,
      reason: 'the peer disconnected before the HTLC was committed',
    })),
  };
}

/** A new connection: BOLT 2, "MUST transmit channel_reestablish for each channel." */
export function connect(state: EstablishedChannel, features: NegotiatedFeatures): Step<EstablishedChannel> {
  const lost = disconnect(state);
  const { phase } = state;
  const reestablishing: EstablishedChannel = {
    ...lost.state,
    connection: { type: 'reestablishing', features },
  };
  switch (phase.type) {
    case 'closed':
    case 'closing_mutual':
      return lost;
    case 'closing_force':
      // BOLT 2: "if a channel is in an error state: SHOULD retransmit the error packet and ignore any other packets for that channel."
      return {
        state: reestablishing,
        effects: [...lost.effects, sendReady(errorMessage(state.channelId, phase.reason))],
      };
    case 'passive':
      // BOLT 2: "if next_commitment_number is zero: MUST immediately fail the channel and broadcast any relevant latest
      // commitment transaction." Older peers act on the error, or on revocation numbers that lie behind.
      return {
        state: reestablishing,
        effects: [
          ...lost.effects,
          reestablishEffect(lost.state, 0n),
          sendReady(errorMessage(state.channelId, phase.reason)),
        ],
      };
    case 'awaiting_funding_confirmations':
    case 'awaiting_channel_ready':
    case 'open':
    case 'shutting_down':
    case 'negotiating_closing':
      return { state: reestablishing, effects: [...lost.effects, reestablishEffect(lost.state)] };
  }
}

function reestablishEffect(
  state: EstablishedChannel,
  nextCommitmentNumber = state.changes.holderCommitmentNumber + 1n,
): ChannelEffect {
  const { holderCommitmentNumber, counterpartySecrets } = state.changes;
  // BOLT 2: "if next_revocation_number equals 0: MUST set your_last_per_commitment_secret to all zeroes; otherwise: MUST set
  // your_last_per_commitment_secret to the last per_commitment_secret it received".
  const secret = lookupSecret(counterpartySecrets, counterpartySecrets.count - 1n) ?? new Uint8Array(32);
  return {
    type: 'send',
    message: {
      kind: 'channel_reestablish',
      holderCommitmentNumber,
      message: {
        type: 'channel_reestablish',
        channelId: state.channelId,
        nextCommitmentNumber,
        nextRevocationNumber: counterpartySecrets.count,
        yourLastPerCommitmentSecret: secret,
        tlvs: {},
        unknownTlvs: [],
      },
    },
  };
}

/** The peer's view of the channel, against the holder's. */
export function receiveReestablish(
  ctx: ChannelContext,
  state: EstablishedChannel,
  message: MessageOf<'channel_reestablish'>,
): StepResult<EstablishedChannel> {
  const { phase, connection, changes } = state;
  // Of a closed channel, too, which a restart does not know any more. BOLT 1: "SHOULD send error with the unknown channel_id in
  // reply to messages of type 32-255 related to unknown channels." A peer that was away has heard nothing of the end.
  if (phase.type === 'closing_force' || phase.type === 'passive' || phase.type === 'closed')
    return stepOf(state, sendReady(errorMessage(state.channelId, phase.reason)));
  if (phase.type === 'closing_mutual')
    return fault('unexpected_message', 'ignore', 'channel_reestablish for a closing channel');
  if (connection.type !== 'reestablishing')
    return fault('unexpected_message', 'warning_disconnect', 'a second channel_reestablish');
  // BOLT 2: "if next_commitment_number is zero: MUST immediately fail the channel and broadcast any relevant latest commitment transaction."
  if (message.nextCommitmentNumber === 0n)
    return fault('reestablish_number', 'fail_channel', 'channel_reestablish asks for a close');

  const { nextCommitmentNumber, nextRevocationNumber } = message;
  const holderNumber = changes.holderCommitmentNumber;
  if (nextRevocationNumber > MAX_USABLE_COMMITMENT_NUMBER)
    return fault(
      'reestablish_number',
      'fail_channel',
      'channel_reestablish: next_revocation_number is out of range',
    );
  // BOLT 2: "if next_revocation_number equals 0: MUST set your_last_per_commitment_secret to all zeroes".
  if (nextRevocationNumber === 0n && message.yourLastPerCommitmentSecret.some((byte) => byte !== 0))
    return fault(
      'reestablish_secret',
      'fail_channel',
      'channel_reestablish: your_last_per_commitment_secret before any was revealed',
    );
  if (nextRevocationNumber > 0n) {
    const point = ctx.holderPoint(nextRevocationNumber - 1n);
    if (point === undefined)
      return fault(
        'holder_point_missing',
        'ignore',
        `the point of commitment ${nextRevocationNumber - 1n} is needed`,
      );
    const secret = message.yourLastPerCommitmentSecret;
    // BOLT 2: "if your_last_per_commitment_secret does not match the expected values: SHOULD send an error and fail the channel."
    if (!ctx.secp.isSecretKey(secret) || !equalBytes(ctx.secp.publicKeyOf(secret), point)) {
      return fault(
        'reestablish_secret',
        'fail_channel',
        'channel_reestablish: your_last_per_commitment_secret is wrong',
      );
    }
  }
  // BOLT 2: "if next_revocation_number is greater than expected above, AND your_last_per_commitment_secret is correct for that
  // next_revocation_number minus 1: MUST NOT broadcast its commitment transaction. SHOULD send an error to request the peer to
  // fail the channel."
  if (nextRevocationNumber > holderNumber) {
    const passive = goPassive(state);
    return stepOf(passive.state, ...passive.effects);
  }
  const counterpartyNumber = changes.counterpartyCommitmentNumber;
  // BOLT 2: "if next_commitment_number is not equal to the commitment number of the next commitment_signed that the receiving
  // node would send: SHOULD send an error and fail the channel."
  if (nextCommitmentNumber > counterpartyNumber + 1n) {
    return fault(
      'reestablish_number',
      'fail_channel',
      `channel_reestablish: next_commitment_number ${nextCommitmentNumber}, expected ${counterpartyNumber + 1n}`,
    );
  }
  const resendCommitment = nextCommitmentNumber === counterpartyNumber && isAwaitingRevocation(changes);
  const resendRevocation = nextRevocationNumber === holderNumber - 1n;
  const isPeerBehind =
    (nextCommitmentNumber <= counterpartyNumber && !resendCommitment) ||
    (nextRevocationNumber < holderNumber && !resendRevocation);
  // BOLT 2, rationale: "The other node should wait for that error to give the fallen-behind node an opportunity to fix its
  // state first (e.g by restarting with a different backup)."
  if (isPeerBehind) return stepOf(state);

  const owed: OwedMessages = {
    ...NOTHING_OWED,
    // BOLT 2: "if next_commitment_number is 1 in both the channel_reestablish it sent and received ...: MUST retransmit channel_ready."
    channelReady: nextCommitmentNumber === 1n && holderNumber === 0n && hasSentChannelReady(phase),
    revokeAndAck: resendRevocation,
    commitmentSigned: resendCommitment ? 'with_updates' : 'none',
    // BOLT 2: "if it has sent a previous shutdown: MUST retransmit shutdown."
    shutdown: phase.type === 'shutting_down' && phase.holder.type === 'sent',
  };
  const connected: EstablishedChannel = {
    ...state,
    connection: { type: 'connected', features: connection.features },
  };
  const announced = announcementOnReconnect(connected);
  if (isFrozen(announced.state)) {
    const frozen = freeze(announced.state, []);
    const { durability } = frozen.monitor;
    const before = durability.type === 'in_progress' ? durability.owed : NOTHING_OWED;
    return stepOf(
      {
        ...frozen,
        monitor: { ...frozen.monitor, durability: { type: 'in_progress', owed: owe(before, owed) } },
      },
      ...announced.effects,
    );
  }
  const step = regenerate(ctx, announced.state, owed);
  return stepOf(step.state, ...step.effects, ...announced.effects);
}

function hasSentChannelReady(phase: Phase): boolean {
  switch (phase.type) {
    case 'awaiting_channel_ready':
    case 'open':
      return true;
    case 'shutting_down':
    case 'negotiating_closing':
      return phase.channelReady === 'sent';
    case 'awaiting_funding_confirmations':
    case 'closing_mutual':
    case 'closing_force':
    case 'passive':
    case 'closed':
      return false;
  }
}
