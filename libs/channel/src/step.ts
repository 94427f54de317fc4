/** The result of one input, and small helpers to build it. */
import type { Result } from '@fulmen/codec';
import type { ChannelEffect, OutboundMessage, PeerMessage } from './effect.ts';
import type { ChannelError } from './errors.ts';
import type { ChannelState } from './state.ts';

export interface Step<S extends ChannelState = ChannelState> {
  readonly state: S;
  /** In the order in which they are to happen, after the state is committed. */
  readonly effects: readonly ChannelEffect[];
}

export type StepResult<S extends ChannelState = ChannelState> = Result<Step<S>, ChannelError>;

/** A step that succeeded. */
export function stepOf<S extends ChannelState>(state: S, ...effects: readonly ChannelEffect[]): { readonly ok: true; readonly value: Step<S> } {
  return { ok: true, value: { state, effects } };
}

/** The effect of sending a message that needs no signer. */
export function sendReady(message: PeerMessage): ChannelEffect {
  return { type: 'send', message: { kind: 'ready', message } };
}

export function send(message: OutboundMessage): ChannelEffect {
  return { type: 'send', message };
}
