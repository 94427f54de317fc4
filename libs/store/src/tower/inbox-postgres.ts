/**
 * The tower's side on Postgres. A tower's database has the schemas of a node:
 * what the node's managers write there, the feed writes here.
 */
import type { ChainLease } from '../chain/chain-store.ts';
import { putChunks } from '../chain/monitor-rows.ts';
import { CHAIN_SCHEMA, holdLease } from '../chain/postgres.ts';
import { MANAGER_SCHEMA } from '../manager/postgres/store.ts';
import { byteaArray, int4Array, int8Array } from '../pg/binary.ts';
import { Database, type Session } from '../pg/database.ts';
import type * as port from './tower-store.ts';
import { InboxSetBackError } from './tower-store.ts';

export interface PostgresTowerInboxOptions {
  readonly connectionString: string;
  readonly applicationName: string;
  /** The tower's own name. */
  readonly towerId: string;
}

/** Opens a pool; both schemas (the manager's and chain-monitor's) must have been migrated. */
export function openTowerInbox({ towerId, ...options }: PostgresTowerInboxOptions): PostgresTowerInbox {
  return new PostgresTowerInbox(
    new Database({ schema: MANAGER_SCHEMA, maxConnections: 2, ...options }),
    towerId,
  );
}

/** A channel's funding is settled by depth on the node; a tower only looks for its spend. */
const TOWER_MINIMUM_DEPTH = 1;

export class PostgresTowerInbox implements port.TowerInbox {
  readonly #database: Database;
  readonly #towerId: string;

  constructor(database: Database, towerId: string) {
    this.#database = database;
    this.#towerId = towerId;
  }

  async mark(): Promise<bigint> {
    const [row] = await this.#database.read<{ mark: bigint }>('SELECT mark FROM tower_mark');
    return row?.mark ?? 1n;
  }

  async raiseMark(mark: bigint): Promise<void> {
    await this.#database.write('UPDATE tower_mark SET mark = greatest(mark, $1::int8)', [mark]);
  }

  async receive(batch: port.ReceivedBatch, known: bigint): Promise<port.InboxResult> {
    return this.#database.transaction(async (session) => {
      const mark = await count(session, known);
      await this.#putOrigins(session, batch.origins, batch.watches);
      const byChannel = new Map<string, port.TowerUpdate[]>();
      for (const update of batch.updates) {
        const key = Buffer.from(update.channelId).toString('hex');
        const known = byChannel.get(key);
        if (known === undefined) byChannel.set(key, [update]);
        else known.push(update);
      }
      const had = await held(
        session,
        [...byChannel.values()].flatMap(([first]) => (first === undefined ? [] : [first.channelId])),
      );
      const progress: port.ChannelProgress[] = [];
      const missing: Uint8Array[] = [];
      const fresh: port.TowerUpdate[] = [];
      for (const { channelId, updateId } of had) {
        let last = updateId;
        for (const update of byChannel.get(Buffer.from(channelId).toString('hex')) ?? []) {
          if (update.updateId !== last + 1n) continue;
          fresh.push(update);
          last = update.updateId;
        }
        const newest = byChannel.get(Buffer.from(channelId).toString('hex'))?.at(-1)?.updateId ?? 0n;
        if (newest > last) missing.push(channelId);
        if (last > 0n) progress.push({ channelId, updateId: last });
      }
      await session.query(
        `INSERT INTO monitor_update (channel_id, update_id, payload)
         SELECT * FROM unnest($1::bytea[], $2::int8[], $3::bytea[]) ON CONFLICT DO NOTHING`,
        [
          byteaArray(fresh.map(({ channelId }) => channelId)),
          int8Array(fresh.map(({ updateId }) => updateId)),
          byteaArray(fresh.map(({ payload }) => payload)),
        ],
      );
      await session.query(
        `INSERT INTO htlc_preimage (channel_id, htlc_id, preimage)
         SELECT * FROM unnest($1::bytea[], $2::int8[], $3::bytea[]) ON CONFLICT DO NOTHING`,
        [
          byteaArray(batch.preimages.map(({ channelId }) => channelId)),
          int8Array(batch.preimages.map(({ htlcId }) => BigInt.asIntN(64, htlcId))),
          byteaArray(batch.preimages.map(({ preimage }) => preimage)),
        ],
      );
      return { progress, missing, mark };
    });
  }

  async receiveMonitor(
    lease: ChainLease,
    monitor: port.ReceivedMonitor,
    origin: port.ReceivedOrigin,
    watch: port.ReceivedWatch,
    known: bigint,
  ): Promise<port.ReceivedMonitorResult> {
    const { channelId, updateId, snapshot, chunks } = monitor;
    return this.#database.transaction(async (session) => {
      await holdLease(session, lease);
      const mark = await count(session, known);
      await this.#putOrigins(session, [origin], [watch]);
      const [had] = await held(session, [channelId]);
      if (had !== undefined && had.updateId >= updateId) return { outcome: 'had', progress: had, mark };
      const replaced = await session.query(
        `INSERT INTO ${CHAIN_SCHEMA}.monitor AS m (channel_id, update_id, close_state, snapshot) VALUES ($1, $2, 'open', $3)
         ON CONFLICT (channel_id) DO UPDATE SET update_id = excluded.update_id, snapshot = excluded.snapshot
         WHERE m.update_id < excluded.update_id RETURNING 1`,
        [channelId, updateId, snapshot],
      );
      // The node may have sealed the same HTLCs in another order: its chunks replace all of what was sealed here.
      if (replaced.length > 0)
        await putChunks(
          session,
          CHAIN_SCHEMA,
          chunks.map((chunk) => ({ channelId, ...chunk })),
        );
      await session.query('DELETE FROM monitor_update WHERE channel_id = $1 AND update_id <= $2', [
        channelId,
        updateId,
      ]);
      return { outcome: 'taken', progress: { channelId, updateId }, mark };
    });
  }

  async sealedKey(channelId: Uint8Array): Promise<Uint8Array | undefined> {
    const [row] = await this.#database.read<{ sealed_key: Uint8Array }>(
      'SELECT sealed_key FROM tower_key WHERE tower_id = $1 AND channel_id = $2',
      [this.#towerId, channelId],
    );
    return row?.sealed_key;
  }

  async forgetPreimages(
    below: readonly { readonly channelId: Uint8Array; readonly htlcId: bigint }[],
  ): Promise<void> {
    if (below.length === 0) return;
    await this.#database.write(
      `DELETE FROM htlc_preimage AS p USING unnest($1::bytea[], $2::int8[]) AS n(id, htlc)
       WHERE p.channel_id = n.id AND p.htlc_id < n.htlc`,
      [
        byteaArray(below.map(({ channelId }) => channelId)),
        int8Array(below.map(({ htlcId }) => BigInt.asIntN(64, htlcId))),
      ],
    );
  }

  async #putOrigins(
    session: Session,
    origins: readonly port.ReceivedOrigin[],
    watches: readonly port.ReceivedWatch[],
  ): Promise<void> {
    const ids = byteaArray(origins.map(({ channelId }) => channelId));
    await session.query(
      `INSERT INTO monitor_birth (channel_id, parameters) SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT DO NOTHING`,
      [ids, byteaArray(origins.map(({ parameters }) => parameters))],
    );
    await session.query(
      `INSERT INTO tower_key (tower_id, channel_id, sealed_key) SELECT $1, * FROM unnest($2::bytea[], $3::bytea[])
       ON CONFLICT (tower_id, channel_id) DO UPDATE SET sealed_key = excluded.sealed_key`,
      [this.#towerId, ids, byteaArray(origins.map(({ sealedKey }) => sealedKey))],
    );
    await session.query(
      `INSERT INTO funding_watch (channel_id, funding_txid, funding_output_index, funding_value_sat, script_pubkey, minimum_depth)
       SELECT *, ${TOWER_MINIMUM_DEPTH} FROM unnest($1::bytea[], $2::bytea[], $3::int4[], $4::int8[], $5::bytea[]) ON CONFLICT DO NOTHING`,
      [
        byteaArray(watches.map(({ channelId }) => channelId)),
        byteaArray(watches.map(({ fundingTxid }) => fundingTxid)),
        int4Array(watches.map(({ fundingOutputIndex }) => fundingOutputIndex)),
        int8Array(watches.map(({ fundingValueSat }) => fundingValueSat)),
        byteaArray(watches.map(({ scriptPubKey }) => scriptPubKey)),
      ],
    );
  }

  async close(): Promise<void> {
    await this.#database.close();
  }
}

/** Counts this transaction. */
async function count(session: Session, known: bigint): Promise<bigint> {
  const [row] = await session.query<{ mark: bigint }>(
    'UPDATE tower_mark SET mark = mark + 1 WHERE mark >= $1::int8 RETURNING mark',
    [known],
  );
  if (row === undefined) throw new InboxSetBackError(`this database counts less than ${known}`);
  return row.mark;
}

/** The last update that is durable here, drained or not; 0: none. */
async function held(
  session: Session,
  channelIds: readonly Uint8Array[],
): Promise<readonly port.ChannelProgress[]> {
  const rows = await session.query<{ channel_id: Uint8Array; update_id: bigint }>(
    `SELECT n.id AS channel_id, greatest(coalesce(m.update_id, 0), coalesce(l.last, 0)) AS update_id
     FROM unnest($1::bytea[]) AS n(id) LEFT JOIN ${CHAIN_SCHEMA}.monitor AS m ON m.channel_id = n.id
     LEFT JOIN LATERAL (SELECT max(u.update_id) AS last FROM monitor_update AS u WHERE u.channel_id = n.id) AS l ON true`,
    [byteaArray(channelIds)],
  );
  return rows.map(({ channel_id: channelId, update_id: updateId }) => ({ channelId, updateId }));
}
