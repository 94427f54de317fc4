/**
 * A counterparty for tests: Noise and wire messages over any socket port, with
 * its own static secret. It does what it is told, rules or no rules.
 */
import { concatBytes, FeatureBits, fromHex } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import {
  ACT_ONE_LENGTH,
  ACT_THREE_LENGTH,
  ACT_TWO_LENGTH,
  initiator,
  responder,
  type SessionKeys,
  Transport,
} from '@fulmen/noise';
import {
  decodeMessage,
  encodeMessage,
  make,
  type Message,
  type MessageInputOf,
  type MessageName,
  type MessageOf,
  type UnknownMessage,
} from '@fulmen/wire';
import type { Socket, SocketAddress, SocketPort } from './socket.ts';

const REGTEST_CHAIN_HASH = fromHex('06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f');

/** The features that a present-day wallet sends. */
export const TEST_PEER_FEATURES: FeatureBits = FeatureBits.of({
  data_loss_protect: 'required',
  upfront_shutdown_script: 'optional',
  gossip_queries: 'optional',
  var_onion_optin: 'required',
  static_remotekey: 'required',
  payment_secret: 'required',
  basic_mpp: 'optional',
  support_large_channel: 'optional',
  anchors: 'optional',
  shutdown_anysegwit: 'optional',
  channel_type: 'optional',
  scid_alias: 'optional',
});

/** The other side did not do what the test needs. */
export class TestPeerError extends Error {
  override readonly name = 'TestPeerError';
}

export interface TestPeerIdentity {
  readonly secp: Secp256k1;
  readonly staticSecret: Uint8Array;
  /** 32 fresh bytes, a valid scalar; a constant where a run must repeat exactly. */
  readonly ephemeralSecret: Uint8Array;
}

export interface TestPeerOptions {
  /** What to say first; default: an init with TEST_PEER_FEATURES for regtest. Null says nothing. */
  readonly init?: MessageInputOf<MessageName> | Uint8Array | null;
  /** Answer pings; default true. */
  readonly answersPings?: boolean;
}

/** An init for a chain, regtest by default. */
export function testInit(
  features: FeatureBits = TEST_PEER_FEATURES,
  chainHash: Uint8Array = REGTEST_CHAIN_HASH,
): MessageOf<'init'> {
  return make('init', {
    globalfeatures: new Uint8Array(0),
    features: features.encode(),
    tlvs: { networks: [chainHash] },
  });
}

/** What came, and whoever waits for it. */
interface Waiter {
  readonly matches: (message: Message | UnknownMessage) => boolean;
  readonly resolve: (message: Message | UnknownMessage) => void;
  readonly reject: (error: TestPeerError) => void;
}

export class TestPeer {
  readonly nodeId: Uint8Array;
  readonly counterpartyNodeId: Uint8Array;
  /** The connection itself, for raw bytes, resets and the wait for its end. */
  readonly socket: Socket;
  readonly #transport: Transport;
  readonly #answersPings: boolean;
  readonly #inbox: (Message | UnknownMessage)[] = [];
  #waiters: Waiter[] = [];
  #ended: TestPeerError | undefined;
  #resume: PromiseWithResolvers<void> | undefined;

  private constructor(
    socket: Socket,
    session: {
      readonly nodeId: Uint8Array;
      readonly counterpartyNodeId: Uint8Array;
      readonly keys: SessionKeys;
    },
    answersPings: boolean,
  ) {
    this.socket = socket;
    this.nodeId = session.nodeId;
    this.counterpartyNodeId = session.counterpartyNodeId;
    this.#transport = new Transport(session.keys);
    this.#answersPings = answersPings;
  }

  /** Dials a node and says init. Does not wait for the node's init: `next('init')` does. */
  static async connect(
    sockets: SocketPort,
    address: SocketAddress,
    nodeId: Uint8Array,
    identity: TestPeerIdentity,
    options: TestPeerOptions = {},
  ): Promise<TestPeer> {
    const socket = await sockets.connect(address);
    const reader = new ExactReader(socket);
    const begun = initiator(identity.secp, { ...identity, counterpartyStaticKey: nodeId });
    if (!begun.ok) throw new TestPeerError(begun.error.kind);
    await socket.write(begun.value.actOne);
    const done = begun.value.onActTwo(await reader.read(ACT_TWO_LENGTH));
    if (!done.ok) throw new TestPeerError(done.error.kind);
    await socket.write(done.value.actThree);
    const session = {
      nodeId: identity.secp.publicKeyOf(identity.staticSecret),
      counterpartyNodeId: nodeId,
      keys: done.value.keys,
    };
    return TestPeer.#begin(socket, session, reader.rest(), options);
  }

  /** Answers a connection that a node made to us, and says init. */
  static async accept(
    socket: Socket,
    identity: TestPeerIdentity,
    options: TestPeerOptions = {},
  ): Promise<TestPeer> {
    const reader = new ExactReader(socket);
    const begun = responder(identity.secp, identity, await reader.read(ACT_ONE_LENGTH));
    if (!begun.ok) throw new TestPeerError(begun.error.kind);
    await socket.write(begun.value.actTwo);
    const done = begun.value.onActThree(await reader.read(ACT_THREE_LENGTH));
    if (!done.ok) throw new TestPeerError(done.error.kind);
    const session = {
      nodeId: identity.secp.publicKeyOf(identity.staticSecret),
      counterpartyNodeId: done.value.counterpartyStaticKey,
      keys: done.value.keys,
    };
    return TestPeer.#begin(socket, session, reader.rest(), options);
  }

  static async #begin(
    socket: Socket,
    session: {
      readonly nodeId: Uint8Array;
      readonly counterpartyNodeId: Uint8Array;
      readonly keys: SessionKeys;
    },
    rest: Uint8Array,
    options: TestPeerOptions,
  ): Promise<TestPeer> {
    const peer = new TestPeer(socket, session, options.answersPings ?? true);
    const init = options.init === undefined ? testInit() : options.init;
    if (init !== null) await peer.send(init);
    void peer.#readLoop(rest);
    return peer;
  }

  /** Sends a message, or the bytes of one; resolves when there is room again. */
  async send(message: MessageInputOf<MessageName> | Uint8Array): Promise<void> {
    await this.socket.write(this.frame(message));
  }

  /** The encrypted frame of a message, to be written by the caller, in this order. */
  frame(message: MessageInputOf<MessageName> | Uint8Array): Uint8Array {
    return this.#transport.encrypt(message instanceof Uint8Array ? message : encodeMessage(message));
  }

  /** The first message of that name not yet taken; waits for it. Rejects when the connection ends first. */
  async next<N extends MessageName>(name: N): Promise<MessageOf<N>> {
    const message = await this.#take((candidate) => candidate.type === name);
    // The name selected the variant.
    return message as MessageOf<N>;
  }

  /** The first message of any kind not yet taken. */
  nextAny(): Promise<Message | UnknownMessage> {
    return this.#take(() => true);
  }

  /** Messages that came and were not taken. */
  get waiting(): readonly (Message | UnknownMessage)[] {
    return this.#inbox;
  }

  /** Reads no more until `resumeReading`. */
  pauseReading(): void {
    this.#resume ??= Promise.withResolvers<void>();
  }

  resumeReading(): void {
    this.#resume?.resolve();
    this.#resume = undefined;
  }

  /** Resolves once the connection is over. */
  get closed(): Promise<void> {
    return this.socket.closed;
  }

  close(): void {
    this.resumeReading();
    this.socket.end();
  }

  #take(matches: Waiter['matches']): Promise<Message | UnknownMessage> {
    const index = this.#inbox.findIndex(matches);
    const [found] = index < 0 ? [] : this.#inbox.splice(index, 1);
    if (found !== undefined) return Promise.resolve(found);
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => this.#waiters.push({ matches, resolve, reject }));
  }

  async #readLoop(rest: Uint8Array): Promise<void> {
    let piece: Uint8Array | undefined = rest;
    let reason = 'the connection ended';
    try {
      while (piece !== undefined) {
        const fed = this.#transport.feed(piece);
        if (!fed.ok) throw new TestPeerError(fed.error.kind);
        for (const bytes of fed.value) await this.#receive(bytes);
        if (this.#resume !== undefined) await this.#resume.promise;
        piece = await this.socket.read();
      }
    } catch (error) {
      reason = error instanceof Error ? error.message : 'broken';
    }
    this.#ended = new TestPeerError(reason);
    for (const waiter of this.#waiters) waiter.reject(this.#ended);
    this.#waiters = [];
  }

  async #receive(bytes: Uint8Array): Promise<void> {
    const decoded = decodeMessage(bytes);
    if (!decoded.ok) throw decoded.error;
    const message = decoded.value;
    if (message.type === 'ping' && this.#answersPings && message.numPongBytes < 65_532) {
      await this.send(make('pong', { ignored: new Uint8Array(message.numPongBytes) }));
    }
    const index = this.#waiters.findIndex((waiter) => waiter.matches(message));
    const [waiter] = index < 0 ? [] : this.#waiters.splice(index, 1);
    if (waiter === undefined) this.#inbox.push(message);
    else waiter.resolve(message);
  }
}

/** Reads acts of a fixed length, and keeps what came after the last. */
class ExactReader {
  readonly #socket: Socket;
  #pending: Uint8Array = new Uint8Array(0);

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  async read(length: number): Promise<Uint8Array> {
    while (this.#pending.length < length) {
      const piece = await this.#socket.read();
      if (piece === undefined) throw new TestPeerError('closed during the handshake');
      this.#pending = concatBytes(this.#pending, piece);
    }
    const act = this.#pending.slice(0, length);
    this.#pending = this.#pending.subarray(length);
    return act;
  }

  rest(): Uint8Array {
    return this.#pending;
  }
}
