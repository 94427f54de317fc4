/** Leaving the channel without the counterparty's consent, or being told to. */
import { utf8Encode } from '@fulmen/codec';
import type { MessageOf } from '@fulmen/wire';
import { make } from '@fulmen/wire';
import type { ChannelEffect } from '../effect.ts';
import { type EstablishedChannel, primaryFunding } from '../state.ts';
import type { Step, StepResult } from '../step.ts';
import { sendReady, stepOf, withMonitorUpdate } from '../step.ts';

export function errorMessage(channelId: Uint8Array, text: string): MessageOf<'error'> {
  return make('error', { channelId, data: utf8Encode(text) });
}

export function warningMessage(channelId: Uint8Array, text: string): MessageOf<'warning'> {
  return make('warning', { channelId, data: utf8Encode(text) });
}

/** Whether the channel is past the point where another close could start. */
export function isClosing(state: EstablishedChannel): boolean {
  return isLeft(state) || state.phase.type === 'closing_mutual';
}

/** Whether it ends, or has ended, without the counterparty: nothing but the reason is said of it any more. */
export function isLeft({ phase }: EstablishedChannel): boolean {
  return phase.type === 'closing_force' || phase.type === 'passive' || phase.type === 'closed';
}

/**
 * The holder's latest commitment goes to the chain. HTLCs that were never
 * committed are given back; the others are the chain's.
 */
export function forceClose(state: EstablishedChannel, reason: string): Step<EstablishedChannel> {
  return isLeft(state) ? { state, effects: [] } : leave(state, reason, 'broadcast');
}

/**
 * The counterparty, or the holder's signer, proved that this state is old: the
 * commitment must never be broadcast. BOLT 2: "MUST NOT broadcast its commitment
 * transaction. SHOULD send an error to request the peer to fail the channel."
 * A channel that is closing already is left as it is.
 */
export function goPassive(state: EstablishedChannel): Step<EstablishedChannel> {
  return isClosing(state)
    ? { state, effects: [] }
    : leave(state, 'state was lost: please close the channel', 'passive');
}

function leave(
  state: EstablishedChannel,
  reason: string,
  broadcast: 'broadcast' | 'passive',
): Step<EstablishedChannel> {
  // Of a state that is old nobody knows what was sent after it: the peer may be paid for such an HTLC by its next commitment.
  const isUnsent = (htlc: EstablishedChannel['changes']['htlcs'][number]) =>
    broadcast === 'broadcast' && htlc.body.direction === 'outbound' && htlc.state === 'add_pending';
  const dropped = state.changes.htlcs.filter(isUnsent);
  const left: EstablishedChannel = {
    ...state,
    changes: {
      ...state.changes,
      htlcs: state.changes.htlcs.filter((htlc) => !isUnsent(htlc)),
      nextOutboundHtlcId: state.changes.nextOutboundHtlcId - BigInt(dropped.length),
    },
    phase: broadcast === 'broadcast' ? { type: 'closing_force', reason } : { type: 'passive', reason },
  };
  const step = withMonitorUpdate(left, { type: 'channel_force_closed', shouldBroadcast: broadcast, reason });
  const told: ChannelEffect[] =
    state.connection.type === 'disconnected' ? [] : [sendReady(errorMessage(state.channelId, reason))];
  return {
    state: step.state,
    effects: [
      ...step.effects,
      ...told,
      { type: 'force_close', reason, broadcast },
      ...dropped.map(({ body }): ChannelEffect => ({ type: 'htlc_dropped', htlc: body, reason })),
      { type: 'event', event: { type: 'channel_closed', reason } },
    ],
  };
}

/** Everything is resolved on-chain: its HTLCs need no rows any more, for whoever waited for their end has heard of it. */
export function closed(state: EstablishedChannel, reason: string): StepResult<EstablishedChannel> {
  return state.phase.type === 'closed'
    ? stepOf(state)
    : stepOf({ ...state, changes: { ...state.changes, htlcs: [] }, phase: { type: 'closed', reason } });
}

/**
 * The channel never was: what it had under way comes back, and the peer hears that nothing will come of it. The
 * counterparty may still publish its funding, long after it is given up: for what the holder has in the channel by then
 * (a push, or a payment that did not wait for confirmations) the monitor keeps the commitment ready.
 */
export function fundingLost(state: EstablishedChannel, reason: string): StepResult<EstablishedChannel> {
  if (state.phase.type === 'closed' || isInUse(state)) return stepOf(state);
  const unpaid = state.changes.htlcs.filter(
    (htlc) => htlc.body.direction === 'outbound' && !('removal' in htlc && htlc.removal.type === 'fulfilled'),
  );
  const told: ChannelEffect[] =
    state.connection.type === 'disconnected' ? [] : [sendReady(errorMessage(state.channelId, reason))];
  const wasClosing = isClosing(state);
  const closed: EstablishedChannel = {
    ...state,
    changes: { ...state.changes, htlcs: [] },
    phase: { type: 'closed', reason },
  };
  const isKept = !wasClosing && state.parameters.funder === 'counterparty' && hasStake(state);
  const step = isKept
    ? withMonitorUpdate(closed, { type: 'channel_force_closed', shouldBroadcast: 'broadcast', reason })
    : { state: closed, effects: [] };
  return stepOf(
    step.state,
    ...step.effects,
    ...told,
    ...unpaid.map(({ body }): ChannelEffect => ({ type: 'htlc_dropped', htlc: body, reason })),
    ...(wasClosing ? [] : [{ type: 'event', event: { type: 'channel_closed', reason } } as const]),
  );
}

/**
 * BOLT 2 lets the fundee forget a channel that waits for its funding. One that is in use without confirmations (LDK keeps
 * those, too) goes on: a low feerate explains why its funding was not seen, and its HTLCs are others' money.
 */
function isInUse(state: EstablishedChannel): boolean {
  return state.parameters.funder === 'counterparty' && state.minimumDepth === 0 && hasStake(state);
}

function hasStake(state: EstablishedChannel): boolean {
  return primaryFunding(state).holderBalanceMsat > 0n || state.changes.htlcs.length > 0;
}
