/**
 * Keeps this replica's lease alive and its share of the shards in its hands.
 * A shard is taken when its owner released it or stopped renewing; it is given
 * back when a new replica should have it, after its actors came to rest.
 */
import type { Bus } from '@fulmen/bus';
import type { Logger, Runtime, Task } from '@fulmen/service';
import type { AcquireOutcome, Fence, ManagerStore, ShardOwner } from '@fulmen/store';
import type { Lease } from './lease.ts';
import { SHARD_COUNT } from '@fulmen/keys/shard';
import { preferredReplica } from './placement.ts';

export interface ShardKeeperOptions {
  readonly replicaId: string;
  readonly incarnation: bigint;
  readonly address: string;
  readonly leaseMs: number;
}

/** What the replica does with shards. */
export interface ShardHandler {
  /** Fence the signer, load, go. Rejecting gives the shard up. */
  gained(fence: Fence): Promise<void>;
  /** Forget everything of the shard at once; nothing of it may leave the process any more. */
  lost(shard: number, reason: string): void;
  /** Come to rest, so that the shard can be given away cleanly: what is under way ends, and nothing new begins. `lost` follows. */
  drained(shard: number): Promise<void>;
}

/** Pause after a failure, so that a store or signer that is away is not hammered. */
const TROUBLE_PAUSE_MS = 250;
/** Takeovers at once: each loads a shard's channels. */
const PARALLEL_ACQUISITIONS = 8;
/**
 * Longest wait for the actors of a shard that is given away. A turn takes some tens of milliseconds; one that takes longer
 * waits for a signer or a store that is away, and may wait for hours. What it has committed its next owner goes on from,
 * as after a crash. A clean stop, which may wait twice, has 15 s.
 */
const DRAIN_MS = 2_000;

export class ShardKeeper {
  readonly #store: ManagerStore;
  readonly #lease: Lease;
  readonly #bus: Bus;
  readonly #runtime: Runtime;
  readonly #logger: Logger;
  readonly #options: ShardKeeperOptions;
  readonly #handler: ShardHandler;
  readonly #owned = new Map<number, Fence>();
  readonly #tasks: Task[] = [];
  readonly #fail: (error: Error) => void;
  #owners: readonly ShardOwner[] = [];
  /** Which replica each shard prefers; changes with the replicas only. */
  #placement: { readonly alive: string; readonly preferred: readonly (string | undefined)[] } = {
    alive: '',
    preferred: [],
  };
  #wake: (() => void) | undefined;
  #hinted = false;
  /** The last turn left something to be tried again, after a pause. */
  #troubled = false;
  #leaving = false;
  #unsubscribe: () => void = () => undefined;

  constructor(
    ports: { store: ManagerStore; bus: Bus; runtime: Runtime; logger: Logger; lease: Lease },
    options: ShardKeeperOptions,
    handler: ShardHandler,
    fail: (error: Error) => void,
  ) {
    this.#store = ports.store;
    this.#bus = ports.bus;
    this.#runtime = ports.runtime;
    this.#logger = ports.logger;
    this.#lease = ports.lease;
    this.#options = options;
    this.#handler = handler;
    this.#fail = fail;
  }

  /** Registers, takes what is free, and keeps going. */
  async start(): Promise<void> {
    await this.#renew();
    this.#tasks.push(this.#runtime.spawn('heartbeat', (signal) => this.#heartbeatLoop(signal)));
    await this.#balance();
    this.#unsubscribe = this.#bus.subscribe('fulmen.lease', () => {
      this.#hinted = true;
      this.#wake?.();
    });
    this.#tasks.push(this.#runtime.spawn('shard placement', (signal) => this.#placementLoop(signal)));
  }

  /** Gives every shard back after its actors came to rest, and leaves: the others need not wait for its lease to run out. */
  async stop(): Promise<void> {
    this.#unsubscribe();
    this.#leaving = true;
    const [heartbeat, placement] = this.#tasks;
    await placement?.stop();
    await Promise.all([...this.#owned.keys()].map((shard) => this.#release(shard)));
    await heartbeat?.stop();
    this.#lease.lost();
    const { replicaId, incarnation } = this.#options;
    await this.#store.endLease(replicaId, incarnation).catch((error: unknown) => {
      this.#logger.warn({ err: error }, 'could not end the lease: it runs out');
    });
    this.#bus.publish('fulmen.lease');
  }

  fenceOf(shard: number): Fence | undefined {
    return this.#owned.get(shard);
  }

  ownedShards(): readonly Fence[] {
    return [...this.#owned.values()];
  }

  /** Who owns a shard, as last read: where callers are sent to. */
  ownerOf(shard: number): ShardOwner | undefined {
    return this.#owners.find((owner) => owner.shard === shard);
  }

  /** The store or the signer said that the fence is lost, or an outcome is unknown: drop it and, if it is ours to have, take it anew. */
  drop(shard: number, epoch: bigint, reason: string): void {
    if (this.#owned.get(shard)?.epoch !== epoch) return;
    this.#owned.delete(shard);
    this.#handler.lost(shard, reason);
    this.#hinted = true;
    this.#wake?.();
  }

  async #renew(): Promise<void> {
    const askedAt = this.#runtime.monotonicMs();
    const { replicaId, incarnation, address, leaseMs } = this.#options;
    const ours = await this.#store.heartbeat(replicaId, incarnation, address, leaseMs);
    if (!ours) {
      this.#lease.lost();
      throw new ReplicaReplacedError(replicaId);
    }
    // A process that slept past its lease, and only now renews, may have lost its shards in between: it starts over.
    if (this.#owned.size > 0 && !this.#lease.isValid()) this.#dropAll('the lease had run out');
    this.#lease.renewed(askedAt);
  }

  #dropAll(reason: string): void {
    for (const fence of [...this.#owned.values()]) this.drop(fence.shard, fence.epoch, reason);
  }

  async #heartbeatLoop(signal: AbortSignal): Promise<void> {
    const interval = Math.floor(this.#options.leaseMs / 4);
    for (;;) {
      await this.#runtime.sleep(interval, signal);
      try {
        await this.#renew();
      } catch (error) {
        if (error instanceof ReplicaReplacedError) {
          this.#dropAll('another process took this replica’s name');
          this.#fail(error);
          return;
        }
        this.#logger.warn({ err: error }, 'could not renew the lease');
        if (!this.#lease.isValid()) this.#dropAll('the lease ran out');
      }
    }
  }

  async #placementLoop(signal: AbortSignal): Promise<void> {
    const interval = Math.floor(this.#options.leaseMs / 3);
    while (!signal.aborted) {
      if (!this.#hinted) {
        const wait = new AbortController();
        this.#wake = () => wait.abort();
        await this.#runtime.sleep(interval, AbortSignal.any([signal, wait.signal])).catch(() => undefined);
        this.#wake = undefined;
      }
      this.#hinted = false;
      if (signal.aborted) return;
      try {
        await this.#balance();
      } catch (error) {
        this.#logger.warn({ err: error }, 'could not look after the shards');
        this.#troubled = true;
      }
      if (this.#troubled)
        await this.#runtime.sleep(Math.min(interval, TROUBLE_PAUSE_MS), signal).catch(() => undefined);
      this.#troubled = false;
    }
  }

  async #balance(): Promise<void> {
    if (!this.#lease.isValid()) return;
    const { replicaId, leaseMs } = this.#options;
    const [owners, replicas] = await Promise.all([this.#store.listShards(), this.#store.listReplicas()]);
    this.#owners = owners;
    const alive = replicas
      .filter((replica) => replica.lastHeartbeatAgeMs < leaseMs)
      .map((replica) => replica.replicaId);
    const ownerOf = new Map(owners.map((owner) => [owner.shard, owner]));
    const wanted: number[] = [];
    const unwanted: number[] = [];
    const placement = this.#placementOver(alive);
    for (let shard = 0; shard < SHARD_COUNT; shard += 1) {
      const preferred = placement[shard];
      const owner = ownerOf.get(shard);
      const held = this.#owned.get(shard);
      if (held !== undefined) {
        if (owner !== undefined && (owner.replicaId !== replicaId || owner.epoch !== held.epoch))
          this.drop(shard, held.epoch, 'another replica took it');
        else if (preferred !== undefined && preferred !== replicaId) unwanted.push(shard);
      } else if (preferred === replicaId) {
        const ownerAlive =
          owner?.replicaId !== undefined && owner.replicaId !== replicaId && alive.includes(owner.replicaId);
        if (!ownerAlive) wanted.push(shard);
      } else if (owner?.replicaId === replicaId) {
        // Taken, and not kept (it could not be loaded, or the answer got lost): its next owner waits for it.
        await this.#store.releaseShard({ shard, epoch: owner.epoch, replicaId });
      }
    }
    const next = wanted.values();
    await Promise.all([
      ...unwanted.map((shard) => this.#release(shard)),
      ...Array.from({ length: PARALLEL_ACQUISITIONS }, async () => {
        for (const shard of next) await this.#acquire(shard);
      }),
    ]);
    if (wanted.length + unwanted.length > 0) {
      this.#owners = await this.#store.listShards();
      this.#bus.publish('fulmen.lease');
    }
  }

  #placementOver(alive: readonly string[]): readonly (string | undefined)[] {
    const key = alive.toSorted().join('\n');
    if (this.#placement.alive !== key) {
      this.#placement = {
        alive: key,
        preferred: Array.from({ length: SHARD_COUNT }, (_, shard) => preferredReplica(shard, alive)),
      };
    }
    return this.#placement.preferred;
  }

  async #acquire(shard: number): Promise<void> {
    if (this.#leaving || !this.#lease.isValid()) return;
    const { replicaId } = this.#options;
    let outcome: AcquireOutcome;
    try {
      outcome = await this.#store.acquireShard(shard, replicaId);
    } catch (error) {
      // One shard's trouble must not leave the others half taken: the next turn looks again.
      this.#hinted = true;
      this.#troubled = true;
      this.#logger.warn({ err: error, shard }, 'a shard could not be taken; trying again');
      return;
    }
    if (outcome.type !== 'acquired') {
      // Somebody's transaction or an unexpired lease is in the way: the next turn tries again.
      if (outcome.type === 'busy') this.#hinted = true;
      return;
    }
    const fence: Fence = { shard, epoch: outcome.epoch, replicaId };
    try {
      await this.#handler.gained(fence);
      this.#owned.set(shard, fence);
    } catch (error) {
      this.#handler.lost(shard, 'could not be loaded');
      this.#hinted = true;
      this.#troubled = true;
      this.#logger.error({ err: error, shard }, 'a shard could not be loaded; trying again');
    }
  }

  /** Resolves when the shard's actors are at rest, or are not to be waited for any longer. */
  async #drain(shard: number): Promise<void> {
    const timer = new AbortController();
    const late = this.#runtime.sleep(DRAIN_MS, timer.signal).then(
      () => this.#logger.warn({ shard }, 'a shard does not come to rest: it is given away as it is'),
      () => undefined,
    );
    try {
      await Promise.race([this.#handler.drained(shard), late]);
    } finally {
      timer.abort();
    }
  }

  async #release(shard: number): Promise<void> {
    const fence = this.#owned.get(shard);
    if (fence === undefined) return;
    await this.#drain(shard);
    this.#owned.delete(shard);
    this.#handler.lost(shard, 'released');
    await this.#store.releaseShard(fence).catch((error: unknown) => {
      // Its next owner waits for the lease to run out instead.
      this.#logger.warn({ err: error, shard }, 'could not release a shard');
    });
  }
}

/** Another incarnation registered under this replica's id: this process must end. */
export class ReplicaReplacedError extends Error {
  override readonly name = 'ReplicaReplacedError';
  constructor(replicaId: string) {
    super(`another process runs as replica ${replicaId}`);
  }
}
