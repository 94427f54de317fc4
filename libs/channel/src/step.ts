/** The result of one input, and small helpers to build it. */
import type { Result } from '@fulmen/codec';
import { ok } from '@fulmen/codec';
import type { ChannelMonitorUpdateStep } from '@fulmen/monitor';
import type { ChannelEffect, OutboundMessage, PeerMessage } from './effect.ts';
import type { ChannelError } from './errors.ts';
import type { ChannelState, EstablishedChannel } from './state.ts';

export interface Step<S extends ChannelState = ChannelState> {
  readonly state: S;
  /** In the order in which they are to happen, after the state is committed. */
  readonly effects: readonly ChannelEffect[];
}

export type StepResult<S extends ChannelState = ChannelState> = Result<Step<S>, ChannelError>;

/** A step that succeeded. */
export function stepOf<S extends ChannelState>(
  state: S,
  ...effects: readonly ChannelEffect[]
): { readonly ok: true; readonly value: Step<S> } {
  return ok({ state, effects });
}

export function send(message: OutboundMessage): ChannelEffect {
  return { type: 'send', message };
}

/** The effect of sending a message that needs no signer. */
export function sendReady(message: PeerMessage): ChannelEffect {
  return send({ kind: 'ready', message });
}

/** Adds one monitor update with these steps: the next id, and the effect. */
export function withMonitorUpdate(
  state: EstablishedChannel,
  ...steps: readonly ChannelMonitorUpdateStep[]
): Step<EstablishedChannel> {
  const updateId = state.monitor.updateId + 1n;
  return {
    state: { ...state, monitor: { ...state.monitor, updateId } },
    effects: [{ type: 'monitor_update', updateId, steps }],
  };
}

/** Runs `next` on a step's state and joins the effects. One input makes at most one monitor update: two are merged. */
export function andThen(
  step: Step<EstablishedChannel>,
  next: (state: EstablishedChannel) => Step<EstablishedChannel>,
): Step<EstablishedChannel> {
  const after = next(step.state);
  return mergeMonitorUpdates({ state: after.state, effects: [...step.effects, ...after.effects] });
}

/** Joins the monitor updates of one step into the first of them; the id grows by one per step. */
export function mergeMonitorUpdates(step: Step<EstablishedChannel>): Step<EstablishedChannel> {
  const updates = step.effects.filter((effect) => effect.type === 'monitor_update');
  const [first] = updates;
  if (first === undefined || updates.length === 1) return step;
  const merged: ChannelEffect = { ...first, steps: updates.flatMap((update) => update.steps) };
  const effects: ChannelEffect[] = [];
  for (const effect of step.effects) {
    if (effect === first) effects.push(merged);
    else if (effect.type !== 'monitor_update') effects.push(effect);
  }
  return { state: { ...step.state, monitor: { ...step.state.monitor, updateId: first.updateId } }, effects };
}
