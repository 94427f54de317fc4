/** BOLT 2 "Removing an HTLC", both ways. */
import { Reader, Writer, equalBytes } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import type { MessageOf } from '@fulmen/wire';
import { make } from '@fulmen/wire';
import { attributionData as attributionCoder } from '@fulmen/wire/fields';
import { fault, refuse } from '../errors.ts';
import type { HtlcRemoval } from '../htlc.ts';
import type { EstablishedChannel, Htlc } from '../state.ts';
import type { StepResult } from '../step.ts';
import { sendReady, stepOf, withMonitorUpdate } from '../step.ts';
import { canSendUpdates, findHtlc, replaceHtlc, requireReceivable } from './ready.ts';

/** BOLT 4 `BADONION`. */
const BADONION = 0x8000;
/** update_fail_htlc must fit a message with its fixed fields and attribution data. */
const MAX_REASON_LENGTH = 60_000;
const ATTRIBUTION_DATA_LENGTH = 920;

type RemovalMessage = MessageOf<'update_fulfill_htlc' | 'update_fail_htlc' | 'update_fail_malformed_htlc'>;

/**
 * The holder fulfils or fails an inbound HTLC. While the peer is away or the
 * channel frozen the removal is kept and sent later. A preimage reaches the
 * monitor in this very step, also when the channel is being closed.
 */
export function removeHtlc(
  state: EstablishedChannel,
  id: bigint,
  removal: HtlcRemoval,
): StepResult<EstablishedChannel> {
  const htlc = findHtlc(state, 'inbound', id);
  if (htlc === undefined) return refuse('unknown_htlc', `no inbound HTLC ${id}`);
  if ('removal' in htlc) return refuse('htlc_already_removed', `inbound HTLC ${id} is being removed`);
  // BOLT 2: "until the corresponding HTLC is irrevocably committed in both sides' commitment transactions: MUST NOT send an
  // update_fulfill_htlc, update_fail_htlc, or update_fail_malformed_htlc."
  if (htlc.state !== 'committed')
    return refuse('htlc_not_committed', `inbound HTLC ${id} is not irrevocably committed`);
  const invalid = checkRemoval(htlc, removal);
  if (invalid !== undefined) return invalid;

  const isLive = state.phase.type === 'open' || state.phase.type === 'shutting_down';
  if (!isLive && removal.type !== 'fulfilled')
    return refuse('channel_not_open', 'a closing channel resolves its HTLCs on-chain');
  if (state.phase.type === 'closed') return refuse('channel_not_open', 'the channel is closed');
  const sendNow = isLive && canSendUpdates(state);
  const removed = replaceHtlc(state, {
    body: htlc.body,
    state: sendNow ? 'removal_pending' : 'removal_queued',
    removal,
  });
  const messages = sendNow ? [sendReady(removalMessage(state.channelId, id, removal))] : [];
  if (removal.type !== 'fulfilled') return stepOf(removed, ...messages);
  const step = withMonitorUpdate(removed, {
    type: 'payment_preimage',
    htlc: { direction: 'inbound', id },
    preimage: removal.preimage,
  });
  return stepOf(step.state, ...step.effects, ...messages);
}

function checkRemoval(htlc: Htlc, removal: HtlcRemoval): ReturnType<typeof refuse> | undefined {
  if (
    removal.type !== 'failed_malformed' &&
    removal.attributionData !== undefined &&
    removal.attributionData.length !== ATTRIBUTION_DATA_LENGTH
  ) {
    return refuse('bad_failure', 'attribution data has 920 bytes');
  }
  switch (removal.type) {
    case 'fulfilled':
      return removal.preimage.length === 32 && equalBytes(sha256(removal.preimage), htlc.body.paymentHash)
        ? undefined
        : refuse('wrong_preimage', 'the preimage does not hash to the payment hash');
    case 'failed':
      return removal.reason.length <= MAX_REASON_LENGTH
        ? undefined
        : refuse('bad_failure', 'the failure is too long');
    case 'failed_malformed':
      return (removal.failureCode & BADONION) !== 0 &&
        removal.failureCode <= 0xffff &&
        removal.sha256OfOnion.length === 32
        ? undefined
        : refuse('bad_failure', 'a malformed failure needs BADONION');
  }
}

/** The counterparty removes an HTLC that the holder offered. */
export function receiveRemoval(
  state: EstablishedChannel,
  message: RemovalMessage,
): StepResult<EstablishedChannel> {
  const receivable = requireReceivable(state, message.type);
  if (!receivable.ok) return receivable;
  const htlc = findHtlc(state, 'outbound', message.id);
  // BOLT 2: "if the id does not correspond to an HTLC in its current commitment transaction: MUST send a warning and close
  // the connection, or send an error and fail the channel."
  if (htlc === undefined)
    return fault('unknown_htlc', 'warning_disconnect', `${message.type}: no HTLC ${message.id}`);
  if ('removal' in htlc)
    return fault(
      'htlc_already_removed',
      'warning_disconnect',
      `${message.type}: HTLC ${message.id} is being removed`,
    );
  if (htlc.state !== 'committed')
    return fault(
      'htlc_not_committed',
      'warning_disconnect',
      `${message.type}: HTLC ${message.id} is not committed`,
    );
  const removal = removalOf(message);
  if (removal.type === 'fulfilled' && !equalBytes(sha256(removal.preimage), htlc.body.paymentHash)) {
    // BOLT 2: "if the payment_preimage value in update_fulfill_htlc doesn't SHA256 hash to the corresponding HTLC
    // payment_hash: MUST send a warning and close the connection, or send an error and fail the channel."
    return fault(
      'wrong_preimage',
      'warning_disconnect',
      `update_fulfill_htlc: wrong preimage for HTLC ${message.id}`,
    );
  }
  if (removal.type === 'failed_malformed' && (removal.failureCode & BADONION) === 0) {
    // BOLT 2: "if the BADONION bit in failure_code is not set for update_fail_malformed_htlc: MUST send a warning and close
    // the connection, or send an error and fail the channel."
    return fault('bad_failure', 'warning_disconnect', 'update_fail_malformed_htlc: BADONION is not set');
  }
  const next = replaceHtlc(state, { body: htlc.body, state: 'removal_pending', removal });
  // The preimage is knowledge, however the update ends: it goes upstream at once.
  return removal.type === 'fulfilled'
    ? stepOf(next, { type: 'htlc_fulfilled', htlc: htlc.body, preimage: removal.preimage })
    : stepOf(next);
}

function removalOf(message: RemovalMessage): HtlcRemoval {
  switch (message.type) {
    case 'update_fulfill_htlc':
      return {
        type: 'fulfilled',
        preimage: message.paymentPreimage,
        ...keepAttribution(message.tlvs),
      };
    case 'update_fail_htlc':
      return {
        type: 'failed',
        reason: message.reason,
        ...keepAttribution(message.tlvs),
      };
    case 'update_fail_malformed_htlc':
      return {
        type: 'failed_malformed',
        sha256OfOnion: message.sha256OfOnion,
        failureCode: message.failureCode,
      };
  }
}

export function removalMessage(channelId: Uint8Array, id: bigint, removal: HtlcRemoval): RemovalMessage {
  switch (removal.type) {
    case 'fulfilled':
      return make('update_fulfill_htlc', {
        channelId,
        id,
        paymentPreimage: removal.preimage,
        tlvs: sendAttribution(removal),
      });
    case 'failed':
      return make('update_fail_htlc', {
        channelId,
        id,
        reason: removal.reason,
        tlvs: sendAttribution(removal),
      });
    case 'failed_malformed':
      return make('update_fail_malformed_htlc', {
        channelId,
        id,
        sha256OfOnion: removal.sha256OfOnion,
        failureCode: removal.failureCode,
      });
  }
}

type Attribution = MessageOf<'update_fail_htlc'>['tlvs'];

function keepAttribution(tlvs: Attribution): { readonly attributionData?: Uint8Array } {
  if (tlvs.attributionData === undefined) return {};
  const writer = new Writer();
  attributionCoder.write(writer, tlvs.attributionData);
  return { attributionData: writer.finish() };
}

function sendAttribution(removal: { readonly attributionData?: Uint8Array }): Attribution {
  return removal.attributionData === undefined
    ? {}
    : { attributionData: attributionCoder.read(new Reader(removal.attributionData)) };
}
