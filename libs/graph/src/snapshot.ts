/**
 * The graph as bytes, for readers that start from a snapshot and then follow
 * accepted messages. It holds the raw signed messages and the facts that only
 * the writer knew (capacity, when learnt, where spent); fields are decoded
 * again on loading, so the layout does not change when the graph's does.
 *
 * Layout, big-endian: magic `FGS1`, chain hash (32), then records
 * `kind(1) …`; kind 1 (channel): capacity u64, received u32, spent height u32,
 * announcement, update 1, update 2; kind 2 (node): announcement; kind 0: end.
 * A message is a u32 length and its bytes; length 0 means none.
 */
import type { Result } from '@fulmen/codec';
import { equalBytes, err, ok } from '@fulmen/codec';
import type { Message } from '@fulmen/wire';
import { decodeMessage } from '@fulmen/wire';
import { asksForUnknown, writeNode, writeUpdate } from './apply.ts';
import type { GraphLimits } from './graph.ts';
import { DEFAULT_GRAPH_LIMITS, NetworkGraph } from './graph.ts';
import type { ChannelUpdate } from './messages.ts';
import { CHANNEL_FLAG_DIRECTION, MAX_GOSSIP_BYTES } from './messages.ts';

const MAGIC = Uint8Array.of(0x46, 0x47, 0x53, 0x31);
const HEADER_LENGTH = MAGIC.length + 32;
const KIND_END = 0;
const KIND_CHANNEL = 1;
const KIND_NODE = 2;
const CHANNEL_FIELDS_LENGTH = 1 + 8 + 4 + 4;

/** Why a snapshot cannot be loaded. */
export type SnapshotError =
  | 'not_a_snapshot'
  | 'wrong_chain'
  | 'truncated'
  | 'invalid_message'
  | 'inconsistent'
  | 'too_large';

/** One channel as it is stored: in snapshots and in the writer's database. */
export interface StoredChannel {
  readonly capacitySat: bigint;
  readonly receivedAtSeconds: number;
  /** 0 while unspent. */
  readonly spentHeight: number;
  readonly announcement: Uint8Array;
  readonly updates: readonly [Uint8Array | undefined, Uint8Array | undefined];
}

function decoded<N extends Message['type']>(
  type: N,
  raw: Uint8Array,
): Extract<Message, { type: N }> | undefined {
  const message = raw.length > MAX_GOSSIP_BYTES ? undefined : decodeMessage(raw);
  // The name selects the member of the union.
  return message?.ok === true && message.value.type === type
    ? (message.value as Extract<Message, { type: N }>)
    : undefined;
}

/**
 * Puts back a channel that this fleet once accepted; signatures and the chain
 * are not asked again. False if its messages do not fit together.
 */
export function restoreChannel(graph: NetworkGraph, stored: StoredChannel): boolean {
  const message = decoded('channel_announcement', stored.announcement);
  if (message === undefined || graph.isFull || graph.channelIndex(message.shortChannelId) !== undefined)
    return false;
  const updates: (ChannelUpdate | undefined)[] = [];
  for (const [direction, raw] of stored.updates.entries()) {
    const update = raw === undefined ? undefined : decoded('channel_update', raw);
    if (raw !== undefined && update === undefined) return false;
    if (update !== undefined && update.shortChannelId !== message.shortChannelId) return false;
    if (update !== undefined && (update.channelFlags & CHANNEL_FLAG_DIRECTION) !== direction) return false;
    updates.push(update);
  }
  const channel = graph.addChannel(message.shortChannelId, message.nodeId1, message.nodeId2);
  graph.channelCapacitySat[channel] = Number(stored.capacitySat);
  graph.channelReceivedAt[channel] = stored.receivedAtSeconds;
  graph.channelSpentHeight[channel] = stored.spentHeight;
  graph.channelAvoided[channel] = asksForUnknown(message.features) ? 1 : 0;
  graph.setRaw(graph.channelAnnouncementRaw, channel, stored.announcement);
  for (const [direction, update] of updates.entries()) {
    const raw = stored.updates[direction];
    if (update !== undefined && raw !== undefined) writeUpdate(graph, 2 * channel + direction, update, raw);
  }
  return true;
}

/** Puts back a node_announcement once accepted; false if its node has no channel, or the graph no room. */
export function restoreNode(graph: NetworkGraph, raw: Uint8Array): boolean {
  const message = decoded('node_announcement', raw);
  const node = message === undefined ? undefined : graph.nodeIndex(message.nodeId);
  if (message === undefined || node === undefined) return false;
  if (!graph.hasRoomFor(raw, graph.nodeAnnouncementRaw[node])) return false;
  writeNode(graph, node, message, raw);
  return true;
}

/** The stored form of a channel, for the writer's database. */
export function storedChannel(graph: NetworkGraph, channel: number): StoredChannel {
  return {
    capacitySat: BigInt(graph.channelCapacitySat[channel] ?? 0),
    receivedAtSeconds: graph.channelReceivedAt[channel] ?? 0,
    spentHeight: graph.channelSpentHeight[channel] ?? 0,
    announcement: graph.channelAnnouncementRaw[channel] ?? new Uint8Array(0),
    updates: [graph.edgeUpdateRaw[2 * channel], graph.edgeUpdateRaw[2 * channel + 1]],
  };
}

/** The whole graph as bytes (about 40 MB for today's network). */
export function encodeSnapshot(graph: NetworkGraph): Uint8Array {
  const channels = [...graph.channels()];
  const nodes = [...graph.nodes()].flatMap((node) => graph.nodeAnnouncementRaw[node] ?? []);
  let length = HEADER_LENGTH + 1;
  for (const channel of channels) {
    length += CHANNEL_FIELDS_LENGTH + 12 + (graph.channelAnnouncementRaw[channel]?.length ?? 0);
    length +=
      (graph.edgeUpdateRaw[2 * channel]?.length ?? 0) + (graph.edgeUpdateRaw[2 * channel + 1]?.length ?? 0);
  }
  for (const raw of nodes) length += 1 + 4 + raw.length;

  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC, 0);
  bytes.set(graph.chainHash, MAGIC.length);
  let offset = HEADER_LENGTH;
  const putMessage = (raw: Uint8Array | undefined): void => {
    view.setUint32(offset, raw?.length ?? 0);
    if (raw !== undefined) bytes.set(raw, offset + 4);
    offset += 4 + (raw?.length ?? 0);
  };
  for (const channel of channels) {
    const stored = storedChannel(graph, channel);
    view.setUint8(offset, KIND_CHANNEL);
    view.setBigUint64(offset + 1, stored.capacitySat);
    view.setUint32(offset + 9, stored.receivedAtSeconds);
    view.setUint32(offset + 13, stored.spentHeight);
    offset += CHANNEL_FIELDS_LENGTH;
    for (const raw of [stored.announcement, ...stored.updates]) putMessage(raw);
  }
  for (const raw of nodes) {
    view.setUint8(offset, KIND_NODE);
    offset += 1;
    putMessage(raw);
  }
  view.setUint8(offset, KIND_END);
  return bytes;
}

/** Reads a snapshot for `chainHash`; never throws, allocates nothing beyond what the bytes hold. */
export function decodeSnapshot(
  bytes: Uint8Array,
  chainHash: Uint8Array,
  limits: GraphLimits = DEFAULT_GRAPH_LIMITS,
): Result<NetworkGraph, SnapshotError> {
  if (bytes.length < HEADER_LENGTH || !equalBytes(bytes.subarray(0, MAGIC.length), MAGIC))
    return err('not_a_snapshot');
  if (!equalBytes(bytes.subarray(MAGIC.length, HEADER_LENGTH), chainHash)) return err('wrong_chain');
  const graph = new NetworkGraph(chainHash, limits);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let offset = HEADER_LENGTH;
  /** The next message; null where the bytes end, undefined where none is stored. */
  const takeMessage = (): Uint8Array | undefined | null => {
    if (offset + 4 > bytes.length) return null;
    const length = view.getUint32(offset);
    if (length > MAX_GOSSIP_BYTES || offset + 4 + length > bytes.length) return null;
    offset += 4 + length;
    return length === 0 ? undefined : bytes.slice(offset - length, offset);
  };
  while (offset < bytes.length) {
    const kind = view.getUint8(offset);
    if (kind === KIND_END) return offset + 1 === bytes.length ? ok(graph) : err('inconsistent');
    if (kind === KIND_NODE) {
      offset += 1;
      const raw = takeMessage();
      if (raw === null) return err('truncated');
      if (raw === undefined || !restoreNode(graph, raw)) return err('invalid_message');
    } else if (kind === KIND_CHANNEL) {
      if (offset + CHANNEL_FIELDS_LENGTH > bytes.length) return err('truncated');
      const at = offset;
      offset += CHANNEL_FIELDS_LENGTH;
      const announcement = takeMessage();
      const update1 = takeMessage();
      const update2 = takeMessage();
      if (announcement === null || update1 === null || update2 === null) return err('truncated');
      if (announcement === undefined) return err('invalid_message');
      if (graph.isFull) return err('too_large');
      const restored = restoreChannel(graph, {
        capacitySat: view.getBigUint64(at + 1),
        receivedAtSeconds: view.getUint32(at + 9),
        spentHeight: view.getUint32(at + 13),
        announcement,
        updates: [update1, update2],
      });
      if (!restored) return err('invalid_message');
    } else {
      return err('inconsistent');
    }
  }
  return err('truncated');
}
