/**
 * One peer's connection after init: reads, decrypts and sorts messages,
 * encrypts and writes those for the peer, keeps it alive, and ends it when the
 * peer breaks a rule or stops reading. What messages mean is its owner's
 * business.
 */
import { concatBytes, type FeatureBits } from '@fulmen/codec';
import type { Transport } from '@fulmen/noise';
import type { Logger, Runtime, Task } from '@fulmen/service';
import { decodeMessage, encodeMessage, make, printableData } from '@fulmen/wire';
import {
  COMPLAINT_BURST,
  COMPLAINTS_PER_SECOND,
  GOSSIP_BURST_BYTES,
  GOSSIP_BYTES_PER_SECOND,
  LINGER_MS,
  PING_IDLE_MS,
  PONG_BURST,
  PONG_DEADLINE_MS,
  PONGS_PER_SECOND,
  WRITE_BATCH_BYTES,
  WRITE_STALL_MS,
} from '../limits.ts';
import type { GatewayMetrics } from '../metrics.ts';
import { Signal } from '../signal.ts';
import type { Socket } from '../socket/port.ts';
import type { WireLog } from '../wire-log.ts';
import { routeOf, typeOf } from './classify.ts';
import { type EstablishedPeer, warningMessage } from './establish.ts';
import { OutboundQueue } from './outbound-queue.ts';
import { TokenBucket } from './token-bucket.ts';

/** Why a connection ended: one word for metrics. */
export type DisconnectCause =
  | 'counterparty_closed'
  | 'broken'
  | 'bad_message'
  | 'timeout'
  | 'slow_reader'
  | 'replaced'
  | 'manager'
  | 'ownership'
  | 'no_owner'
  | 'gossip'
  | 'limit'
  | 'stopping';

/** What the connection tells its owner. Called synchronously, in the order of events. */
export interface ConnectionHandler {
  /** A well-formed message for the peer's channel-manager. */
  channelMessage(message: Uint8Array): void;
  gossip(message: Uint8Array): void;
  /** What keeps the peer from being read just now; undefined to read on. */
  pauseReason(): 'credit' | 'link' | undefined;
  /** Everything through this number of the manager's was handed to the socket. */
  sent(through: bigint): void;
  /** Gossip was handed to the socket. */
  gossipTaken(): void;
  /** Exactly once. */
  closed(cause: DisconnectCause, detail: string): void;
}

/** pong's answer exists for requests below this (BOLT 1). */
const PONG_LIMIT_BYTES = 65_532;

export class PeerConnection {
  readonly nodeId: Uint8Array;
  readonly features: FeatureBits;
  readonly #socket: Socket;
  readonly #transport: Transport;
  readonly #runtime: Runtime;
  readonly #logger: Logger;
  readonly #metrics: GatewayMetrics;
  readonly #handler: ConnectionHandler;
  readonly #wireLog: WireLog | undefined;
  readonly #queue = new OutboundQueue();
  readonly #readable = new Signal();
  readonly #writable = new Signal();
  readonly #tasks: Task[] = [];
  readonly #pongs: TokenBucket;
  readonly #gossipRate: TokenBucket;
  readonly #complaints: TokenBucket;
  #early: readonly Uint8Array[];
  #state: 'open' | 'flushing' | 'closed' = 'open';
  /** Not reading is our own doing: silence proves nothing. */
  #paused = false;
  #lastReadMs: number;
  #pingSentMs: number | undefined;
  /** When the oldest unfinished write began. */
  #writingSinceMs: number | undefined;

  constructor(
    peer: EstablishedPeer,
    ports: {
      readonly runtime: Runtime;
      readonly logger: Logger;
      readonly metrics: GatewayMetrics;
      readonly wireLog?: WireLog;
    },
    handler: ConnectionHandler,
  ) {
    this.nodeId = peer.nodeId;
    this.features = peer.features;
    this.#socket = peer.socket;
    this.#transport = peer.transport;
    this.#early = peer.early;
    this.#runtime = ports.runtime;
    this.#logger = ports.logger;
    this.#metrics = ports.metrics;
    this.#handler = handler;
    this.#wireLog = ports.wireLog;
    const nowMs = ports.runtime.monotonicMs();
    this.#lastReadMs = nowMs;
    this.#pongs = new TokenBucket({ burst: PONG_BURST, perSecond: PONGS_PER_SECOND, nowMs });
    this.#complaints = new TokenBucket({ burst: COMPLAINT_BURST, perSecond: COMPLAINTS_PER_SECOND, nowMs });
    this.#gossipRate = new TokenBucket({
      burst: GOSSIP_BURST_BYTES,
      perSecond: GOSSIP_BYTES_PER_SECOND,
      nowMs,
    });
  }

  /** Gossip that waits to be sent. */
  get gossipBytes(): number {
    return this.#queue.gossipBytes;
  }

  /** Begins reading and writing. */
  start(): void {
    this.#tasks.push(
      this.#runtime.spawn('peer-read', () => this.#readLoop()),
      this.#runtime.spawn('peer-write', () => this.#writeLoop()),
    );
  }

  /** Sends a message of the manager's, or of ours; the peer that lets too many pile up is cut. */
  send(message: Uint8Array, number?: bigint): void {
    if (this.#state !== 'open') return;
    if (!this.#queue.pushUrgent(number === undefined ? { message } : { message, number })) {
      this.reset('slow_reader', 'too much waits for the counterparty to read');
      return;
    }
    this.#writable.notify();
  }

  /** Sends gossip if there is room; false when it was dropped. */
  sendGossip(message: Uint8Array): boolean {
    if (this.#state !== 'open' || !this.#queue.pushGossip(message)) return false;
    this.#writable.notify();
    return true;
  }

  /** Ends the connection after what is queued, and a warning if there is one to give. */
  close(cause: DisconnectCause, detail: string, warning?: string): void {
    if (this.#state !== 'open') return;
    if (warning !== undefined) this.#queue.pushUrgent({ message: warningMessage(warning) });
    this.#queue.dropGossip();
    this.#state = 'flushing';
    this.#writable.notify();
    this.#readable.notify();
    this.#tasks.push(
      this.#runtime.spawn('peer-linger', async (signal) => {
        const timer = new AbortController();
        const abort = (): void => timer.abort();
        signal.addEventListener('abort', abort, { once: true });
        const lingered = this.#runtime.sleep(LINGER_MS, timer.signal).catch(() => undefined);
        await Promise.race([lingered, this.#socket.closed]);
        timer.abort();
        this.#socket.reset();
      }),
    );
    this.#handler.closed(cause, detail);
  }

  /** Ends the connection now. */
  reset(cause: DisconnectCause, detail: string): void {
    if (this.#state === 'closed') return;
    const first = this.#state === 'open';
    this.#state = 'closed';
    this.#socket.reset();
    this.#writable.notify();
    this.#readable.notify();
    if (first) this.#handler.closed(cause, detail);
  }

  /** Whatever kept the peer from being read may be over. */
  resumeReading(): void {
    this.#readable.notify();
  }

  /** Keeps alive and ends what is not; called every TICK_MS. */
  tick(nowMs: number): void {
    if (this.#state !== 'open') return;
    if (this.#writingSinceMs !== undefined && nowMs - this.#writingSinceMs >= WRITE_STALL_MS) {
      this.reset('slow_reader', 'the counterparty takes no bytes');
      return;
    }
    if (this.#paused) {
      this.#lastReadMs = nowMs;
      this.#pingSentMs = undefined;
      return;
    }
    if (this.#pingSentMs !== undefined) {
      if (nowMs - this.#pingSentMs >= PONG_DEADLINE_MS) this.reset('timeout', 'no answer to ping');
      return;
    }
    if (nowMs - this.#lastReadMs < PING_IDLE_MS) return;
    this.#pingSentMs = nowMs;
    this.send(encodeMessage(make('ping', { numPongBytes: 0, ignored: new Uint8Array(0) })));
  }

  /** Resolves when nothing of this connection runs any more. */
  async ended(): Promise<void> {
    await Promise.allSettled(this.#tasks.map((task) => task.done));
  }

  /** Cuts short the time for last words. */
  async abort(): Promise<void> {
    this.reset('stopping', 'stopping');
    await Promise.allSettled(this.#tasks.map((task) => task.stop()));
  }

  async #readLoop(): Promise<void> {
    for (const message of this.#early) this.#receive(message);
    this.#early = [];
    for (;;) {
      await this.#untilReadable();
      if (this.#state === 'closed') return;
      let piece: Uint8Array | undefined;
      try {
        piece = await this.#socket.read();
      } catch (error) {
        this.reset('broken', error instanceof Error ? error.message : 'broken');
        return;
      }
      // While the last words go out, what comes is read so that it blocks nothing, and forgotten.
      if (this.#state === 'flushing') {
        if (piece === undefined) return;
        continue;
      }
      if (piece === undefined) {
        this.close('counterparty_closed', 'closed by the counterparty');
        return;
      }
      this.#lastReadMs = this.#runtime.monotonicMs();
      // Any traffic after a ping proves life, as a busy peer may answer late.
      this.#pingSentMs = undefined;
      const fed = this.#transport.feed(piece);
      if (!fed.ok) {
        this.reset('bad_message', fed.error.kind);
        return;
      }
      for (const message of fed.value) {
        this.#receive(message);
      }
    }
  }

  async #untilReadable(): Promise<void> {
    while (this.#state === 'open') {
      const reason = this.#queue.isCrowded ? 'outbound' : this.#handler.pauseReason();
      if (reason === undefined) break;
      if (!this.#paused) this.#metrics.pauses.inc({ reason });
      this.#paused = true;
      await this.#readable.wait();
    }
    this.#paused = false;
  }

  #receive(message: Uint8Array): void {
    // What follows a message that ended the connection does not count.
    if (this.#state !== 'open') return;
    this.#wireLog?.message('in', this.nodeId, message);
    const type = typeOf(message);
    if (type === undefined) return this.#refuse('a message without type');
    const route = routeOf(type);
    this.#metrics.inboundMessages.inc({ route });
    switch (route) {
      case 'ping':
        return this.#onPing(message);
      case 'manager':
        return this.#onChannelMessage(message);
      case 'gossip':
        if (!this.#gossipRate.take(this.#runtime.monotonicMs(), message.length)) {
          this.#metrics.dropped.inc({ reason: 'gossip_rate' });
          return;
        }
        return this.#handler.gossip(message);
      case 'init':
        return this.#refuse('a second init');
      case 'unknown_even':
        return this.#refuse(`unknown message ${type}`);
      case 'unsupported':
        this.#metrics.dropped.inc({ reason: 'unsupported' });
        return;
      case 'pong':
      case 'ignored':
        return;
    }
  }

  #onChannelMessage(message: Uint8Array): void {
    const decoded = decodeMessage(message);
    if (!decoded.ok) return this.#refuse(decoded.error.message);
    const { value } = decoded;
    if (
      (value.type === 'error' || value.type === 'warning') &&
      this.#complaints.take(this.#runtime.monotonicMs())
    ) {
      const text = printableData(value.data);
      this.#logger.warn({ peer: this.nodeId, type: value.type, text }, 'the counterparty complains');
    }
    this.#handler.channelMessage(message);
  }

  #onPing(message: Uint8Array): void {
    const decoded = decodeMessage(message);
    if (!decoded.ok || decoded.value.type !== 'ping') return this.#refuse('a ping that cannot be read');
    // BOLT 1: "if num_pong_bytes is less than 65532: MUST respond by sending a pong message".
    const length = decoded.value.numPongBytes;
    if (length >= PONG_LIMIT_BYTES) return;
    // Peers that read get theirs, in order and as long as they asked (LND ends a connection otherwise).
    if (this.#pongs.take(this.#runtime.monotonicMs()) && this.#queue.pushPong(length))
      this.#writable.notify();
    else this.#metrics.dropped.inc({ reason: 'ping_rate' });
  }

  #refuse(why: string): void {
    this.close('bad_message', why, why);
  }

  async #writeLoop(): Promise<void> {
    for (;;) {
      while (this.#queue.isEmpty && this.#state === 'open') await this.#writable.wait();
      if (this.#state === 'closed') return;
      if (this.#queue.isEmpty) {
        this.#socket.end();
        return;
      }
      const { bytes, through } = this.#nextFrames();
      this.#writingSinceMs = this.#runtime.monotonicMs();
      try {
        await this.#socket.write(bytes);
      } catch (error) {
        this.reset('broken', error instanceof Error ? error.message : 'broken');
        return;
      }
      this.#writingSinceMs = undefined;
      this.#readable.notify();
      if (through !== undefined) this.#handler.sent(through);
    }
  }

  /** What is written next, encrypted, and the manager's last number in it. Only this is kept while the socket has no room. */
  #nextFrames(): { readonly bytes: Uint8Array; readonly through: bigint | undefined } {
    const { gossipBytes } = this.#queue;
    const items = this.#queue.take(WRITE_BATCH_BYTES);
    if (this.#queue.gossipBytes < gossipBytes) this.#handler.gossipTaken();
    for (const item of items) this.#wireLog?.message('out', this.nodeId, item.message);
    const bytes = concatBytes(...items.map((item) => this.#transport.encrypt(item.message)));
    return { bytes, through: items.findLast((item) => item.number !== undefined)?.number };
  }
}
