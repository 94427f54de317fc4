/**
 * The store's model in memory: what survives a crash lives in `MemorySignerDatabase`,
 * and every value passes its stored encoding. Outcomes can be made to fail
 * before or after the commit.
 */
import { InternalError, toHex } from '@fulmen/codec';
import { StoreError } from '@fulmen/store/error';
import { decodeChannel, encodeRegistration, encodeState } from '../enforcement/codec.ts';
import type { SignerChannelState } from '../enforcement/types.ts';
import { DEFAULT_RETENTION } from './port.ts';
import type {
  AuditRow,
  CommitBatch,
  CommitOutcome,
  RefusalRow,
  Retention,
  SeedMetadata,
  SignerHead,
  SignerStore,
  Velocity,
} from './port.ts';

/** What the next commit meets. */
export type CommitFault = 'none' | 'unavailable' | 'unknown_lost' | 'unknown_committed';

/** The durable content; share one between the stores of successive processes. */
export class MemorySignerDatabase {
  lease: { readonly instance: string; readonly untilMs: number } | undefined;
  seed: SeedMetadata | undefined;
  generation = 0n;
  velocity: Velocity = { windowStartMs: 0, spentSat: 0n };
  commits = 0;
  readonly channels = new Map<string, { readonly registration: Uint8Array; state: Uint8Array }>();
  readonly fences = new Map<number, bigint>();
  audit: AuditRow[] = [];
  refusals: RefusalRow[] = [];

  /** A copy as a backup would have it. */
  clone(): MemorySignerDatabase {
    const copy = new MemorySignerDatabase();
    Object.assign(copy, {
      lease: this.lease,
      seed: this.seed,
      generation: this.generation,
      velocity: this.velocity,
    });
    for (const [key, value] of this.channels) copy.channels.set(key, { ...value });
    for (const [key, value] of this.fences) copy.fences.set(key, value);
    copy.audit = [...this.audit];
    copy.refusals = [...this.refusals];
    return copy;
  }
}

export interface MemorySignerStoreOptions {
  readonly database?: MemorySignerDatabase;
  /** The clock of leases. */
  readonly nowMs?: () => number;
  readonly retention?: Retention;
  /** Asked before each commit; may wait, so that a test decides when it ends. */
  readonly fault?: () => CommitFault | Promise<CommitFault>;
}

export class MemorySignerStore implements SignerStore {
  /** What it is connected to; another after a fail-over. */
  database: MemorySignerDatabase;
  readonly #nowMs: () => number;
  readonly #retention: Retention;
  readonly #fault: () => CommitFault | Promise<CommitFault>;

  constructor(options: MemorySignerStoreOptions = {}) {
    this.database = options.database ?? new MemorySignerDatabase();
    this.#nowMs = options.nowMs ?? (() => 0);
    this.#retention = options.retention ?? DEFAULT_RETENTION;
    this.#fault = options.fault ?? (() => 'none');
  }

  async acquireLease(instance: Uint8Array, leaseMs: number): Promise<'acquired' | 'held'> {
    const { lease } = this.database;
    if (lease !== undefined && lease.instance !== toHex(instance) && lease.untilMs > this.#nowMs())
      return 'held';
    this.database.lease = { instance: toHex(instance), untilMs: this.#nowMs() + leaseMs };
    return 'acquired';
  }

  async renewLease(instance: Uint8Array, leaseMs: number): Promise<'renewed' | 'lost'> {
    if (!this.#owns(instance)) return 'lost';
    this.database.lease = { instance: toHex(instance), untilMs: this.#nowMs() + leaseMs };
    return 'renewed';
  }

  async releaseLease(instance: Uint8Array): Promise<void> {
    if (this.#owns(instance)) this.database.lease = undefined;
  }

  async readSeedMetadata(): Promise<SeedMetadata | undefined> {
    return this.database.seed;
  }

  async writeSeedMetadata(metadata: SeedMetadata): Promise<void> {
    this.database.seed ??= metadata;
  }

  async loadHead(): Promise<SignerHead> {
    const { generation, velocity, fences, audit } = this.database;
    const last = audit.at(-1);
    return {
      generation,
      velocity,
      fences: new Map(fences),
      audit: { sequence: last?.sequence ?? 0n, hash: last?.hash ?? new Uint8Array(32) },
    };
  }

  async loadChannels(channelKeysIds: readonly Uint8Array[]): Promise<readonly SignerChannelState[]> {
    return channelKeysIds.flatMap((id) => this.#channel(toHex(id)) ?? []);
  }

  async loadAll(after: Uint8Array | undefined, limit: number): Promise<readonly SignerChannelState[]> {
    const from = after === undefined ? '' : toHex(after);
    const keys = [...this.database.channels.keys()].toSorted().filter((key) => key > from);
    return keys.slice(0, limit).flatMap((key) => this.#channel(key) ?? []);
  }

  async commitBatch(instance: Uint8Array, batch: CommitBatch): Promise<CommitOutcome> {
    const fault = await this.#fault();
    if (fault === 'unavailable') throw new StoreError('unavailable', 'injected');
    if (fault === 'unknown_lost') throw new StoreError('unknown', 'injected');
    const outcome = this.#commit(instance, batch);
    if (fault === 'unknown_committed') throw new StoreError('unknown', 'injected');
    return outcome;
  }

  async reconcile(
    instance: Uint8Array,
    generation: bigint,
    mode: 'freeze' | 'accept',
  ): Promise<CommitOutcome> {
    if (!this.#owns(instance) || generation < this.database.generation) return 'not_owner';
    this.database.generation = generation;
    if (mode === 'accept') return 'ok';
    for (const [key, stored] of this.database.channels) {
      const channel = this.#channel(key);
      if (channel !== undefined) stored.state = encodeState({ ...channel, lock: { type: 'frozen' } });
    }
    return 'ok';
  }

  async readAudit(afterSequence: bigint, limit: number): Promise<readonly AuditRow[]> {
    return this.database.audit.filter((row) => row.sequence > afterSequence).slice(0, limit);
  }

  async readRefusals(limit: number): Promise<readonly RefusalRow[]> {
    return this.database.refusals.toReversed().slice(0, limit);
  }

  #owns(instance: Uint8Array): boolean {
    return this.database.lease?.instance === toHex(instance);
  }

  #channel(key: string): SignerChannelState | undefined {
    const stored = this.database.channels.get(key);
    if (stored === undefined) return undefined;
    const decoded = decodeChannel(stored.registration, stored.state);
    if (!decoded.ok) throw new InternalError(`stored channel: ${decoded.error.message}`);
    return decoded.value;
  }

  #commit(instance: Uint8Array, batch: CommitBatch): CommitOutcome {
    const { database } = this;
    if (!this.#owns(instance) || batch.generation !== database.generation + 1n) return 'not_owner';
    database.generation = batch.generation;
    database.commits += 1;
    for (const registration of batch.registered) {
      database.channels.set(toHex(registration.channelKeysId), {
        registration: encodeRegistration(registration),
        state: new Uint8Array(0),
      });
    }
    for (const channel of batch.channels) {
      const stored = database.channels.get(toHex(channel.registration.channelKeysId));
      if (stored === undefined) throw new InternalError('a channel that was never registered');
      stored.state = encodeState(channel);
    }
    for (const [shard, epoch] of batch.fences) {
      if ((database.fences.get(shard) ?? -1n) < epoch) database.fences.set(shard, epoch);
    }
    if (batch.velocity !== undefined) database.velocity = batch.velocity;
    if (batch.audit !== undefined)
      database.audit = [...database.audit, batch.audit].slice(-this.#retention.auditRows);
    database.refusals = [...database.refusals, ...batch.refusals].slice(-this.#retention.refusalRows);
    return 'ok';
  }
}
