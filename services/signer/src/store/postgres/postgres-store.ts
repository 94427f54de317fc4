/** The store on Postgres: a database of its own, every commit one call of one function. */
import { InternalError } from '@fulmen/codec';
import { type Database, byteaArray, int4Array, int8Array, textArray } from '@fulmen/store';
import { decodeChannel, encodeRegistration, encodeState } from '../../enforcement/codec.ts';
import type { SignerChannelState } from '../../enforcement/types.ts';
import { DEFAULT_RETENTION } from '../port.ts';
import type {
  AuditRow,
  CommitBatch,
  CommitOutcome,
  RefusalRow,
  Retention,
  SeedMetadata,
  SignerHead,
  SignerStore,
} from '../port.ts';

/** Numbered SQL files of this store. */
export const SIGNER_MIGRATIONS = new URL('./migrations/', import.meta.url);
/** The schema that they make. */
export const SIGNER_SCHEMA = 'signer';

const COMMIT = {
  name: 'signer_commit_batch',
  text: 'SELECT commit_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22) AS done',
};
const LOAD_CHANNELS = {
  name: 'signer_load_channels',
  text: 'SELECT registration, state FROM channel_registration JOIN channel_state USING (channel_keys_id) WHERE channel_keys_id = ANY($1::bytea[])',
};
const RECONCILE_PAGE = 500;

interface ChannelRow {
  readonly registration: Uint8Array;
  readonly state: Uint8Array;
}

/** A plain copy: a Buffer of the driver's may be a view into a larger one. */
function plain(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(bytes);
}

export class PostgresSignerStore implements SignerStore {
  readonly #database: Database;
  readonly #retention: Retention;

  /** `database`: migrated, with `SIGNER_SCHEMA` as its schema. */
  constructor(database: Database, retention: Retention = DEFAULT_RETENTION) {
    this.#database = database;
    this.#retention = retention;
  }

  async acquireLease(instance: Uint8Array, leaseMs: number): Promise<'acquired' | 'held'> {
    const rows = await this.#database.write(
      `UPDATE signer SET instance = $1, lease_until = clock_timestamp() + $2::float8 * interval '1 millisecond'
       WHERE instance IS NULL OR instance = $1 OR lease_until < clock_timestamp() RETURNING 1`,
      [instance, leaseMs],
    );
    return rows.length > 0 ? 'acquired' : 'held';
  }

  async renewLease(instance: Uint8Array, leaseMs: number): Promise<'renewed' | 'lost'> {
    const rows = await this.#database.write(
      `UPDATE signer SET lease_until = clock_timestamp() + $2::float8 * interval '1 millisecond' WHERE instance = $1 RETURNING 1`,
      [instance, leaseMs],
    );
    return rows.length > 0 ? 'renewed' : 'lost';
  }

  async releaseLease(instance: Uint8Array): Promise<void> {
    await this.#database.write('UPDATE signer SET instance = NULL, lease_until = NULL WHERE instance = $1', [
      instance,
    ]);
  }

  async readSeedMetadata(): Promise<SeedMetadata | undefined> {
    const [row] = await this.#database.read<{
      nodeId: Uint8Array | null;
      keyScheme: string;
      network: string;
    }>('SELECT node_id AS "nodeId", key_scheme AS "keyScheme", network FROM signer');
    return row === undefined || row.nodeId === null
      ? undefined
      : { nodeId: plain(row.nodeId), keyScheme: row.keyScheme, network: row.network };
  }

  async writeSeedMetadata({ nodeId, keyScheme, network }: SeedMetadata): Promise<void> {
    await this.#database.write(
      'UPDATE signer SET node_id = $1, key_scheme = $2, network = $3 WHERE node_id IS NULL',
      [nodeId, keyScheme, network],
    );
  }

  async loadHead(): Promise<SignerHead> {
    const [row] = await this.#database.read<{
      generation: bigint;
      windowStartMs: bigint;
      spentSat: bigint;
      sequence: bigint | null;
      hash: Uint8Array | null;
    }>(
      `SELECT generation, velocity_window_start_ms AS "windowStartMs", velocity_spent_sat AS "spentSat", sequence, hash
       FROM signer LEFT JOIN LATERAL (SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1) AS last ON true`,
    );
    if (row === undefined) throw new InternalError('the signer’s row is gone');
    const fences = await this.#database.read<{ shard: number; epoch: bigint }>(
      'SELECT shard, epoch FROM shard_fence',
    );
    return {
      generation: row.generation,
      velocity: { windowStartMs: Number(row.windowStartMs), spentSat: row.spentSat },
      audit: { sequence: row.sequence ?? 0n, hash: row.hash === null ? new Uint8Array(32) : plain(row.hash) },
      fences: new Map(fences.map(({ shard, epoch }) => [shard, epoch])),
    };
  }

  async loadChannels(channelKeysIds: readonly Uint8Array[]): Promise<readonly SignerChannelState[]> {
    if (channelKeysIds.length === 0) return [];
    const rows = await this.#database.read<ChannelRow>(LOAD_CHANNELS, [byteaArray(channelKeysIds)]);
    return rows.map(toChannel);
  }

  async loadAll(after: Uint8Array | undefined, limit: number): Promise<readonly SignerChannelState[]> {
    const rows = await this.#database.read<ChannelRow>(
      `SELECT registration, state FROM channel_registration JOIN channel_state USING (channel_keys_id)
       WHERE channel_keys_id > $1 ORDER BY channel_keys_id LIMIT $2`,
      [after ?? new Uint8Array(0), limit],
    );
    return rows.map(toChannel);
  }

  async commitBatch(instance: Uint8Array, batch: CommitBatch): Promise<CommitOutcome> {
    const { registered, channels, fences, velocity, audit, refusals } = batch;
    const [row] = await this.#database.write<{ done: boolean }>(COMMIT, [
      instance,
      batch.generation,
      byteaArray(registered.map(({ channelKeysId }) => channelKeysId)),
      byteaArray(registered.map(encodeRegistration)),
      byteaArray(channels.map(({ registration }) => registration.channelKeysId)),
      byteaArray(channels.map(encodeState)),
      int4Array([...fences.keys()]),
      int8Array([...fences.values()]),
      velocity === undefined ? null : BigInt(velocity.windowStartMs),
      velocity === undefined ? null : velocity.spentSat,
      audit?.previousHash ?? null,
      audit?.hash ?? null,
      audit?.entries ?? null,
      this.#retention.auditRows,
      int8Array(refusals.map(({ number }) => number)),
      int8Array(refusals.map(({ atMs }) => BigInt(Math.floor(atMs)))),
      textArray(refusals.map(({ operation }) => operation)),
      textArray(refusals.map(({ policy }) => policy)),
      textArray(refusals.map(({ kind }) => kind)),
      textArray(refusals.map(({ reason }) => reason)),
      byteaArray(refusals.map(({ channelKeysId }) => channelKeysId ?? null)),
      this.#retention.refusalRows,
    ]);
    return row?.done === true ? 'ok' : 'not_owner';
  }

  async reconcile(
    instance: Uint8Array,
    generation: bigint,
    mode: 'freeze' | 'accept',
  ): Promise<CommitOutcome> {
    return this.#database.transaction(async (session): Promise<CommitOutcome> => {
      const owned = await session.query(
        'UPDATE signer SET generation = $2 WHERE instance = $1 AND generation <= $2 RETURNING 1',
        [instance, generation],
      );
      if (owned.length === 0) return 'not_owner';
      for (let after: Uint8Array = new Uint8Array(0); mode === 'freeze';) {
        const rows = await session.query<ChannelRow>(
          `SELECT registration, state FROM channel_registration JOIN channel_state USING (channel_keys_id)
           WHERE channel_keys_id > $1 ORDER BY channel_keys_id LIMIT $2`,
          [after, RECONCILE_PAGE],
        );
        const channels = rows.map(toChannel);
        const last = channels.at(-1);
        if (last === undefined) break;
        await session.query(
          'UPDATE channel_state SET state = new.state FROM unnest($1::bytea[], $2::bytea[]) AS new (id, state) WHERE channel_keys_id = new.id',
          [
            byteaArray(channels.map(({ registration }) => registration.channelKeysId)),
            byteaArray(channels.map((channel) => encodeState({ ...channel, lock: { type: 'frozen' } }))),
          ],
        );
        after = last.registration.channelKeysId;
      }
      return 'ok';
    });
  }

  async readAudit(afterSequence: bigint, limit: number): Promise<readonly AuditRow[]> {
    const rows = await this.#database.read<AuditRow>(
      'SELECT sequence, previous_hash AS "previousHash", hash, entries FROM audit WHERE sequence > $1 ORDER BY sequence LIMIT $2',
      [afterSequence, limit],
    );
    return rows.map((row) => ({
      sequence: row.sequence,
      previousHash: plain(row.previousHash),
      hash: plain(row.hash),
      entries: plain(row.entries),
    }));
  }

  async readRefusals(limit: number): Promise<readonly RefusalRow[]> {
    type Stored = Omit<RefusalRow, 'atMs' | 'channelKeysId'> & {
      readonly atMs: bigint;
      readonly channelKeysId: Uint8Array | null;
    };
    const rows = await this.#database.read<Stored>(
      `SELECT number, at_ms AS "atMs", operation, policy, kind, reason, channel_keys_id AS "channelKeysId" FROM refusal ORDER BY number DESC LIMIT $1`,
      [limit],
    );
    return rows.map((row) => ({
      ...row,
      atMs: Number(row.atMs),
      channelKeysId: row.channelKeysId === null ? undefined : plain(row.channelKeysId),
    }));
  }
}

function toChannel({ registration, state }: ChannelRow): SignerChannelState {
  const decoded = decodeChannel(registration, state);
  if (!decoded.ok) throw new InternalError(`stored channel: ${decoded.error.message}`);
  return decoded.value;
}
