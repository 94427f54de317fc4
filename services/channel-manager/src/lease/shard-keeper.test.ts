/** Which replica has which shards, as replicas come and go. */
import { MemoryBusHub } from '@fulmen/bus';
import { SHARD_COUNT } from '@fulmen/keys/shard';
import { AbortedError, type Runtime, silentLogger, spawnTask } from '@fulmen/service';
import { MemoryManagerDatabase } from '@fulmen/store';
import { expect, test } from 'vitest';
import { Lease } from './lease.ts';
import { preferredReplica } from './placement.ts';
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

/** Time that passes when a test lets it, for a database and its replicas alike. */
class Clock {
  nowMs = 0;
  readonly #sleepers = new Set<{ readonly untilMs: number; readonly wake: () => void }>();
  readonly runtime: Runtime = {
    ...timelessRuntime(),
    monotonicMs: () => this.nowMs,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        const sleeper = { untilMs: this.nowMs + ms, wake: resolve };
        this.#sleepers.add(sleeper);
        signal?.addEventListener('abort', () => {
          this.#sleepers.delete(sleeper);
          reject(new AbortedError('the wait was aborted'));
        });
      }),
  };

  /** Lets time pass until something is so, for ten leases at most. */
  async until(isSo: () => boolean): Promise<void> {
    for (const endMs = this.nowMs + 10 * LEASE_MS; this.nowMs < endMs && !isSo(); this.nowMs += 100) {
      for (const sleeper of this.#sleepers) {
        if (sleeper.untilMs > this.nowMs) continue;
        this.#sleepers.delete(sleeper);
        sleeper.wake();
      }
      // Whatever becomes ready by it, the store in memory included.
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(isSo()).toBe(true);
  }
}

interface ReplicaOptions {
  readonly runtime?: Runtime;
  /** Shards whose actors do not come to rest. */
  readonly restless?: ReadonlySet<number>;
}

/** A replica that has nothing but its shards, and whoever waits for it to have them all. */
function replica(
  database: MemoryManagerDatabase,
  hub: MemoryBusHub,
  replicaId: string,
  { runtime = timelessRuntime(), restless = new Set() }: ReplicaOptions = {},
) {
  const store = database.connect(replicaId);
  const lease = new Lease(runtime, LEASE_MS);
  const gained = new Set<number>();
  const all = Promise.withResolvers<void>();
  const keeper = new ShardKeeper(
    { store, bus: hub.connect(replicaId), runtime, logger: silentLogger, lease },
    { replicaId, incarnation: 1n, address: replicaId, leaseMs: LEASE_MS },
    {
      gained: async ({ shard }) => {
        gained.add(shard);
        if (gained.size === SHARD_COUNT) all.resolve();
      },
      lost: (shard) => void gained.delete(shard),
      drained: (shard) => (restless.has(shard) ? new Promise(() => undefined) : Promise.resolve()),
    },
    all.reject,
  );
  return { keeper, lease, store, gained, hasAll: all.promise };
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

test('a shard that does not come to rest keeps its replica from neither giving, nor taking, nor leaving', async () => {
  const clock = new Clock();
  const { runtime } = clock;
  const database = new MemoryManagerDatabase(() => clock.nowMs);
  const hub = new MemoryBusHub();
  const shardsOf = (id: string, alive: readonly string[]): number[] =>
    Array.from({ length: SHARD_COUNT }, (_, shard) => shard).filter(
      (shard) => preferredReplica(shard, alive) === id,
    );
  const has = ({ gained }: { readonly gained: ReadonlySet<number> }, shards: readonly number[]): boolean =>
    gained.size === shards.length && shards.every((shard) => gained.has(shard));
  const restless = new Set<number>();
  const a = replica(database, hub, 'a', { runtime, restless });
  const b = replica(database, hub, 'b', { runtime });
  const c = replica(database, hub, 'c', { runtime });
  await a.keeper.start();
  await c.keeper.start();
  await clock.until(() => has(a, shardsOf('a', ['a', 'c'])) && has(c, shardsOf('c', ['a', 'c'])));

  const [given] = shardsOf('b', ['a', 'b', 'c']).filter((shard) => a.gained.has(shard));
  const [kept] = shardsOf('a', ['a', 'b', 'c']);
  for (const shard of [given, kept]) if (shard !== undefined) restless.add(shard);
  expect(restless.size).toBe(2);
  await b.keeper.start();
  await clock.until(() => has(b, shardsOf('b', ['a', 'b', 'c'])));

  c.store.crash();
  await clock.until(() => has(a, shardsOf('a', ['a', 'b'])) && has(b, shardsOf('b', ['a', 'b'])));

  let stopped = false;
  void a.keeper.stop().then(() => (stopped = true));
  await clock.until(() => stopped && has(b, shardsOf('b', ['b'])));
  expect((await b.store.listReplicas()).map(({ replicaId }) => replicaId)).toEqual(['b']);
  expect(a.lease.isValid()).toBe(false);
  await b.keeper.stop();
});
