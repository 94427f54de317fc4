/** When updates may be made, and where they are found. */
import type { Result } from '@fulmen/codec';
import { ok } from '@fulmen/codec';
import type { ChannelError } from '../errors.ts';
import { fault, refuse } from '../errors.ts';
import type { HtlcDirection } from '../htlc.ts';
import type { EstablishedChannel, Htlc } from '../state.ts';

export function isFrozen(state: EstablishedChannel): boolean {
  return state.monitor.durability.type === 'in_progress';
}

/** Whether messages for updates may go out now. */
export function canSendUpdates(state: EstablishedChannel): boolean {
  return state.connection.type === 'connected' && !isFrozen(state);
}

/** The holder's new HTLCs and feerates need a live, unfrozen, open channel. */
export function requireSendable(state: EstablishedChannel): Result<void, ChannelError> {
  if (state.phase.type === 'shutting_down' || state.phase.type === 'negotiating_closing') {
    return refuse('shutdown_in_progress', 'the channel is shutting down');
  }
  if (state.phase.type !== 'open') return refuse('channel_not_open', 'the channel is not open');
  if (state.connection.type !== 'connected') return refuse('peer_disconnected', 'the peer is not connected');
  if (isFrozen(state)) return refuse('monitor_update_in_progress', 'a monitor update is in progress');
  return ok(undefined);
}

/** The counterparty's updates are welcome while the channel is open or resolves its last HTLCs. */
export function requireReceivable(state: EstablishedChannel, message: string): Result<void, ChannelError> {
  // BOLT 2: "if a channel is in an error state: SHOULD retransmit the error packet and ignore any other packets for that channel."
  if (
    state.phase.type === 'closing_force' ||
    state.phase.type === 'passive' ||
    state.phase.type === 'closed' ||
    state.phase.type === 'closing_mutual'
  ) {
    return fault('unexpected_message', 'ignore', `${message} for a closing channel`);
  }
  if (state.connection.type !== 'connected')
    return fault('unexpected_message', 'warning_disconnect', `${message} before channel_reestablish`);
  if (state.phase.type === 'open' || state.phase.type === 'shutting_down') return ok(undefined);
  return fault('unexpected_message', 'warning_disconnect', `${message} in phase ${state.phase.type}`);
}

export function findHtlc(state: EstablishedChannel, direction: HtlcDirection, id: bigint): Htlc | undefined {
  return state.changes.htlcs.find((htlc) => htlc.body.direction === direction && htlc.body.id === id);
}

export function replaceHtlc(state: EstablishedChannel, htlc: Htlc): EstablishedChannel {
  const htlcs = state.changes.htlcs.map((other) =>
    other.body.direction === htlc.body.direction && other.body.id === htlc.body.id ? htlc : other,
  );
  return { ...state, changes: { ...state.changes, htlcs } };
}
