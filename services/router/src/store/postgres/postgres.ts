/** The router's store on Postgres: schema `router`, one transaction for each batch, arrays as binary columns. */
import type { StoredChannel } from '@fulmen/graph';
import type { Database, Session } from '@fulmen/store';
import { byteaArray, int4Array, int8Array, migrate } from '@fulmen/store';
import type { Changes, GraphChanges, GraphPage, LoadStart, NodePage, RouterStore } from '../router-store.ts';
import { REMOVALS_KEPT } from '../router-store.ts';

/** The schema's name, for whoever opens the database. */
export const ROUTER_SCHEMA = 'router';
/** The schema's migrations. */
export const ROUTER_MIGRATIONS: URL = new URL('./migrations/', import.meta.url);

/** Ids beyond 2^63 are stored as negative numbers; no block is so high, so their order does not matter. */
const toColumn = (scid: bigint): bigint => BigInt.asIntN(64, scid);
const fromColumn = (value: bigint): bigint => BigInt.asUintN(64, value);

interface ChannelColumns {
  readonly scid: bigint;
  readonly capacity_sat: bigint;
  readonly received_at: bigint;
  readonly spent_height: number;
  readonly announcement: Uint8Array;
  readonly update_0: Uint8Array | null;
  readonly update_1: Uint8Array | null;
}

const CHANNEL_COLUMNS = `
  SELECT c.scid, c.capacity_sat, c.received_at, c.spent_height, c.announcement, u0.raw AS update_0, u1.raw AS update_1
    FROM channel c
    LEFT JOIN channel_update u0 ON u0.scid = c.scid AND u0.direction = 0
    LEFT JOIN channel_update u1 ON u1.scid = c.scid AND u1.direction = 1`;

/** Plain memory of their own: the driver's buffers are slices of what the socket brought. */
const own = (bytes: Uint8Array): Uint8Array => Uint8Array.from(bytes);

function stored(row: ChannelColumns): StoredChannel {
  return {
    capacitySat: row.capacity_sat,
    receivedAtSeconds: Number(row.received_at),
    spentHeight: row.spent_height,
    announcement: own(row.announcement),
    updates: [
      row.update_0 === null ? undefined : own(row.update_0),
      row.update_1 === null ? undefined : own(row.update_1),
    ],
  };
}

/** Migrates, and opens the store; the database is closed with it. */
export async function postgresRouterStore(database: Database): Promise<RouterStore> {
  await migrate(database, ROUTER_MIGRATIONS);
  return {
    acquireLease: async (owner, address, durationMs) => {
      const [held] = await database.write<{ epoch: bigint }>(
        `UPDATE writer
            SET epoch = CASE WHEN owner = $1 AND expires_at > clock_timestamp() THEN epoch ELSE epoch + 1 END,
                owner = $1, address = $2, expires_at = clock_timestamp() + $3 * interval '1 millisecond'
          WHERE owner = $1 OR owner = '' OR expires_at <= clock_timestamp()
        RETURNING epoch`,
        [owner, address, durationMs],
      );
      if (held !== undefined) return { kind: 'held', epoch: held.epoch };
      const [row] = await database.read<{ owner: string; address: string }>(
        'SELECT owner, address FROM writer',
      );
      return { kind: 'taken', owner: row?.owner ?? '', address: row?.address ?? '' };
    },
    releaseLease: async (owner) => {
      await database.write(
        `UPDATE writer SET owner = '', address = '', expires_at = '-infinity' WHERE owner = $1`,
        [owner],
      );
    },
    write: (epoch, changes) =>
      database.transaction(async (session) => {
        const revision = await nextRevision(session, epoch);
        if (revision === undefined) return { kind: 'fenced' };
        await applyChanges(session, changes, revision);
        return { kind: 'written', revision };
      }),
    startLoad: async (): Promise<LoadStart> => {
      const [row] = await database.read<{ revision: bigint; own_node_id: Uint8Array | null }>(
        'SELECT revision, own_node_id FROM writer',
      );
      const ownNodeId = row?.own_node_id ?? undefined;
      const bans = await database.read<{ node_id: Uint8Array }>(
        'SELECT node_id FROM banned_node ORDER BY revision',
      );
      return {
        revision: row?.revision ?? 0n,
        ownNodeId: ownNodeId === undefined ? undefined : own(ownNodeId),
        bannedNodes: bans.map((ban) => own(ban.node_id)),
      };
    },
    loadChannels: async (from, limit): Promise<GraphPage> => {
      const rows = await database.read<ChannelColumns>(
        `${CHANNEL_COLUMNS} WHERE c.scid >= $1 ORDER BY c.scid LIMIT $2`,
        [toColumn(from), limit + 1],
      );
      const next = rows[limit]?.scid;
      return {
        channels: rows.slice(0, limit).map(stored),
        next: next === undefined ? undefined : fromColumn(next),
      };
    },
    loadNodes: async (from, limit): Promise<NodePage> => {
      const rows = await database.read<{ node_id: Uint8Array; raw: Uint8Array }>(
        'SELECT node_id, raw FROM node WHERE node_id >= $1 ORDER BY node_id LIMIT $2',
        [from, limit + 1],
      );
      const next = rows[limit]?.node_id;
      return {
        nodes: rows.slice(0, limit).map((row) => own(row.raw)),
        next: next === undefined ? undefined : own(next),
      };
    },
    changesSince: (revision) => changesSince(database, revision),
    saveScores: (epoch, scores) =>
      database.transaction(async (session) => {
        const rows = await session.query(
          `SELECT 1 FROM writer WHERE epoch = $1 AND owner <> '' FOR KEY SHARE`,
          [epoch],
        );
        if (rows.length === 0) return 'fenced';
        await session.query(
          'INSERT INTO score (scores) VALUES ($1) ON CONFLICT (only_row) DO UPDATE SET scores = excluded.scores',
          [scores],
        );
        return 'written';
      }),
    loadScores: async () => {
      const [row] = await database.read<{ scores: Uint8Array }>('SELECT scores FROM score');
      return row === undefined ? undefined : own(row.scores);
    },
    close: () => database.close(),
  };
}

/** The fence and the number in one: the row lock makes batches commit in the order of their numbers. */
async function nextRevision(session: Session, epoch: bigint): Promise<bigint | undefined> {
  const [row] = await session.query<{ revision: bigint }>(
    `UPDATE writer SET revision = revision + 1 WHERE epoch = $1 AND owner <> '' RETURNING revision`,
    [epoch],
  );
  return row?.revision;
}

async function applyChanges(session: Session, changes: GraphChanges, revision: bigint): Promise<void> {
  const { channels, updates, nodes, removedChannels, removedNodes, bannedNodes } = changes;
  if (removedChannels.length > 0) {
    const scids = int8Array(removedChannels.map(toColumn));
    await session.query('DELETE FROM channel WHERE scid = ANY($1::int8[])', [scids]);
    await session.query(
      'INSERT INTO removed_channel (revision, scid) SELECT $1, unnest($2::int8[]) ON CONFLICT DO NOTHING',
      [revision, scids],
    );
    await forgetRemovals(session);
  }
  if (channels.length > 0) {
    await session.query(
      `INSERT INTO channel (scid, capacity_sat, received_at, spent_height, announcement, revision)
       SELECT t.*, $6 FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int4[], $5::bytea[]) t
       ON CONFLICT (scid) DO UPDATE SET capacity_sat = excluded.capacity_sat, received_at = excluded.received_at,
         spent_height = excluded.spent_height, announcement = excluded.announcement, revision = excluded.revision`,
      [
        int8Array(channels.map((row) => toColumn(row.shortChannelId))),
        int8Array(channels.map((row) => row.capacitySat)),
        int8Array(channels.map((row) => BigInt(row.receivedAtSeconds))),
        int4Array(channels.map((row) => row.spentHeight)),
        byteaArray(channels.map((row) => row.announcement)),
        revision,
      ],
    );
  }
  if (updates.length > 0) {
    await session.query(
      `INSERT INTO channel_update (scid, direction, raw, revision)
       SELECT t.scid, t.direction, t.raw, $4
         FROM unnest($1::int8[], $2::int4[], $3::bytea[]) t (scid, direction, raw)
        WHERE EXISTS (SELECT 1 FROM channel c WHERE c.scid = t.scid)
       ON CONFLICT (scid, direction) DO UPDATE SET raw = excluded.raw, revision = excluded.revision`,
      [
        int8Array(updates.map((row) => toColumn(row.shortChannelId))),
        int4Array(updates.map((row) => row.direction)),
        byteaArray(updates.map((row) => row.raw)),
        revision,
      ],
    );
  }
  if (removedNodes.length > 0) {
    await session.query('DELETE FROM node WHERE node_id = ANY($1::bytea[])', [byteaArray(removedNodes)]);
  }
  if (nodes.length > 0) {
    await session.query(
      `INSERT INTO node (node_id, raw, revision) SELECT t.*, $3 FROM unnest($1::bytea[], $2::bytea[]) t
       ON CONFLICT (node_id) DO UPDATE SET raw = excluded.raw, revision = excluded.revision`,
      [byteaArray(nodes.map((row) => row.nodeId)), byteaArray(nodes.map((row) => row.raw)), revision],
    );
  }
  if (bannedNodes.length > 0) {
    await session.query(
      `INSERT INTO banned_node (node_id, revision) SELECT unnest($1::bytea[]), $2
       ON CONFLICT (node_id) DO UPDATE SET revision = excluded.revision`,
      [byteaArray(bannedNodes), revision],
    );
  }
  if (changes.ownNodeId !== undefined) {
    await session.query('UPDATE writer SET own_node_id = $1', [changes.ownNodeId]);
  }
}

/** Keeps the newest removals, and notes up to where readers can no longer follow. */
async function forgetRemovals(session: Session): Promise<void> {
  const [last] = await session.query<{ revision: bigint }>(
    'SELECT revision FROM removed_channel ORDER BY revision DESC, scid DESC OFFSET $1 LIMIT 1',
    [REMOVALS_KEPT],
  );
  if (last === undefined) return;
  await session.query('DELETE FROM removed_channel WHERE revision <= $1', [last.revision]);
  await session.query('UPDATE writer SET horizon = $1', [last.revision]);
}

/** One statement, so that all of it is one moment's truth. */
const CHANGES_SINCE = `
  SELECT 'position' AS kind, w.revision AS number, w.horizon AS scid, NULL::bytea AS raw, 0::int8 AS capacity_sat,
         0::int8 AS received_at, 0 AS spent_height, NULL::bytea AS announcement, NULL::bytea AS update_0, NULL::bytea AS update_1
    FROM writer w
  UNION ALL
  SELECT 'channel', 0, c.scid, NULL, c.capacity_sat, c.received_at, c.spent_height, c.announcement, u0.raw, u1.raw
    FROM channel c
    LEFT JOIN channel_update u0 ON u0.scid = c.scid AND u0.direction = 0
    LEFT JOIN channel_update u1 ON u1.scid = c.scid AND u1.direction = 1
   WHERE c.scid IN (SELECT scid FROM channel WHERE revision > $1 UNION SELECT scid FROM channel_update WHERE revision > $1)
  UNION ALL
  SELECT 'node', 0, 0, n.raw, 0, 0, 0, NULL, NULL, NULL FROM node n WHERE n.revision > $1
  UNION ALL
  SELECT 'removed', 0, r.scid, NULL, 0, 0, 0, NULL, NULL, NULL
    FROM removed_channel r WHERE r.revision > $1 AND NOT EXISTS (SELECT 1 FROM channel c WHERE c.scid = r.scid)
  UNION ALL
  SELECT 'banned', 0, 0, b.node_id, 0, 0, 0, NULL, NULL, NULL FROM banned_node b WHERE b.revision > $1`;

type ChangeRow = ChannelColumns & {
  readonly kind: string;
  readonly number: bigint;
  readonly raw: Uint8Array | null;
};

async function changesSince(database: Database, revision: bigint): Promise<Changes> {
  const rows = await database.read<ChangeRow>(CHANGES_SINCE, [revision]);
  const position = rows.find((row) => row.kind === 'position');
  if (position === undefined || revision < position.scid) return { kind: 'too_old' };
  const raws = (kind: string): Uint8Array[] =>
    rows.flatMap((row) => (row.kind === kind && row.raw !== null ? [own(row.raw)] : []));
  return {
    kind: 'changes',
    revision: position.number,
    channels: rows.filter((row) => row.kind === 'channel').map(stored),
    nodes: raws('node'),
    removedChannels: rows.filter((row) => row.kind === 'removed').map((row) => fromColumn(row.scid)),
    bannedNodes: raws('banned'),
  };
}
