/** The store's model: what Postgres does, in one heap. For tests, simulations and the single-process node. */
import { equalBytes, fromHex, toHex } from '@fulmen/codec';
import type { StoredChannel } from '@fulmen/graph';
import type { Runtime } from '@fulmen/service';
import type {
  ChannelRow,
  Changes,
  GraphChanges,
  GraphPage,
  LeaseOutcome,
  LoadStart,
  NodePage,
  RouterStore,
} from './router-store.ts';
import { REMOVALS_KEPT } from './router-store.ts';

interface Revised<T> {
  readonly value: T;
  readonly revision: bigint;
}

interface LeaseRow {
  owner: string;
  address: string;
  epoch: bigint;
  expiresAtMs: number;
}

/** What survives the processes that use it; give the same one to several stores. */
export class MemoryRouterDisk {
  readonly channels = new Map<bigint, Revised<ChannelRow>>();
  /** Key `scid * 2 + direction`. */
  readonly updates = new Map<bigint, Revised<Uint8Array>>();
  readonly nodes = new Map<string, Revised<Uint8Array>>();
  readonly bans = new Map<string, Revised<Uint8Array>>();
  readonly removals: Revised<bigint>[] = [];
  lease: LeaseRow = { owner: '', address: '', epoch: 0n, expiresAtMs: 0 };
  revision = 0n;
  /** Removals up to this revision are forgotten. */
  horizon = 0n;
  ownNodeId: Uint8Array | undefined;
  scores: Uint8Array | undefined;
}

/** A handle of one process on the disk. */
export function memoryRouterStore(
  disk: MemoryRouterDisk,
  runtime: Pick<Runtime, 'wallClockMs'>,
): RouterStore {
  const stored = (row: ChannelRow): StoredChannel => ({
    capacitySat: row.capacitySat,
    receivedAtSeconds: row.receivedAtSeconds,
    spentHeight: row.spentHeight,
    announcement: row.announcement,
    updates: [
      disk.updates.get(row.shortChannelId * 2n)?.value,
      disk.updates.get(row.shortChannelId * 2n + 1n)?.value,
    ],
  });
  return {
    acquireLease: (owner, address, durationMs): Promise<LeaseOutcome> => {
      const now = runtime.wallClockMs();
      const { lease } = disk;
      if (lease.owner !== owner && lease.owner !== '' && lease.expiresAtMs > now) {
        return Promise.resolve({ kind: 'taken', owner: lease.owner, address: lease.address });
      }
      // A lease of one's own that ran out may have been used by another in between only with a new epoch.
      const epoch = lease.owner === owner && lease.expiresAtMs > now ? lease.epoch : lease.epoch + 1n;
      disk.lease = { owner, address, epoch, expiresAtMs: now + durationMs };
      return Promise.resolve({ kind: 'held', epoch });
    },
    releaseLease: (owner) => {
      if (disk.lease.owner === owner) disk.lease = { ...disk.lease, owner: '', address: '', expiresAtMs: 0 };
      return Promise.resolve();
    },
    write: (epoch, changes) => {
      if (disk.lease.epoch !== epoch || disk.lease.owner === '') return Promise.resolve({ kind: 'fenced' });
      disk.revision += 1n;
      apply(disk, changes);
      return Promise.resolve({ kind: 'written', revision: disk.revision });
    },
    startLoad: (): Promise<LoadStart> =>
      Promise.resolve({
        revision: disk.revision,
        ownNodeId: disk.ownNodeId,
        bannedNodes: [...disk.bans.values()].map((ban) => ban.value),
      }),
    loadChannels: (from, limit): Promise<GraphPage> => {
      const scids = [...disk.channels.keys()].filter((scid) => scid >= from).sort((a, b) => (a < b ? -1 : 1));
      const channels = scids.slice(0, limit).flatMap((scid) => {
        const row = disk.channels.get(scid);
        return row === undefined ? [] : [stored(row.value)];
      });
      return Promise.resolve({ channels, next: scids[limit] });
    },
    loadNodes: (from, limit): Promise<NodePage> => {
      const keys = [...disk.nodes.keys()].filter((key) => key >= toHex(from)).sort();
      const next = keys[limit];
      return Promise.resolve({
        nodes: keys.slice(0, limit).flatMap((key) => disk.nodes.get(key)?.value ?? []),
        next: next === undefined ? undefined : fromHex(next),
      });
    },
    changesSince: (revision): Promise<Changes> => {
      if (revision < disk.horizon) return Promise.resolve({ kind: 'too_old' });
      const touched = new Set<bigint>();
      for (const [scid, row] of disk.channels) if (row.revision > revision) touched.add(scid);
      for (const [key, row] of disk.updates) if (row.revision > revision) touched.add(key >> 1n);
      return Promise.resolve({
        kind: 'changes',
        revision: disk.revision,
        channels: [...touched].flatMap((scid) => {
          const row = disk.channels.get(scid);
          return row === undefined ? [] : [stored(row.value)];
        }),
        nodes: [...disk.nodes.values()].filter((row) => row.revision > revision).map((row) => row.value),
        removedChannels: disk.removals
          .filter((row) => row.revision > revision && !disk.channels.has(row.value))
          .map((row) => row.value),
        bannedNodes: [...disk.bans.values()].filter((row) => row.revision > revision).map((row) => row.value),
      });
    },
    saveScores: (epoch, scores) => {
      if (disk.lease.epoch !== epoch || disk.lease.owner === '') return Promise.resolve('fenced');
      disk.scores = scores.slice();
      return Promise.resolve('written');
    },
    loadScores: () => Promise.resolve(disk.scores),
    close: () => Promise.resolve(),
  };
}

function apply(disk: MemoryRouterDisk, changes: GraphChanges): void {
  const { revision } = disk;
  for (const scid of changes.removedChannels) {
    disk.channels.delete(scid);
    disk.updates.delete(scid * 2n);
    disk.updates.delete(scid * 2n + 1n);
    disk.removals.push({ value: scid, revision });
  }
  for (const row of changes.channels) disk.channels.set(row.shortChannelId, { value: row, revision });
  for (const row of changes.updates) {
    if (!disk.channels.has(row.shortChannelId)) continue;
    disk.updates.set(row.shortChannelId * 2n + BigInt(row.direction), { value: row.raw, revision });
  }
  for (const nodeId of changes.removedNodes) disk.nodes.delete(toHex(nodeId));
  for (const row of changes.nodes) disk.nodes.set(toHex(row.nodeId), { value: row.raw, revision });
  for (const nodeId of changes.bannedNodes) disk.bans.set(toHex(nodeId), { value: nodeId, revision });
  if (
    changes.ownNodeId !== undefined &&
    (disk.ownNodeId === undefined || !equalBytes(changes.ownNodeId, disk.ownNodeId))
  ) {
    disk.ownNodeId = changes.ownNodeId;
  }
  const excess = disk.removals.length - REMOVALS_KEPT;
  if (excess > 0) {
    const forgotten = disk.removals.splice(0, excess).at(-1);
    if (forgotten !== undefined) disk.horizon = forgotten.revision;
  }
}
