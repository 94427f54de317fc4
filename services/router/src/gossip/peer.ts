/**
 * One peer on a gateway's stream: what it asked for and what waits to be sent
 * to it. Nothing is copied for a peer: answers, windows of relayed messages
 * and its backlog are iterators over what is shared.
 */
import type { NetworkGraph, TimestampFilter } from '@fulmen/graph';
import { BACKLOG_START, backlogBatch, nodeKey } from '@fulmen/graph';
import type { GossipToPeer } from '@fulmen/proto/router/v1/router';
import type { RouterMetrics } from '../metrics.ts';
import { Allowance } from './allowance.ts';
import type { AnswerMemory } from './answer-memory.ts';
import type { RelayItem } from './relay.ts';
import { mayRelay } from './relay.ts';

const MAX_URGENT = 64;
const MAX_ANSWERS = 4;
/** Flushes that a slow peer may be behind. */
const MAX_WINDOWS = 8;
const BACKLOG_BATCH = 64;
/**
 * Queries a peer may make at once, and how soon it may make another. A new LND asks for the whole network, 500 ids at a
 * time, as fast as it is answered: some hundred queries. One that is dropped leaves it waiting for its answer.
 */
const QUERY_BURST = 200;
const QUERY_REFILL_MS = 1_000;
/** The same for filters after which what is stored is sent: each is a walk over the whole graph. */
const BACKLOG_BURST = 4;
const BACKLOG_REFILL_MS = 60_000;

/** A message for the peer, or what the gateway shall do about it. */
type ToPeer = NonNullable<GossipToPeer['body']>;

/** What the peers of all streams share with the writer. */
export interface PeerPorts {
  readonly metrics: RouterMetrics;
  readonly answerMemory: AnswerMemory;
  /** Wakes the sender of the peer's stream. */
  readonly wake: () => void;
}

/** An answer, made as it is sent. */
interface Answer {
  readonly messages: Iterator<Uint8Array>;
  readonly heldBytes: number;
}

export class Peer {
  readonly nodeId: Uint8Array;
  readonly key: string;
  filter: TimestampFilter | undefined;
  /** Bytes of this peer's messages in the pipeline's queue. */
  pendingBytes = 0;
  readonly #ports: PeerPorts;
  readonly #verdicts: ToPeer[] = [];
  readonly #urgent: Uint8Array[] = [];
  readonly #answers: Answer[] = [];
  readonly #windows: Iterator<Uint8Array>[] = [];
  readonly #queries = new Allowance(QUERY_BURST, QUERY_REFILL_MS);
  readonly #backlogs = new Allowance(BACKLOG_BURST, BACKLOG_REFILL_MS);
  #backlog: Iterator<Uint8Array | undefined> | undefined;
  #connectionId = 0n;
  #sentBytes = 0;
  /** Messages are sent while fewer bytes were. */
  #grantedThroughBytes: number;

  /** @param pace `granted`: nothing is sent before there is a grant; `any`: the gateway gives none. */
  constructor(nodeId: Uint8Array, pace: 'granted' | 'any', ports: PeerPorts) {
    this.nodeId = nodeId;
    this.key = nodeKey(nodeId);
    this.#ports = ports;
    this.#grantedThroughBytes = pace === 'granted' ? 0 : Number.POSITIVE_INFINITY;
  }

  /** How far the gateway lets us go on the peer's connection, counted from its beginning. */
  grant(connectionId: bigint, throughBytes: number): void {
    this.#connectionId = connectionId;
    this.#grantedThroughBytes = throughBytes;
    this.#ports.wake();
  }

  /** Queues a message of ours; false when the peer's queue is full. */
  send(message: Uint8Array): boolean {
    if (!this.#hasRoom(this.#urgent)) return false;
    this.#urgent.push(message);
    this.#ports.wake();
    return true;
  }

  /** Has the peer told what it did wrong. */
  warn(what: string): void {
    this.#judge({ $case: 'warning', value: what });
  }

  /** For what an honest peer never does: it is told, and the connection ends. */
  disconnect(what: string): void {
    this.#judge({ $case: 'disconnect', value: what });
  }

  /**
   * Queues an answer that is made as it is sent.
   *
   * @param heldBytes what it keeps in memory until then.
   * @returns `too_many` when the peer asked before its answers came, `no_memory` when those of all peers hold too much.
   */
  answer(messages: Iterator<Uint8Array>, heldBytes: number): 'queued' | 'too_many' | 'no_memory' {
    if (this.#answers.length >= MAX_ANSWERS) return 'too_many';
    if (!this.#ports.answerMemory.take(heldBytes)) {
      this.#ports.metrics.dropped.inc({ what: 'answer_memory' });
      return 'no_memory';
    }
    this.#answers.push({ messages, heldBytes });
    this.#ports.wake();
    return 'queued';
  }

  /** Takes a token for one query. */
  mayQuery(nowMs: number): boolean {
    return this.#queries.take(nowMs);
  }

  /** Gives up what waits: the peer is gone. */
  close(): void {
    for (const { heldBytes } of this.#answers.splice(0)) this.#ports.answerMemory.giveBack(heldBytes);
  }

  /** Queues a flush. Without a filter from the peer nothing is relayed to it. */
  relay(items: readonly RelayItem[]): void {
    const { filter } = this;
    if (filter !== undefined && items.length > 0) this.#window(relayed(items, this.key, filter));
  }

  /**
   * Queues messages of our own. BOLT 7: "SHOULD send gossip messages as it
   * generates them regardless of `timestamp`."
   */
  relayOwn(messages: readonly Uint8Array[]): void {
    if (this.filter !== undefined && messages.length > 0) this.#window(messages.values());
  }

  #window(messages: Iterator<Uint8Array>): void {
    if (this.#windows.length >= MAX_WINDOWS) {
      this.#windows.shift();
      this.#ports.metrics.dropped.inc({ what: 'relay_window' });
    }
    this.#windows.push(messages);
    this.#ports.wake();
  }

  /**
   * Relays by this filter from now on, and starts sending what is stored; a
   * new filter ends the backlog of the one before. Of a peer that sets too
   * many, only the relaying follows.
   */
  setFilter(filter: TimestampFilter, nowMs: number, graph: () => NetworkGraph): void {
    const { firstTimestamp, timestampRange } = filter;
    // Without what else came in the message: it is kept as long as the peer is there.
    this.filter = { firstTimestamp, timestampRange };
    this.#backlog = undefined;
    if (!this.#backlogs.take(nowMs)) {
      this.#ports.metrics.dropped.inc({ what: 'backlog' });
      return;
    }
    this.#backlog = backlog(this.filter, graph);
    this.#ports.wake();
  }

  /**
   * The next message for this peer: `idle` when there is none or the gateway
   * takes none now, `later` when looking for one took its share of time.
   */
  next(): GossipToPeer | 'idle' | 'later' {
    const verdict = this.#verdicts.shift();
    // Beside the grants: a peer that reads nothing hears of it all the same.
    if (verdict !== undefined) return this.#toPeer(verdict);
    if (this.#sentBytes >= this.#grantedThroughBytes) return 'idle';
    const message = this.#urgent.shift() ?? this.#nextAnswer() ?? this.#nextRelayed();
    if (message !== undefined) return this.#message(message);
    if (this.#backlog === undefined) return 'idle';
    const stored = this.#backlog.next();
    if (stored.done === true) {
      this.#backlog = undefined;
      return 'idle';
    }
    return stored.value === undefined ? 'later' : this.#message(stored.value);
  }

  #nextAnswer(): Uint8Array | undefined {
    for (let first = this.#answers[0]; first !== undefined; first = this.#answers[0]) {
      const next = first.messages.next();
      if (next.done !== true) return next.value;
      this.#answers.shift();
      this.#ports.answerMemory.giveBack(first.heldBytes);
    }
    return undefined;
  }

  #nextRelayed(): Uint8Array | undefined {
    for (let first = this.#windows[0]; first !== undefined; first = this.#windows[0]) {
      const next = first.next();
      if (next.done !== true) return next.value;
      this.#windows.shift();
    }
    return undefined;
  }

  #judge(verdict: ToPeer): void {
    if (!this.#hasRoom(this.#verdicts)) return;
    this.#verdicts.push(verdict);
    this.#ports.wake();
  }

  #message(value: Uint8Array): GossipToPeer {
    this.#sentBytes += value.length;
    return this.#toPeer({ $case: 'message', value });
  }

  #toPeer(body: ToPeer): GossipToPeer {
    return { peerNodeId: this.nodeId, connectionId: this.#connectionId, body };
  }

  #hasRoom(queue: readonly unknown[]): boolean {
    if (queue.length < MAX_URGENT) return true;
    this.#ports.metrics.dropped.inc({ what: 'urgent' });
    return false;
  }
}

function* relayed(items: readonly RelayItem[], key: string, filter: TimestampFilter): Generator<Uint8Array> {
  for (const item of items) if (mayRelay(item, key, filter)) yield item.raw;
}

/** Yields undefined where a batch held nothing, so that a long search is interrupted. */
function* backlog(filter: TimestampFilter, graph: () => NetworkGraph): Generator<Uint8Array | undefined> {
  for (let cursor: ReturnType<typeof backlogBatch>['next'] = BACKLOG_START; cursor !== undefined;) {
    const batch: ReturnType<typeof backlogBatch> = backlogBatch(graph(), filter, cursor, BACKLOG_BATCH);
    yield* batch.messages;
    yield undefined;
    cursor = batch.next;
  }
}
