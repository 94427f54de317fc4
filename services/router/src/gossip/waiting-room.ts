/**
 * Announcements that cannot be decided yet, because the chain was asked or our
 * view of it must catch up, and the messages that need their channel. What
 * waits is bounded in number for announcements, in bytes for the rest.
 */
import type { ChannelAnnouncement } from '@fulmen/graph';
import { nodeKey } from '@fulmen/graph';
import { shortChannelId } from '@fulmen/wire';
import type { RouterContext } from '../ports.ts';
import type { Peer } from './peer.ts';

/** Messages that wait for one announcement: two updates, two nodes, and a newer one of each. */
const MAX_HELD = 8;
/** Bytes of what waits for announcements. */
const MAX_HELD_BYTES = 16 * 1024 * 1024;
/** Announcements that may be true a little later, and how far their block may be from our best one. */
const MAX_EARLY = 500;
const EARLY_BLOCKS_AHEAD = 6;
const EARLY_BLOCKS_BEHIND = 36;
/** What a message costs beside its bytes: without it, tiny ones would fill memory. */
const MESSAGE_OVERHEAD_BYTES = 128;

/** A message and who brought it. */
export interface Queued {
  readonly raw: Uint8Array;
  readonly peer: Peer;
}

/** An announcement that waits, and what waits with it. */
export interface Pending {
  readonly announcement: Queued;
  readonly scid: bigint;
  readonly nodes: readonly string[];
  readonly held: Queued[];
}

/** What a message counts against bounds in bytes. */
export const costOf = (raw: Uint8Array): number => raw.length + MESSAGE_OVERHEAD_BYTES;

export function pendingOf(message: ChannelAnnouncement, announcement: Queued): Pending {
  const nodes = [nodeKey(message.nodeId1), nodeKey(message.nodeId2)];
  return { announcement, scid: message.shortChannelId, nodes, held: [] };
}

export class WaitingRoom {
  readonly #context: RouterContext;
  readonly #byScid = new Map<bigint, Pending>();
  readonly #byNode = new Map<string, Pending>();
  /** Waiting for our chain-monitor to catch up with the peer's. */
  readonly #early = new Set<Pending>();
  #heldBytes = 0;

  constructor(context: RouterContext) {
    this.#context = context;
  }

  /** From now on messages about its channel and nodes wait for this announcement. */
  enter(pending: Pending): void {
    this.#byScid.set(pending.scid, pending);
    for (const node of pending.nodes) this.#byNode.set(node, pending);
    this.#count(heldBytesOf(pending));
  }

  /** The opposite of `enter`; `held` is the caller's now. */
  leave(pending: Pending): void {
    if (this.#byScid.get(pending.scid) === pending) this.#byScid.delete(pending.scid);
    for (const node of pending.nodes) {
      if (this.#byNode.get(node) === pending) this.#byNode.delete(node);
    }
    this.#count(-heldBytesOf(pending));
  }

  /** Keeps a message for the announcement of this channel; false if none waits, or too much waits already. */
  holdForChannel(scid: bigint, item: Queued): boolean {
    return this.#hold(this.#byScid.get(scid), item);
  }

  /** Keeps a message for an announcement that names this node. */
  holdForNode(key: string, item: Queued): boolean {
    return this.#hold(this.#byNode.get(key), item);
  }

  /**
   * Keeps an announcement of the newest blocks: peers send it once, at the
   * sixth confirmation, and their view of the chain may be ahead of ours.
   */
  keepEarly(pending: Pending): boolean {
    const best = this.#context.state.bestHeight ?? 0;
    const { blockHeight } = shortChannelId.parts(pending.scid);
    if (blockHeight > best + EARLY_BLOCKS_AHEAD || blockHeight < best - EARLY_BLOCKS_BEHIND) return false;
    // One is kept for an id; whoever else announces it tells us the same, or something false.
    if (this.#byScid.has(pending.scid)) return false;
    if (this.#early.size >= MAX_EARLY) {
      this.#context.metrics.dropped.inc({ what: 'early_announcement' });
      return false;
    }
    this.#early.add(pending);
    this.enter(pending);
    return true;
  }

  /** Takes out all that came too early, to be tried again. */
  takeEarly(): Pending[] {
    const early = [...this.#early];
    this.#early.clear();
    for (const pending of early) this.leave(pending);
    return early;
  }

  #hold(pending: Pending | undefined, item: Queued): boolean {
    if (pending === undefined) return false;
    if (pending.held.length >= MAX_HELD || this.#heldBytes + costOf(item.raw) > MAX_HELD_BYTES) {
      this.#context.metrics.dropped.inc({ what: 'held_gossip' });
      return false;
    }
    pending.held.push(item);
    this.#count(costOf(item.raw));
    return true;
  }

  #count(bytes: number): void {
    this.#heldBytes += bytes;
    this.#context.metrics.heldBytes.set(this.#heldBytes);
  }
}

function heldBytesOf(pending: Pending): number {
  return pending.held.reduce((sum, { raw }) => sum + costOf(raw), 0);
}
