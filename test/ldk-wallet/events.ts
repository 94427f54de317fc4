// What the wallet does for each event of LDK, and what it tells of it.
import type { PaymentInfo, WalletEvent } from './protocol.ts';
import { ldk, must, orNull, some, toDisplayHash, toHex, u128 } from './ldk.ts';
import type { Node } from './node.ts';

const FAILURE_REASONS: Record<number, string> = {
  [ldk.PaymentFailureReason.LDKPaymentFailureReason_RecipientRejected]: 'recipient_rejected',
  [ldk.PaymentFailureReason.LDKPaymentFailureReason_UserAbandoned]: 'user_abandoned',
  [ldk.PaymentFailureReason.LDKPaymentFailureReason_RetriesExhausted]: 'retries_exhausted',
  [ldk.PaymentFailureReason.LDKPaymentFailureReason_PaymentExpired]: 'payment_expired',
  [ldk.PaymentFailureReason.LDKPaymentFailureReason_RouteNotFound]: 'route_not_found',
  [ldk.PaymentFailureReason.LDKPaymentFailureReason_UnexpectedError]: 'unexpected_error',
  [ldk.PaymentFailureReason.LDKPaymentFailureReason_UnknownRequiredFeatures]: 'unknown_required_features',
};

/** Handles one event; whatever it changes is in the next snapshot together with LDK's own state. */
export function handleEvent(node: Node, event: ldk.Event): void {
  if (event instanceof ldk.Event_PendingHTLCsForwardable) node.forwardSoon();
  else if (event instanceof ldk.Event_FundingGenerationReady) fund(node, event);
  else if (event instanceof ldk.Event_OpenChannelRequest) accept(node, event);
  else if (event instanceof ldk.Event_PaymentClaimable) claimable(node, event);
  else if (event instanceof ldk.Event_PaymentClaimed) claimed(node, event);
  else if (event instanceof ldk.Event_PaymentSent) sent(node, event);
  else if (event instanceof ldk.Event_PaymentFailed) failed(node, event);
  else if (event instanceof ldk.Event_PaymentPathFailed) node.emit(pathFailed(node, event));
  else if (event instanceof ldk.Event_SpendableOutputs) sweep(node, event);
  else if (event instanceof ldk.Event_BumpTransaction) node.bumpHandler.handle_event(event.bump_transaction);
  else if (event instanceof ldk.Event_DiscardFunding) discard(node, event);
  else {
    const told = tell(event);
    if (told !== undefined) node.emit(told);
  }
}

function tell(event: ldk.Event): WalletEvent | undefined {
  if (event instanceof ldk.Event_ChannelPending) {
    return {
      event: 'channel_pending',
      channelId: toHex(event.channel_id.get_a()),
      userChannelId: u128(event.user_channel_id).toString(),
      counterpartyNodeId: toHex(event.counterparty_node_id),
      fundingTxid: toDisplayHash(event.funding_txo.get_txid()),
      fundingIndex: event.funding_txo.get_index(),
    };
  }
  if (event instanceof ldk.Event_ChannelReady) {
    return {
      event: 'channel_ready',
      channelId: toHex(event.channel_id.get_a()),
      counterpartyNodeId: toHex(event.counterparty_node_id),
    };
  }
  if (event instanceof ldk.Event_ChannelClosed) {
    return {
      event: 'channel_closed',
      channelId: toHex(event.channel_id.get_a()),
      reason: event.reason.constructor.name.replace('ClosureReason_', ''),
      text: event.reason.to_str(),
    };
  }
  if (event instanceof ldk.Event_PaymentForwarded) {
    return {
      event: 'payment_forwarded',
      feeMsat: some(event.total_fee_earned_msat),
      amountMsat: some(event.outbound_amount_forwarded_msat),
    };
  }
  return undefined;
}

function fund(node: Node, event: ldk.Event_FundingGenerationReady): void {
  const refuse = (text: string) => {
    node.manager.force_close_without_broadcasting_txn(
      event.temporary_channel_id,
      event.counterparty_node_id,
      text,
    );
    node.emit({ event: 'open_failed', temporaryChannelId: toHex(event.temporary_channel_id.get_a()), text });
  };
  try {
    const payee = { scriptPubkey: event.output_script, valueSat: event.channel_value_satoshis };
    const transaction = node.onchain.pay(payee, node.feerateSatPerKw);
    const given = node.manager.funding_transaction_generated(
      event.temporary_channel_id,
      event.counterparty_node_id,
      Uint8Array.from(transaction.toBuffer()),
    );
    if (given.is_ok()) return;
    node.onchain.release(transaction);
    must(given, 'the funding was refused');
  } catch (error) {
    refuse((error as Error).message);
  }
}

function accept(node: Node, event: ldk.Event_OpenChannelRequest): void {
  const { temporary_channel_id: channel, counterparty_node_id: counterparty } = event;
  const answer = node.openAnswer;
  if (answer.how === 'refuse') {
    node.manager.force_close_without_broadcasting_txn(channel, counterparty, answer.text);
    return;
  }
  const accepted =
    answer.how === 'trust'
      ? node.manager.accept_inbound_channel_from_trusted_peer_0conf(
          channel,
          counterparty,
          node.nextUserChannelId(),
        )
      : node.manager.accept_inbound_channel(channel, counterparty, node.nextUserChannelId());
  if (!accepted.is_ok()) node.emit({ event: 'error', text: 'an inbound channel could not be accepted' });
}

function claimable(node: Node, event: ldk.Event_PaymentClaimable): void {
  const paymentHash = toHex(event.payment_hash);
  const preimage =
    event.purpose instanceof ldk.PaymentPurpose_SpontaneousPayment
      ? event.purpose.spontaneous_payment
      : some<Uint8Array>(event.purpose.preimage());
  if (node.isHeld(paymentHash) || preimage === null) {
    node.emit({
      event: 'payment_claimable',
      paymentHash,
      amountMsat: event.amount_msat,
      claimDeadlineHeight: some(event.claim_deadline),
      paymentMetadata: metadataOf(event),
    });
    if (preimage !== null) node.keepPreimage(paymentHash, toHex(preimage));
    return;
  }
  node.manager.claim_funds(preimage);
}

function metadataOf({
  onion_fields: fields,
}: ldk.Event_PaymentClaimable | ldk.Event_PaymentClaimed): string | null {
  const metadata = orNull(fields) === null ? null : some<Uint8Array>(fields.get_payment_metadata());
  return metadata === null ? null : toHex(metadata);
}

function claimed(node: Node, event: ldk.Event_PaymentClaimed): void {
  const paymentHash = toHex(event.payment_hash);
  const preimage =
    event.purpose instanceof ldk.PaymentPurpose_SpontaneousPayment
      ? event.purpose.spontaneous_payment
      : some<Uint8Array>(event.purpose.preimage());
  const payment: PaymentInfo = {
    direction: 'received',
    paymentId: paymentHash,
    paymentHash,
    amountMsat: event.amount_msat,
    state: 'succeeded',
    preimage: preimage === null ? null : toHex(preimage),
    feePaidMsat: null,
    failure: null,
  };
  node.putPayment(payment);
  node.emit({
    event: 'payment_received',
    paymentHash,
    amountMsat: event.amount_msat,
    claimDeadlineHeight: null,
    paymentMetadata: metadataOf(event),
  });
}

function sent(node: Node, event: ldk.Event_PaymentSent): void {
  const id = some<Uint8Array>(event.payment_id);
  const paymentId = id === null ? '' : toHex(id);
  const feePaidMsat = some<bigint>(event.fee_paid_msat);
  const preimage = toHex(event.payment_preimage);
  node.changePayment(paymentId, { state: 'succeeded', preimage, feePaidMsat });
  node.emit({
    event: 'payment_sent',
    paymentId,
    paymentHash: toHex(event.payment_hash),
    preimage,
    feePaidMsat,
  });
}

function failed(node: Node, event: ldk.Event_PaymentFailed): void {
  const paymentId = toHex(event.payment_id);
  const hash = some<Uint8Array>(event.payment_hash);
  const code = some<number>(event.reason);
  const reason = (code === null ? undefined : FAILURE_REASONS[code]) ?? 'unknown';
  node.changePayment(paymentId, { state: 'failed', failure: reason });
  node.emit({ event: 'payment_failed', paymentId, paymentHash: hash === null ? null : toHex(hash), reason });
}

function pathFailed(node: Node, event: ldk.Event_PaymentPathFailed): WalletEvent {
  const id = some<Uint8Array>(event.payment_id);
  const scid = some<bigint>(event.short_channel_id);
  const paymentHash = toHex(event.payment_hash);
  const base = {
    event: 'payment_path_failed',
    paymentId: id === null ? '' : toHex(id),
    paymentHash,
    permanent: Boolean(event.payment_failed_permanently),
    shortChannelId: scid === null ? null : node.scidText(scid),
  } as const;
  if (event.failure instanceof ldk.PathFailure_InitialSend) {
    const { err } = event.failure;
    const failure = `not sent: ${err.constructor.name.replace('APIError_', '')}`;
    return { ...base, failure, failureCode: null, failureFrom: null };
  }
  const logged = node.takeOnionFailure(paymentHash);
  return {
    ...base,
    failure: logged?.name ?? null,
    failureCode: logged?.code ?? null,
    failureFrom: logged?.nodeId ?? null,
  };
}

function sweep(node: Node, event: ldk.Event_SpendableOutputs): void {
  const spent = node.keys
    .as_OutputSpender()
    .spend_spendable_outputs(
      event.outputs,
      [],
      node.onchain.changeScript,
      node.feerateSatPerKw,
      ldk.Option_u32Z.constructor_none(),
    );
  if (!(spent instanceof ldk.Result_TransactionNoneZ_OK)) {
    // Less than the fee to fetch it, or coins of the wallet itself.
    node.emit({ event: 'error', text: `${event.outputs.length} outputs are too small to sweep` });
    return;
  }
  const txid = node.broadcast(Uint8Array.from(spent.res));
  const channelId = event.channel_id === null ? null : toHex(event.channel_id.get_a());
  node.emit({ event: 'onchain_sweep', txid, channelId });
}

function discard(node: Node, event: ldk.Event_DiscardFunding): void {
  if (event.funding_info instanceof ldk.FundingInfo_Tx) node.releaseCoinsOf(event.funding_info.transaction);
}
