/**
 * Answers to peers who ask for gossip (BOLT 7, "Query Messages"). Everything
 * is a batch or a generator with a cursor, so that a slow peer never makes us
 * hold its answer.
 */
import type { ChannelTimestamps, MessageOf } from '@fulmen/wire';
import { QUERY_FLAG, QUERY_OPTION, encodeShortIds, encodeTimestamps, make } from '@fulmen/wire';
import type { NetworkGraph } from './graph.ts';
import { equalBytes } from '@fulmen/codec';
import { EDGE_KNOWN } from './graph.ts';

/** A Lightning message's body holds at most 65,533 bytes; this leaves room for the reply's fixed fields and TLV heads. */
const REPLY_BYTES = 65_400;
const SCID_BYTES = 8;

/** The checksums of a channel's two updates; 0 where there is none. */
export interface ChannelChecksums {
  readonly checksumNodeId1: number;
  readonly checksumNodeId2: number;
}

const PAIR_BYTES = 8;
const EVERYTHING = Object.values(QUERY_FLAG).reduce((flags, flag) => flags | flag, 0n);

function blockHeightOf(shortChannelId: bigint): number {
  return Number(shortChannelId >> 40n);
}

/** Index of the first scid that is not below `shortChannelId`. */
function lowerBound(sorted: BigUint64Array, shortChannelId: bigint): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] ?? 0n) < shortChannelId) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** True for a channel worth telling others of: unspent, and with at least one update. */
function isListed(graph: NetworkGraph, channel: number): boolean {
  // BOLT 7: "If a `channel_announcement` has no corresponding `channel_update`s: MUST NOT send the
  // `channel_announcement`. If the funding output […] has been spent: SHOULD NOT send the `channel_announcement`."
  return (
    graph.channelSpentHeight[channel] === 0 &&
    (((graph.edgeFlags[2 * channel] ?? 0) | (graph.edgeFlags[2 * channel + 1] ?? 0)) & EDGE_KNOWN) !== 0
  );
}

/** The listed channels from `firstScid` on and below block `endBlock`, ascending, at most `limit`. */
export function channelRange(
  graph: NetworkGraph,
  firstScid: bigint,
  endBlock: number,
  limit: number,
): bigint[] {
  const sorted = graph.sortedScids();
  const found: bigint[] = [];
  for (let i = lowerBound(sorted, firstScid); i < sorted.length && found.length < limit; i++) {
    const shortChannelId = sorted[i] ?? 0n;
    if (blockHeightOf(shortChannelId) >= endBlock) break;
    if (isListed(graph, graph.channelIndex(shortChannelId) ?? -1)) found.push(shortChannelId);
  }
  return found;
}

/** Timestamps of both directions' updates, 0 where there is none. */
export function timestampsOf(graph: NetworkGraph, shortChannelId: bigint): ChannelTimestamps {
  const channel = graph.channelIndex(shortChannelId) ?? -1;
  return {
    timestampNodeId1: graph.edgeTimestamp[2 * channel] ?? 0,
    timestampNodeId2: graph.edgeTimestamp[2 * channel + 1] ?? 0,
  };
}

/** Checksums of both directions' updates, 0 where there is none. */
export function checksumsOf(graph: NetworkGraph, shortChannelId: bigint): ChannelChecksums {
  const channel = graph.channelIndex(shortChannelId) ?? -1;
  return {
    checksumNodeId1: graph.edgeChecksum[2 * channel] ?? 0,
    checksumNodeId2: graph.edgeChecksum[2 * channel + 1] ?? 0,
  };
}

/**
 * The replies to a query_channel_range, in order. Blocks are covered without
 * a gap; one block's channels may be split over replies. For another chain
 * there is one empty reply that covers the whole range. Between two replies
 * nothing is kept but where the next begins; channels may come and go.
 */
export function* channelRangeReplies(
  graph: NetworkGraph,
  query: MessageOf<'query_channel_range'>,
): Generator<MessageOf<'reply_channel_range'>> {
  const options = query.tlvs.queryOption ?? 0n;
  const wantTimestamps = (options & QUERY_OPTION.timestamps) !== 0n;
  const wantChecksums = (options & QUERY_OPTION.checksums) !== 0n;
  const perReply = Math.floor(
    REPLY_BYTES / (SCID_BYTES + (wantTimestamps ? PAIR_BYTES : 0) + (wantChecksums ? PAIR_BYTES : 0)),
  );
  const { firstBlocknum, numberOfBlocks } = query;
  const isOurs = equalBytes(query.chainHash, graph.chainHash);
  const end = firstBlocknum + numberOfBlocks;
  let start = firstBlocknum;
  for (let from: bigint | undefined = BigInt(firstBlocknum) << 40n; from !== undefined;) {
    const listed: bigint[] = isOurs ? channelRange(graph, from, end, perReply + 1) : [];
    const shortChannelIds = listed.slice(0, perReply);
    const next = listed[perReply];
    const last = shortChannelIds.at(-1);
    const stop = next === undefined || last === undefined ? end : blockHeightOf(last) + 1;
    yield make('reply_channel_range', {
      chainHash: query.chainHash,
      firstBlocknum: start,
      numberOfBlocks: stop - start,
      syncComplete: next === undefined ? 1 : 0,
      encodedShortIds: encodeShortIds(shortChannelIds),
      tlvs: {
        ...(wantTimestamps
          ? { timestamps: encodeTimestamps(shortChannelIds.map((scid) => timestampsOf(graph, scid))) }
          : {}),
        ...(wantChecksums ? { checksums: shortChannelIds.map((scid) => checksumsOf(graph, scid)) } : {}),
      },
    });
    if (next !== undefined) start = Math.min(stop, blockHeightOf(next));
    from = next;
  }
}

/**
 * The raw messages that answer a query_short_channel_ids, in the order in
 * which a peer can use them; a node's announcement comes once.
 *
 * @param queryFlags one for each scid, or undefined for everything.
 */
export function* messagesForScids(
  graph: NetworkGraph,
  shortChannelIds: readonly bigint[] | BigUint64Array,
  queryFlags: readonly bigint[] | BigUint64Array | undefined,
): Generator<Uint8Array> {
  // A bit for each node; one that is new since then may come twice.
  const sentNodes = new Uint8Array((graph.nodeEnd >> 3) + 1);
  for (const [position, shortChannelId] of shortChannelIds.entries()) {
    const channel = graph.channelIndex(shortChannelId);
    if (channel === undefined) continue;
    const flags = queryFlags === undefined ? EVERYTHING : (queryFlags[position] ?? 0n);
    if (flags & QUERY_FLAG.channelAnnouncement) yield* present(graph.channelAnnouncementRaw[channel]);
    if (flags & QUERY_FLAG.channelUpdate1) yield* present(graph.edgeUpdateRaw[2 * channel]);
    if (flags & QUERY_FLAG.channelUpdate2) yield* present(graph.edgeUpdateRaw[2 * channel + 1]);
    for (const side of [0, 1]) {
      const node = graph.edgeSource[2 * channel + side] ?? -1;
      if (
        !(flags & (side === 0 ? QUERY_FLAG.nodeAnnouncement1 : QUERY_FLAG.nodeAnnouncement2)) ||
        ((sentNodes[node >> 3] ?? 0) & (1 << (node & 7))) !== 0
      )
        continue;
      sentNodes[node >> 3] = (sentNodes[node >> 3] ?? 0) | (1 << (node & 7));
      yield* relayableNode(graph, node);
    }
  }
}

function* present(raw: Uint8Array | undefined): Generator<Uint8Array> {
  if (raw !== undefined) yield raw;
}

function* relayableNode(graph: NetworkGraph, node: number): Generator<Uint8Array> {
  const raw = graph.nodeAnnouncementRaw[node];
  if (raw !== undefined && graph.nodeUnrelayed[node] === 0) yield raw;
}

/** A peer's gossip_timestamp_filter. */
export interface TimestampFilter {
  readonly firstTimestamp: number;
  readonly timestampRange: number;
}

/** True if a message of this timestamp passes the filter. */
export function passesFilter(filter: TimestampFilter, timestamp: number): boolean {
  // BOLT 7: "greater or equal to `first_timestamp`, and less than `first_timestamp` plus `timestamp_range`"
  return timestamp >= filter.firstTimestamp && timestamp < filter.firstTimestamp + filter.timestampRange;
}

/** Where a peer's backlog has got to. It survives changes of the graph between batches. */
export type BacklogCursor =
  | { readonly phase: 'channels'; readonly nextScid: bigint }
  | { readonly phase: 'nodes'; readonly nextNode: number };

/** The start of a backlog. */
export const BACKLOG_START: BacklogCursor = { phase: 'channels', nextScid: 0n };

/** Entries examined for one batch, so that a filter that selects nothing does not scan the graph in one go. */
const BACKLOG_SCAN = 4_096;

/**
 * The next stored messages that pass a filter: announcements before their
 * updates, all channels before the nodes.
 *
 * @param maxMessages about how many to return; a channel is not split, so two more are possible.
 * @returns the messages, and the cursor for the rest or undefined at the end.
 */
export function backlogBatch(
  graph: NetworkGraph,
  filter: TimestampFilter,
  cursor: BacklogCursor,
  maxMessages: number,
): { readonly messages: Uint8Array[]; readonly next: BacklogCursor | undefined } {
  const messages: Uint8Array[] = [];
  let budget = BACKLOG_SCAN;
  let nextNode = 0;
  if (cursor.phase === 'channels') {
    const sorted = graph.sortedScids();
    let i = lowerBound(sorted, cursor.nextScid);
    for (; i < sorted.length && messages.length < maxMessages && budget > 0; i++, budget--) {
      messages.push(...channelMessages(graph, graph.channelIndex(sorted[i] ?? 0n) ?? -1, filter));
    }
    if (i < sorted.length) return { messages, next: { phase: 'channels', nextScid: sorted[i] ?? 0n } };
  } else {
    nextNode = cursor.nextNode;
  }
  for (; nextNode < graph.nodeEnd && messages.length < maxMessages && budget > 0; nextNode++, budget--) {
    if (passesFilter(filter, graph.nodeTimestamp[nextNode] ?? 0))
      messages.push(...relayableNode(graph, nextNode));
  }
  return { messages, next: nextNode < graph.nodeEnd ? { phase: 'nodes', nextNode } : undefined };
}

function channelMessages(graph: NetworkGraph, channel: number, filter: TimestampFilter): Uint8Array[] {
  if (channel < 0 || !isListed(graph, channel)) return [];
  const updates = [2 * channel, 2 * channel + 1]
    .filter((edge) => passesFilter(filter, graph.edgeTimestamp[edge] ?? 0))
    .flatMap((edge) => graph.edgeUpdateRaw[edge] ?? []);
  // BOLT 7: "MUST consider the `timestamp` of the `channel_announcement` to be the `timestamp` of a corresponding
  // `channel_update`."
  return updates.length === 0 ? [] : [graph.channelAnnouncementRaw[channel] ?? [], ...updates].flat();
}
