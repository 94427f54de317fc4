/**
 * Rows of the monitors and of their archives, for chain-monitor's own store and for both sides of the towers. Whatever
 * is read here at once has a bound of bytes: the driver takes each byte for two characters, and no string may have 2^29.
 */
import { StoreError } from '../error.ts';
import { byteaArray, int4Array, int8Array, textArray } from '../pg/binary.ts';
import type { Database, Session } from '../pg/database.ts';
import type * as port from './chain-store.ts';
import type { Columns } from './rows.ts';

/** Bytes of chunks in one statement. */
const WRITE_BYTES = 4 * 1024 * 1024;
/** Bytes of a snapshot in one answer. */
const SLICE_BYTES = 4 * 1024 * 1024;

export interface OwnedChunk extends port.MonitorChunk {
  readonly channelId: Uint8Array;
}

/** Writes chunks beside the snapshots that count them, in the same transaction. Of one number the last word stands. */
export async function putChunks(
  session: Session,
  schema: string,
  chunks: readonly OwnedChunk[],
): Promise<void> {
  for (const batch of batchesOf(chunks))
    await session.query(
      `INSERT INTO ${schema}.monitor_chunk AS c (channel_id, kind, number, first_commitment, last_commitment, bytes)
       SELECT * FROM unnest($1::bytea[], $2::text[], $3::int4[], $4::int8[], $5::int8[], $6::bytea[])
       ON CONFLICT (channel_id, kind, number) DO UPDATE SET first_commitment = excluded.first_commitment,
         last_commitment = excluded.last_commitment, bytes = excluded.bytes`,
      [
        byteaArray(batch.map(({ channelId }) => channelId)),
        textArray(batch.map(({ kind }) => kind)),
        int4Array(batch.map(({ number }) => number)),
        int8Array(batch.map(({ firstNumber }) => firstNumber)),
        int8Array(batch.map(({ lastNumber }) => lastNumber)),
        byteaArray(batch.map(({ bytes }) => bytes)),
      ],
    );
}

function* batchesOf(chunks: readonly OwnedChunk[]): Iterable<readonly OwnedChunk[]> {
  let batch: OwnedChunk[] = [];
  let bytes = 0;
  for (const chunk of chunks) {
    batch.push(chunk);
    bytes += chunk.bytes.length;
    if (bytes < WRITE_BYTES) continue;
    yield batch;
    batch = [];
    bytes = 0;
  }
  if (batch.length > 0) yield batch;
}

export function readChunk(row: Columns): port.MonitorChunk {
  return {
    kind: row['kind'] as port.MonitorChunk['kind'],
    number: row['number'] as number,
    firstNumber: row['first_commitment'] as bigint,
    lastNumber: row['last_commitment'] as bigint,
    bytes: row['bytes'] as Uint8Array,
  };
}

/** A monitor's row as it is, however long its snapshot; undefined without a row. */
export async function readMonitor(
  database: Database,
  schema: string,
  channelId: Uint8Array,
): Promise<(Pick<port.LoadedMonitor, 'updateId' | 'closeState'> & { snapshot: Uint8Array }) | undefined> {
  return database.transaction(async (session) => {
    // All slices of one version.
    await session.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
    const [row] = await session.query<Columns>(
      `SELECT update_id, close_state, octet_length(snapshot) AS length FROM ${schema}.monitor WHERE channel_id = $1`,
      [channelId],
    );
    if (row === undefined) return undefined;
    const snapshot = new Uint8Array(row['length'] as number);
    for (let at = 0; at < snapshot.length; at += SLICE_BYTES) {
      const [part] = await session.query<{ slice: Uint8Array }>(
        `SELECT substring(snapshot FROM $2::int4 FOR $3::int4) AS slice FROM ${schema}.monitor WHERE channel_id = $1`,
        [channelId, at + 1, SLICE_BYTES],
      );
      if (part === undefined) throw new StoreError('unavailable', 'a monitor vanished');
      snapshot.set(part.slice, at);
    }
    return {
      updateId: row['update_id'] as bigint,
      closeState: row['close_state'] as port.CloseState,
      snapshot,
    };
  });
}
