/**
 * A Lightning peer: the channel core with the test library's shell around it,
 * over Noise through a gateway's socket. It has one channel with the fleet, never
 * crashes, reconnects for ever, pays through the fleet and answers as the last
 * hop. What an honest fleet must never do to it is a violation.
 *
 * One class, for every part of it acts on the one core and its effects: the connection, the messages, the blocks.
 */
import {
  acceptChannel,
  type ChannelConfig,
  type ChannelEffect,
  type ChannelError,
  type ChannelInput,
  type EstablishedChannel,
  type HtlcBody,
  type NegotiatedFeatures,
  openChannel,
  type PeerMessage,
  primaryFunding,
} from '@fulmen/channel';
import { canCommit } from '@fulmen/channel/commit';
import { fundingScriptPubKey } from '@fulmen/channel/commitment/scripts/funding';
import { TestNode } from '@fulmen/channel/testing/node';
import { equalBytes, InternalError, toHex, utf8Encode } from '@fulmen/codec';
import { sha256, type Secp256k1 } from '@fulmen/crypto';
import { TestPeer } from '@fulmen/testing/peer';
import type { Prng, Scheduler } from '@fulmen/testing/simulation/index';
import type { SocketAddress, SocketPort } from '@fulmen/testing/socket';
import { make, type Message, type UnknownMessage } from '@fulmen/wire';
import type { SimChain } from './chain.ts';
import { answerOf, failureText, type Payment, prepare } from './payments.ts';

/** What both sides' init say. */
const FEATURES: NegotiatedFeatures = {
  largeChannels: true,
  anchors: true,
  upfrontShutdownScript: true,
  shutdownAnySegwit: true,
  scidAlias: true,
  zeroConf: false,
  dualFund: false,
};
const MINIMUM_DEPTH = 2;
const RECONNECT_MS = 150;

export interface SimPeerPorts {
  readonly scheduler: Scheduler;
  readonly random: Prng;
  readonly secp: Secp256k1;
  readonly sockets: SocketPort;
  readonly gateways: readonly [SocketAddress, ...SocketAddress[]];
  readonly chain: SimChain;
  readonly chainHash: Uint8Array;
  readonly fleetNodeId: Uint8Array;
  /** Whether a node id will do. */
  readonly suits: (nodeId: Uint8Array) => boolean;
  readonly onViolation: (text: string) => void;
}

export class SimPeer {
  readonly name: string;
  readonly nodeId: Uint8Array;
  readonly payments: Payment[] = [];
  /** Hash in hex to preimage: what this peer can be paid for. */
  readonly preimages = new Map<string, Uint8Array>();
  /** Open connections, the current one last. */
  readonly connections = new Set<TestPeer>();
  node: TestNode;
  /** What goes out in place of a message of the core; itself, for an honest peer. */
  tamper: (message: PeerMessage) => readonly (PeerMessage | Uint8Array)[] = (message) => [message];
  /** Called with every message that comes in. */
  onMessage: (message: Message | UnknownMessage) => void = () => undefined;
  /** Whether a message that came in reaches the core; lost otherwise. */
  receives: (message: Message | UnknownMessage) => boolean = () => true;
  /** How its channels differ from the ordinary. */
  config: Partial<ChannelConfig> = {};
  /** holds: HTLCs are kept, neither fulfilled nor failed. */
  answers: 'soon' | 'holds' = 'soon';
  /** away: once its connection ends it makes no other. */
  presence: 'here' | 'away' = 'here';
  /** The fleet opens the channel unless this says how much to fund. */
  wish: { readonly fundingSat: bigint; readonly pushMsat: bigint } | undefined;
  readonly #ports: SimPeerPorts;
  readonly #staticSecret: Uint8Array;
  #attempt = 0;
  #connection: TestPeer | undefined;
  #effectsSeen = 0;
  #commitScheduled = false;
  readonly #answering = new Set<bigint>();

  constructor(name: string, ports: SimPeerPorts) {
    this.name = name;
    this.#ports = ports;
    do {
      this.#staticSecret = ports.random.bytes(32);
      this.nodeId = ports.secp.publicKeyOf(this.#staticSecret);
    } while (!ports.suits(this.nodeId));
    this.node = this.#newNode();
    ports.chain.onBlock.push(() => this.#onBlock());
    void this.#live();
  }

  get channel(): EstablishedChannel | undefined {
    const { state } = this.node;
    return state?.type === 'established' ? state : undefined;
  }

  get isConnected(): boolean {
    return this.#connection !== undefined;
  }

  get isOpen(): boolean {
    return this.channel?.phase.type === 'open';
  }

  /** Nothing is under way in the channel, and the two sides have greeted each other. */
  get isQuiet(): boolean {
    const { channel } = this;
    return (
      channel !== undefined &&
      channel.connection.type === 'connected' &&
      channel.changes.htlcs.length === 0 &&
      !canCommit(channel)
    );
  }

  pay(payment: Payment): void {
    this.payments.push(payment);
    this.#offer();
  }

  /** Cuts the connection from this side. */
  cut(): void {
    this.#connection?.socket.reset();
  }

  /** Asks for a mutual close. */
  close(): void {
    this.#must({ type: 'shutdown' });
    this.#afterInput();
  }

  /** One more connection beside the present one, as after a network that lost the first. */
  dialAgain(): void {
    void this.#session().catch(() => undefined);
  }

  // ---------------------------------------------------------------- connections

  #newNode(): TestNode {
    this.#attempt += 1;
    this.#effectsSeen = 0;
    const config = { chainHash: this.#ports.chainHash, minimumDepth: MINIMUM_DEPTH, ...this.config };
    return new TestNode(`${this.name} ${this.#attempt}`, this.#ports.secp, { config, restores: 'unchecked' });
  }

  async #live(): Promise<void> {
    for (;;) {
      if (this.presence === 'here') await this.#session().catch(() => undefined);
      await this.#ports.scheduler.delay(
        RECONNECT_MS * (1 + this.#ports.random.fraction()),
        `${this.name} reconnects`,
      );
    }
  }

  async #session(): Promise<void> {
    const { random, secp, sockets, gateways, fleetNodeId, scheduler } = this.#ports;
    const identity = { secp, staticSecret: this.#staticSecret, ephemeralSecret: random.bytes(32) };
    const connection = await TestPeer.connect(sockets, random.pick(gateways), fleetNodeId, identity);
    this.connections.add(connection);
    try {
      await connection.next('init');
      // The newest connection is the one that counts, here as there.
      this.#disconnected();
      this.#connection = connection;
      scheduler.note(`${this.name} connected`);
      if (this.channel !== undefined) this.#must({ type: 'peer_connected', features: FEATURES });
      else if (this.wish !== undefined) this.#open(this.wish);
      this.#afterInput();
      for (;;) {
        const message = await connection.nextAny();
        if (this.#connection !== connection) return;
        this.#receive(message);
      }
    } finally {
      this.connections.delete(connection);
      connection.socket.reset();
      if (this.#connection === connection) {
        scheduler.note(`${this.name} disconnected`);
        this.#disconnected();
      }
    }
  }

  #disconnected(): void {
    if (this.#connection === undefined) return;
    this.#connection = undefined;
    this.node.outbox = [];
    if (this.channel === undefined) this.node = this.#newNode();
    else this.#must({ type: 'peer_disconnected' });
    this.#afterInput();
  }

  // ---------------------------------------------------------------- messages

  #receive(message: Message | UnknownMessage): void {
    this.onMessage(message);
    if (!this.receives(message)) return;
    switch (message.type) {
      case 'open_channel':
        return this.#accept(message);
      case 'accept_channel':
      case 'funding_created':
      case 'funding_signed':
      case 'channel_ready':
      case 'update_add_htlc':
      case 'update_fulfill_htlc':
      case 'update_fail_htlc':
      case 'update_fail_malformed_htlc':
      case 'update_fee':
      case 'commitment_signed':
      case 'revoke_and_ack':
      case 'channel_reestablish':
      case 'shutdown':
      case 'closing_signed':
      case 'announcement_signatures':
        return this.#channelMessage(message);
      case 'error':
      case 'warning':
        return this.#complaint(message);
      default:
        return;
    }
  }

  /** An opening may be refused, and forgotten before its funding was broadcast; a channel never. */
  #complaint({ type, channelId, data }: Extract<PeerMessage, { type: 'error' | 'warning' }>): void {
    const { channel } = this;
    const words = `got ${type}: ${Buffer.from(data).toString()}`;
    this.#ports.scheduler.note(`${this.name} ${words}`);
    if (channel === undefined) {
      const { state } = this.node;
      if (state?.type === 'opening' && equalBytes(channelId, state.temporaryChannelId)) this.cut();
      return;
    }
    if (!equalBytes(channelId, channel.channelId)) return;
    const isForgotten =
      channel.phase.type === 'awaiting_funding_confirmations' &&
      !this.#ports.chain.wasBroadcast(primaryFunding(channel).fundingTxid);
    if (!isForgotten) return this.#violation(words);
    this.node = this.#newNode();
    this.cut();
  }

  /** Whether a message is about no channel that this side has or opens. */
  #isOfAnother(message: PeerMessage): boolean {
    const { state } = this.node;
    if (state === undefined) return true;
    if (!('channelId' in message) || message.type === 'funding_signed') return false;
    return state.type === 'opening' || !equalBytes(message.channelId, state.channelId);
  }

  #channelMessage(message: PeerMessage): void {
    if (this.#isOfAnother(message)) {
      // A channel that this side forgot before its funding was broadcast, which therefore never will be.
      if ('channelId' in message)
        this.#send(make('error', { channelId: message.channelId, data: utf8Encode('unknown channel') }));
      return;
    }
    const error = this.node.input({ type: 'message', message });
    if (error !== undefined && error.reaction !== 'ignore') {
      if (this.channel === undefined) {
        this.node = this.#newNode();
        this.cut();
        return;
      }
      this.#violation(`refuses ${message.type}: ${error.code}: ${error.message}`);
    }
    this.#afterInput();
  }

  #open(wish: { readonly fundingSat: bigint; readonly pushMsat: bigint }): void {
    const { random, fleetNodeId } = this.#ports;
    this.node = this.#newNode();
    const opened = openChannel(this.node.ctx, {
      ...wish,
      temporaryChannelId: random.bytes(32),
      counterpartyNodeId: fleetNodeId,
      keys: this.node.signer.keys(),
      features: FEATURES,
      feerateSatPerKw: 1_000,
      announce: false,
      channelType: { commitmentFormat: 'anchors', scidAlias: 'real_scid', confirmations: 'confirmed' },
      shutdownScript: scriptOf(this.name),
      aliasScid: BigInt(random.uint32()),
    });
    if (!opened.ok) throw new InternalError(`${this.name} cannot open: ${opened.error.message}`);
    this.node.take(opened.value, 'durable');
    this.#afterInput();
  }

  #accept(message: Extract<PeerMessage, { type: 'open_channel' }>): void {
    if (this.channel !== undefined) return;
    const { random, fleetNodeId } = this.#ports;
    this.node = this.#newNode();
    const accepted = acceptChannel(
      this.node.ctx,
      {
        counterpartyNodeId: fleetNodeId,
        keys: this.node.signer.keys(),
        features: FEATURES,
        shutdownScript: scriptOf(this.name),
        aliasScid: BigInt(random.uint32()),
        zeroConf: 'refused',
      },
      message,
    );
    if (!accepted.ok) return this.#violation(`refuses open_channel: ${accepted.error.message}`);
    this.node.take(accepted.value, 'durable');
    this.#afterInput();
  }

  // ---------------------------------------------------------------- after each step

  #must(input: Parameters<TestNode['must']>[0]): void {
    const error = this.node.input(input);
    if (error !== undefined) this.#violation(`${input.type}: ${error.code}: ${error.message}`);
  }

  #afterInput(): void {
    for (;;) {
      const effects = this.node.effects.slice(this.#effectsSeen);
      if (effects.length === 0) break;
      this.#effectsSeen = this.node.effects.length;
      for (const effect of effects) this.#effect(effect);
    }
    this.#flush();
    this.#answerAgain();
    this.#offer();
    this.#commitSoon();
  }

  #flush(): void {
    for (const message of this.node.outbox.splice(0))
      for (const sent of this.tamper(message)) this.#send(sent);
  }

  /** Sends a message, or the bytes of one, of nobody's making on the present connection. */
  inject(message: PeerMessage | Uint8Array): void {
    this.#send(message);
  }

  /** An input of nobody else's wish for the core, and what follows from it. */
  drive(input: ChannelInput): ChannelError | undefined {
    const error = this.node.input(input);
    if (error === undefined) this.#afterInput();
    return error;
  }

  #send(message: PeerMessage | Uint8Array): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#ports.scheduler.note(`${this.name} sends ${'type' in message ? message.type : 'bytes'}`);
    void connection.socket.write(connection.frame(message)).catch(() => undefined);
  }

  /** What is pending is signed a little later, so that updates batch as they do between real nodes. */
  #commitSoon(): void {
    if (this.#commitScheduled || this.channel === undefined || !canCommit(this.channel)) return;
    this.#commitScheduled = true;
    this.#ports.scheduler.schedule(this.#ports.random.fraction() * 20, `${this.name} commits`, () => {
      this.#commitScheduled = false;
      if (this.channel === undefined || !canCommit(this.channel)) return;
      this.#must({ type: 'commit' });
      this.#afterInput();
    });
  }

  #effect(effect: ChannelEffect): void {
    const { chain } = this.#ports;
    switch (effect.type) {
      case 'fund_channel':
        this.#must({
          type: 'funding_transaction_created',
          fundingTxid: sha256(utf8Encode(`funding of ${this.node.name}`)),
          fundingOutputIndex: 0,
        });
        return;
      case 'broadcast_funding':
        if (this.channel !== undefined) chain.broadcast(primaryFunding(this.channel).fundingTxid);
        return;
      case 'htlc_accepted':
        this.#answerLater(effect.htlc);
        return;
      case 'htlc_fulfilled':
        return this.#concluded(effect.htlc, (payment) => {
          if (toHex(sha256(effect.preimage)) !== toHex(payment.paymentHash))
            this.#violation('a preimage that does not fit');
          payment.state = 'fulfilled';
        });
      case 'htlc_failed':
        return this.#concluded(effect.htlc, (payment) => {
          payment.state = 'failed';
          payment.removal = effect.removal;
          payment.failure =
            effect.removal.type === 'failed' ? failureText(payment, effect.removal.reason) : 'malformed';
        });
      case 'htlc_dropped':
        return this.#concluded(effect.htlc, (payment) => {
          payment.state = 'waiting';
        });
      case 'force_close':
        return this.#violation(`closes by force: ${effect.reason}`);
      default:
        return;
    }
  }

  #concluded(htlc: HtlcBody, change: (payment: Payment) => void): void {
    const payment = this.payments.find(
      ({ htlcId, state }) => htlcId === htlc.id && (state === 'offered' || state === 'fulfilled'),
    );
    if (payment === undefined) return this.#violation(`the end of an HTLC that was not offered: ${htlc.id}`);
    // A preimage is repeated after a reconnection.
    if (payment.state === 'offered') change(payment);
  }

  #onBlock(): void {
    const { channel } = this;
    if (
      channel === undefined ||
      (channel.phase.type !== 'awaiting_funding_confirmations' &&
        channel.phase.type !== 'awaiting_channel_ready')
    )
      return;
    const funding = primaryFunding(channel);
    const found = this.#ports.chain.confirmation(funding.fundingTxid);
    if (found === undefined) return;
    this.#must({
      type: 'funding_confirmed',
      fundingTxid: funding.fundingTxid,
      fundingOutputIndex: funding.fundingOutputIndex,
      valueSat: funding.fundingValueSat,
      scriptPubKey: fundingScriptPubKey(funding.holderFundingPubkey, funding.counterpartyFundingPubkey),
      depth: found.depth,
      blockHeight: found.height,
      transactionIndex: found.txIndex,
    });
    this.#afterInput();
  }

  // ---------------------------------------------------------------- paying

  /** Offers what waits, while the channel can carry it. */
  #offer(): void {
    if (this.channel?.phase.type !== 'open' || this.channel.connection.type !== 'connected') return;
    for (const payment of this.payments) {
      if (payment.state !== 'waiting') continue;
      const { packet, sharedSecrets, cltvExpiryHeight } = payment.prepared ?? prepare(this.#ports, payment);
      const htlcId: bigint = this.channel.changes.nextOutboundHtlcId;
      const error = this.node.input({
        type: 'add_htlc',
        amountMsat: payment.amountMsat + payment.feeMsat,
        paymentHash: payment.paymentHash,
        cltvExpiryHeight: payment.cltvExpiryHeight ?? cltvExpiryHeight,
        onionRoutingPacket: packet,
      });
      if (error !== undefined) return;
      this.#ports.scheduler.note(`${this.name} offers ${htlcId}`);
      Object.assign(payment, { state: 'offered', htlcId, secrets: sharedSecrets });
    }
    this.#flush();
    this.#commitSoon();
  }

  // ---------------------------------------------------------------- being paid

  #answerLater(htlc: HtlcBody): void {
    if (this.answers === 'holds' || this.#answering.has(htlc.id)) return;
    this.#answering.add(htlc.id);
    this.#ports.scheduler.schedule(this.#ports.random.fraction() * 60, `${this.name} answers`, () => {
      this.#answering.delete(htlc.id);
      this.#answer(htlc);
    });
  }

  #answer(htlc: HtlcBody): void {
    const answer = answerOf(this.#ports, this.#staticSecret, htlc, this.preimages);
    if (typeof answer === 'string') return this.#violation(answer);
    const error = this.node.input(answer);
    // Not possible while disconnected: it is answered after the reconnection.
    if (error === undefined) this.#afterInput();
  }

  #answerAgain(): void {
    const { channel } = this;
    if (channel?.phase.type !== 'open' || channel.connection.type !== 'connected') return;
    for (const { body, state } of channel.changes.htlcs)
      if (body.direction === 'inbound' && state === 'committed') this.#answerLater(body);
  }

  #violation(text: string): void {
    this.#ports.onViolation(`${this.name} ${text}`);
  }
}

/** P2WPKH of no key that matters. */
function scriptOf(name: string): Uint8Array {
  return Uint8Array.from([0, 20, ...sha256(utf8Encode(name)).subarray(0, 20)]);
}
