// What the wallet does on request, one function for each method of the protocol.
import { createHash, randomBytes } from 'node:crypto';
import { address as bech32 } from 'bitcoinjs-lib';
import { FeatureBits } from '@fulmen/codec';
import { secp256k1 } from '@fulmen/crypto/default';
import { encodeInvoice } from '@fulmen/invoice';
import { announceNode, graph, listPeers, setPolicy, tick } from './graph.ts';
import {
  fromHex,
  ldk,
  must,
  orNull,
  scidFromText,
  scidToText,
  some,
  toDisplayHash,
  toHex,
  u128,
  WalletError,
} from './ldk.ts';
import { userConfig } from './config.ts';
import type { Node } from './node.ts';
import { addressToScript } from './onchain.ts';
import type { ChannelInfo, PaymentInfo, RawHop, WalletMethod, WalletMethods } from './protocol.ts';

type Handlers = {
  readonly [M in WalletMethod]: (
    node: Node,
    params: WalletMethods[M]['params'],
  ) => WalletMethods[M]['result'] | Promise<WalletMethods[M]['result']>;
};

const FINAL_CLTV_DELTA = 24;
const BOLT_2_FORM = 1;
/** The opcode below OP_1. */
const OP_RESERVED = 0x50;

export const methods: Handlers = {
  info: (node) => ({
    nodeId: node.nodeId,
    port: node.port,
    heightSynced: node.chain.tip.height,
    blockHash: node.chain.tip.hash,
    onchainSat: Number(node.onchain.balanceSat()),
    peers: node.peers.connected(),
  }),

  graph: (node) => graph(node),

  listPeers: (node) => listPeers(node),

  announceNode(node, params) {
    announceNode(node, params);
    node.wake();
    return {};
  },

  setPolicy(node, params) {
    setPolicy(node, params);
    node.wake();
    return {};
  },

  tick(node, params) {
    tick(node, params);
    node.wake();
    return {};
  },

  newAddress(node) {
    const address = node.onchain.newAddress();
    node.touch();
    return { address };
  },

  connect(node, { nodeId, host, port }) {
    fromHex(nodeId, 33);
    node.peers.want({ nodeId, host, port });
    node.touch();
    return {};
  },

  disconnect(node, { nodeId }) {
    node.peers.unwant(nodeId);
    node.touch();
    return {};
  },

  openChannel(node, params) {
    const { nodeId, sat, pushMsat = 0n, announced = false, anchors = node.options.anchors } = params;
    const userChannelId = node.nextUserChannelId();
    const config = userConfig({ ...node.options.handshake, ...params.handshake, anchors, announced });
    if (params.upfrontShutdown === false) {
      const handshake = config.get_channel_handshake_config();
      handshake.set_commit_upfront_shutdown_pubkey(false);
      config.set_channel_handshake_config(handshake);
    }
    const opened = node.manager.create_channel(
      fromHex(nodeId, 33),
      BigInt(sat),
      pushMsat,
      userChannelId,
      null,
      config,
    );
    const temporaryChannelId = toHex(must<ldk.ChannelId>(opened, 'the channel could not be opened').get_a());
    return { temporaryChannelId, userChannelId: userChannelId.toString() };
  },

  answerOpens(node, answer) {
    node.openAnswer = answer;
    return {};
  },

  listChannels: (node) => node.manager.list_channels().map(channelInfo),

  createInvoice(node, params) {
    if (params.paymentMetadata !== undefined) return invoiceWithMetadata(node, params);
    const { amountMsat, description = '', expirySeconds = 3600, cltvDelta, hold = false } = params;
    const made = node.manager.create_bolt11_invoice(
      optionU64(amountMsat),
      params.descriptionHash === undefined
        ? ldk.Bolt11InvoiceDescription.constructor_direct(
            must(ldk.Description.constructor_new(description), 'description'),
          )
        : ldk.Bolt11InvoiceDescription.constructor_hash(
            ldk.Sha256.constructor_from_bytes(fromHex(params.descriptionHash, 32)),
          ),
      ldk.Option_u32Z.constructor_some(expirySeconds),
      cltvDelta === undefined
        ? ldk.Option_u16Z.constructor_none()
        : ldk.Option_u16Z.constructor_some(cltvDelta),
      ldk.Option_ThirtyTwoBytesZ.constructor_none(),
    );
    const invoice = must<ldk.Bolt11Invoice>(made, 'the invoice could not be made');
    const parsed = must<ldk.ThreeTuple_ThirtyTwoBytesRecipientOnionFieldsRouteParametersZ>(
      amountMsat === undefined
        ? ldk.UtilMethods.constructor_payment_parameters_from_variable_amount_invoice(invoice, 1n)
        : ldk.UtilMethods.constructor_payment_parameters_from_invoice(invoice),
      'the invoice could not be read',
    );
    const paymentHash = toHex(parsed.get_a());
    if (hold) node.hold(paymentHash);
    node.touch();
    return { bolt11: invoice.to_str(), paymentHash, paymentSecret: toHex(invoice.payment_secret()) };
  },

  claim(node, { paymentHash }) {
    const preimage = node.takeHeld(paymentHash);
    if (preimage === undefined || preimage === '') throw new WalletError('no payment with this hash waits');
    node.manager.claim_funds(fromHex(preimage, 32));
    node.wake();
    return {};
  },

  failPayment(node, { paymentHash }) {
    node.takeHeld(paymentHash);
    node.manager.fail_htlc_backwards(fromHex(paymentHash, 32));
    node.wake();
    return {};
  },

  pay(node, { bolt11, amountMsat, maxFeeMsat, attempts = 10 }) {
    const invoice = must<ldk.Bolt11Invoice>(
      ldk.Bolt11Invoice.constructor_from_str(bolt11),
      'the invoice cannot be read',
    );
    const fixed = some<bigint>(invoice.amount_milli_satoshis());
    const total = fixed ?? amountMsat;
    if (total === undefined) throw new WalletError('the invoice has no amount: give one');
    const parameters = must<ldk.ThreeTuple_ThirtyTwoBytesRecipientOnionFieldsRouteParametersZ>(
      fixed === null
        ? ldk.UtilMethods.constructor_payment_parameters_from_variable_amount_invoice(invoice, total)
        : ldk.UtilMethods.constructor_payment_parameters_from_invoice(invoice),
      'the invoice cannot be paid',
    );
    const route = parameters.get_c();
    if (maxFeeMsat !== undefined) route.set_max_total_routing_fee_msat(optionU64(maxFeeMsat));
    const hash = parameters.get_a();
    const id = Uint8Array.from(randomBytes(32));
    const payment = begun({ id, hash, amountMsat: total });
    node.putPayment(payment);
    const sent = node.manager.send_payment(
      hash,
      parameters.get_b(),
      id,
      route,
      ldk.Retry.constructor_attempts(attempts),
    );
    return finish(node, payment, sent);
  },

  payRaw(node, { hops, paymentHash, paymentSecret, paymentMetadata }) {
    const last = hops.at(-1);
    if (last === undefined) throw new WalletError('a route has at least one hop');
    const hash = fromHex(paymentHash, 32);
    const secret =
      paymentSecret === undefined ? Uint8Array.from(randomBytes(32)) : fromHex(paymentSecret, 32);
    const onion = ldk.RecipientOnionFields.constructor_secret_only(secret);
    if (paymentMetadata !== undefined) {
      onion.set_payment_metadata(ldk.Option_CVec_u8ZZ.constructor_some(fromHex(paymentMetadata)));
    }
    const payee = ldk.PaymentParameters.constructor_from_node_id(fromHex(last.nodeId, 33), last.cltvDelta);
    const route = ldk.RouteParameters.constructor_new(
      payee,
      last.feeMsat,
      ldk.Option_u64Z.constructor_none(),
    );
    const id = Uint8Array.from(randomBytes(32));
    const payment = begun({ id, hash, amountMsat: last.feeMsat });
    node.putPayment(payment);
    node.rawRoutes.set(paymentHash, rawPath(node, hops));
    try {
      const sent = node.manager.send_payment(hash, onion, id, route, ldk.Retry.constructor_attempts(0));
      return finish(node, payment, sent);
    } finally {
      node.rawRoutes.delete(paymentHash);
    }
  },

  keysend(node, { nodeId, amountMsat, maxFeeMsat, cltvDelta = FINAL_CLTV_DELTA }) {
    const preimage = Uint8Array.from(randomBytes(32));
    const hash = Uint8Array.from(createHash('sha256').update(preimage).digest());
    const payee = ldk.PaymentParameters.constructor_for_keysend(fromHex(nodeId, 33), cltvDelta, false);
    const route = ldk.RouteParameters.constructor_from_payment_params_and_value(payee, amountMsat);
    if (maxFeeMsat !== undefined) route.set_max_total_routing_fee_msat(optionU64(maxFeeMsat));
    const id = Uint8Array.from(randomBytes(32));
    const payment = begun({ id, hash, amountMsat });
    node.putPayment(payment);
    const sent = node.manager.send_spontaneous_payment(
      ldk.Option_ThirtyTwoBytesZ.constructor_some(preimage),
      ldk.RecipientOnionFields.constructor_spontaneous_empty(),
      id,
      route,
      ldk.Retry.constructor_attempts(10),
    );
    return finish(node, payment, sent);
  },

  listPayments: (node) => node.payments(),

  closeChannel(node, { channelId, force = false, feerateSatPerKw, address }) {
    const channel = findChannel(node, channelId);
    const counterparty = channel.get_counterparty().get_node_id();
    const closed = force
      ? node.manager.force_close_broadcasting_latest_txn(
          channel.get_channel_id(),
          counterparty,
          'closed on request',
        )
      : node.manager.close_channel_with_feerate_and_script(
          channel.get_channel_id(),
          counterparty,
          feerateSatPerKw === undefined
            ? ldk.Option_u32Z.constructor_none()
            : ldk.Option_u32Z.constructor_some(feerateSatPerKw),
          address === undefined ? null : shutdownScript(address),
        );
    must(closed, 'the channel could not be closed');
    node.wake();
    return {};
  },

  balances: (node) => ({
    onchainSat: Number(node.onchain.balanceSat()),
    channels: node.manager.list_channels().map((channel) => ({
      channelId: toHex(channel.get_channel_id().get_a()),
      outboundMsat: channel.get_outbound_capacity_msat(),
      inboundMsat: channel.get_inbound_capacity_msat(),
    })),
    claimable: node.monitor.get_claimable_balances(node.manager.list_channels()).map((balance) => ({
      kind: balance.constructor.name.replace('Balance_', ''),
      sat: Number(balance.claimable_amount_satoshis()),
      height: heightOf(balance),
    })),
  }),

  setTerms(node, { channelId, feeBaseMsat, cltvDelta }) {
    const channel = findChannel(node, channelId);
    const config = orNull(channel.get_config());
    if (config === null) throw new WalletError('the channel has no terms');
    config.set_forwarding_fee_base_msat(Number(feeBaseMsat));
    config.set_cltv_expiry_delta(cltvDelta);
    const counterparty = channel.get_counterparty().get_node_id();
    must(
      node.manager.update_channel_config(counterparty, [channel.get_channel_id()], config),
      'the terms were refused',
    );
    node.wake();
    return {};
  },

  sendOnchain(node, { address, sat }) {
    const payee = { scriptPubkey: addressToScript(address), valueSat: BigInt(sat) };
    const transaction = node.onchain.pay(payee, node.feerateSatPerKw);
    const txid = node.broadcast(Uint8Array.from(transaction.toBuffer()));
    node.touch();
    return { txid };
  },

  setFeerate(node, { feerateSatPerKw }) {
    if (!Number.isInteger(feerateSatPerKw) || feerateSatPerKw < 253)
      throw new WalletError('the least feerate is 253');
    node.feerateSatPerKw = feerateSatPerKw;
    return {};
  },

  snapshot(node, { dir }) {
    node.snapshot(dir);
    return {};
  },

  async sync(node) {
    await node.sync();
    return { heightSynced: node.chain.tip.height };
  },

  stop: () => ({}),
};

/** LDK checks the secret of what comes in; the invoice around it is made here, with the node's key. */
function invoiceWithMetadata(
  node: Node,
  { amountMsat, description = '', paymentMetadata = '' }: WalletMethods['createInvoice']['params'],
): WalletMethods['createInvoice']['result'] {
  const made = node.manager.create_inbound_payment(
    optionU64(amountMsat),
    3600,
    ldk.Option_u16Z.constructor_none(),
  );
  const pair = must<ldk.TwoTuple_ThirtyTwoBytesThirtyTwoBytesZ>(made, 'the payment could not be prepared');
  const bolt11 = encodeInvoice(
    secp256k1,
    {
      currency: 'bcrt',
      amountMsat,
      timestampUnixSeconds: Math.floor(Date.now() / 1000),
      paymentHash: pair.get_a(),
      paymentSecret: pair.get_b(),
      description: { kind: 'text', text: description },
      minFinalCltvExpiryDelta: FINAL_CLTV_DELTA,
      paymentMetadata: fromHex(paymentMetadata),
      features: FeatureBits.of({
        var_onion_optin: 'required',
        payment_secret: 'required',
        payment_metadata: 'required',
      }),
    },
    node.keys.get_node_secret_key(),
  );
  return { bolt11, paymentHash: toHex(pair.get_a()), paymentSecret: toHex(pair.get_b()) };
}

function optionU64(value: bigint | undefined): ldk.Option_u64Z {
  return value === undefined ? ldk.Option_u64Z.constructor_none() : ldk.Option_u64Z.constructor_some(value);
}

function begun(start: { id: Uint8Array; hash: Uint8Array; amountMsat: bigint }): PaymentInfo {
  return {
    direction: 'sent',
    paymentId: toHex(start.id),
    paymentHash: toHex(start.hash),
    amountMsat: start.amountMsat,
    state: 'pending',
    preimage: null,
    feePaidMsat: null,
    failure: null,
  };
}

/** A payment that LDK did not take is told as failed, like one that failed on its way. */
function finish(
  node: Node,
  payment: PaymentInfo,
  sent: { is_ok(): boolean },
): { readonly paymentId: string; readonly paymentHash: string } {
  const { paymentId, paymentHash } = payment;
  if (!sent.is_ok()) {
    const code = (sent as { err?: ldk.RetryableSendFailure }).err;
    const reason = code === undefined ? 'not sent' : (RETRYABLE[code] ?? 'not sent');
    node.changePayment(paymentId, { state: 'failed', failure: reason });
    setImmediate(() => node.emit({ event: 'payment_failed', paymentId, paymentHash, reason }));
  }
  node.wake();
  return { paymentId, paymentHash };
}

const RETRYABLE: Record<number, string> = {
  [ldk.RetryableSendFailure.LDKRetryableSendFailure_PaymentExpired]: 'payment_expired',
  [ldk.RetryableSendFailure.LDKRetryableSendFailure_RouteNotFound]: 'route_not_found',
  [ldk.RetryableSendFailure.LDKRetryableSendFailure_DuplicatePayment]: 'duplicate_payment',
  [ldk.RetryableSendFailure.LDKRetryableSendFailure_OnionPacketSizeExceeded]: 'onion_too_large',
};

function rawPath(node: Node, hops: readonly RawHop[]): ldk.Path {
  const route = hops.map((hop, index) => {
    const scid =
      hop.shortChannelId === undefined && index === 0 ? firstScid(node, hop.nodeId) : hop.shortChannelId;
    if (scid === undefined) throw new WalletError('only the first hop may leave its short channel id out');
    return ldk.RouteHop.constructor_new(
      fromHex(hop.nodeId, 33),
      ldk.NodeFeatures.constructor_empty(),
      scidFromText(scid),
      ldk.ChannelFeatures.constructor_empty(),
      hop.feeMsat,
      hop.cltvDelta,
      false,
    );
  });
  return ldk.Path.constructor_new(route, null);
}

function firstScid(node: Node, nodeId: string): string {
  for (const channel of node.manager.list_usable_channels()) {
    if (toHex(channel.get_counterparty().get_node_id()) !== nodeId) continue;
    const scid = some<bigint>(channel.get_outbound_payment_scid());
    if (scid !== null) return scid.toString();
  }
  throw new WalletError(`there is no usable channel with ${nodeId}`);
}

/** As LDK writes one: a form, the length, the script. Its constructor wants a class that the package does not export. */
function shutdownScript(address: string): ldk.ShutdownScript {
  const { version, data } = bech32.fromBech32(address);
  const script = Uint8Array.from([version === 0 ? 0 : OP_RESERVED + version, data.length, ...data]);
  const written = Uint8Array.from([BOLT_2_FORM, 0, script.length, ...script]);
  return must(ldk.ShutdownScript.constructor_read(written), 'no script that a shutdown may carry');
}

/** When the next thing about a balance may happen, as far as LDK says it. */
function heightOf(balance: ldk.Balance): number | null {
  if (balance instanceof ldk.Balance_ClaimableAwaitingConfirmations) return balance.confirmation_height;
  if (balance instanceof ldk.Balance_MaybeTimeoutClaimableHTLC) return balance.claimable_height;
  return null;
}

function findChannel(node: Node, channelId: string): ldk.ChannelDetails {
  const found = node.manager.list_channels().find((one) => toHex(one.get_channel_id().get_a()) === channelId);
  if (found === undefined) throw new WalletError(`there is no channel ${channelId}`);
  return found;
}

function channelInfo(channel: ldk.ChannelDetails): ChannelInfo {
  const counterparty = channel.get_counterparty();
  const funding = orNull(channel.get_funding_txo());
  const forwarding = orNull(counterparty.get_forwarding_info());
  const type = orNull(channel.get_channel_type());
  const reserve = some<bigint>(channel.get_unspendable_punishment_reserve());
  const shutdown = some<number>(channel.get_channel_shutdown_state());
  const usable = Boolean(channel.get_is_usable());
  const closing =
    shutdown !== null &&
    shutdown !== (ldk.ChannelShutdownState.LDKChannelShutdownState_NotShuttingDown as number);
  return {
    channelId: toHex(channel.get_channel_id().get_a()),
    userChannelId: u128(channel.get_user_channel_id()).toString(),
    counterpartyNodeId: toHex(counterparty.get_node_id()),
    state: closing ? 'closing' : usable ? 'usable' : channel.get_is_channel_ready() ? 'ready' : 'pending',
    usable,
    outbound: Boolean(channel.get_is_outbound()),
    announced: Boolean(channel.get_is_announced()),
    anchors: type !== null && Boolean(type.supports_anchors_zero_fee_htlc_tx()),
    capacitySat: Number(channel.get_channel_value_satoshis()),
    outboundMsat: channel.get_outbound_capacity_msat(),
    inboundMsat: channel.get_inbound_capacity_msat(),
    nextOutboundLimitMsat: channel.get_next_outbound_htlc_limit_msat(),
    reserveSat: reserve === null ? null : Number(reserve),
    counterpartyReserveSat: Number(counterparty.get_unspendable_punishment_reserve()),
    feerateSatPerKw: some(channel.get_feerate_sat_per_1000_weight()),
    confirmations: some(channel.get_confirmations()),
    confirmationsRequired: some(channel.get_confirmations_required()),
    shortChannelId: scidOrNull(channel.get_short_channel_id()),
    inboundAlias: scidOrNull(channel.get_inbound_scid_alias()),
    outboundAlias: scidOrNull(channel.get_outbound_scid_alias()),
    fundingTxid: funding === null ? null : toDisplayHash(funding.get_txid()),
    fundingIndex: funding === null ? null : funding.get_index(),
    pendingInboundHtlcs: channel.get_pending_inbound_htlcs().length,
    pendingOutboundHtlcs: channel.get_pending_outbound_htlcs().length,
    forwarding:
      forwarding === null
        ? null
        : {
            baseMsat: BigInt(forwarding.get_fee_base_msat()),
            proportionalMillionths: forwarding.get_fee_proportional_millionths(),
            cltvDelta: forwarding.get_cltv_expiry_delta() & 0xffff,
          },
  };
}

function scidOrNull(option: ldk.Option_u64Z): string | null {
  const scid = some<bigint>(option);
  return scid === null ? null : scidToText(scid);
}
