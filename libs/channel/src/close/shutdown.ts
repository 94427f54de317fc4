/** BOLT 2 "Closing Initiation: shutdown", both ways, and the step from the last HTLC to the negotiation. */
import { equalBytes } from '@fulmen/codec';
import { FEERATE_FLOOR_SAT_PER_KW, isValidShutdownScript } from '@fulmen/bitcoin';
import type { MessageOf } from '@fulmen/wire';
import { make } from '@fulmen/wire';
import { MAX_FEERATE_SAT_PER_KW } from '../config.ts';
import type { ChannelContext, NegotiatedFeatures } from '../context.ts';
import type { ChannelEffect } from '../effect.ts';
import { fault, refuse } from '../errors.ts';
import type { ClosingFeerates, EstablishedChannel, Phase } from '../state.ts';
import type { Step, StepResult } from '../step.ts';
import { andThen, sendReady, stepOf, withMonitorUpdate } from '../step.ts';
import { isFrozen } from '../updates/ready.ts';
import { isQuiet } from '../updates/spec.ts';
import { startNegotiation } from './negotiate.ts';
import { isClosing } from './force.ts';

type ShuttingDown = Extract<Phase, { type: 'shutting_down' }>;

/** What the user asks for with a mutual close. */
interface ShutdownWish {
  readonly script?: Uint8Array;
  readonly feerates?: ClosingFeerates;
}

/** The user wants a mutual close, paying to `script` or where the channel's opening said. */
export function shutdown(
  ctx: ChannelContext,
  state: EstablishedChannel,
  { script, feerates }: ShutdownWish,
): StepResult<EstablishedChannel> {
  if (state.connection.type !== 'connected') return refuse('peer_disconnected', 'the peer is not connected');
  const { phase } = state;
  const wrong = wrongFeerates(state, feerates);
  if (wrong !== undefined) return refuse('closing_fee', wrong);
  if (phase.type === 'shutting_down' || phase.type === 'negotiating_closing')
    return script === undefined && feerates !== undefined
      ? stepOf({ ...state, phase: { ...phase, feerates } }, ...renegotiation(phase))
      : refuse('shutdown_in_progress', 'the channel is shutting down');
  if (!isBeforeShutdown(phase)) return refuse('channel_not_open', 'the channel is being closed');
  const upfront = state.parameters.holder.upfrontShutdownScript;
  const chosen = script ?? state.shutdownScript;
  // BOLT 2: "if it sent a non-zero-length shutdown_scriptpubkey in open_channel or accept_channel: MUST send the same value in scriptpubkey."
  if (upfront !== undefined && !equalBytes(upfront, chosen))
    return refuse('shutdown_script', 'another script was committed to at the opening');
  if (!isShutdownScript(chosen, state.connection.features))
    return refuse('shutdown_script', 'no script that shutdown may carry');
  const next: EstablishedChannel = {
    ...state,
    phase: {
      type: 'shutting_down',
      holder: { type: 'pending', script: chosen },
      counterparty: { type: 'awaited' },
      channelReady: readiness(phase),
      ...(feerates && { feerates }),
    },
  };
  return { ok: true, value: advanceClosing(ctx, next) };
}

/** Why the user's feerates make no sense. */
function wrongFeerates(
  state: EstablishedChannel,
  { targetSatPerKw = FEERATE_FLOOR_SAT_PER_KW, maximumSatPerKw }: ClosingFeerates = {},
): string | undefined {
  if (targetSatPerKw < FEERATE_FLOOR_SAT_PER_KW)
    return `below ${FEERATE_FLOOR_SAT_PER_KW} sat per 1000 weight units nothing is relayed`;
  if (targetSatPerKw > MAX_FEERATE_SAT_PER_KW)
    return `above ${MAX_FEERATE_SAT_PER_KW} sat per 1000 weight units nothing is signed`;
  if (maximumSatPerKw === undefined) return undefined;
  if (maximumSatPerKw < targetSatPerKw) return 'the highest feerate is below the one to aim at';
  return state.parameters.funder === 'holder'
    ? undefined
    : 'the peer funded the channel and pays the fee: there is no highest feerate to set';
}

/** An offer stands for as long as the connection: BOLT 2 holds the next one to it "UNLESS it has since reconnected". */
function renegotiation({ type }: Phase): readonly ChannelEffect[] {
  return type === 'negotiating_closing'
    ? [{ type: 'disconnect', reason: 'the closing fee is negotiated again' }]
    : [];
}

/** The counterparty wants a mutual close, answers the holder's wish, or repeats itself after a reconnection. */
export function receiveShutdown(
  ctx: ChannelContext,
  state: EstablishedChannel,
  message: MessageOf<'shutdown'>,
): StepResult<EstablishedChannel> {
  const { phase, connection } = state;
  if (isClosing(state)) return fault('unexpected_message', 'ignore', 'shutdown for a closing channel');
  if (connection.type !== 'connected')
    return fault('unexpected_message', 'warning_disconnect', 'shutdown before channel_reestablish');
  const script = message.scriptpubkey;
  // BOLT 2: "if both nodes advertised the option_upfront_shutdown_script feature, and the receiving node received a
  // non-zero-length shutdown_scriptpubkey ..., and that shutdown_scriptpubkey is not equal to scriptpubkey: MAY send a
  // warning. MUST fail the connection."
  const upfront = state.parameters.counterparty.upfrontShutdownScript;
  if (upfront !== undefined && !equalBytes(upfront, script))
    return fault('shutdown_script', 'warning_disconnect', 'shutdown: not the upfront_shutdown_script');
  // BOLT 2: "if the scriptpubkey is not in one of the above forms: SHOULD send a warning."
  if (!isShutdownScript(script, connection.features))
    return fault('shutdown_script', 'warning_disconnect', 'shutdown: scriptpubkey of no accepted form');
  switch (phase.type) {
    case 'awaiting_funding_confirmations':
    case 'awaiting_channel_ready':
    case 'open':
      return {
        ok: true,
        value: advanceClosing(ctx, {
          ...state,
          phase: {
            type: 'shutting_down',
            holder: { type: 'pending', script: state.shutdownScript },
            counterparty: { type: 'received', script },
            channelReady: readiness(phase),
          },
        }),
      };
    case 'shutting_down':
      // BOLT 2: "MUST NOT send multiple shutdown messages."
      if (phase.counterparty.type === 'received')
        return fault('unexpected_message', 'warning', 'a second shutdown');
      return {
        ok: true,
        value: advanceClosing(ctx, {
          ...state,
          phase: { ...phase, counterparty: { type: 'received', script } },
        }),
      };
    case 'negotiating_closing':
      return fault('unexpected_message', 'warning', 'a second shutdown');
    case 'closing_mutual':
    case 'closing_force':
    case 'passive':
    case 'closed':
      return fault('unexpected_message', 'ignore', 'shutdown for a closing channel');
  }
}

/**
 * Sends the holder's shutdown as soon as none of its updates is pending, and
 * starts the negotiation when both have sent theirs and nothing is left.
 */
export function advanceClosing(ctx: ChannelContext, state: EstablishedChannel): Step<EstablishedChannel> {
  const { phase } = state;
  if (phase.type !== 'shutting_down' || state.connection.type !== 'connected' || isFrozen(state))
    return { state, effects: [] };
  if (phase.holder.type === 'pending') {
    // BOLT 2: "if there are updates pending on the receiving node's commitment transaction: MUST NOT send a shutdown."
    if (hasUnsignedUpdates(state)) return { state, effects: [] };
    const { script } = phase.holder;
    const sent: EstablishedChannel = { ...state, phase: { ...phase, holder: { type: 'sent', script } } };
    const step = withMonitorUpdate(sent, { type: 'shutdown_script', scriptPubKey: script });
    return andThen(
      { state: step.state, effects: [...step.effects, sendReady(shutdownMessage(state.channelId, script))] },
      (next) => advanceClosing(ctx, next),
    );
  }
  return phase.counterparty.type === 'received' && isQuiet(state)
    ? startNegotiation(ctx, state, {
        holderScript: phase.holder.script,
        counterpartyScript: phase.counterparty.script,
        channelReady: phase.channelReady,
        ...(phase.feerates && { feerates: phase.feerates }),
      })
    : { state, effects: [] };
}

function shutdownMessage(channelId: Uint8Array, scriptpubkey: Uint8Array): MessageOf<'shutdown'> {
  return make('shutdown', { channelId, scriptpubkey });
}

/**
 * The holder's shutdown for a counterparty that has not heard it. One that is held starts the negotiation on this side, so
 * that it may be owed in the phases after, too.
 */
export function shutdownAgain({ channelId, phase }: EstablishedChannel): readonly ChannelEffect[] {
  const script = sentScript(phase);
  return script === undefined ? [] : [sendReady(shutdownMessage(channelId, script))];
}

/** Where the holder's shutdown says that the close pays it; undefined when there is none, or none any more. */
function sentScript(phase: Phase): Uint8Array | undefined {
  switch (phase.type) {
    case 'shutting_down':
      return phase.holder.type === 'sent' ? phase.holder.script : undefined;
    case 'negotiating_closing':
      return phase.holderScript;
    case 'closing_mutual':
      return phase.closing.holderScript;
    case 'awaiting_funding_confirmations':
    case 'awaiting_channel_ready':
    case 'open':
    case 'closing_force':
    case 'passive':
    case 'closed':
      return undefined;
  }
}

/** After a disconnect: both shutdowns are exchanged again and the negotiation restarts. */
export function rewindClosing(phase: Phase): Phase {
  if (phase.type === 'negotiating_closing') {
    return {
      type: 'shutting_down',
      holder: { type: 'sent', script: phase.holderScript },
      counterparty: { type: 'awaiting_retransmission', script: phase.counterpartyScript },
      channelReady: phase.channelReady,
      ...(phase.feerates && { feerates: phase.feerates }),
    };
  }
  if (phase.type === 'shutting_down' && phase.counterparty.type === 'received') {
    return { ...phase, counterparty: { type: 'awaiting_retransmission', script: phase.counterparty.script } };
  }
  return phase;
}

function hasUnsignedUpdates(state: EstablishedChannel): boolean {
  const { htlcs, feerates } = state.changes;
  return (
    htlcs.some((htlc) =>
      htlc.body.direction === 'outbound' ? htlc.state === 'add_pending' : htlc.state === 'removal_pending',
    ) ||
    (state.parameters.funder === 'holder' && feerates.some((feerate) => feerate.state === 'add_pending'))
  );
}

type BeforeShutdown = Extract<
  Phase,
  { type: 'awaiting_funding_confirmations' | 'awaiting_channel_ready' | 'open' }
>;

function isBeforeShutdown(phase: Phase): phase is BeforeShutdown {
  return (
    phase.type === 'awaiting_funding_confirmations' ||
    phase.type === 'awaiting_channel_ready' ||
    phase.type === 'open'
  );
}

function readiness(phase: BeforeShutdown): ShuttingDown['channelReady'] {
  return phase.type === 'awaiting_funding_confirmations' ? 'unsent' : 'sent';
}

/** BOLT 2, the forms of a `scriptpubkey` in shutdown, without option_simple_close. */
export function isShutdownScript(
  script: Uint8Array,
  features: Pick<NegotiatedFeatures, 'shutdownAnySegwit'>,
): boolean {
  return isValidShutdownScript(script, { shutdownAnySegwit: features.shutdownAnySegwit, simpleClose: false });
}
