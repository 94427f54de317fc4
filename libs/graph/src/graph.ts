/**
 * The public network in typed arrays: nodes and channels have small integer
 * indexes, so that path finding touches no objects.
 *
 * A directed edge is `2 * channel + direction`; direction 0 goes from
 * node_id_1 to node_id_2. Edge `e` leaves `edgeSource[e]` and enters
 * `edgeSource[e ^ 1]`; the edges that leave a node form a linked list through
 * `nextEdge`. An index is valid until the next removal; arrays may be replaced
 * when the graph grows, so readers take them afresh for each query.
 *
 * This class only stores. The rules of BOLT 7 are in `apply.ts`, which alone
 * should write. One owner writes it; there is no state outside the instance.
 */
import { InternalError } from '@fulmen/codec';

/** Bounds on what gossip may make us hold. */
export interface GraphLimits {
  readonly maxNodes: number;
  readonly maxChannels: number;
  /** Bytes of raw messages, of channels and nodes together. */
  readonly maxRawBytes: number;
  /** Nodes remembered for having signed conflicting announcements; the oldest is forgiven first. */
  readonly maxBlacklistedNodes: number;
}

/** About ten times today's network. */
export const DEFAULT_GRAPH_LIMITS: GraphLimits = {
  maxNodes: 200_000,
  maxChannels: 500_000,
  maxRawBytes: 512 * 1024 * 1024,
  maxBlacklistedNodes: 1_000,
};

/** The direction has a channel_update. */
export const EDGE_KNOWN = 1;
/** Its latest update says "disabled". */
export const EDGE_DISABLED = 2;
/** Its latest update contradicts itself or the channel's capacity: not for routes. */
export const EDGE_UNUSABLE = 4;

/** The terms of one direction; amounts above 2^53 msat read as 2^53. */
export interface ChannelPolicy {
  readonly timestamp: number;
  readonly cltvExpiryDelta: number;
  readonly htlcMinimumMsat: bigint;
  readonly htlcMaximumMsat: bigint;
  readonly feeBaseMsat: number;
  readonly feeProportionalMillionths: number;
  readonly disabled: boolean;
}

/** Key of a node id for maps: one character a byte, cheaper than hex. */
export function nodeKey(nodeId: Uint8Array): string {
  return String.fromCharCode.apply(null, nodeId as unknown as number[]);
}

/** Inverse of `nodeKey`. */
export function nodeIdOfKey(key: string): Uint8Array {
  return Uint8Array.from(key, (character) => character.charCodeAt(0));
}

const NONE = -1;
const NODE_ID_LENGTH = 33;

/** Copies a column into its longer successor. */
function into<A extends { set(source: A): void }>(longer: A, column: A): A {
  longer.set(column);
  return longer;
}

export class NetworkGraph {
  readonly chainHash: Uint8Array;
  readonly limits: GraphLimits;

  // Nodes, by index.
  nodeIds = new Uint8Array(0);
  firstEdge = new Int32Array(0);
  nodeTimestamp = new Uint32Array(0);
  /** 1: the node asks for features we do not know, so nothing is routed through it. */
  nodeAvoided = new Uint8Array(0);
  /** 1: its announcement is used but not passed on. */
  nodeUnrelayed = new Uint8Array(0);
  readonly nodeAnnouncementRaw: (Uint8Array | undefined)[] = [];

  // Channels, by index.
  channelScid = new BigUint64Array(0);
  /** Funding amount in satoshi; 0 when unknown. */
  channelCapacitySat = new Float64Array(0);
  /** When we learnt of the channel, in seconds since 1970. */
  channelReceivedAt = new Uint32Array(0);
  /** Height of the block that spent the funding output; 0 while unspent. */
  channelSpentHeight = new Uint32Array(0);
  /** 1: the channel asks for features we do not know. */
  channelAvoided = new Uint8Array(0);
  readonly channelAnnouncementRaw: (Uint8Array | undefined)[] = [];

  // Directed edges: 2 * channel + direction.
  edgeSource = new Int32Array(0);
  nextEdge = new Int32Array(0);
  edgeFlags = new Uint8Array(0);
  edgeTimestamp = new Uint32Array(0);
  edgeCltvExpiryDelta = new Uint16Array(0);
  edgeFeeBaseMsat = new Uint32Array(0);
  edgeFeeProportionalMillionths = new Uint32Array(0);
  /** Clamped to 2^53, above every amount a payment may have here; so is the maximum. */
  edgeHtlcMinimumMsat = new Float64Array(0);
  edgeHtlcMaximumMsat = new Float64Array(0);
  edgeChecksum = new Uint32Array(0);
  readonly edgeUpdateRaw: (Uint8Array | undefined)[] = [];

  readonly #nodeByKey = new Map<string, number>();
  readonly #channelByScid = new Map<bigint, number>();
  readonly #freeNodes: number[] = [];
  readonly #freeChannels: number[] = [];
  readonly #blacklist = new Set<string>();
  #nodeEnd = 0;
  #channelEnd = 0;
  #rawBytes = 0;
  #sorted: BigUint64Array | undefined;

  constructor(chainHash: Uint8Array, limits: GraphLimits = DEFAULT_GRAPH_LIMITS) {
    this.chainHash = chainHash;
    this.limits = limits;
    this.#growNodes(1024);
    this.#growChannels(4096);
  }

  get nodeCount(): number {
    return this.#nodeByKey.size;
  }

  get channelCount(): number {
    return this.#channelByScid.size;
  }

  /** One past the highest node index in use: the size of arrays indexed by node. */
  get nodeEnd(): number {
    return this.#nodeEnd;
  }

  /** One past the highest channel index in use. */
  get channelEnd(): number {
    return this.#channelEnd;
  }

  /** Bytes of all raw messages. */
  get rawBytes(): number {
    return this.#rawBytes;
  }

  /** No further channel fits. */
  get isFull(): boolean {
    return (
      this.channelCount >= this.limits.maxChannels ||
      this.nodeCount + 2 > this.limits.maxNodes ||
      this.#rawBytes >= this.limits.maxRawBytes
    );
  }

  /** True if a raw message fits in the place of the one before it, if there was one. */
  hasRoomFor(raw: Uint8Array, previous: Uint8Array | undefined): boolean {
    const growth = raw.length - (previous?.length ?? 0);
    return growth <= 0 || this.#rawBytes + growth <= this.limits.maxRawBytes;
  }

  /** Writes one of the columns of raw messages, and counts its bytes. */
  setRaw(column: (Uint8Array | undefined)[], index: number, raw: Uint8Array | undefined): void {
    this.#rawBytes += (raw?.length ?? 0) - (column[index]?.length ?? 0);
    column[index] = raw;
  }

  nodeIndex(nodeId: Uint8Array): number | undefined {
    return this.#nodeByKey.get(nodeKey(nodeId));
  }

  /** The id of a node in use (33 bytes, a copy). */
  nodeId(node: number): Uint8Array {
    return this.nodeIds.slice(node * NODE_ID_LENGTH, (node + 1) * NODE_ID_LENGTH);
  }

  /** The ids of the nodes at a channel's ends, the lesser first. */
  ends(channel: number): readonly [Uint8Array, Uint8Array] {
    const [first = 0, second = 0] = this.edgeSource.subarray(2 * channel, 2 * channel + 2);
    return [this.nodeId(first), this.nodeId(second)];
  }

  channelIndex(shortChannelId: bigint): number | undefined {
    return this.#channelByScid.get(shortChannelId);
  }

  /** The terms of a directed edge, if its source ever published any. */
  policy(edge: number): ChannelPolicy | undefined {
    const flags = this.edgeFlags[edge] ?? 0;
    if (!(flags & EDGE_KNOWN)) return undefined;
    return {
      timestamp: this.edgeTimestamp[edge] ?? 0,
      cltvExpiryDelta: this.edgeCltvExpiryDelta[edge] ?? 0,
      htlcMinimumMsat: BigInt(this.edgeHtlcMinimumMsat[edge] ?? 0),
      htlcMaximumMsat: BigInt(this.edgeHtlcMaximumMsat[edge] ?? 0),
      feeBaseMsat: this.edgeFeeBaseMsat[edge] ?? 0,
      feeProportionalMillionths: this.edgeFeeProportionalMillionths[edge] ?? 0,
      disabled: (flags & EDGE_DISABLED) !== 0,
    };
  }

  /** The edges that leave a node. */
  *edgesFrom(node: number): Generator<number> {
    for (let edge = this.firstEdge[node] ?? NONE; edge !== NONE; edge = this.nextEdge[edge] ?? NONE)
      yield edge;
  }

  /** Every channel's index, in no particular order. */
  channels(): IterableIterator<number> {
    return this.#channelByScid.values();
  }

  /** Every node's index, in no particular order. */
  nodes(): IterableIterator<number> {
    return this.#nodeByKey.values();
  }

  /** All short channel ids, ascending; the array belongs to the graph and must not be written. */
  sortedScids(): BigUint64Array {
    this.#sorted ??= BigUint64Array.from(this.#channelByScid.keys()).sort();
    return this.#sorted;
  }

  isBlacklisted(nodeId: Uint8Array): boolean {
    return this.#blacklist.has(nodeKey(nodeId));
  }

  /** Refuses this node's channels from now on, and forgets those it has. */
  blacklist(nodeId: Uint8Array): void {
    this.#blacklist.add(nodeKey(nodeId));
    if (this.#blacklist.size > this.limits.maxBlacklistedNodes) {
      for (const oldest of this.#blacklist) {
        this.#blacklist.delete(oldest);
        break;
      }
    }
    const node = this.nodeIndex(nodeId);
    if (node !== undefined) for (const edge of [...this.edgesFrom(node)]) this.removeChannel(edge >> 1);
  }

  /** Adds a channel and, where they are new, its nodes. The scid must not be present and the graph not full. */
  addChannel(shortChannelId: bigint, nodeId1: Uint8Array, nodeId2: Uint8Array): number {
    if (this.#channelByScid.has(shortChannelId)) throw new InternalError('channel added twice');
    if (this.isFull) throw new InternalError('channel added to a full graph');
    const channel = this.#freeChannels.pop() ?? this.#channelEnd++;
    if (channel >= this.channelScid.length) this.#growChannels(Math.max(4096, this.channelScid.length * 2));
    this.#channelByScid.set(shortChannelId, channel);
    this.#sorted = undefined;
    this.channelScid[channel] = shortChannelId;
    this.#link(2 * channel, this.#nodeFor(nodeId1));
    this.#link(2 * channel + 1, this.#nodeFor(nodeId2));
    return channel;
  }

  /** Forgets a channel, and its nodes when they have no other. */
  removeChannel(channel: number): void {
    const shortChannelId = this.channelScid[channel];
    if (shortChannelId === undefined || this.#channelByScid.get(shortChannelId) !== channel) return;
    this.#channelByScid.delete(shortChannelId);
    this.#sorted = undefined;
    for (const edge of [2 * channel, 2 * channel + 1]) {
      this.#unlink(edge);
      this.edgeFlags[edge] = 0;
      this.edgeTimestamp[edge] = 0;
      this.edgeChecksum[edge] = 0;
      this.setRaw(this.edgeUpdateRaw, edge, undefined);
    }
    this.channelCapacitySat[channel] = 0;
    this.channelReceivedAt[channel] = 0;
    this.channelSpentHeight[channel] = 0;
    this.channelAvoided[channel] = 0;
    this.setRaw(this.channelAnnouncementRaw, channel, undefined);
    this.#freeChannels.push(channel);
  }

  #nodeFor(nodeId: Uint8Array): number {
    const key = nodeKey(nodeId);
    const known = this.#nodeByKey.get(key);
    if (known !== undefined) return known;
    const node = this.#freeNodes.pop() ?? this.#nodeEnd++;
    if (node >= this.firstEdge.length) this.#growNodes(Math.max(1024, this.firstEdge.length * 2));
    this.#nodeByKey.set(key, node);
    this.nodeIds.set(nodeId.subarray(0, NODE_ID_LENGTH), node * NODE_ID_LENGTH);
    this.firstEdge[node] = NONE;
    return node;
  }

  #link(edge: number, node: number): void {
    this.edgeSource[edge] = node;
    this.nextEdge[edge] = this.firstEdge[node] ?? NONE;
    this.firstEdge[node] = edge;
  }

  #unlink(edge: number): void {
    const node = this.edgeSource[edge] ?? NONE;
    const after = this.nextEdge[edge] ?? NONE;
    if (this.firstEdge[node] === edge) {
      this.firstEdge[node] = after;
    } else {
      let before = this.firstEdge[node] ?? NONE;
      while (before !== NONE && this.nextEdge[before] !== edge) before = this.nextEdge[before] ?? NONE;
      if (before === NONE) throw new InternalError('edge is missing from its node');
      this.nextEdge[before] = after;
    }
    this.edgeSource[edge] = NONE;
    this.nextEdge[edge] = NONE;
    if (this.firstEdge[node] === NONE) this.#removeNode(node);
  }

  #removeNode(node: number): void {
    this.#nodeByKey.delete(nodeKey(this.nodeId(node)));
    this.nodeTimestamp[node] = 0;
    this.nodeAvoided[node] = 0;
    this.nodeUnrelayed[node] = 0;
    this.setRaw(this.nodeAnnouncementRaw, node, undefined);
    this.#freeNodes.push(node);
  }

  #growNodes(length: number): void {
    this.nodeIds = into(new Uint8Array(length * NODE_ID_LENGTH), this.nodeIds);
    this.firstEdge = into(new Int32Array(length), this.firstEdge);
    this.nodeTimestamp = into(new Uint32Array(length), this.nodeTimestamp);
    this.nodeUnrelayed = into(new Uint8Array(length), this.nodeUnrelayed);
    this.nodeAvoided = into(new Uint8Array(length), this.nodeAvoided);
  }

  #growChannels(length: number): void {
    this.channelScid = into(new BigUint64Array(length), this.channelScid);
    this.channelCapacitySat = into(new Float64Array(length), this.channelCapacitySat);
    this.channelReceivedAt = into(new Uint32Array(length), this.channelReceivedAt);
    this.channelSpentHeight = into(new Uint32Array(length), this.channelSpentHeight);
    this.channelAvoided = into(new Uint8Array(length), this.channelAvoided);
    this.edgeSource = into(new Int32Array(length * 2), this.edgeSource);
    this.nextEdge = into(new Int32Array(length * 2), this.nextEdge);
    this.edgeFlags = into(new Uint8Array(length * 2), this.edgeFlags);
    this.edgeTimestamp = into(new Uint32Array(length * 2), this.edgeTimestamp);
    this.edgeCltvExpiryDelta = into(new Uint16Array(length * 2), this.edgeCltvExpiryDelta);
    this.edgeFeeBaseMsat = into(new Uint32Array(length * 2), this.edgeFeeBaseMsat);
    this.edgeFeeProportionalMillionths = into(
      new Uint32Array(length * 2),
      this.edgeFeeProportionalMillionths,
    );
    this.edgeHtlcMinimumMsat = into(new Float64Array(length * 2), this.edgeHtlcMinimumMsat);
    this.edgeHtlcMaximumMsat = into(new Float64Array(length * 2), this.edgeHtlcMaximumMsat);
    this.edgeChecksum = into(new Uint32Array(length * 2), this.edgeChecksum);
  }
}
