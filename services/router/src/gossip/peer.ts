/**
 * One peer on a gateway's stream: what it asked for and what waits to be sent
 * to it. Nothing is copied for a peer: answers, windows of relayed messages
 * and its backlog are iterators over what is shared.
 */
import type { NetworkGraph, TimestampFilter } from '@fulmen/graph';
import { BACKLOG_START, backlogBatch, nodeKey } from '@fulmen/graph';
import type { GossipToPeer } from '@fulmen/proto/router/v1/router';
import type { RouterMetrics } from '../metrics.ts';
import type { RelayItem } from './relay.ts';
import { mayRelay } from './relay.ts';

const MAX_URGENT = 64;
const MAX_ANSWERS = 4;
/** Flushes that a slow peer may be behind. */
const MAX_WINDOWS = 8;
const BACKLOG_BATCH = 64;
/** Queries a peer may make at once, and how soon it may make another. */
const QUERY_BURST = 40;
const QUERY_REFILL_MS = 1_000;
const NOTHING = new Uint8Array(0);

/** How a gateway is told what a peer deserves: the word before the colon says what to do. */
export type Misbehaviour = `warn: ${string}` | `disconnect: ${string}`;

/** Wakes the sender of the peer's stream. */
type Wake = () => void;

export class Peer {
  readonly nodeId: Uint8Array;
  readonly key: string;
  filter: TimestampFilter | undefined;
  /** Bytes of this peer's messages in the pipeline's queue. */
  pendingBytes = 0;
  readonly #wake: Wake;
  readonly #metrics: RouterMetrics;
  readonly #urgent: GossipToPeer[] = [];
  readonly #answers: Iterator<Uint8Array>[] = [];
  readonly #windows: Iterator<Uint8Array>[] = [];
  #backlog: Iterator<Uint8Array | undefined> | undefined;
  #tokens = QUERY_BURST;
  #refilledAtMs = 0;

  constructor(nodeId: Uint8Array, metrics: RouterMetrics, wake: Wake) {
    this.nodeId = nodeId;
    this.key = nodeKey(nodeId);
    this.#metrics = metrics;
    this.#wake = wake;
  }

  /** Queues a message of ours; false when the peer's queue is full. */
  send(message: Uint8Array): boolean {
    return this.#pushUrgent(message, '');
  }

  misbehaved(misbehaviour: Misbehaviour): void {
    this.#pushUrgent(NOTHING, misbehaviour);
  }

  /** Queues an answer that is made as it is sent; false when the peer asked too much at once. */
  answer(messages: Iterator<Uint8Array>): boolean {
    if (this.#answers.length >= MAX_ANSWERS) return false;
    this.#answers.push(messages);
    this.#wake();
    return true;
  }

  /** Takes a token for one query. */
  mayQuery(nowMs: number): boolean {
    const refill = Math.floor((nowMs - this.#refilledAtMs) / QUERY_REFILL_MS);
    if (refill > 0) {
      this.#tokens = Math.min(QUERY_BURST, this.#tokens + refill);
      this.#refilledAtMs = nowMs;
    }
    if (this.#tokens === 0) return false;
    this.#tokens -= 1;
    return true;
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
      this.#metrics.dropped.inc({ what: 'relay_window' });
    }
    this.#windows.push(messages);
    this.#wake();
  }

  /** Starts sending what is stored; a new filter replaces the one before and its backlog. */
  setFilter(filter: TimestampFilter, graph: () => NetworkGraph): void {
    this.filter = filter;
    this.#backlog = backlog(filter, graph);
    this.#wake();
  }

  /** The next message for this peer: `idle` when there is none, `later` when looking for one took its share of time. */
  next(): GossipToPeer | 'idle' | 'later' {
    const urgent = this.#urgent.shift();
    if (urgent !== undefined) return urgent;
    const message = takeFrom(this.#answers) ?? takeFrom(this.#windows);
    if (message !== undefined) return { peerNodeId: this.nodeId, message, misbehaviour: '' };
    if (this.#backlog === undefined) return 'idle';
    const stored = this.#backlog.next();
    if (stored.done === true) {
      this.#backlog = undefined;
      return 'idle';
    }
    return stored.value === undefined
      ? 'later'
      : { peerNodeId: this.nodeId, message: stored.value, misbehaviour: '' };
  }

  #pushUrgent(message: Uint8Array, misbehaviour: string): boolean {
    if (this.#urgent.length >= MAX_URGENT) {
      this.#metrics.dropped.inc({ what: 'urgent' });
      return false;
    }
    this.#urgent.push({ peerNodeId: this.nodeId, message, misbehaviour });
    this.#wake();
    return true;
  }
}

function takeFrom(iterators: Iterator<Uint8Array>[]): Uint8Array | undefined {
  for (let first = iterators[0]; first !== undefined; first = iterators[0]) {
    const next = first.next();
    if (next.done !== true) return next.value;
    iterators.shift();
  }
  return undefined;
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
