/**
 * The freeze while a monitor update is not durable everywhere (LDK
 * `InProgress`): messages that give something away are held, which means
 * dropped and remembered as owed, and made again on completion.
 */
import type { ChannelContext } from './context.ts';
import type { ChannelEffect, OutboundMessage } from './effect.ts';
import { isLeft } from './close/force.ts';
import { heldClosing } from './close/negotiate.ts';
import { NOTHING_OWED, owe, regenerate } from './regenerate.ts';
import type { EstablishedChannel, OwedMessages } from './state.ts';
import type { Step } from './step.ts';

/** Whether a message must wait until the monitor updates before it are durable everywhere. */
export function isHeld(message: OutboundMessage): boolean {
  switch (message.kind) {
    case 'commitment_signed':
    case 'revoke_and_ack':
    case 'channel_ready':
    case 'funding_signed':
    case 'closing_signed':
      return true;
    case 'ready':
      return message.message.type === 'shutdown';
    case 'funding_created':
    case 'channel_reestablish':
    case 'announcement_signatures':
      return false;
  }
}

/** What a held message leaves owed. */
function owedBy(message: OutboundMessage): Partial<OwedMessages> {
  switch (message.kind) {
    case 'commitment_signed':
      return { commitmentSigned: 'alone' };
    case 'revoke_and_ack':
      return { revokeAndAck: true };
    case 'channel_ready':
      return { channelReady: true };
    case 'funding_signed':
      return { fundingSigned: true };
    case 'ready':
      return message.message.type === 'shutdown' ? { shutdown: true } : {};
    case 'closing_signed':
    case 'funding_created':
    case 'channel_reestablish':
    case 'announcement_signatures':
      return {};
  }
}

/** The last update is not durable everywhere; the shell dropped these of its messages. */
export function freeze(state: EstablishedChannel, held: readonly OutboundMessage[]): EstablishedChannel {
  const { durability } = state.monitor;
  const before = durability.type === 'in_progress' ? durability.owed : NOTHING_OWED;
  const owed = held.reduce((sum, message) => owe(sum, owedBy(message)), before);
  return { ...state, monitor: { ...state.monitor, durability: { type: 'in_progress', owed } } };
}

/** While frozen, a step's held messages become debts. */
export function holdBack(step: Step<EstablishedChannel>): Step<EstablishedChannel> {
  if (step.state.monitor.durability.type === 'complete') return step;
  const held: OutboundMessage[] = [];
  const effects: ChannelEffect[] = [];
  for (const effect of step.effects) {
    if (effect.type === 'send' && isHeld(effect.message)) held.push(effect.message);
    else effects.push(effect);
  }
  return { state: freeze(step.state, held), effects };
}

/** Every update up to `updateId` is durable everywhere. An earlier one than the last changes nothing. */
export function thaw(
  ctx: ChannelContext,
  state: EstablishedChannel,
  updateId: bigint,
): Step<EstablishedChannel> {
  const { durability } = state.monitor;
  if (durability.type === 'complete' || updateId < state.monitor.updateId) return { state, effects: [] };
  const thawed: EstablishedChannel = {
    ...state,
    monitor: { ...state.monitor, durability: { type: 'complete' } },
  };
  // Whoever is gone learns it from the reestablish; of a channel that was left meanwhile nothing is owed.
  if (state.connection.type !== 'connected' || isLeft(state)) return { state: thawed, effects: [] };
  const step = regenerate(ctx, thawed, durability.owed);
  return { state: step.state, effects: [...step.effects, ...heldClosing(state)] };
}

/** After a disconnect nothing is owed until the peer's channel_reestablish says so. */
export function forgetOwed(state: EstablishedChannel): EstablishedChannel {
  return state.monitor.durability.type === 'complete'
    ? state
    : { ...state, monitor: { ...state.monitor, durability: { type: 'in_progress', owed: NOTHING_OWED } } };
}
