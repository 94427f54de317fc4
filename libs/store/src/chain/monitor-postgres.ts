/** The part of chain-monitor's store that has to do with monitors: their log, their snapshots, their archives. */
import { compareBytes } from '@fulmen/codec';
import { MANAGER_SCHEMA } from '../manager/postgres/store.ts';
import { byteaArray, int4Array, int8Array, textArray } from '../pg/binary.ts';
import type { Database, Session } from '../pg/database.ts';
import type * as port from './chain-store.ts';
import { ChainConflictError } from './chain-store.ts';
import { putChunks, readChunk, readMonitor } from './monitor-rows.ts';
import type { Columns } from './rows.ts';

/** Bytes of the snapshots that are read at once, but for a single one that is longer. */
const LOAD_BYTES = 8 * 1024 * 1024;
/** `next_deadline_height` of a monitor without one. */
export const NO_DEADLINE = 2_147_483_647;

/** Before every entry of the log. */
const FIRST_POSITION: port.MonitorLogPosition = { channelId: new Uint8Array(0), updateId: 0n };
const LAST_UPDATE_ID = 2n ** 63n - 1n;
/** Greater than every channel id, which has 32 bytes. */
const BEYOND_CHANNELS = new Uint8Array(33).fill(0xff);

/** The stretches of the log between the channels that are passed over: each is a range of the index, and no row of theirs is read. */
function gapsBetween(
  after: port.MonitorLogPosition,
  passedOver: readonly Uint8Array[],
): readonly { readonly after: port.MonitorLogPosition; readonly untilChannelId: Uint8Array }[] {
  const later = passedOver.filter((id) => compareBytes(id, after.channelId) >= 0).sort(compareBytes);
  return [...later, BEYOND_CHANNELS].map((untilChannelId, at) => {
    const previous = later[at - 1];
    return {
      after: previous === undefined ? after : { channelId: previous, updateId: LAST_UPDATE_ID },
      untilChannelId,
    };
  });
}

/** See `ChainStore.readMonitorLog`. */
export async function readMonitorLog(
  database: Database,
  after: port.MonitorLogPosition | undefined,
  limit: number,
  passedOver: readonly Uint8Array[],
): Promise<port.MonitorLogEntry[]> {
  const gaps = gapsBetween(after ?? FIRST_POSITION, passedOver);
  const rows = await database.read<Columns>(
    `SELECT u.* FROM unnest($1::bytea[], $2::int8[], $3::bytea[]) AS gap(channel_id, update_id, until)
     CROSS JOIN LATERAL (
       SELECT m.channel_id, m.update_id, m.payload FROM ${MANAGER_SCHEMA}.monitor_update AS m
       WHERE (m.channel_id, m.update_id) > (gap.channel_id, gap.update_id) AND m.channel_id < gap.until
       ORDER BY m.channel_id, m.update_id LIMIT $4) AS u
     ORDER BY u.channel_id, u.update_id LIMIT $4`,
    [
      byteaArray(gaps.map(({ after: { channelId } }) => channelId)),
      int8Array(gaps.map(({ after: { updateId } }) => updateId)),
      byteaArray(gaps.map(({ untilChannelId }) => untilChannelId)),
      limit,
    ],
  );
  return rows.map((row) => ({
    channelId: row['channel_id'] as Uint8Array,
    updateId: row['update_id'] as bigint,
    payload: row['payload'] as Uint8Array,
  }));
}

/** See `ChainStore.loadMonitors`. */
export async function loadMonitors(
  database: Database,
  schema: string,
  channelIds: readonly Uint8Array[],
): Promise<readonly port.LoadedMonitor[]> {
  if (channelIds.length === 0) return [];
  const rows = await database.read<Columns>(
    `SELECT s.channel_id, s.update_id, s.close_state, s.parameters, s.bytes > $2::int4 AS is_long,
       CASE WHEN s.bytes <= $2::int4 THEN s.snapshot END AS snapshot
     FROM (
       SELECT n.at, n.id AS channel_id, m.update_id, m.close_state, m.snapshot, b.parameters, octet_length(m.snapshot) AS bytes,
         sum(coalesce(octet_length(m.snapshot), 0)) OVER (ORDER BY n.at) AS total
       FROM unnest($1::bytea[]) WITH ORDINALITY AS n(id, at)
       LEFT JOIN monitor AS m ON m.channel_id = n.id LEFT JOIN ${MANAGER_SCHEMA}.monitor_birth AS b ON b.channel_id = n.id) AS s
     WHERE s.at = 1 OR s.total <= $2::int4 ORDER BY s.at`,
    [byteaArray(channelIds), LOAD_BYTES],
  );
  const loaded: port.LoadedMonitor[] = [];
  for (const row of rows) {
    const read = readLoaded(row);
    const long = row['is_long'] === true ? await readMonitor(database, schema, read.channelId) : undefined;
    loaded.push({ ...read, ...long });
  }
  return loaded;
}

function readLoaded(row: Columns): port.LoadedMonitor {
  return {
    channelId: row['channel_id'] as Uint8Array,
    updateId: (row['update_id'] as bigint | null) ?? 0n,
    snapshot: (row['snapshot'] as Uint8Array | null) ?? undefined,
    birth: (row['parameters'] as Uint8Array | null) ?? undefined,
    closeState: (row['close_state'] as port.CloseState | null) ?? 'open',
  };
}

/** See `ChainStore.monitorChunks`. */
export async function monitorChunks(
  database: Database,
  channelId: Uint8Array,
  commitmentNumbers: readonly bigint[],
): Promise<readonly port.MonitorChunk[]> {
  if (commitmentNumbers.length === 0) return [];
  const rows = await database.read<Columns>(
    `SELECT kind, number, first_commitment, last_commitment, bytes FROM monitor_chunk AS c
     WHERE c.channel_id = $1 AND EXISTS (
       SELECT FROM unnest($2::int8[]) AS n(commitment) WHERE n.commitment BETWEEN c.first_commitment AND c.last_commitment)
     ORDER BY kind, number`,
    [channelId, int8Array(commitmentNumbers)],
  );
  return rows.map(readChunk);
}

/** See `ChainStore.commitMonitors`, inside its fence. */
export async function writeMonitors(
  session: Session,
  schema: string,
  monitors: readonly port.DrainedMonitor[],
): Promise<void> {
  const ids = byteaArray(monitors.map(({ channelId }) => channelId));
  const updateIds = int8Array(monitors.map(({ updateId }) => updateId));
  const written = await session.query(
    `INSERT INTO monitor AS m (channel_id, update_id, close_state, snapshot, next_deadline_height)
     SELECT n.id, n.update_id, n.close_state, n.snapshot, n.deadline
     FROM unnest($1::bytea[], $2::int8[], $3::int8[], $4::text[], $5::bytea[], $6::int4[]) AS n(id, update_id, expected, close_state, snapshot, deadline)
     LEFT JOIN monitor AS o ON o.channel_id = n.id WHERE coalesce(o.update_id, 0) = n.expected
     ON CONFLICT (channel_id) DO UPDATE SET update_id = excluded.update_id, close_state = excluded.close_state, snapshot = excluded.snapshot,
       next_deadline_height = excluded.next_deadline_height
     RETURNING 1`,
    [
      ids,
      updateIds,
      int8Array(monitors.map(({ expectedUpdateId }) => expectedUpdateId)),
      textArray(monitors.map(({ closeState }) => closeState)),
      byteaArray(monitors.map(({ snapshot }) => snapshot)),
      int4Array(monitors.map(({ nextDeadlineHeight }) => nextDeadlineHeight ?? NO_DEADLINE)),
    ],
  );
  if (written.length !== monitors.length) throw new ChainConflictError('a monitor moved');
  await putChunks(
    session,
    schema,
    monitors.flatMap(({ channelId, chunks = [] }) => chunks.map((chunk) => ({ channelId, ...chunk }))),
  );
  await session.query(
    `DELETE FROM ${MANAGER_SCHEMA}.monitor_update AS u USING unnest($1::bytea[], $2::int8[]) AS n(id, update_id)
     WHERE u.channel_id = n.id AND u.update_id <= n.update_id`,
    [ids, updateIds],
  );
}
