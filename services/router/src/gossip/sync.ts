/**
 * What we ask of peers (BOLT 7, "Query Messages"): a few peers, one after the
 * other, for all channel ids and then for what we lack; a few peers, by
 * gossip_timestamp_filter, for everything new. The others stay silent.
 */
import { equalBytes } from '@fulmen/codec';
import { STALE_AFTER_SECONDS } from '@fulmen/graph';
import type { ChannelTimestamps, MessageOf } from '@fulmen/wire';
import {
  QUERY_FLAG,
  QUERY_OPTION,
  decodeShortIds,
  decodeTimestamps,
  encodeMessage,
  encodeQueryFlags,
  encodeShortIds,
  make,
} from '@fulmen/wire';
import type { RouterContext } from '../ports.ts';
import { nowSeconds } from '../ports.ts';
import type { Peer } from './peer.ts';

/** Peers asked for the graph at once. */
const MAX_SYNCING = 3;
/** Peers asked for new messages: until so many bring some, for wallets have none, and at most. */
const ENOUGH_TALKATIVE = 5;
const MAX_STREAMING = 64;
/** Ids of one query_short_channel_ids. */
const QUERY_IDS = 1_000;
/** No next query while so many bytes of the peer's last answers wait. */
const MAX_UNPROCESSED_BYTES = 768 * 1024;
/** A peer that is silent for so long is not waited for. */
const PATIENCE_MS = 60_000;
/** Ids a peer may list; ten times the network. */
const MAX_LISTED = 500_000;
const MAX_REPLIES = 50_000;
/** One peer is asked again so often. */
const RESYNC_MS = 3_600_000;
/** What arrived at our peers while we connected. */
const STREAM_MARGIN_SECONDS = 600;
const ALL_BLOCKS = 0xffff_ffff;
const EVERYTHING = Object.values(QUERY_FLAG).reduce((all, flag) => all | flag, 0n);

interface Wanted {
  readonly scid: bigint;
  readonly flags: bigint;
}

interface Sync {
  phase: 'range' | 'ids';
  /** First block not yet covered by replies. */
  nextBlock: number;
  listed: number;
  replies: number;
  readonly wanted: Wanted[];
  awaitsEnd: boolean;
  lastHeardMs: number;
}

export class GossipSync {
  readonly #context: RouterContext;
  readonly #peers = new Set<Peer>();
  readonly #syncs = new Map<Peer, Sync>();
  readonly #streaming = new Set<Peer>();
  /** Those of them that ever brought a message. */
  readonly #talkative = new Set<Peer>();
  /** Peers that were asked, and when. */
  readonly #askedAtMs = new Map<Peer, number>();
  /** Peers that answered everything: with enough of them the others are left alone. */
  readonly #answered = new Set<Peer>();
  #lastSyncMs = Number.NEGATIVE_INFINITY;

  constructor(context: RouterContext) {
    this.#context = context;
  }

  peerUp(peer: Peer): void {
    this.#peers.add(peer);
    this.#assign();
  }

  peerDown(peer: Peer): void {
    this.#peers.delete(peer);
    this.#syncs.delete(peer);
    this.#streaming.delete(peer);
    this.#talkative.delete(peer);
    this.#askedAtMs.delete(peer);
    this.#answered.delete(peer);
    this.#assign();
  }

  /** Looks after silent peers, and asks one again from time to time. */
  tick(): void {
    const now = this.#context.runtime.monotonicMs();
    for (const [peer, sync] of this.#syncs) {
      if (now - sync.lastHeardMs <= PATIENCE_MS) continue;
      // What it has listed is asked for, even if it never came to the end of its list.
      if (sync.phase === 'range' && sync.wanted.length > 0) {
        sync.phase = 'ids';
        sync.lastHeardMs = now;
        this.proceed(peer);
      } else {
        this.#finish(peer);
      }
    }
    this.#assign();
    if (this.#syncs.size === 0 && now - this.#lastSyncMs > RESYNC_MS) {
      const longestAgo = [...this.#peers].sort(
        (a, b) => (this.#askedAtMs.get(a) ?? 0) - (this.#askedAtMs.get(b) ?? 0),
      )[0];
      if (longestAgo !== undefined) this.#start(longestAgo);
    }
  }

  rangeReply(peer: Peer, reply: MessageOf<'reply_channel_range'>): void {
    const sync = this.#syncs.get(peer);
    const { graph } = this.#context.state;
    if (sync?.phase !== 'range' || !equalBytes(reply.chainHash, graph.chainHash)) return;
    const scids = decodeShortIds(reply.encodedShortIds);
    const { timestamps } = reply.tlvs;
    const pairs = timestamps === undefined ? undefined : decodeTimestamps(timestamps);
    if (!scids.ok || (pairs !== undefined && !pairs.ok)) {
      peer.warn('reply_channel_range is malformed');
      this.#finish(peer);
      return;
    }
    sync.listed += scids.value.length;
    sync.replies += 1;
    if (sync.listed > MAX_LISTED || sync.replies > MAX_REPLIES) {
      peer.warn('too many short channel ids');
      this.#finish(peer);
      return;
    }
    sync.lastHeardMs = this.#context.runtime.monotonicMs();
    for (const [index, scid] of scids.value.entries()) {
      const flags = this.#missing(scid, pairs?.value[index]);
      if (flags !== 0n) sync.wanted.push({ scid, flags });
    }
    // BOLT 7: "the last `reply_channel_range`: MUST have `first_blocknum` plus `number_of_blocks` equal or greater
    // than the `query_channel_range` `first_blocknum` plus `number_of_blocks`."
    sync.nextBlock = Math.max(sync.nextBlock, reply.firstBlocknum + reply.numberOfBlocks);
    if (sync.nextBlock >= ALL_BLOCKS) {
      sync.phase = 'ids';
      this.proceed(peer);
    }
  }

  idsEnd(peer: Peer): void {
    const sync = this.#syncs.get(peer);
    if (sync === undefined) return;
    sync.awaitsEnd = false;
    sync.lastHeardMs = this.#context.runtime.monotonicMs();
    this.proceed(peer);
  }

  /** A message of the peer was worked through. */
  heard(peer: Peer): void {
    if (this.#streaming.has(peer)) this.#talkative.add(peer);
    this.proceed(peer);
  }

  /** Sends the next query if the peer answered the last and its answers are worked through. */
  proceed(peer: Peer): void {
    const sync = this.#syncs.get(peer);
    if (sync === undefined) return;
    if (peer.pendingBytes > 0) sync.lastHeardMs = this.#context.runtime.monotonicMs();
    if (sync.phase !== 'ids' || sync.awaitsEnd || peer.pendingBytes > MAX_UNPROCESSED_BYTES) return;
    const wanted = sync.wanted.splice(0, QUERY_IDS).filter(({ scid }) => !this.#isComplete(scid));
    if (wanted.length === 0) {
      if (sync.wanted.length > 0) {
        this.proceed(peer);
        return;
      }
      // An empty list is the answer of a wallet, not of the network.
      if (sync.listed > this.#context.state.graph.channelCount / 2) this.#answered.add(peer);
      this.#finish(peer);
      return;
    }
    wanted.sort((a, b) => (a.scid < b.scid ? -1 : 1));
    sync.awaitsEnd = peer.send(
      encodeMessage(
        make('query_short_channel_ids', {
          chainHash: this.#context.state.graph.chainHash,
          encodedShortIds: encodeShortIds(wanted.map(({ scid }) => scid)),
          tlvs: { queryFlags: encodeQueryFlags(wanted.map(({ flags }) => flags)) },
        }),
      ),
    );
    if (!sync.awaitsEnd) this.#finish(peer);
  }

  /** Another of several syncing peers may have brought it meanwhile. */
  #isComplete(scid: bigint): boolean {
    const { graph } = this.#context.state;
    const channel = graph.channelIndex(scid);
    const since = nowSeconds(this.#context.runtime) - STALE_AFTER_SECONDS / 2;
    return (
      channel !== undefined &&
      [2 * channel, 2 * channel + 1].every((edge) => (graph.edgeTimestamp[edge] ?? 0) > since)
    );
  }

  /** What to ask about a channel that a peer lists; 0 for nothing. */
  #missing(scid: bigint, theirs: ChannelTimestamps | undefined): bigint {
    const { graph } = this.#context.state;
    const channel = graph.channelIndex(scid);
    if (channel === undefined) {
      if (theirs === undefined) return EVERYTHING;
      // A channel that both sides left is pruned as soon as it is learnt.
      const oldest = nowSeconds(this.#context.runtime) - STALE_AFTER_SECONDS;
      return Math.max(theirs.timestampNodeId1, theirs.timestampNodeId2) < oldest ? 0n : EVERYTHING;
    }
    if (theirs === undefined) return 0n;
    return (
      (theirs.timestampNodeId1 > (graph.edgeTimestamp[2 * channel] ?? 0) ? QUERY_FLAG.channelUpdate1 : 0n) |
      (theirs.timestampNodeId2 > (graph.edgeTimestamp[2 * channel + 1] ?? 0) ? QUERY_FLAG.channelUpdate2 : 0n)
    );
  }

  #assign(): void {
    for (const peer of this.#peers) {
      if (this.#syncs.size + this.#answered.size >= MAX_SYNCING) break;
      if (!this.#askedAtMs.has(peer)) this.#start(peer);
    }
    for (const peer of this.#peers) {
      if (this.#talkative.size >= ENOUGH_TALKATIVE || this.#streaming.size >= MAX_STREAMING) break;
      if (this.#streaming.has(peer)) continue;
      // LDK answers no query_short_channel_ids: all that it has it sends on a first filter that reaches back for hours.
      const isAsked = this.#syncs.has(peer);
      const margin = isAsked ? STALE_AFTER_SECONDS : STREAM_MARGIN_SECONDS;
      const firstTimestamp = nowSeconds(this.#context.runtime) - margin;
      const { chainHash } = this.#context.state.graph;
      const filter = { chainHash, firstTimestamp, timestampRange: 0xffff_ffff };
      if (peer.send(encodeMessage(make('gossip_timestamp_filter', filter)))) this.#streaming.add(peer);
    }
    this.#context.metrics.syncing.set(this.#syncs.size);
  }

  #start(peer: Peer): void {
    const query = {
      chainHash: this.#context.state.graph.chainHash,
      firstBlocknum: 0,
      numberOfBlocks: ALL_BLOCKS,
      tlvs: { queryOption: QUERY_OPTION.timestamps },
    };
    if (!peer.send(encodeMessage(make('query_channel_range', query)))) return;
    const now = this.#context.runtime.monotonicMs();
    this.#askedAtMs.set(peer, now);
    this.#lastSyncMs = now;
    this.#syncs.set(peer, {
      phase: 'range',
      nextBlock: 0,
      listed: 0,
      replies: 0,
      wanted: [],
      awaitsEnd: false,
      lastHeardMs: now,
    });
  }

  #finish(peer: Peer): void {
    this.#syncs.delete(peer);
    this.#assign();
  }
}
