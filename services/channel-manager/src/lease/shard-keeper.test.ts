/** Which replica has which shards, as replicas come and go. */
import { MemoryBusHub } from '@fulmen/bus';
import { SHARD_COUNT } from '@fulmen/keys/shard';
import { AbortedError, type Runtime, silentLogger, spawnTask } from '@fulmen/service';
import { MemoryManagerDatabase } from '@fulmen/store';
import { expect, test } from 'vitest';
import { Lease } from './lease.ts';
import { ShardKeeper } from './shard-keeper.ts';

const LEASE_MS = 10_000;

/** Time stands still: no lease ends by itself, and nothing is found by polling. */
function timelessRuntime(): Runtime {
  return {
    wallClockMs: () => 0,
    monotonicMs: () => 0,
    sleep: (_ms, signal) =>
      new Promise((_resolve, reject) => {
        const abort = (): void => reject(new AbortedError('the wait was aborted'));
        if (signal?.aborted === true) abort();
        signal?.addEventListener('abort', abort);
      }),
    randomBytes: (length) => new Uint8Array(length),
    spawn: (name, work) => spawnTask(name, work, () => undefined),
  };
}

/** A replica that has nothing but its shards, and whoever waits for it to have them all. */
function replica(database: MemoryManagerDatabase, hub: MemoryBusHub, replicaId: string) {
  const runtime = timelessRuntime();
  const lease = new Lease(runtime, LEASE_MS);
  const gained = new Set<number>();
  const all = Promise.withResolvers<void>();
  const keeper = new ShardKeeper(
    { store: database.connect(replicaId), bus: hub.connect(replicaId), runtime, logger: silentLogger, lease },
    { replicaId, incarnation: 1n, address: replicaId, leaseMs: LEASE_MS },
    {
      gained: async ({ shard }) => {
        gained.add(shard);
        if (gained.size === SHARD_COUNT) all.resolve();
      },
      lost: (shard) => void gained.delete(shard),
      drained: async () => undefined,
    },
    all.reject,
  );
  return { keeper, lease, hasAll: all.promise };
}

test('what a replica had that stops cleanly is taken at once: nobody waits for its lease to run out', async () => {
  const database = new MemoryManagerDatabase(() => 0);
  const hub = new MemoryBusHub();
  const first = replica(database, hub, 'a');
  const second = replica(database, hub, 'b');
  await first.keeper.start();
  await first.hasAll;
  await second.keeper.start();
  expect(second.keeper.ownedShards()).toEqual([]);
  await first.keeper.stop();
  await second.hasAll;
  expect(first.lease.isValid()).toBe(false);
  const owners = await database.connect('looking').listShards();
  expect(new Set(owners.map(({ replicaId }) => replicaId))).toEqual(new Set(['b']));
  await second.keeper.stop();
});
