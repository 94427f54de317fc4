/**
 * The rules by which gossip changes the graph (BOLT 7). Each message passes
 * two gates: `precheck…`, cheap and against the graph's present state, before
 * signatures are verified or the chain is asked; and `apply…`, which asks the
 * same again (other messages arrived meanwhile) and then writes. Time and
 * height are arguments.
 */
import type { Result } from '@fulmen/codec';
import { FeatureBits, compareBytes, equalBytes, ok } from '@fulmen/codec';
import { channelUpdateChecksum, parseAddresses, shortChannelId } from '@fulmen/wire';
import type { NetworkGraph } from './graph.ts';
import { EDGE_DISABLED, EDGE_KNOWN, EDGE_UNUSABLE } from './graph.ts';
import type { ChannelAnnouncement, ChannelUpdate, NodeAnnouncement } from './messages.ts';
import { CHANNEL_FLAG_DIRECTION, CHANNEL_FLAG_DISABLE, MESSAGE_FLAG_DONT_FORWARD } from './messages.ts';
import type { Rejection } from './rejection.ts';
import { ignored, punished } from './rejection.ts';

/** BOLT 7: "older than two weeks (1209600 seconds): MAY prune the channel." */
export const STALE_AFTER_SECONDS = 1_209_600;
/** Clocks differ; a day ahead is a clock, more would hold its place against every later update. */
export const MAX_FUTURE_SECONDS = 86_400;
/** BOLT 7: "SHOULD forget a channel after a 72-block delay", so that a splice's announcement may arrive. */
export const SPENT_FORGET_DEPTH = 72;
/** BOLT 7: "at least 6 confirmations". */
export const MIN_CONFIRMATIONS = 6;

const SIGNED_PART_AFTER_TIMESTAMP = 2 + 64 + 32 + 8 + 4;
const SIGNATURE_END = 2 + 64;
const AMOUNT_CLAMP = 2 ** 53;
const AMOUNT_CLAMP_MSAT = 1n << 53n;

/** A message that changed the graph. */
export interface Applied {
  /** False: use it, but do not pass it on. */
  readonly relay: boolean;
}

/** What the chain said of the funding output. */
export interface VerifiedFunding {
  readonly capacitySat: bigint;
}

function sameContentAfterTimestamp(a: Uint8Array, b: Uint8Array): boolean {
  return (
    equalBytes(
      a.subarray(SIGNATURE_END, SIGNATURE_END + 40),
      b.subarray(SIGNATURE_END, SIGNATURE_END + 40),
    ) && equalBytes(a.subarray(SIGNED_PART_AFTER_TIMESTAMP), b.subarray(SIGNED_PART_AFTER_TIMESTAMP))
  );
}

/**
 * Is this announcement worth its four signature checks and a chain lookup?
 *
 * @param currentHeight height of our best block.
 */
export function precheckChannelAnnouncement(
  graph: NetworkGraph,
  message: ChannelAnnouncement,
  currentHeight: number,
): Result<void, Rejection> {
  // BOLT 7: "if the specified `chain_hash` is unknown to the receiver: MUST ignore the message."
  if (!equalBytes(message.chainHash, graph.chainHash)) return ignored('unknown_chain');
  if (compareBytes(message.nodeId1, message.nodeId2) >= 0) return punished('node_ids_out_of_order', 'warn');
  // BOLT 7: "does NOT have at least 6 confirmations: MAY accept the message if the output is close to 6
  // confirmations, in case the receiving node hasn't received the latest block(s) yet": one block of grace.
  if (currentHeight - shortChannelId.parts(message.shortChannelId).blockHeight + 1 < MIN_CONFIRMATIONS - 1)
    return ignored('not_deep_enough');
  if (graph.isBlacklisted(message.nodeId1) || graph.isBlacklisted(message.nodeId2))
    return ignored('blacklisted_node');
  const channel = graph.channelIndex(message.shortChannelId);
  if (channel !== undefined) {
    return connects(graph, channel, message) ? ignored('duplicate') : ok(undefined);
  }
  return graph.isFull ? ignored('graph_full') : ok(undefined);
}

function connects(graph: NetworkGraph, channel: number, message: ChannelAnnouncement): boolean {
  return (
    graph.nodeIndex(message.nodeId1) === graph.edgeSource[2 * channel] &&
    graph.nodeIndex(message.nodeId2) === graph.edgeSource[2 * channel + 1]
  );
}

/**
 * Adds a channel whose signatures (`checkChannelAnnouncement`) and funding
 * output (`utxoLookupOf`) have been verified.
 *
 * @param nowSeconds our clock, kept to forget a channel that never gets its updates.
 */
export function applyChannelAnnouncement(
  graph: NetworkGraph,
  message: ChannelAnnouncement,
  raw: Uint8Array,
  funding: VerifiedFunding,
  nowSeconds: number,
): Result<Applied, Rejection> {
  if (!equalBytes(message.chainHash, graph.chainHash)) return ignored('unknown_chain');
  if (compareBytes(message.nodeId1, message.nodeId2) >= 0) return punished('node_ids_out_of_order', 'warn');
  if (graph.isBlacklisted(message.nodeId1) || graph.isBlacklisted(message.nodeId2))
    return ignored('blacklisted_node');
  const existing = graph.channelIndex(message.shortChannelId);
  if (existing !== undefined) {
    if (connects(graph, existing, message)) return ignored('duplicate');
    // BOLT 7: "for the same transaction, in the same block, but for a different `node_id_1` or `node_id_2`: SHOULD
    // blacklist the previous message's […] as well as this `node_id_1` and `node_id_2` AND forget any channels".
    // Both messages carry all four signatures, so only nodes whose keys leaked can be hit.
    for (const nodeId of [...graph.ends(existing), message.nodeId1, message.nodeId2]) graph.blacklist(nodeId);
    return ignored('conflicting_announcement');
  }
  if (graph.isFull) return ignored('graph_full');
  const channel = graph.addChannel(message.shortChannelId, message.nodeId1, message.nodeId2);
  graph.channelCapacitySat[channel] = Number(funding.capacitySat);
  graph.channelReceivedAt[channel] = nowSeconds;
  graph.channelAvoided[channel] = asksForUnknown(message.features) ? 1 : 0;
  graph.setRaw(graph.channelAnnouncementRaw, channel, raw);
  return ok({ relay: true });
}

/** Who must have signed this update: undefined if its channel is unknown. */
export function updateSigner(graph: NetworkGraph, message: ChannelUpdate): Uint8Array | undefined {
  const channel = graph.channelIndex(message.shortChannelId);
  if (channel === undefined) return undefined;
  return graph.nodeId(graph.edgeSource[2 * channel + (message.channelFlags & CHANNEL_FLAG_DIRECTION)] ?? 0);
}

/**
 * Is this update news, and for a channel we know? Returns the node id that
 * must have signed it, for `checkChannelUpdate`.
 */
export function precheckChannelUpdate(
  graph: NetworkGraph,
  message: ChannelUpdate,
  raw: Uint8Array,
  nowSeconds: number,
): Result<Uint8Array, Rejection> {
  // BOLT 7: "if the specified `chain_hash` value is unknown […]: MUST ignore the channel update."
  if (!equalBytes(message.chainHash, graph.chainHash)) return ignored('unknown_chain');
  if (message.messageFlags & MESSAGE_FLAG_DONT_FORWARD) return ignored('private_update');
  const channel = graph.channelIndex(message.shortChannelId);
  // BOLT 7: "does NOT match a previous `channel_announcement`: MUST ignore `channel_update`s that do NOT
  // correspond to one of its own channels."
  if (channel === undefined) return ignored('unknown_channel');
  // BOLT 7: "if the channel output has been spent: MUST ignore `channel_update`s, unless they have the `disable` bit"
  if ((graph.channelSpentHeight[channel] ?? 0) !== 0 && !(message.channelFlags & CHANNEL_FLAG_DISABLE)) {
    return ignored('channel_spent');
  }
  const edge = 2 * channel + (message.channelFlags & CHANNEL_FLAG_DIRECTION);
  const previous = graph.edgeUpdateRaw[edge];
  if (previous !== undefined) {
    const last = graph.edgeTimestamp[edge] ?? 0;
    if (message.timestamp === last) {
      // "MAY blacklist this `node_id`": not done, for the bearer may have delayed an honest second update.
      return ignored(
        sameContentAfterTimestamp(raw, previous) ? 'duplicate' : 'same_timestamp_different_content',
      );
    }
    if (message.timestamp < last) return ignored('stale');
  }
  // BOLT 7: "if the `timestamp` is unreasonably far in the future: MAY discard the `channel_update`."
  if (message.timestamp > nowSeconds + MAX_FUTURE_SECONDS) return ignored('too_far_in_the_future');
  if (message.timestamp === 0 || message.timestamp < nowSeconds - STALE_AFTER_SECONDS)
    return ignored('too_old');
  if (!graph.hasRoomFor(raw, previous)) return ignored('graph_full');
  return ok(graph.nodeId(graph.edgeSource[edge] ?? 0));
}

/** Takes over an update whose signature has been verified. */
export function applyChannelUpdate(
  graph: NetworkGraph,
  message: ChannelUpdate,
  raw: Uint8Array,
  nowSeconds: number,
): Result<Applied, Rejection> {
  const checked = precheckChannelUpdate(graph, message, raw, nowSeconds);
  if (!checked.ok) return checked;
  const channel = graph.channelIndex(message.shortChannelId) ?? 0;
  writeUpdate(graph, 2 * channel + (message.channelFlags & CHANNEL_FLAG_DIRECTION), message, raw);
  return ok({ relay: true });
}

/** Writes an update's terms into a directed edge, past all rules: for `applyChannelUpdate` and snapshots. */
export function writeUpdate(
  graph: NetworkGraph,
  edge: number,
  message: ChannelUpdate,
  raw: Uint8Array,
): void {
  const capacityMsat = (graph.channelCapacitySat[edge >> 1] ?? 0) * 1000;
  const minimumMsat = clampAmount(message.htlcMinimumMsat);
  const maximumMsat = clampAmount(message.htlcMaximumMsat);
  // BOLT 7: "if `htlc_maximum_msat` < `htlc_minimum_msat`" or "is greater than channel capacity: […] SHOULD ignore
  // this channel during route considerations."
  const unusable = maximumMsat < minimumMsat || (capacityMsat > 0 && maximumMsat > capacityMsat);
  graph.edgeFlags[edge] =
    EDGE_KNOWN |
    (message.channelFlags & CHANNEL_FLAG_DISABLE ? EDGE_DISABLED : 0) |
    (unusable ? EDGE_UNUSABLE : 0);
  graph.edgeTimestamp[edge] = message.timestamp;
  graph.edgeCltvExpiryDelta[edge] = message.cltvExpiryDelta;
  graph.edgeFeeBaseMsat[edge] = message.feeBaseMsat;
  graph.edgeFeeProportionalMillionths[edge] = message.feeProportionalMillionths;
  graph.edgeHtlcMinimumMsat[edge] = minimumMsat;
  graph.edgeHtlcMaximumMsat[edge] = maximumMsat;
  graph.edgeChecksum[edge] = channelUpdateChecksum(raw);
  graph.setRaw(graph.edgeUpdateRaw, edge, raw);
}

/** BOLT 7: an unknown even bit: "MUST NOT attempt to route messages through the channel", or the node. */
export function asksForUnknown(features: Uint8Array): boolean {
  return FeatureBits.decode(features).unknownRequiredBits().length > 0;
}

function clampAmount(amountMsat: bigint): number {
  return amountMsat > AMOUNT_CLAMP_MSAT ? AMOUNT_CLAMP : Number(amountMsat);
}

/** Is this announcement news of a node that has channels? */
export function precheckNodeAnnouncement(
  graph: NetworkGraph,
  message: NodeAnnouncement,
  raw: Uint8Array,
  nowSeconds: number,
): Result<void, Rejection> {
  const node = graph.nodeIndex(message.nodeId);
  // BOLT 7: "if `node_id` is NOT previously known from a `channel_announcement` message, OR if `timestamp` is NOT
  // greater than the last-received `node_announcement` from this `node_id`: SHOULD ignore the message."
  if (node === undefined) return ignored('unknown_node');
  const previous = graph.nodeAnnouncementRaw[node];
  if (previous !== undefined) {
    const last = graph.nodeTimestamp[node] ?? 0;
    if (message.timestamp === last) {
      const same = equalBytes(raw.subarray(SIGNATURE_END), previous.subarray(SIGNATURE_END));
      return ignored(same ? 'duplicate' : 'same_timestamp_different_content');
    }
    if (message.timestamp < last) return ignored('stale');
  }
  if (message.timestamp > nowSeconds + MAX_FUTURE_SECONDS) return ignored('too_far_in_the_future');
  if (!graph.hasRoomFor(raw, previous)) return ignored('graph_full');
  const addresses = parseAddresses(message.addresses);
  // BOLT 7: "if `addrlen` is insufficient to hold the address descriptors of the known types: SHOULD send a `warning`."
  if (!addresses.ok) return punished('malformed_addresses', 'warn');
  return ok(undefined);
}

/** Takes over a node's announcement whose signature has been verified. */
export function applyNodeAnnouncement(
  graph: NetworkGraph,
  message: NodeAnnouncement,
  raw: Uint8Array,
  nowSeconds: number,
): Result<Applied, Rejection> {
  const checked = precheckNodeAnnouncement(graph, message, raw, nowSeconds);
  if (!checked.ok) return checked;
  const node = graph.nodeIndex(message.nodeId) ?? 0;
  writeNode(graph, node, message, raw);
  return ok({ relay: graph.nodeUnrelayed[node] === 0 });
}

/** Writes what a node says of itself, past all rules: for `applyNodeAnnouncement` and snapshots. */
export function writeNode(
  graph: NetworkGraph,
  node: number,
  message: NodeAnnouncement,
  raw: Uint8Array,
): void {
  graph.nodeTimestamp[node] = message.timestamp;
  graph.nodeAvoided[node] = asksForUnknown(message.features) ? 1 : 0;
  // BOLT 7: "if more than one `type 5` address is announced: SHOULD ignore the additional data. MUST not forward"
  const addresses = parseAddresses(message.addresses);
  graph.nodeUnrelayed[node] = addresses.ok && addresses.value.mayForward ? 0 : 1;
  graph.setRaw(graph.nodeAnnouncementRaw, node, raw);
}

/** The funding output was spent (or its block reorganised away) at this height; a later call does not move it. */
export function markSpent(graph: NetworkGraph, scid: bigint, height: number): void {
  const channel = graph.channelIndex(scid);
  if (channel !== undefined && graph.channelSpentHeight[channel] === 0)
    graph.channelSpentHeight[channel] = height;
}

/** A reorganisation took the spend back. */
export function markUnspent(graph: NetworkGraph, scid: bigint): void {
  const channel = graph.channelIndex(scid);
  if (channel !== undefined) graph.channelSpentHeight[channel] = 0;
}

/** A channel, and the nodes at its ends: when it is forgotten they may have no other. */
export interface ChannelEnds {
  readonly shortChannelId: bigint;
  readonly nodeIds: readonly Uint8Array[];
}

function endsOf(graph: NetworkGraph, channel: number): ChannelEnds {
  return { shortChannelId: graph.channelScid[channel] ?? 0n, nodeIds: graph.ends(channel) };
}

/** The channels of a node; none of one that is not known. */
export function channelsOf(graph: NetworkGraph, nodeId: Uint8Array): ChannelEnds[] {
  const node = graph.nodeIndex(nodeId);
  return node === undefined ? [] : [...graph.edgesFrom(node)].map((edge) => endsOf(graph, edge >> 1));
}

/** Forgets channels whose spend is 72 blocks deep at this height; returns them. */
export function forgetSpent(graph: NetworkGraph, currentHeight: number): ChannelEnds[] {
  return removeWhere(graph, (channel) => {
    const spentHeight = graph.channelSpentHeight[channel] ?? 0;
    return spentHeight !== 0 && currentHeight - spentHeight + 1 >= SPENT_FORGET_DEPTH;
  });
}

/**
 * Forgets channels of which *either* direction has been silent for two weeks;
 * returns them. A direction that never spoke counts from the day we learnt of
 * the channel.
 */
export function pruneStale(graph: NetworkGraph, nowSeconds: number): ChannelEnds[] {
  const oldest = nowSeconds - STALE_AFTER_SECONDS;
  return removeWhere(graph, (channel) => {
    const receivedAt = graph.channelReceivedAt[channel] ?? 0;
    return [2 * channel, 2 * channel + 1].some(
      (edge) =>
        ((graph.edgeFlags[edge] ?? 0) & EDGE_KNOWN ? (graph.edgeTimestamp[edge] ?? 0) : receivedAt) < oldest,
    );
  });
}

function removeWhere(graph: NetworkGraph, condemned: (channel: number) => boolean): ChannelEnds[] {
  const channels = [...graph.channels()].filter(condemned);
  const forgotten = channels.map((channel) => endsOf(graph, channel));
  for (const channel of channels) graph.removeChannel(channel);
  return forgotten;
}
