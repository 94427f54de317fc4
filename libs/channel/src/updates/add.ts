/** BOLT 2 "Adding an HTLC: update_add_htlc", both ways. */
import type { MessageOf } from '@fulmen/wire';
import { ONION_PACKET_LENGTH, make } from '@fulmen/wire';
import { CLTV_EXPIRY_LIMIT, MAX_MONEY_SAT } from '../config.ts';
import type { ChannelContext } from '../context.ts';
import { fault, refuse } from '../errors.ts';
import type { HtlcBody } from '../htlc.ts';
import type { ChannelInput } from '../input.ts';
import type { EstablishedChannel } from '../state.ts';
import type { StepResult } from '../step.ts';
import { sendReady, stepOf } from '../step.ts';
import { checkCounterpartyAdd } from './check-counterparty.ts';
import { checkHolderAdd } from './check-holder.ts';
import { requireReceivable, requireSendable } from './ready.ts';

type AddCommand = Extract<ChannelInput, { type: 'add_htlc' }>;

/** The holder offers an HTLC. */
export function addHtlc(
  ctx: ChannelContext,
  state: EstablishedChannel,
  command: AddCommand,
): StepResult<EstablishedChannel> {
  const sendable = requireSendable(state);
  if (!sendable.ok) return sendable;
  // BOLT 2: "MUST offer amount_msat greater than 0. MUST NOT offer amount_msat below the receiving node's htlc_minimum_msat."
  if (command.amountMsat <= 0n || command.amountMsat < state.parameters.counterparty.htlcMinimumMsat) {
    return refuse('amount_below_minimum', 'the amount is below what the counterparty accepts');
  }
  if (command.amountMsat > MAX_MONEY_SAT * 1000n)
    return refuse('insufficient_balance', 'the amount exceeds all money');
  // BOLT 2: "MUST set cltv_expiry less than 500000000."
  if (
    !Number.isInteger(command.cltvExpiryHeight) ||
    command.cltvExpiryHeight <= 0 ||
    command.cltvExpiryHeight >= CLTV_EXPIRY_LIMIT
  ) {
    return refuse('expiry_out_of_range', 'cltv_expiry must be a block height');
  }
  if (command.paymentHash.length !== 32 || command.onionRoutingPacket.length !== ONION_PACKET_LENGTH) {
    return refuse('invalid_command', 'payment hash or onion of the wrong length');
  }
  const body: HtlcBody = {
    direction: 'outbound',
    id: state.changes.nextOutboundHtlcId,
    amountMsat: command.amountMsat,
    paymentHash: command.paymentHash,
    cltvExpiryHeight: command.cltvExpiryHeight,
    onionRoutingPacket: command.onionRoutingPacket,
    ...(command.pathKey === undefined ? {} : { pathKey: command.pathKey }),
  };
  const next = withHtlc(state, body);
  const allowed = checkHolderAdd(ctx, next, body.amountMsat);
  if (!allowed.ok) return allowed;
  return stepOf(next, sendReady(addMessage(state.channelId, body)));
}

/** The counterparty offers an HTLC. */
export function receiveAdd(
  ctx: ChannelContext,
  state: EstablishedChannel,
  message: MessageOf<'update_add_htlc'>,
): StepResult<EstablishedChannel> {
  const receivable = requireReceivable(state, message.type);
  if (!receivable.ok) return receivable;
  // BOLT 2: "MUST NOT send an update_add_htlc after a shutdown."
  if (state.phase.type === 'shutting_down' && state.phase.counterparty.type !== 'awaited') {
    return fault('update_after_shutdown', 'warning_disconnect', 'update_add_htlc after shutdown');
  }
  // BOLT 2: "if other id violations occur: MAY send a warning and close the connection". A repeated id after a
  // reconnection is the next one here: what no commitment_signed covered was dropped at the disconnect.
  if (message.id !== state.changes.nextInboundHtlcId) {
    return fault(
      'htlc_id',
      'warning_disconnect',
      `update_add_htlc: id ${message.id}, expected ${state.changes.nextInboundHtlcId}`,
    );
  }
  // BOLT 2: "receiving an amount_msat equal to 0, OR less than its own htlc_minimum_msat: SHOULD send a warning and
  // close the connection, or send an error and fail the channel."
  if (message.amountMsat === 0n || message.amountMsat < state.parameters.holder.htlcMinimumMsat) {
    return fault(
      'amount_below_minimum',
      'warning_disconnect',
      'update_add_htlc: amount below htlc_minimum_msat',
    );
  }
  if (message.amountMsat > MAX_MONEY_SAT * 1000n)
    return fault('insufficient_balance', 'warning_disconnect', 'update_add_htlc: amount exceeds all money');
  // BOLT 2: "if sending node sets cltv_expiry to greater or equal to 500000000: SHOULD send a warning and close the connection".
  if (message.cltvExpiry >= CLTV_EXPIRY_LIMIT)
    return fault('expiry_out_of_range', 'warning_disconnect', 'update_add_htlc: cltv_expiry is not a height');
  const pathKey = message.tlvs.pathKey;
  if (pathKey !== undefined && !ctx.secp.isPublicKey(pathKey))
    return fault('invalid_point', 'warning_disconnect', 'update_add_htlc: path_key is no point');
  const next = withHtlc(state, {
    direction: 'inbound',
    id: message.id,
    amountMsat: message.amountMsat,
    paymentHash: message.paymentHash,
    cltvExpiryHeight: message.cltvExpiry,
    onionRoutingPacket: message.onionRoutingPacket,
    ...(pathKey === undefined ? {} : { pathKey }),
  });
  const allowed = checkCounterpartyAdd(next);
  return allowed.ok ? stepOf(next) : allowed;
}

export function addMessage(channelId: Uint8Array, body: HtlcBody): MessageOf<'update_add_htlc'> {
  return make('update_add_htlc', {
    channelId,
    id: body.id,
    amountMsat: body.amountMsat,
    paymentHash: body.paymentHash,
    cltvExpiry: body.cltvExpiryHeight,
    onionRoutingPacket: body.onionRoutingPacket,
    tlvs: body.pathKey === undefined ? {} : { pathKey: body.pathKey },
  });
}

function withHtlc(state: EstablishedChannel, body: HtlcBody): EstablishedChannel {
  const { changes } = state;
  return {
    ...state,
    changes: {
      ...changes,
      htlcs: [...changes.htlcs, { body, state: 'add_pending' }],
      nextOutboundHtlcId: changes.nextOutboundHtlcId + (body.direction === 'outbound' ? 1n : 0n),
      nextInboundHtlcId: changes.nextInboundHtlcId + (body.direction === 'inbound' ? 1n : 0n),
    },
  };
}
