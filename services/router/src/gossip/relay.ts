/**
 * What was accepted since the last flush, to be passed on (BOLT 7,
 * "Rebroadcasting": flushed every 60 seconds, a newer update replacing the
 * one before it). Names only; bytes are read from the graph at the flush.
 */
import type { NetworkGraph, TimestampFilter } from '@fulmen/graph';
import { EDGE_KNOWN, nodeIdOfKey, passesFilter } from '@fulmen/graph';

/** One message to pass on. */
export interface RelayItem {
  readonly raw: Uint8Array;
  /** It passes a filter if one of these does. */
  readonly timestamps: readonly number[];
  /** Keys of peers that sent it to us. */
  readonly origins: ReadonlySet<string>;
}

/** BOLT 7: "MUST NOT relay any gossip messages it did not generate itself, unless explicitly requested." */
export function mayRelay(item: RelayItem, peerKey: string, filter: TimestampFilter): boolean {
  return !item.origins.has(peerKey) && item.timestamps.some((timestamp) => passesFilter(filter, timestamp));
}

export class Relay {
  readonly #announcements = new Map<bigint, Set<string>>();
  /** `scid * 2 + direction`. */
  readonly #updates = new Map<bigint, Set<string>>();
  readonly #nodes = new Map<string, Set<string>>();

  announcement(shortChannelId: bigint, origin: string): void {
    this.#announcements.set(shortChannelId, new Set([origin]));
  }

  update(shortChannelId: bigint, direction: number, origin: string): void {
    this.#updates.set((shortChannelId << 1n) | BigInt(direction), new Set([origin]));
  }

  node(key: string, origin: string): void {
    this.#nodes.set(key, new Set([origin]));
  }

  /** A peer sent what another had sent before: it is not sent back to either. */
  alsoFrom(
    what: { readonly announcement: bigint } | { readonly update: bigint } | { readonly node: string },
    origin: string,
  ): void {
    if ('announcement' in what) this.#announcements.get(what.announcement)?.add(origin);
    else if ('update' in what) this.#updates.get(what.update)?.add(origin);
    else this.#nodes.get(what.node)?.add(origin);
  }

  /**
   * Takes what may go out, channels before nodes. BOLT 7: "If a
   * `channel_announcement` has no corresponding `channel_update`s: MUST NOT
   * send the `channel_announcement`": it stays for a later flush.
   */
  take(graph: NetworkGraph): RelayItem[] {
    const items: RelayItem[] = [];
    for (const [scid, origins] of this.#announcements) {
      const channel = graph.channelIndex(scid);
      if (channel !== undefined && !isKnown(graph, channel)) continue;
      this.#announcements.delete(scid);
      const raw = channel === undefined ? undefined : graph.channelAnnouncementRaw[channel];
      if (channel === undefined || raw === undefined || graph.channelSpentHeight[channel] !== 0) continue;
      // BOLT 7: "MUST consider the `timestamp` of the `channel_announcement` to be the `timestamp` of a
      // corresponding `channel_update`."
      const timestamps = [2 * channel, 2 * channel + 1]
        .filter((edge) => graph.edgeUpdateRaw[edge] !== undefined)
        .map((edge) => graph.edgeTimestamp[edge] ?? 0);
      items.push({ raw, timestamps, origins });
    }
    for (const [key, origins] of this.#updates) {
      const channel = graph.channelIndex(key >> 1n);
      const edge = 2 * (channel ?? 0) + Number(key & 1n);
      const raw = channel === undefined ? undefined : graph.edgeUpdateRaw[edge];
      if (raw !== undefined) items.push({ raw, timestamps: [graph.edgeTimestamp[edge] ?? 0], origins });
    }
    this.#updates.clear();
    for (const [key, origins] of this.#nodes) {
      const node = graph.nodeIndex(nodeIdOfKey(key));
      const raw = node === undefined ? undefined : graph.nodeAnnouncementRaw[node];
      if (node === undefined || raw === undefined || graph.nodeUnrelayed[node] !== 0) continue;
      items.push({ raw, timestamps: [graph.nodeTimestamp[node] ?? 0], origins });
    }
    this.#nodes.clear();
    return items;
  }
}

function isKnown(graph: NetworkGraph, channel: number): boolean {
  return (((graph.edgeFlags[2 * channel] ?? 0) | (graph.edgeFlags[2 * channel + 1] ?? 0)) & EDGE_KNOWN) !== 0;
}
