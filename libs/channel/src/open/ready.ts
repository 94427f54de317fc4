/** From the funding's confirmation to an open channel: BOLT 2 "The channel_ready Message". */
import { equalBytes } from '@fulmen/codec';
import { shortChannelId } from '@fulmen/wire';
import type { MessageOf } from '@fulmen/wire';
import { isClosing } from '../close/force.ts';
import { fundingScriptPubKey } from '../commitment/scripts/funding.ts';
import { fault } from '../errors.ts';
import type { ChannelContext } from '../context.ts';
import type { ChannelInput } from '../input.ts';
import { channelReadyMessage } from '../regenerate.ts';
import type { EstablishedChannel, Funding } from '../state.ts';
import { primaryFunding } from '../state.ts';
import type { Step, StepResult } from '../step.ts';
import { andThen, send, stepOf } from '../step.ts';
import { announceIfDue, withConfirmation } from './announce.ts';

type Confirmed = Extract<ChannelInput, { type: 'funding_confirmed' }>;

/**
 * The chain shows the funding output. BOLT 2: "MUST NOT send channel_ready
 * unless outpoint of given by funding_txid and funding_output_index in the
 * funding_created message pays exactly funding_satoshis to the scriptpubkey".
 */
export function fundingConfirmed(
  state: EstablishedChannel,
  input: Confirmed,
): StepResult<EstablishedChannel> {
  const index = state.fundings.findIndex(
    (funding) =>
      equalBytes(funding.fundingTxid, input.fundingTxid) &&
      funding.fundingOutputIndex === input.fundingOutputIndex,
  );
  const funding = state.fundings[index];
  if (funding === undefined) return fault('funding_mismatch', 'ignore', 'not a funding of this channel');
  const script = fundingScriptPubKey(funding.holderFundingPubkey, funding.counterpartyFundingPubkey);
  if (input.valueSat !== funding.fundingValueSat || !equalBytes(input.scriptPubKey, script)) {
    return fault(
      'funding_mismatch',
      'fail_channel',
      'the funding output has another value or script than agreed',
    );
  }
  const scid = shortChannelId.from(input.blockHeight, input.transactionIndex, input.fundingOutputIndex);
  const confirmed = replaceFunding(
    state,
    index,
    withConfirmation(funding, { type: 'confirmed', depth: input.depth, shortChannelId: scid }),
  );
  return { ok: true, value: andThen(readyIfDeep(confirmed), announceIfDue) };
}

/** A reorganisation. Once in use, a channel that waited for confirmations is worth nothing without them. */
export function fundingReorganisedOut(
  state: EstablishedChannel,
  fundingTxid: Uint8Array,
): StepResult<EstablishedChannel> {
  const index = state.fundings.findIndex((funding) => equalBytes(funding.fundingTxid, fundingTxid));
  const funding = state.fundings[index];
  if (funding === undefined) return fault('funding_mismatch', 'ignore', 'not a funding of this channel');
  const inUse =
    state.phase.type === 'open' ||
    state.phase.type === 'awaiting_channel_ready' ||
    state.phase.type === 'shutting_down';
  if (inUse && state.minimumDepth > 0 && state.parameters.funder === 'counterparty') {
    return fault('funding_unconfirmed', 'fail_channel', 'the funding transaction left the chain');
  }
  return stepOf(replaceFunding(state, index, withConfirmation(funding, { type: 'unconfirmed' })));
}

/** Sends channel_ready once the funding is deep enough, which a zero-conf channel's is at once. */
export function readyIfDeep(state: EstablishedChannel): Step<EstablishedChannel> {
  const { confirmation } = primaryFunding(state);
  const depth = confirmation.type === 'confirmed' ? confirmation.depth : 0;
  if (state.phase.type !== 'awaiting_funding_confirmations' || depth < state.minimumDepth)
    return { state, effects: [] };
  const sent: EstablishedChannel = { ...state, phase: { type: 'awaiting_channel_ready' } };
  const messages = state.connection.type === 'connected' ? [send(channelReadyMessage(state))] : [];
  return andThen({ state: sent, effects: messages }, openIfBothReady);
}

/** The counterparty is ready; it may say so again with another alias. */
export function receiveChannelReady(
  ctx: ChannelContext,
  state: EstablishedChannel,
  message: MessageOf<'channel_ready'>,
): StepResult<EstablishedChannel> {
  if (isClosing(state)) return fault('unexpected_message', 'ignore', 'channel_ready for a closing channel');
  if (state.connection.type !== 'connected')
    return fault('unexpected_message', 'warning_disconnect', 'channel_ready before channel_reestablish');
  const { changes, phase } = state;
  const alias = message.tlvs.shortChannelId;
  const known: EstablishedChannel = alias === undefined ? state : { ...state, counterpartyAliasScid: alias };
  // BOLT 2: "upon reconnection: MUST ignore any redundant channel_ready it receives."
  if (changes.counterpartyPoints.next !== undefined || changes.counterpartyCommitmentNumber > 0n)
    return stepOf(known);
  if (
    phase.type !== 'awaiting_funding_confirmations' &&
    phase.type !== 'awaiting_channel_ready' &&
    phase.type !== 'shutting_down' &&
    phase.type !== 'negotiating_closing'
  ) {
    return fault('unexpected_message', 'ignore', `channel_ready in phase ${phase.type}`);
  }
  if (!ctx.secp.isPublicKey(message.secondPerCommitmentPoint))
    return fault('invalid_point', 'fail_channel', 'channel_ready: second_per_commitment_point is no point');
  const counterpartyPoints = { ...changes.counterpartyPoints, next: message.secondPerCommitmentPoint };
  return { ok: true, value: openIfBothReady({ ...known, changes: { ...changes, counterpartyPoints } }) };
}

function openIfBothReady(state: EstablishedChannel): Step<EstablishedChannel> {
  if (state.phase.type !== 'awaiting_channel_ready' || state.changes.counterpartyPoints.next === undefined)
    return { state, effects: [] };
  const { confirmation } = primaryFunding(state);
  const scid = confirmation.type === 'confirmed' ? confirmation.shortChannelId : undefined;
  const opened: EstablishedChannel = { ...state, phase: { type: 'open' } };
  return andThen(
    { state: opened, effects: [{ type: 'event', event: { type: 'channel_ready', shortChannelId: scid } }] },
    announceIfDue,
  );
}

function replaceFunding(state: EstablishedChannel, index: number, funding: Funding): EstablishedChannel {
  return { ...state, fundings: state.fundings.map((other, i) => (i === index ? funding : other)) };
}
