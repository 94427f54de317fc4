/**
 * The way of a gossip message into the graph: decode, cheap questions,
 * signatures, the chain, the graph, the journal, the relay. One consumer;
 * between batches the event loop runs. Messages that need a channel whose
 * funding output is being looked up wait with that lookup.
 */
import { assertNever } from '@fulmen/codec';
import type {
  ChannelAnnouncement,
  ChannelUpdate,
  NodeAnnouncement,
  Rejection,
  RejectionCode,
} from '@fulmen/graph';
import {
  CHANNEL_FLAG_DIRECTION,
  MAX_GOSSIP_BYTES,
  MIN_CONFIRMATIONS,
  applyChannelAnnouncement,
  applyChannelUpdate,
  applyNodeAnnouncement,
  channelsOf,
  checkChannelAnnouncement,
  checkChannelUpdate,
  checkNodeAnnouncement,
  nodeKey,
  precheckChannelAnnouncement,
  precheckChannelUpdate,
  precheckNodeAnnouncement,
  utxoLookupOf,
} from '@fulmen/graph';
import { decodeMessage } from '@fulmen/wire';
import type { RouterContext } from '../ports.ts';
import { nowSeconds } from '../ports.ts';
import type { Journal } from './journal.ts';
import type { Peer } from './peer.ts';
import type { Relay } from './relay.ts';
import type { UtxoLookups } from './utxo-lookups.ts';
import { lookupKey } from './utxo-lookups.ts';
import type { Queued } from './waiting-room.ts';
import { WaitingRoom, costOf, pendingOf } from './waiting-room.ts';

/** Bytes waiting, of all peers and of one: some 20,000 and 10,000 messages of today's network. */
const MAX_QUEUE_BYTES = 8 * 1024 * 1024;
const MAX_QUEUE_BYTES_OF_PEER = 4 * 1024 * 1024;
/** Signature checks between two looks at the event loop: some milliseconds. */
const BATCH = 32;
/** The height of a chain not known yet: the chain itself then says how deep an output is. */
const ANY_HEIGHT = 0xff_ffff;

export type Outcome =
  | 'accepted'
  | 'waiting'
  | 'malformed'
  | 'refused_before'
  | 'wrong_script'
  | 'unavailable'
  | RejectionCode;

export class Pipeline {
  readonly #context: RouterContext;
  readonly #journal: Journal;
  readonly #relay: Relay;
  readonly #lookups: UtxoLookups;
  readonly #queue: Queued[] = [];
  #head = 0;
  #queueBytes = 0;
  #wakeReader: (() => void) | undefined;
  #wakeWriters: (() => void)[] = [];
  /** Keys of the questions that the chain was asked and has not answered. */
  readonly #asked = new Set<string>();
  readonly #waiting: WaitingRoom;
  readonly #onConsumed: (peer: Peer) => void;

  constructor(
    context: RouterContext,
    journal: Journal,
    relay: Relay,
    lookups: UtxoLookups,
    onConsumed: (peer: Peer) => void,
  ) {
    this.#context = context;
    this.#journal = journal;
    this.#relay = relay;
    this.#lookups = lookups;
    this.#waiting = new WaitingRoom(context);
    this.#onConsumed = onConsumed;
  }

  /** Queues a message; waits while the whole queue is full, drops what is too long and what one peer has too much of. */
  async offer(peer: Peer, raw: Uint8Array, signal: AbortSignal): Promise<void> {
    const { metrics } = this.#context;
    if (raw.length > MAX_GOSSIP_BYTES) {
      metrics.dropped.inc({ what: 'oversized_gossip' });
      return;
    }
    if (peer.pendingBytes >= MAX_QUEUE_BYTES_OF_PEER) {
      metrics.dropped.inc({ what: 'gossip_of_peer' });
      return;
    }
    while (this.#queueBytes >= MAX_QUEUE_BYTES && !signal.aborted) {
      await new Promise<void>((resolve) => this.#wakeWriters.push(resolve));
    }
    peer.pendingBytes += costOf(raw);
    this.#queueBytes += costOf(raw);
    metrics.queueBytes.set(this.#queueBytes);
    this.#queue.push({ raw, peer });
    this.#wakeReader?.();
  }

  /** Works through the queue until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { runtime, metrics } = this.#context;
    signal.addEventListener('abort', () => {
      this.#wakeReader?.();
      for (const wake of this.#wakeWriters.splice(0)) wake();
    });
    while (!signal.aborted) {
      if (this.#head === this.#queue.length) {
        await new Promise<void>((resolve) => {
          this.#wakeReader = resolve;
        });
        this.#wakeReader = undefined;
        continue;
      }
      const batch = this.#queue.slice(this.#head, this.#head + BATCH);
      this.#head += batch.length;
      if (this.#head > 1024 || this.#head === this.#queue.length) {
        this.#queue.splice(0, this.#head);
        this.#head = 0;
      }
      for (const item of batch) {
        item.peer.pendingBytes -= costOf(item.raw);
        this.#queueBytes -= costOf(item.raw);
        this.#take(item);
        this.#onConsumed(item.peer);
      }
      metrics.queue.set(this.#queue.length - this.#head);
      metrics.queueBytes.set(this.#queueBytes);
      for (const wake of this.#wakeWriters.splice(0)) wake();
      await runtime.sleep(0, signal);
      await this.#lookups.room();
    }
  }

  #take(item: Queued): void {
    const decoded = decodeMessage(item.raw);
    if (!decoded.ok) {
      this.#report('undecodable', 'malformed');
      item.peer.warn('malformed gossip message');
      return;
    }
    const message = decoded.value;
    if (message.type === 'channel_announcement')
      this.#report(message.type, this.#announcement(message, item));
    else if (message.type === 'channel_update') this.#report(message.type, this.#update(message, item));
    else if (message.type === 'node_announcement') this.#report(message.type, this.#node(message, item));
  }

  #announcement(message: ChannelAnnouncement, item: Queued): Outcome {
    const { state, secp } = this.#context;
    const checked = precheckChannelAnnouncement(state.graph, message, state.bestHeight ?? ANY_HEIGHT);
    if (!checked.ok) {
      if (checked.error.code === 'duplicate') {
        this.#relay.alsoFrom({ announcement: message.shortChannelId }, item.peer.key);
      }
      if (checked.error.code === 'not_deep_enough' && this.#waiting.keepEarly(pendingOf(message, item)))
        return 'waiting';
      return this.#refuse(item, checked.error);
    }
    const lookup = utxoLookupOf(message);
    if (this.#lookups.isRefused(lookup)) {
      return this.#waiting.keepEarly(pendingOf(message, item)) ? 'waiting' : 'refused_before';
    }
    const key = lookupKey(lookup);
    if (this.#asked.has(key)) return 'waiting';
    const signed = checkChannelAnnouncement(secp, message, item.raw);
    if (!signed.ok) return this.#refuse(item, signed.error);
    const pending = pendingOf(message, item);
    this.#asked.add(key);
    this.#waiting.enter(pending);
    this.#lookups.submit(lookup, (outcome) => {
      this.#asked.delete(key);
      this.#waiting.leave(pending);
      switch (outcome.kind) {
        case 'found':
          // One block of grace, as in the first check.
          if (outcome.confirmations < MIN_CONFIRMATIONS - 1) {
            this.#report(message.type, this.#waiting.keepEarly(pending) ? 'waiting' : 'not_deep_enough');
            return;
          }
          this.#report(
            message.type,
            this.acceptAnnouncement(message, item.raw, outcome.capacitySat, item.peer),
          );
          for (const held of pending.held) this.#take(held);
          return;
        case 'not_found':
          this.#report(message.type, this.#waiting.keepEarly(pending) ? 'waiting' : 'funding_not_found');
          return;
        case 'wrong_script':
        case 'unavailable':
          this.#report(message.type, outcome.kind);
          return;
        default:
          assertNever(outcome);
      }
    });
    return 'waiting';
  }

  /** Tries again what came before our chain-monitor knew of it. */
  retryEarly(): void {
    for (const pending of this.#waiting.takeEarly()) {
      this.#take(pending.announcement);
      for (const held of pending.held) this.#take(held);
    }
  }

  /** Puts a channel whose signatures and funding output are checked into the graph; `peer` is absent for our own. */
  acceptAnnouncement(
    message: ChannelAnnouncement,
    raw: Uint8Array,
    capacitySat: bigint,
    peer: Peer | undefined,
  ): Outcome {
    const { graph } = this.#context.state;
    const conflicting = graph.channelIndex(message.shortChannelId);
    const involved =
      conflicting === undefined ? [] : [...graph.ends(conflicting), message.nodeId1, message.nodeId2];
    const before = involved.flatMap((nodeId) => channelsOf(graph, nodeId));
    const applied = applyChannelAnnouncement(
      graph,
      message,
      raw,
      { capacitySat },
      nowSeconds(this.#context.runtime),
    );
    if (!applied.ok) {
      if (applied.error.code === 'conflicting_announcement') {
        this.#journal.removed(before);
        for (const nodeId of involved) this.#journal.banned(nodeId);
      }
      return applied.error.code;
    }
    this.#journal.channel(message.shortChannelId);
    if (applied.value.relay && peer !== undefined) this.#relay.announcement(message.shortChannelId, peer.key);
    return 'accepted';
  }

  #update(message: ChannelUpdate, item: Queued): Outcome {
    const { state, secp, runtime } = this.#context;
    const direction = message.channelFlags & CHANNEL_FLAG_DIRECTION;
    const checked = precheckChannelUpdate(state.graph, message, item.raw, nowSeconds(runtime));
    if (!checked.ok) {
      if (
        checked.error.code === 'unknown_channel' &&
        this.#waiting.holdForChannel(message.shortChannelId, item)
      ) {
        return 'waiting';
      }
      if (checked.error.code === 'duplicate') {
        this.#relay.alsoFrom({ update: (message.shortChannelId << 1n) | BigInt(direction) }, item.peer.key);
      }
      return this.#refuse(item, checked.error);
    }
    const signed = checkChannelUpdate(secp, message, item.raw, checked.value);
    if (!signed.ok) return this.#refuse(item, signed.error);
    return this.acceptUpdate(message, item.raw, item.peer);
  }

  /** Puts an update whose signature is checked into the graph. */
  acceptUpdate(message: ChannelUpdate, raw: Uint8Array, peer: Peer | undefined): Outcome {
    const { state, runtime } = this.#context;
    const direction = message.channelFlags & CHANNEL_FLAG_DIRECTION;
    const applied = applyChannelUpdate(state.graph, message, raw, nowSeconds(runtime));
    if (!applied.ok) return applied.error.code;
    this.#journal.update(message.shortChannelId, direction);
    if (applied.value.relay && peer !== undefined) {
      this.#relay.update(message.shortChannelId, direction, peer.key);
    }
    return 'accepted';
  }

  #node(message: NodeAnnouncement, item: Queued): Outcome {
    const { state, secp, runtime } = this.#context;
    const key = nodeKey(message.nodeId);
    const checked = precheckNodeAnnouncement(state.graph, message, item.raw, nowSeconds(runtime));
    if (!checked.ok) {
      if (checked.error.code === 'unknown_node' && this.#waiting.holdForNode(key, item)) return 'waiting';
      if (checked.error.code === 'duplicate') this.#relay.alsoFrom({ node: key }, item.peer.key);
      return this.#refuse(item, checked.error);
    }
    const signed = checkNodeAnnouncement(secp, message, item.raw);
    if (!signed.ok) return this.#refuse(item, signed.error);
    return this.acceptNode(message, item.raw, item.peer);
  }

  /** Puts a node's announcement whose signature is checked into the graph. */
  acceptNode(message: NodeAnnouncement, raw: Uint8Array, peer: Peer | undefined): Outcome {
    const { state, runtime } = this.#context;
    const key = nodeKey(message.nodeId);
    const applied = applyNodeAnnouncement(state.graph, message, raw, nowSeconds(runtime));
    if (!applied.ok) return applied.error.code;
    this.#journal.node(key);
    if (applied.value.relay && peer !== undefined) this.#relay.node(key, peer.key);
    return 'accepted';
  }

  #refuse(item: Queued, rejection: Rejection): Outcome {
    const reason = rejection.code.replaceAll('_', ' ');
    if (rejection.action === 'warn') item.peer.warn(reason);
    if (rejection.action === 'warn_and_disconnect') item.peer.disconnect(reason);
    return rejection.code;
  }

  #report(type: string, outcome: Outcome): void {
    this.#context.metrics.messages.inc({ type, outcome });
  }
}
