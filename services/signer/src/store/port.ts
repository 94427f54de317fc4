/**
 * The signer's own durable state: semantic operations, each atomic. One signer
 * process owns a database; every commit proves that it still does.
 *
 * Failures are `StoreError`: `unavailable` (nothing happened) or `unknown`
 * (it may have happened: reload before acting).
 */
import type { ChannelRegistration, PolicyTag, Refusal, SignerChannelState } from '../enforcement/types.ts';

/** Which seed this database belongs to. */
export interface SeedMetadata {
  readonly nodeId: Uint8Array;
  readonly keyScheme: string;
  readonly network: string;
}

/** What was spent to foreign scripts in the running window. */
export interface Velocity {
  readonly windowStartMs: number;
  readonly spentSat: bigint;
}

/** The last row of the audit chain. */
export interface AuditHead {
  readonly sequence: bigint;
  /** 32 bytes; zeros before the first row. */
  readonly hash: Uint8Array;
}

/** What one process needs to go on where the last one stopped. */
export interface SignerHead {
  /** Counts commits: what the marker file beside the seed is compared with. */
  readonly generation: bigint;
  readonly audit: AuditHead;
  readonly fences: ReadonlyMap<number, bigint>;
  readonly velocity: Velocity;
}

export interface AuditRow {
  readonly sequence: bigint;
  readonly previousHash: Uint8Array;
  readonly hash: Uint8Array;
  readonly entries: Uint8Array;
}

export interface RefusalRow {
  /** Position in the ring; the newest has the highest number. */
  readonly number: bigint;
  readonly atMs: number;
  readonly operation: string;
  readonly policy: PolicyTag;
  readonly kind: Refusal['kind'];
  readonly reason: string;
  readonly channelKeysId: Uint8Array | undefined;
}

/** Everything that one group commit makes durable. */
export interface CommitBatch {
  /** Must be one above the stored one. */
  readonly generation: bigint;
  readonly registered: readonly ChannelRegistration[];
  readonly channels: readonly SignerChannelState[];
  /** Each above the stored one. */
  readonly fences: ReadonlyMap<number, bigint>;
  readonly velocity: Velocity | undefined;
  /** At most one row a commit. */
  readonly audit: AuditRow | undefined;
  readonly refusals: readonly RefusalRow[];
}

/**
 * - ok: durable.
 * - not_owner: another process took the database, or the generation is not the next.
 */
export type CommitOutcome = 'ok' | 'not_owner';

export interface SignerStore {
  /** Takes the database for this process unless another holds a lease that has not run out. */
  acquireLease(instance: Uint8Array, leaseMs: number): Promise<'acquired' | 'held'>;
  renewLease(instance: Uint8Array, leaseMs: number): Promise<'renewed' | 'lost'>;
  releaseLease(instance: Uint8Array): Promise<void>;
  readSeedMetadata(): Promise<SeedMetadata | undefined>;
  /** Once per database; a second call with another value is refused by the caller beforehand. */
  writeSeedMetadata(metadata: SeedMetadata): Promise<void>;
  loadHead(): Promise<SignerHead>;
  /** Those that exist, in any order. */
  loadChannels(channelKeysIds: readonly Uint8Array[]): Promise<readonly SignerChannelState[]>;
  /** Every channel, a page at a time, in the order of the key ids. */
  loadAll(after: Uint8Array | undefined, limit: number): Promise<readonly SignerChannelState[]>;
  commitBatch(instance: Uint8Array, batch: CommitBatch): Promise<CommitOutcome>;
  /**
   * After a database was set back, or lost its marker: raises the generation to
   * `generation`, and with `freeze` locks every channel for good.
   */
  reconcile(instance: Uint8Array, generation: bigint, mode: 'freeze' | 'accept'): Promise<CommitOutcome>;
  readAudit(afterSequence: bigint, limit: number): Promise<readonly AuditRow[]>;
  /** Newest first. */
  readRefusals(limit: number): Promise<readonly RefusalRow[]>;
}

/** Bounds of what is kept. */
export interface Retention {
  /** Rows of the audit chain; older ones are dropped, the chain stays verifiable from the oldest kept. */
  readonly auditRows: number;
  readonly refusalRows: number;
}

export const DEFAULT_RETENTION: Retention = { auditRows: 1_000_000, refusalRows: 10_000 };
