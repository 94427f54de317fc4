/** The node's side of towers on Postgres: queues beside the manager's tables, filled by triggers. */
import type { MonitorChunk } from '../chain/chain-store.ts';
import { readMonitor } from '../chain/monitor-rows.ts';
import { CHAIN_SCHEMA } from '../chain/postgres.ts';
import { MANAGER_SCHEMA } from '../manager/postgres/store.ts';
import { byteaArray, int8Array, textArray } from '../pg/binary.ts';
import { Database, type Session } from '../pg/database.ts';
import type * as port from './tower-store.ts';

/** A tower that asks all the time is noted as seen this often. */
const SEEN_INTERVAL = "interval '5 seconds'";

export interface PostgresTowerFeedOptions {
  readonly connectionString: string;
  readonly applicationName: string;
  /** Default 2. */
  readonly maxConnections?: number;
}

/** Opens a pool on the manager's schema, which must have been migrated; chain-monitor's may come later. */
export function openTowerFeedStore(options: PostgresTowerFeedOptions): PostgresTowerFeedStore {
  return new PostgresTowerFeedStore(new Database({ schema: MANAGER_SCHEMA, maxConnections: 2, ...options }));
}

interface TowerColumns {
  tower_id: string;
  public_key: Uint8Array;
}
interface ChannelColumns {
  channel_id: Uint8Array;
  update_id: bigint;
}

export class PostgresTowerFeedStore implements port.TowerFeedStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async addTower({ towerId, publicKey }: port.RegisteredTower): Promise<'added' | 'exists'> {
    return this.#database.transaction(async (session) => {
      await session.query('INSERT INTO tower (tower_id, public_key) VALUES ($1, $2) ON CONFLICT DO NOTHING', [
        towerId,
        publicKey,
      ]);
      const same = await session.query('SELECT 1 FROM tower WHERE tower_id = $1 AND public_key = $2', [
        towerId,
        publicKey,
      ]);
      if (same.length === 0) return 'exists';
      await queuePreimages(session, towerId);
      return 'added';
    });
  }

  async removeTower(towerId: string): Promise<'removed' | 'unknown'> {
    return this.#database.transaction(async (session) => {
      const removed = await session.query('DELETE FROM tower WHERE tower_id = $1 RETURNING 1', [towerId]);
      await sweepLeftovers(session);
      return removed.length === 0 ? 'unknown' : 'removed';
    });
  }

  async tower(towerId: string): Promise<port.RegisteredTower | undefined> {
    const [row] = await this.#database.read<TowerColumns>(
      'SELECT tower_id, public_key FROM tower WHERE tower_id = $1',
      [towerId],
    );
    return row === undefined ? undefined : { towerId: row.tower_id, publicKey: row.public_key };
  }

  async listTowers(): Promise<readonly port.TowerStatus[]> {
    const rows = await this.#database.read<
      TowerColumns & { added: bigint; seen: bigint | null; behind: bigint; waiting: bigint }
    >(
      `SELECT t.tower_id, t.public_key, (extract(epoch FROM t.added_at) * 1000)::int8 AS added,
         (extract(epoch FROM t.last_seen_at) * 1000)::int8 AS seen,
         (SELECT count(*) FROM channel AS c LEFT JOIN tower_ack AS a ON a.channel_id = c.channel_id AND a.tower_id = t.tower_id
          WHERE c.phase <> 'closed' AND c.monitor_update_id > coalesce(a.update_id, 0)) AS behind,
         (SELECT count(*) FROM tower_update AS u WHERE u.tower_id = t.tower_id) AS waiting
       FROM tower AS t ORDER BY t.tower_id`,
    );
    const faults = await this.#database.read<{ tower_id: string; channel_id: Uint8Array; reason: string }>(
      'SELECT tower_id, channel_id, reason FROM tower_fault ORDER BY channel_id LIMIT 1000',
    );
    return rows.map((row) => ({
      towerId: row.tower_id,
      publicKey: row.public_key,
      addedUnixMs: Number(row.added),
      lastSeenUnixMs: row.seen === null ? undefined : Number(row.seen),
      channelsBehind: Number(row.behind),
      updatesWaiting: Number(row.waiting),
      faults: faults
        .filter((fault) => fault.tower_id === row.tower_id)
        .map(({ channel_id: channelId, reason }) => ({ channelId, reason })),
    }));
  }

  async pull(towerId: string, limit: number, deferred: readonly Uint8Array[] = []): Promise<port.TowerPage> {
    return this.#database.transaction(async (session) => {
      // One snapshot: a preimage and the update of its step appear together.
      await session.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
      const preimages = (
        await session.query<{ channel_id: Uint8Array; htlc_id: bigint; preimage: Uint8Array }>(
          'SELECT channel_id, htlc_id, preimage FROM tower_preimage WHERE tower_id = $1 ORDER BY channel_id, htlc_id LIMIT $2',
          [towerId, limit],
        )
      ).map(({ channel_id: channelId, htlc_id, preimage }) => ({
        channelId,
        htlcId: BigInt.asUintN(64, htlc_id),
        preimage,
      }));
      // An acknowledged update says that every preimage of its step is safe, so those go first.
      if (preimages.length === limit) return { updates: [], preimages, monitorsDue: [] };
      const due = await session.query<{ channel_id: Uint8Array }>(
        `SELECT d.channel_id FROM tower_monitor_due AS d WHERE d.tower_id = $1
           AND NOT EXISTS (SELECT FROM tower_fault AS f WHERE f.tower_id = $1 AND f.channel_id = d.channel_id)
           AND NOT EXISTS (SELECT FROM unnest($3::bytea[]) AS n(id) WHERE n.id = d.channel_id)
         ORDER BY d.channel_id LIMIT $2`,
        [towerId, limit, byteaArray(deferred)],
      );
      const updates = await session.query<ChannelColumns & { payload: Uint8Array }>(
        `SELECT u.channel_id, u.update_id, u.payload FROM tower_update AS u WHERE u.tower_id = $1
           AND NOT EXISTS (SELECT FROM tower_fault AS f WHERE f.tower_id = $1 AND f.channel_id = u.channel_id)
           AND NOT EXISTS (SELECT FROM tower_monitor_due AS d WHERE d.tower_id = $1 AND d.channel_id = u.channel_id)
         ORDER BY u.channel_id, u.update_id LIMIT $2`,
        [towerId, limit],
      );
      return {
        updates: updates.map((row) => ({
          channelId: row.channel_id,
          updateId: row.update_id,
          payload: row.payload,
        })),
        preimages,
        monitorsDue: due.map((row) => row.channel_id),
      };
    });
  }

  /** Written now and then only, or when the mark is news. */
  async seen(towerId: string, mark: bigint): Promise<bigint> {
    await this.#database.write(
      `UPDATE tower SET last_seen_at = now(), mark = greatest(mark, $2::int8) WHERE tower_id = $1
         AND (mark < $2::int8 OR last_seen_at IS NULL OR last_seen_at < now() - ${SEEN_INTERVAL})`,
      [towerId, mark],
    );
    const [row] = await this.#database.read<{ mark: bigint }>('SELECT mark FROM tower WHERE tower_id = $1', [
      towerId,
    ]);
    return row?.mark ?? 0n;
  }

  async origins(towerId: string, channelIds: readonly Uint8Array[]): Promise<readonly port.TowerOrigin[]> {
    if (channelIds.length === 0) return [];
    const rows = await this.#database.read<{
      channel_id: Uint8Array;
      parameters: Uint8Array;
      sealed_key: Uint8Array | null;
    }>(
      `SELECT b.channel_id, b.parameters, k.sealed_key FROM monitor_birth AS b
       LEFT JOIN tower_key AS k ON k.channel_id = b.channel_id AND k.tower_id = $1 WHERE b.channel_id = ANY ($2)`,
      [towerId, byteaArray(channelIds)],
    );
    return rows.map((row) => ({
      channelId: row.channel_id,
      parameters: row.parameters,
      sealedKey: row.sealed_key ?? undefined,
    }));
  }

  async putSealedKey(towerId: string, channelId: Uint8Array, sealedKey: Uint8Array): Promise<void> {
    await this.#database.write(
      'INSERT INTO tower_key (tower_id, channel_id, sealed_key) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
      [towerId, channelId, sealedKey],
    );
  }

  async monitor(
    channelId: Uint8Array,
  ): Promise<{ readonly updateId: bigint; readonly snapshot: Uint8Array } | undefined> {
    return readMonitor(this.#database, CHAIN_SCHEMA, channelId);
  }

  async measureChunks(
    channelId: Uint8Array,
    kind: MonitorChunk['kind'],
    count: number,
  ): Promise<{ readonly found: number; readonly bytes: bigint }> {
    const [row] = await this.#database.read<{ found: bigint; bytes: bigint }>(
      `SELECT count(*) AS found, coalesce(sum(octet_length(bytes)), 0) AS bytes FROM ${CHAIN_SCHEMA}.monitor_chunk
       WHERE channel_id = $1 AND kind = $2 AND number < $3`,
      [channelId, kind, count],
    );
    return { found: Number(row?.found ?? 0n), bytes: row?.bytes ?? 0n };
  }

  async readChunks(
    channelId: Uint8Array,
    kind: MonitorChunk['kind'],
    { from, until }: { readonly from: number; readonly until: number },
  ): Promise<readonly Uint8Array[]> {
    const rows = await this.#database.read<{ bytes: Uint8Array }>(
      `SELECT bytes FROM ${CHAIN_SCHEMA}.monitor_chunk WHERE channel_id = $1 AND kind = $2 AND number >= $3 AND number < $4 ORDER BY number`,
      [channelId, kind, from, until],
    );
    return rows.map(({ bytes }) => bytes);
  }

  async acknowledge(towerId: string, report: port.TowerReport): Promise<readonly port.ChannelFault[]> {
    return this.#database.transaction(async (session) => {
      const [tower] = await session.query<{ lost_mark: bigint }>(
        'UPDATE tower SET mark = greatest(mark, $2::int8) WHERE tower_id = $1 RETURNING lost_mark',
        [towerId, report.mark],
      );
      if (tower === undefined) return [];
      const isLost = report.mark > 0n && report.mark <= tower.lost_mark;
      const { progress, preimages, missing, faults } = isLost
        ? { ...report, progress: [], preimages: [], missing: [] }
        : report;
      const ids = byteaArray(progress.map(({ channelId }) => channelId));
      const updateIds = int8Array(progress.map(({ updateId }) => updateId));
      const beyond = await session.query<{ channel_id: Uint8Array; known: bigint | null; has: bigint }>(
        `SELECT n.id AS channel_id, n.update_id AS has, c.monitor_update_id AS known
         FROM unnest($1::bytea[], $2::int8[]) AS n(id, update_id) LEFT JOIN channel AS c ON c.channel_id = n.id
         WHERE n.update_id > coalesce(c.monitor_update_id, 0)`,
        [ids, updateIds],
      );
      const all: port.ChannelFault[] = [
        ...faults,
        ...beyond.map((row) => ({
          channelId: row.channel_id,
          reason: `the tower has update ${row.has}, this database only ${row.known ?? 0n}: it was set back`,
        })),
      ];
      const fresh = await session.query<{ channel_id: Uint8Array; reason: string }>(
        `INSERT INTO tower_fault (tower_id, channel_id, reason)
         SELECT DISTINCT ON (n.id) $1, n.id, n.reason FROM unnest($2::bytea[], $3::text[]) AS n(id, reason)
         ON CONFLICT DO NOTHING RETURNING channel_id, reason`,
        [
          towerId,
          byteaArray(all.map(({ channelId }) => channelId)),
          textArray(all.map(({ reason }) => reason)),
        ],
      );
      await session.query(
        `INSERT INTO tower_ack AS a (channel_id, tower_id, update_id)
         SELECT n.id, $1, max(n.update_id) FROM unnest($2::bytea[], $3::int8[]) AS n(id, update_id)
         WHERE NOT EXISTS (SELECT FROM tower_fault AS f WHERE f.tower_id = $1 AND f.channel_id = n.id)
         GROUP BY n.id ORDER BY n.id
         ON CONFLICT (channel_id, tower_id) DO UPDATE SET update_id = greatest(a.update_id, excluded.update_id)`,
        [towerId, ids, updateIds],
      );
      await session.query(
        `DELETE FROM tower_update AS u USING unnest($2::bytea[], $3::int8[]) AS n(id, update_id)
         WHERE u.tower_id = $1 AND u.channel_id = n.id AND u.update_id <= n.update_id`,
        [towerId, ids, updateIds],
      );
      await session.query(
        `DELETE FROM tower_monitor_due AS d USING unnest($2::bytea[]) AS n(id) WHERE d.tower_id = $1 AND d.channel_id = n.id`,
        [towerId, ids],
      );
      await session.query(
        `DELETE FROM tower_preimage AS p USING unnest($2::bytea[], $3::int8[]) AS n(id, htlc)
         WHERE p.tower_id = $1 AND p.channel_id = n.id AND p.htlc_id = n.htlc`,
        [
          towerId,
          byteaArray(preimages.map(({ channelId }) => channelId)),
          int8Array(preimages.map(({ htlcId }) => BigInt.asIntN(64, htlcId))),
        ],
      );
      await session.query(
        `INSERT INTO tower_monitor_due (tower_id, channel_id) SELECT $1, n.id FROM unnest($2::bytea[]) AS n(id)
         WHERE EXISTS (SELECT FROM channel AS c WHERE c.channel_id = n.id) ON CONFLICT DO NOTHING`,
        [towerId, byteaArray(missing)],
      );
      return fresh.map(({ channel_id: channelId, reason }) => ({ channelId, reason }));
    });
  }

  async setBack(
    towerId: string,
    lostMark: bigint,
  ): Promise<{ readonly mark: bigint; readonly channels: number } | undefined> {
    return this.#database.transaction(async (session) => {
      const [tower] = await session.query<{ mark: bigint }>(
        `UPDATE tower SET lost_mark = $2::int8, mark = $2::int8 + 1 WHERE tower_id = $1 AND mark <= $2::int8 RETURNING mark`,
        [towerId, lostMark],
      );
      if (tower === undefined) return undefined;
      await session.query(
        `INSERT INTO tower_monitor_due (tower_id, channel_id)
         SELECT a.tower_id, a.channel_id FROM tower_ack AS a JOIN channel AS c ON c.channel_id = a.channel_id
         WHERE a.tower_id = $1 AND (c.phase <> 'closed' OR EXISTS (
           SELECT FROM funding_watch AS w WHERE w.channel_id = a.channel_id AND w.settlement IS NULL))
         ORDER BY a.channel_id ON CONFLICT DO NOTHING`,
        [towerId],
      );
      const forgotten = await session.query('DELETE FROM tower_ack WHERE tower_id = $1 RETURNING 1', [
        towerId,
      ]);
      await queuePreimages(session, towerId);
      return { mark: tower.mark, channels: forgotten.length };
    });
  }

  async durableThrough(
    channelIds: readonly Uint8Array[],
    required: number,
  ): Promise<readonly port.DurableThrough[]> {
    if (channelIds.length === 0 || required < 1) return [];
    const rows = await this.#database.read<ChannelColumns>(
      `SELECT channel_id, update_id FROM (
         SELECT a.channel_id, a.update_id, row_number() OVER (PARTITION BY a.channel_id ORDER BY a.update_id DESC) AS rank
         FROM tower_ack AS a WHERE a.channel_id = ANY ($1)
           AND NOT EXISTS (SELECT FROM tower_fault AS f WHERE f.tower_id = a.tower_id AND f.channel_id = a.channel_id)
       ) AS ranked WHERE rank = $2`,
      [byteaArray(channelIds), required],
    );
    return rows.map(({ channel_id: channelId, update_id: updateId }) => ({ channelId, updateId }));
  }

  async tidy(maximumUpdates: number): Promise<{ readonly cut: number; readonly due: number }> {
    return this.#database.transaction(async (session) => {
      await sweepLeftovers(session);
      const cut = await session.query(
        `DELETE FROM tower_update AS u USING (
           SELECT tower_id, channel_id, max(update_id) - $1::int8 AS floor FROM tower_update
           GROUP BY tower_id, channel_id HAVING count(*) > $1::int8) AS d
         JOIN ${CHAIN_SCHEMA}.monitor AS m ON m.channel_id = d.channel_id
         WHERE u.tower_id = d.tower_id AND u.channel_id = d.channel_id AND u.update_id <= least(d.floor, m.update_id)
         RETURNING 1`,
        [maximumUpdates],
      );
      // What was written while the tower was being added, or was cut, is not in its queue.
      const due = await session.query(
        `INSERT INTO tower_monitor_due (tower_id, channel_id)
         SELECT t.tower_id, c.channel_id FROM tower AS t CROSS JOIN channel AS c
         LEFT JOIN tower_ack AS a ON a.tower_id = t.tower_id AND a.channel_id = c.channel_id
         WHERE c.phase <> 'closed' AND c.monitor_update_id > coalesce(a.update_id, 0)
           AND NOT EXISTS (SELECT FROM tower_update AS u WHERE u.tower_id = t.tower_id AND u.channel_id = c.channel_id
             AND u.update_id = coalesce(a.update_id, 0) + 1)
         ON CONFLICT DO NOTHING RETURNING 1`,
      );
      return { cut: cut.length, due: due.length };
    });
  }

  async close(): Promise<void> {
    await this.#database.close();
  }
}

/** All that there are. */
async function queuePreimages(session: Session, towerId: string): Promise<void> {
  await session.query(
    `INSERT INTO tower_preimage (tower_id, channel_id, htlc_id, preimage)
     SELECT $1, channel_id, htlc_id, preimage FROM htlc_preimage ON CONFLICT DO NOTHING`,
    [towerId],
  );
}

/** A step that ran while a tower was removed may have queued for it all the same. */
async function sweepLeftovers(session: Session): Promise<void> {
  for (const table of [
    'tower_ack',
    'tower_update',
    'tower_preimage',
    'tower_monitor_due',
    'tower_fault',
    'tower_key',
  ])
    await session.query(
      `DELETE FROM ${table} AS x WHERE NOT EXISTS (SELECT FROM tower AS t WHERE t.tower_id = x.tower_id)`,
    );
}
