/**
 * Which parts of the graph are not in the store yet. Only names are kept, no
 * bytes: a batch is made of what the graph holds when it is written, so ten
 * updates of a channel between two writes cost one row.
 */
import type { NetworkGraph } from '@fulmen/graph';
import { nodeIdOfKey, storedChannel } from '@fulmen/graph';
import type { GraphChanges } from '../store/router-store.ts';

/** Rows of one batch. */
const BATCH_ROWS = 2_000;

export class Journal {
  readonly #channels = new Set<bigint>();
  /** `scid * 2 + direction`. */
  readonly #updates = new Set<bigint>();
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

  removed(shortChannelIds: readonly bigint[]): void {
    for (const scid of shortChannelIds) {
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
    const updates = this.#removed.size + this.#channels.size > 0 ? [] : takeSome(this.#updates, BATCH_ROWS);
    const nodes = takeSome(this.#nodes, BATCH_ROWS);
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
      nodes: nodes.flatMap((key) => {
        const nodeId = nodeIdOfKey(key);
        const node = graph.nodeIndex(nodeId);
        const raw = node === undefined ? undefined : graph.nodeAnnouncementRaw[node];
        return raw === undefined ? [] : [{ nodeId, raw }];
      }),
      removedChannels: removed,
      bannedNodes: banned.map(([, nodeId]) => nodeId),
      ...(ownNodeId === undefined ? {} : { ownNodeId }),
    };
    const undo = (): void => {
      for (const scid of removed) this.#removed.add(scid);
      for (const scid of channels) this.#channels.add(scid);
      for (const key of updates) this.#updates.add(key);
      for (const key of nodes) this.#nodes.add(key);
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
