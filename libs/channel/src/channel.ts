/** The channel's core: one pure function from a state and an input to the next state and effects. */
import type { MessageOf } from '@fulmen/wire';
import {
  closed,
  errorMessage,
  forceClose,
  fundingLost,
  goPassive,
  isClosing,
  warningMessage,
} from './close/force.ts';
import { receiveClosingSigned } from './close/negotiate.ts';
import { advanceClosing, receiveShutdown, shutdown } from './close/shutdown.ts';
import { commit, receiveCommitment, receiveRevocation } from './commit.ts';
import type { ChannelContext } from './context.ts';
import type { ChannelEffect, PeerMessage } from './effect.ts';
import type { ChannelError } from './errors.ts';
import { fault, refuse } from './errors.ts';
import { freeze, holdBack, thaw } from './freeze.ts';
import type { ChannelInput } from './input.ts';
import { receiveAnnouncementSignatures } from './open/announce.ts';
import { channelIdOf } from './open/establish.ts';
import { receiveFundingCreated } from './open/fundee.ts';
import { fundingTransactionCreated, receiveAccept, receiveFundingSigned } from './open/funder.ts';
import { fundingConfirmed, fundingReorganisedOut, receiveChannelReady } from './open/ready.ts';
import { connect, disconnect, receiveReestablish } from './reestablish.ts';
import type { ChannelState, EstablishedChannel, OpeningChannel } from './state.ts';
import type { Step, StepResult } from './step.ts';
import { andThen, mergeMonitorUpdates, sendReady, stepOf } from './step.ts';
import { addHtlc, receiveAdd } from './updates/add.ts';
import { receiveFee, updateFee } from './updates/fee.ts';
import { receiveRemoval, removeHtlc } from './updates/remove.ts';

/**
 * One step. On failure nothing changed, and the error says what to do
 * (`applyReaction` does it). On success the shell commits the state together
 * with the monitor update, and only then carries the effects out, in order.
 */
export function channelStep(ctx: ChannelContext, state: ChannelState, input: ChannelInput): StepResult {
  if (state.type === 'opening') return openingStep(ctx, state, input);
  const result = establishedStep(ctx, state, input);
  if (!result.ok) return result;
  // One input makes at most one monitor update, and a frozen channel gives nothing away.
  return stepFrom(holdBack(mergeMonitorUpdates(andThen(result.value, (next) => advanceClosing(ctx, next)))));
}

function stepFrom(step: Step): StepResult {
  return stepOf(step.state, ...step.effects);
}

function openingStep(ctx: ChannelContext, state: OpeningChannel, input: ChannelInput): StepResult {
  switch (input.type) {
    case 'message':
      return openingMessage(ctx, state, input.message);
    case 'funding_transaction_created':
      return fundingTransactionCreated(state, input.fundingTxid, input.fundingOutputIndex);
    case 'abandon_opening':
    case 'force_close':
      return stepFrom(abandon(state, input.reason, 'tell_peer'));
    case 'peer_disconnected':
      // BOLT 2: a funder that did not broadcast, and a fundee that did not send funding_signed, "SHOULD NOT remember the channel
      // for reconnection".
      return stepFrom(abandon(state, 'the peer disconnected during the opening', 'silent'));
    case 'peer_connected':
      return stepFrom(abandon(state, 'the peer reconnected during the opening', 'silent'));
    case 'closed':
    case 'commit':
    case 'monitor_update_in_progress':
    case 'monitor_update_completed':
      return stepOf(state);
    case 'commitment_signed_batch':
      return fault('unexpected_message', 'warning', 'commitment_signed before the channel exists');
    case 'funding_confirmed':
    case 'funding_reorganised_out':
    case 'funding_lost':
    case 'add_htlc':
    case 'fulfil_htlc':
    case 'fail_htlc':
    case 'fail_malformed_htlc':
    case 'update_fee':
    case 'shutdown':
    case 'state_lost':
      return refuse('channel_not_open', 'the channel is not open');
  }
}

function openingMessage(ctx: ChannelContext, state: OpeningChannel, message: PeerMessage): StepResult {
  switch (message.type) {
    case 'accept_channel':
      return receiveAccept(ctx, state, message);
    case 'funding_created':
      return receiveFundingCreated(ctx, state, message);
    case 'funding_signed':
      return receiveFundingSigned(ctx, state, message);
    case 'error':
      return stepFrom(abandon(state, peerReason(message), 'silent'));
    case 'warning':
      return stepOf(state);
    case 'shutdown':
      // BOLT 2: "if it hasn't received a funding_signed (if it is a funder) or a funding_created (if it is a fundee): SHOULD send
      // an error and fail the channel."
      return fault('unexpected_message', 'fail_channel', 'shutdown during the opening');
    case 'open_channel':
    case 'channel_ready':
    case 'update_add_htlc':
    case 'update_fulfill_htlc':
    case 'update_fail_htlc':
    case 'update_fail_malformed_htlc':
    case 'update_fee':
    case 'commitment_signed':
    case 'revoke_and_ack':
    case 'channel_reestablish':
    case 'closing_signed':
    case 'announcement_signatures':
    case 'stfu':
      return fault('unexpected_message', 'warning', `${message.type} during the opening`);
  }
}

function abandon(state: OpeningChannel, reason: string, peer: 'tell_peer' | 'silent'): Step<OpeningChannel> {
  if (state.phase.type === 'abandoned') return { state, effects: [] };
  const told: ChannelEffect[] =
    peer === 'tell_peer' ? [sendReady(errorMessage(openingId(state), reason))] : [];
  return {
    state: { ...state, phase: { type: 'abandoned', reason } },
    effects: [...told, { type: 'event', event: { type: 'channel_closed', reason } }],
  };
}

/**
 * By what the peer knows an opening. BOLT 1: the funder, "for all error messages sent before (and including) the
 * funding_created message: MUST use temporary_channel_id in lieu of channel_id".
 */
function openingId({ phase, temporaryChannelId }: OpeningChannel): Uint8Array {
  return phase.type === 'awaiting_funding_signed'
    ? channelIdOf(phase.fundingTxid, phase.fundingOutputIndex)
    : temporaryChannelId;
}

function establishedStep(
  ctx: ChannelContext,
  state: EstablishedChannel,
  input: ChannelInput,
): StepResult<EstablishedChannel> {
  switch (input.type) {
    case 'message':
      return establishedMessage(ctx, state, input.message);
    case 'commitment_signed_batch':
      return receiveBatch(ctx, state, input.messages);
    case 'funding_transaction_created':
    case 'abandon_opening':
      return refuse('invalid_command', 'the channel is established');
    case 'funding_confirmed':
      return isClosing(state) ? stepOf(state) : fundingConfirmed(state, input);
    case 'funding_reorganised_out':
      return isClosing(state) ? stepOf(state) : fundingReorganisedOut(state, input.fundingTxid);
    case 'funding_lost':
      return fundingLost(state, input.reason);
    case 'add_htlc':
      return addHtlc(ctx, state, input);
    case 'fulfil_htlc':
      return removeHtlc(state, input.id, {
        type: 'fulfilled',
        preimage: input.preimage,
        ...attribution(input),
      });
    case 'fail_htlc':
      return removeHtlc(state, input.id, { type: 'failed', reason: input.reason, ...attribution(input) });
    case 'fail_malformed_htlc':
      return removeHtlc(state, input.id, {
        type: 'failed_malformed',
        sha256OfOnion: input.sha256OfOnion,
        failureCode: input.failureCode,
      });
    case 'update_fee':
      return updateFee(ctx, state, input.feerateSatPerKw);
    case 'commit':
      return commit(state);
    case 'shutdown':
      return shutdown(ctx, state, input);
    case 'force_close':
      // BOLT 2: "MUST NOT broadcast its commitment transaction."
      if (state.phase.type === 'passive')
        return refuse(
          'channel_not_open',
          'the channel is passive: this node lost state of it, its commitment may be revoked, and the peer is asked to close',
        );
      return establishedStepOf(forceClose(state, input.reason));
    case 'closed':
      return closed(state, input.reason);
    case 'state_lost':
      return establishedStepOf(goPassive(state));
    case 'peer_connected':
      return establishedStepOf(connect(state, input.features));
    case 'peer_disconnected':
      return establishedStepOf(disconnect(state));
    case 'monitor_update_in_progress':
      return stepOf(freeze(state, input.held));
    case 'monitor_update_completed':
      return establishedStepOf(thaw(ctx, state, input.updateId));
  }
}

function establishedStepOf(step: Step<EstablishedChannel>): StepResult<EstablishedChannel> {
  return stepOf(step.state, ...step.effects);
}

function attribution(input: { readonly attributionData?: Uint8Array }): {
  readonly attributionData?: Uint8Array;
} {
  return input.attributionData === undefined ? {} : { attributionData: input.attributionData };
}

function establishedMessage(
  ctx: ChannelContext,
  state: EstablishedChannel,
  message: PeerMessage,
): StepResult<EstablishedChannel> {
  switch (message.type) {
    case 'channel_ready':
      return receiveChannelReady(ctx, state, message);
    case 'update_add_htlc':
      return receiveAdd(ctx, state, message);
    case 'update_fulfill_htlc':
    case 'update_fail_htlc':
    case 'update_fail_malformed_htlc':
      return receiveRemoval(state, message);
    case 'update_fee':
      return receiveFee(ctx, state, message);
    case 'commitment_signed':
      return receiveBatch(ctx, state, [message]);
    case 'revoke_and_ack':
      return receiveRevocation(ctx, state, message);
    case 'channel_reestablish':
      return receiveReestablish(ctx, state, message);
    case 'shutdown':
      return receiveShutdown(ctx, state, message);
    case 'closing_signed':
      return receiveClosingSigned(ctx, state, message);
    case 'announcement_signatures':
      return receiveAnnouncementSignatures(state, message);
    case 'error':
      // BOLT 1: "upon receiving error: if the channel_id is not all zero: MUST fail the channel referred to by the error message".
      return isClosing(state) ? stepOf(state) : establishedStepOf(forceClose(state, peerReason(message)));
    case 'warning':
      return stepOf(state);
    case 'stfu':
      return fault('unexpected_message', 'warning_disconnect', 'stfu: quiescence was not negotiated');
    case 'open_channel':
    case 'accept_channel':
    case 'funding_created':
    case 'funding_signed':
      return fault('unexpected_message', 'warning', `${message.type} for an established channel`);
  }
}

function receiveBatch(
  ctx: ChannelContext,
  state: EstablishedChannel,
  messages: readonly MessageOf<'commitment_signed'>[],
): StepResult<EstablishedChannel> {
  // BOLT 2: "If funding_txid is missing in one of the commitment_signed messages: MUST send an error and fail the channel."
  if (messages.length > 1 && messages.some((message) => message.tlvs.fundingTxid === undefined)) {
    return fault('missing_funding_txid', 'fail_channel', 'commitment_signed without funding_txid in a batch');
  }
  return receiveCommitment(ctx, state, messages);
}

/** BOLT 1: "MUST ... only print printable ASCII" of what a peer wrote. */
function peerReason(message: MessageOf<'error'>): string {
  const text = Array.from(message.data.subarray(0, 200), (byte) =>
    byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '?',
  ).join('');
  return `the peer failed the channel: ${text}`;
}

/**
 * Does what an error asks for: the messages to the peer, and for
 * `fail_channel` the closing state. `ignore` and `refuse` change nothing.
 */
export function applyReaction(state: ChannelState, error: ChannelError): Step {
  const id = state.type === 'opening' ? openingId(state) : state.channelId;
  switch (error.reaction) {
    case 'ignore':
    case 'refuse':
      return { state, effects: [] };
    case 'warning':
      return { state, effects: [sendReady(warningMessage(id, error.message))] };
    case 'warning_disconnect':
      return {
        state,
        effects: [
          sendReady(warningMessage(id, error.message)),
          { type: 'disconnect', reason: error.message },
        ],
      };
    case 'fail_channel':
      return state.type === 'opening'
        ? abandon(state, error.message, 'tell_peer')
        : forceClose(state, error.message);
  }
}
