/**
 * Which parts of the graph are not in the store yet. Only names are kept, no
 * bytes: a batch is made of what the graph holds when it is written, so ten
 * updates of a channel between two writes cost one row.
 */
import type { ChannelEnds, NetworkGraph } from '@fulmen/graph';
import { nodeIdOfKey, nodeKey, storedChannel } from '@fulmen/graph';
import type { GraphChanges } from '../store/router-store.ts';

/** Rows of one batch. */
const BATCH_ROWS = 2_000;

export class Journal {
  readonly #channels = new Set<bigint>();
  /** `scid * 2 + direction`. */
  readonly #updates = new Set<bigint>();
  /** Written, or removed where the graph holds no announcement of the node any more. */
  readonly #nodes = new Set<string>();
  readonly #removed = new Set<bigint>();
  readonly #banned = new Map<string, Uint8Array>();
  #ownNodeId: Uint8Array | undefined;

  get size(): number {
    return (
      this.#channels.size +
      this.#updates.size +
      this.#nodes.size +
      this.#removed.size +
      this.#banned.size +
      (this.#ownNodeId === undefined ? 0 : 1)
    );
  }

  channel(shortChannelId: bigint): void {
    this.#channels.add(shortChannelId);
  }

  update(shortChannelId: bigint, direction: number): void {
    this.#updates.add((shortChannelId << 1n) | BigInt(direction));
  }

  node(key: string): void {
    this.#nodes.add(key);
  }

  removed(channels: readonly ChannelEnds[]): void {
    for (const { shortChannelId: scid, nodeIds } of channels) {
      for (const nodeId of nodeIds) this.#nodes.add(nodeKey(nodeId));
      this.#channels.delete(scid);
      this.#updates.delete(scid << 1n);
      this.#updates.delete((scid << 1n) | 1n);
      this.#removed.add(scid);
    }
  }

  banned(nodeId: Uint8Array): void {
    this.#banned.set(String(nodeId), nodeId);
  }

  ownNodeId(nodeId: Uint8Array): void {
    this.#ownNodeId = nodeId;
  }

  /** Takes the next batch; `undo` puts it back when the write failed. */
  take(graph: NetworkGraph): { readonly changes: GraphChanges; readonly undo: () => void } {
    const removed = takeSome(this.#removed, BATCH_ROWS);
    // While removals are waiting, a channel announced again must wait with them: they are applied first.
    const channels = this.#removed.size > 0 ? [] : takeSome(this.#channels, BATCH_ROWS);
    // What belongs to a channel is never in the store before it.
    const isBehind = this.#removed.size + this.#channels.size > 0;
    const updates = isBehind ? [] : takeSome(this.#updates, BATCH_ROWS);
    const nodes = (isBehind ? [] : takeSome(this.#nodes, BATCH_ROWS)).map((key) => {
      const nodeId = nodeIdOfKey(key);
      const node = graph.nodeIndex(nodeId);
      return { key, nodeId, raw: node === undefined ? undefined : graph.nodeAnnouncementRaw[node] };
    });
    const banned = [...this.#banned];
    this.#banned.clear();
    const ownNodeId = this.#ownNodeId;
    this.#ownNodeId = undefined;
    const changes: GraphChanges = {
      channels: channels.flatMap((scid) => {
        const channel = graph.channelIndex(scid);
        if (channel === undefined) return [];
        const { capacitySat, receivedAtSeconds, spentHeight, announcement } = storedChannel(graph, channel);
        return [{ shortChannelId: scid, capacitySat, receivedAtSeconds, spentHeight, announcement }];
      }),
      updates: updates.flatMap((key) => {
        const direction = Number(key & 1n) as 0 | 1;
        const channel = graph.channelIndex(key >> 1n);
        const raw = channel === undefined ? undefined : graph.edgeUpdateRaw[2 * channel + direction];
        return raw === undefined ? [] : [{ shortChannelId: key >> 1n, direction, raw }];
      }),
      nodes: nodes.flatMap(({ nodeId, raw }) => (raw === undefined ? [] : [{ nodeId, raw }])),
      removedChannels: removed,
      removedNodes: nodes.filter(({ raw }) => raw === undefined).map(({ nodeId }) => nodeId),
      bannedNodes: banned.map(([, nodeId]) => nodeId),
      ...(ownNodeId === undefined ? {} : { ownNodeId }),
    };
    const undo = (): void => {
      for (const scid of removed) this.#removed.add(scid);
      for (const scid of channels) this.#channels.add(scid);
      for (const key of updates) this.#updates.add(key);
      for (const { key } of nodes) this.#nodes.add(key);
      for (const [key, nodeId] of banned) this.#banned.set(key, nodeId);
      this.#ownNodeId ??= ownNodeId;
    };
    return { changes, undo };
  }
}

function takeSome<T>(set: Set<T>, count: number): T[] {
  const taken: T[] = [];
  for (const item of set) {
    if (taken.length >= count) break;
    taken.push(item);
    set.delete(item);
  }
  return taken;
}
