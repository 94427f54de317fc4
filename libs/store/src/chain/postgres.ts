/** chain-monitor's store on Postgres: its own schema, and the manager's tables beside it. */
import { StatementError, StoreError } from '../error.ts';
import { MANAGER_SCHEMA } from '../manager/postgres/store.ts';
import type { FundingWatch } from '../manager/manager-store.ts';
import { byteaArray, int4Array } from '../pg/binary.ts';
import { Database, type Session } from '../pg/database.ts';
import type * as port from './chain-store.ts';
import { ChainConflictError, ChainFenceLostError } from './chain-store.ts';
import {
  bytesArray,
  readBlock,
  readBroadcast,
  readFunding,
  readAddress,
  readReservation,
  readTransaction,
  readUtxo,
  type Columns,
} from './rows.ts';
import { readClaim, readSettlement, readSpend, readSweep } from './settlement-rows.ts';
import { KEPT_BLOCKS } from './memory.ts';
import {
  NO_DEADLINE,
  loadMonitors,
  monitorChunks,
  readMonitorLog,
  writeMonitors,
} from './monitor-postgres.ts';
import { insertEvents } from './write-settlement.ts';
import { writeTurn } from './write-turn.ts';

export const CHAIN_SCHEMA = 'chain';
export const CHAIN_MIGRATIONS: URL = new URL('./migrations/', import.meta.url);
const LEASE_NAME = 'chain';
/** The monitor update that brings the first commitments of both sides. */
const FIRST_UPDATE = 1;

/** What the server says of a table or schema that is not there. */
const MISSING_TABLE: ReadonlySet<string> = new Set(['42P01', '3F000']);

export interface PostgresChainStoreOptions {
  readonly connectionString: string;
  readonly applicationName: string;
  /** Default 4. */
  readonly maxConnections?: number;
  readonly statementTimeoutMs?: number;
}

/** Opens the pool; the schema must have been migrated (`migrate(database, CHAIN_MIGRATIONS)`). */
export function openChainDatabase(options: PostgresChainStoreOptions): Database {
  return new Database({ schema: CHAIN_SCHEMA, maxConnections: 4, ...options });
}

/**
 * The fence of a writer's transaction, in any schema. Waits for a takeover that is under way, and then sees its epoch.
 * @throws ChainFenceLostError when another writer has the lease
 */
export async function holdLease(session: Session, { holder, epoch }: port.ChainLease): Promise<void> {
  const held = await session.query(
    `SELECT 1 FROM ${CHAIN_SCHEMA}.lease WHERE name = $1 AND holder = $2 AND epoch = $3 FOR SHARE`,
    [LEASE_NAME, holder, epoch],
  );
  if (held.length === 0) throw new ChainFenceLostError('another replica writes');
}

export class PostgresChainStore implements port.ChainStore {
  readonly #database: Database;
  readonly #towersRequired: number;

  /** `towersRequired`: a funding is not taken for broadcast before so many towers have the channel. */
  constructor(database: Database, towersRequired = 0) {
    this.#database = database;
    this.#towersRequired = towersRequired;
  }

  async acquireLease({
    holder,
    address,
    leaseMs,
    doubt = '',
  }: port.LeaseRequest): Promise<port.LeaseOutcome> {
    const [row] = await this.#database.write<{ epoch: bigint }>(
      `INSERT INTO lease AS l (name, holder, address, epoch, lease_until, doubt, doubt_of)
       VALUES ($1, $2, $3, 1, clock_timestamp() + $4::int4 * interval '1 millisecond', $5, $2)
       ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, address = excluded.address,
         doubt = excluded.doubt, doubt_of = excluded.doubt_of,
         epoch = l.epoch + (l.holder <> excluded.holder)::int, lease_until = clock_timestamp() + $4::int4 * interval '1 millisecond'
       WHERE l.holder = excluded.holder OR l.lease_until < clock_timestamp()
       RETURNING epoch`,
      [LEASE_NAME, holder, address, leaseMs, doubt],
    );
    if (row !== undefined) return { type: 'acquired', lease: { holder, epoch: row.epoch } };
    const [held] = await this.#database.read<{ holder: string; address: string; doubt: string | null }>(
      'SELECT holder, address, CASE WHEN doubt_of = holder THEN doubt END AS doubt FROM lease WHERE name = $1',
      [LEASE_NAME],
    );
    if (held === undefined) throw new StoreError('unavailable', 'the lease vanished');
    const told = held.doubt ?? 'the writer is of a release that does not say whether it knows the chain';
    return {
      type: 'held',
      holder: held.holder,
      address: held.address,
      ...(told !== '' && { doubt: told }),
    };
  }

  async releaseLease(lease: port.ChainLease): Promise<void> {
    await this.#database.write(
      "UPDATE lease SET lease_until = '-infinity' WHERE name = $1 AND holder = $2 AND epoch = $3",
      [LEASE_NAME, lease.holder, lease.epoch],
    );
  }

  async #fenced<T>(lease: port.ChainLease, work: (session: Session) => Promise<T>): Promise<T> {
    return this.#database.transaction(async (session) => {
      await holdLease(session, lease);
      return work(session);
    });
  }

  async load(): Promise<port.ChainSnapshot> {
    return this.#database.transaction(async (session) => {
      await session.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
      const [progress] = await session.query<Columns>('SELECT rescan_from, scanned_from FROM progress');
      return {
        blocks: (await session.query<Columns>('SELECT * FROM block ORDER BY height')).map(readBlock),
        fundings: (
          await session.query<Columns>(
            `SELECT * FROM funding WHERE settled_height IS NULL
             UNION ALL SELECT * FROM funding WHERE settled_height > (SELECT max(height) FROM block) - $1::int4`,
            [KEPT_BLOCKS],
          )
        ).map(readFunding),
        broadcasts: (await session.query<Columns>('SELECT * FROM broadcast')).map(readBroadcast),
        addresses: (await session.query<Columns>('SELECT * FROM wallet_address')).map(readAddress),
        utxos: (await session.query<Columns>('SELECT * FROM wallet_utxo')).map(readUtxo),
        reservations: (await session.query<Columns>('SELECT * FROM wallet_reservation')).map(readReservation),
        // Spends are kept while a reorganisation could undo what they settled: so they name the settlements at work.
        spends: (
          await session.query<Columns>('SELECT * FROM spend ORDER BY height, tx_index, channel_id')
        ).map(readSpend),
        settlements: (
          await session.query<Columns>(
            'SELECT * FROM settlement WHERE channel_id IN (SELECT channel_id FROM spend)',
          )
        ).map(readSettlement),
        claims: (await session.query<Columns>('SELECT * FROM claim')).map(readClaim),
        sweeps: (await session.query<Columns>('SELECT * FROM sweep')).map(readSweep),
        rescanFrom: (progress?.['rescan_from'] as number | null | undefined) ?? undefined,
        scannedFrom: (progress?.['scanned_from'] as number | null | undefined) ?? undefined,
      };
    });
  }

  async tip(): Promise<port.StoredBlock | undefined> {
    const [row] = await this.#database.read<Columns>('SELECT * FROM block ORDER BY height DESC LIMIT 1');
    return row === undefined ? undefined : readBlock(row);
  }

  async commit(lease: port.ChainLease, turn: port.ChainTurn): Promise<void> {
    await this.#fenced(lease, (session) => writeTurn(session, turn, MANAGER_SCHEMA));
  }

  async listTransactions(limit: number): Promise<readonly port.WalletTransactionRecord[]> {
    return (
      await this.#database.read<Columns>('SELECT * FROM wallet_transaction ORDER BY number DESC LIMIT $1', [
        limit,
      ])
    ).map(readTransaction);
  }

  /** The manager's tables may not exist before its first start: then there is nothing to read in them. */
  async #unlessMissing<T>(work: Promise<T[]>): Promise<T[]> {
    try {
      return await work;
    } catch (error) {
      if (error instanceof StatementError && MISSING_TABLE.has(error.sqlState)) return [];
      throw error;
    }
  }

  async newWatches(limit: number): Promise<readonly FundingWatch[]> {
    const rows = await this.#unlessMissing(
      this.#database.read<Columns>(
        `SELECT w.*, s.from_height,
           coalesce((SELECT c.holder_is_funder FROM ${MANAGER_SCHEMA}.channel AS c WHERE c.channel_id = w.channel_id), false) AS holder_is_funder
         FROM ${MANAGER_SCHEMA}.funding_watch AS w
         LEFT JOIN ${MANAGER_SCHEMA}.funding_search AS s USING (channel_id)
         WHERE w.settlement IS NULL AND NOT EXISTS (SELECT FROM funding AS f WHERE f.channel_id = w.channel_id
           AND f.funding_txid = w.funding_txid AND f.funding_output_index = w.funding_output_index
           AND (f.holder_is_funder IS NOT NULL OR f.seen_height IS NOT NULL OR f.spent_height IS NOT NULL)) LIMIT $1`,
        [limit],
      ),
    );
    return rows.map((row) => ({
      channelId: row['channel_id'] as Uint8Array,
      fundingTxid: row['funding_txid'] as Uint8Array,
      fundingOutputIndex: row['funding_output_index'] as number,
      fundingValueSat: row['funding_value_sat'] as bigint,
      scriptPubKey: row['script_pubkey'] as Uint8Array,
      minimumDepth: row['minimum_depth'] as number,
      ...(row['from_height'] !== null && { searchFromHeight: row['from_height'] as number }),
      funder: row['holder_is_funder'] === true ? 'holder' : 'counterparty',
    }));
  }

  async takeBroadcasts(
    lease: port.ChainLease,
    limit: number,
    orderIdOf: (transactions: readonly Uint8Array[]) => Uint8Array,
  ): Promise<readonly port.BroadcastRecord[]> {
    const waiting = await this.#unlessMissing(
      this.#database.read(`SELECT 1 FROM ${MANAGER_SCHEMA}.broadcast LIMIT 1`),
    );
    if (waiting.length === 0) return [];
    return this.#fenced(lease, async (session) => {
      const taken = await session.query<Columns>(
        `DELETE FROM ${MANAGER_SCHEMA}.broadcast WHERE broadcast_id IN
           (SELECT b.broadcast_id FROM ${MANAGER_SCHEMA}.broadcast AS b
            WHERE $2::int4 = 0 OR b.kind <> 'funding' OR ${MANAGER_SCHEMA}.towers_with(b.channel_id, ${FIRST_UPDATE}) >= $2::int4
            ORDER BY b.broadcast_id LIMIT $1 FOR UPDATE SKIP LOCKED)
         RETURNING broadcast_id, channel_id, kind, transactions, kind = 'funding' AND EXISTS (
           SELECT FROM ${MANAGER_SCHEMA}.channel AS c WHERE c.channel_id = broadcast.channel_id AND c.phase = 'closed') AS is_void`,
        [limit, this.#towersRequired],
      );
      taken.sort((a, b) => ((a['broadcast_id'] as bigint) < (b['broadcast_id'] as bigint) ? -1 : 1));
      const fresh: port.BroadcastRecord[] = [];
      for (const row of taken) {
        if (row['is_void'] === true) continue;
        const transactions = bytesArray(row, 'transactions');
        const record: port.BroadcastRecord = {
          orderId: orderIdOf(transactions),
          kind: row['kind'] as port.BroadcastKind,
          channelId: row['channel_id'] as Uint8Array,
          transactions,
          confirmedHeights: transactions.map(() => undefined),
        };
        if (await insertBroadcast(session, record)) fresh.push(record);
      }
      return fresh;
    });
  }

  async closedChannels(channelIds: readonly Uint8Array[]): Promise<readonly Uint8Array[]> {
    if (channelIds.length === 0) return [];
    const rows = await this.#database.read<{ id: Uint8Array }>(
      `SELECT channel_id AS id FROM ${MANAGER_SCHEMA}.channel WHERE channel_id = ANY ($1) AND phase = 'closed'`,
      [byteaArray(channelIds)],
    );
    return rows.map(({ id }) => id);
  }

  async knownChannelKeys(channelKeysIds: readonly Uint8Array[]): Promise<readonly Uint8Array[]> {
    if (channelKeysIds.length === 0) return [];
    const rows = await this.#database.read<{ id: Uint8Array }>(
      `SELECT DISTINCT channel_keys_id AS id FROM ${MANAGER_SCHEMA}.channel WHERE channel_keys_id = ANY ($1) AND phase <> 'closed'`,
      [byteaArray(channelKeysIds)],
    );
    return rows.map(({ id }) => id);
  }

  async readMonitorLog(
    after: port.MonitorLogPosition | undefined,
    limit: number,
    passedOver: readonly Uint8Array[] = [],
  ): Promise<readonly port.MonitorLogEntry[]> {
    return this.#unlessMissing(readMonitorLog(this.#database, after, limit, passedOver));
  }

  async loadMonitors(channelIds: readonly Uint8Array[]): Promise<readonly port.LoadedMonitor[]> {
    return loadMonitors(this.#database, CHAIN_SCHEMA, channelIds);
  }

  async monitorChunks(
    channelId: Uint8Array,
    commitmentNumbers: readonly bigint[],
  ): Promise<readonly port.MonitorChunk[]> {
    return monitorChunks(this.#database, channelId, commitmentNumbers);
  }

  async commitMonitors(lease: port.ChainLease, monitors: readonly port.DrainedMonitor[]): Promise<void> {
    if (monitors.length === 0) return;
    await this.#fenced(lease, (session) => writeMonitors(session, CHAIN_SCHEMA, monitors));
  }

  async monitorDeadlines(
    after: Uint8Array | undefined,
    limit: number,
  ): Promise<readonly port.MonitorDeadline[]> {
    const rows = await this.#database.read<Columns>(
      `SELECT channel_id, next_deadline_height FROM monitor
       WHERE close_state = 'open' AND (next_deadline_height IS NULL OR next_deadline_height < ${NO_DEADLINE}) AND channel_id > $1
       ORDER BY channel_id LIMIT $2`,
      [after ?? new Uint8Array(0), limit],
    );
    return rows.map((row) => ({
      channelId: row['channel_id'] as Uint8Array,
      height: (row['next_deadline_height'] as number | null) ?? 'unknown',
    }));
  }

  async pendingCloses(after: Uint8Array | undefined, limit: number): Promise<readonly port.PendingClose[]> {
    const rows = await this.#unlessMissing(
      this.#database.read<Columns>(
        `WITH due AS (
           SELECT channel_id FROM monitor WHERE close_state = 'pending'
           UNION
           SELECT m.channel_id FROM ${MANAGER_SCHEMA}.channel AS d JOIN monitor AS m ON m.channel_id = d.channel_id
           WHERE d.closing_decision IS NOT NULL AND m.close_state = 'open')
         SELECT m.channel_id, m.update_id, c.monitor_update_id, c.closing_decision FROM due
         JOIN monitor AS m ON m.channel_id = due.channel_id
         LEFT JOIN ${MANAGER_SCHEMA}.channel AS c ON c.channel_id = m.channel_id
         WHERE m.channel_id > $1
         AND NOT EXISTS (SELECT FROM ${MANAGER_SCHEMA}.monitor_update AS u WHERE u.channel_id = m.channel_id)
         ORDER BY m.channel_id LIMIT $2`,
        [after ?? new Uint8Array(0), limit],
      ),
    );
    return rows.map((row) => ({
      channelId: row['channel_id'] as Uint8Array,
      updateId: row['update_id'] as bigint,
      managerUpdateId: (row['monitor_update_id'] as bigint | null) ?? undefined,
      decision: (row['closing_decision'] as string | null) ?? undefined,
    }));
  }

  async commitClose(
    lease: port.ChainLease,
    channelId: Uint8Array,
    closeState: port.CloseState,
    broadcast: port.BroadcastRecord | undefined,
    event?: port.ChainEvent,
  ): Promise<void> {
    await this.#fenced(lease, async (session) => {
      const moved = await session.query(
        'UPDATE monitor SET close_state = $2 WHERE channel_id = $1 RETURNING 1',
        [channelId, closeState],
      );
      if (moved.length === 0) throw new ChainConflictError('no such monitor');
      if (broadcast !== undefined) await insertBroadcast(session, broadcast);
      await insertEvents(session, event === undefined ? [] : [event], MANAGER_SCHEMA);
    });
  }

  async decideClose(
    lease: port.ChainLease,
    channelId: Uint8Array,
    reason: string,
    event?: port.ChainEvent,
  ): Promise<'decided' | 'closing'> {
    return this.#fenced(lease, async (session) => {
      // Waits for a commit of the channel that is under way, and sees its phase; the next one sees the decision.
      const decided = await session.query(
        `UPDATE ${MANAGER_SCHEMA}.channel SET closing_decision = $2
         WHERE channel_id = $1 AND closing_decision IS NULL AND NOT ${MANAGER_SCHEMA}.is_closing(phase) RETURNING 1`,
        [channelId, reason],
      );
      if (decided.length === 0) return 'closing';
      const marked = await session.query(
        `UPDATE monitor SET close_state = CASE close_state WHEN 'open' THEN 'pending' ELSE close_state END
         WHERE channel_id = $1 RETURNING 1`,
        [channelId],
      );
      if (marked.length === 0) throw new ChainConflictError('no such monitor');
      await insertEvents(session, event === undefined ? [] : [event], MANAGER_SCHEMA);
      return 'decided';
    });
  }

  async preimages(channelIds: readonly Uint8Array[]): ReturnType<port.ChainStore['preimages']> {
    if (channelIds.length === 0) return [];
    const rows = await this.#unlessMissing(
      this.#database.read<Columns>(
        `SELECT channel_id, htlc_id, preimage FROM ${MANAGER_SCHEMA}.htlc_preimage WHERE channel_id = ANY ($1) ORDER BY channel_id, htlc_id`,
        [byteaArray(channelIds)],
      ),
    );
    return rows.map((row) => ({
      channelId: row['channel_id'] as Uint8Array,
      htlcId: BigInt.asUintN(64, row['htlc_id'] as bigint),
      preimage: row['preimage'] as Uint8Array,
    }));
  }

  async ownPayments(channelIds: readonly Uint8Array[]): ReturnType<port.ChainStore['ownPayments']> {
    if (channelIds.length === 0) return [];
    const rows = await this.#unlessMissing(
      this.#database.read<Columns>(
        `SELECT channel_id, htlc_id FROM ${MANAGER_SCHEMA}.outgoing WHERE channel_id = ANY ($1) AND get_byte(source, 0) = 1`,
        [byteaArray(channelIds)],
      ),
    );
    return rows.map((row) => ({
      channelId: row['channel_id'] as Uint8Array,
      htlcId: BigInt.asUintN(64, row['htlc_id'] as bigint),
    }));
  }

  async fulfilledLate(channelIds: readonly Uint8Array[]): ReturnType<port.ChainStore['fulfilledLate']> {
    if (channelIds.length === 0) return [];
    const rows = await this.#unlessMissing(
      this.#database.read<Columns>(
        `SELECT channel_id, amount_msat, update_id FROM ${MANAGER_SCHEMA}.late_fulfilment WHERE channel_id = ANY ($1)`,
        [byteaArray(channelIds)],
      ),
    );
    return rows.map((row) => ({
      channelId: row['channel_id'] as Uint8Array,
      amountMsat: row['amount_msat'] as bigint,
      updateId: row['update_id'] as bigint,
    }));
  }

  async listSettlements(filter: {
    readonly resolved: 'include' | 'exclude';
    readonly limit: number;
  }): Promise<readonly port.SettlementRecord[]> {
    const rows = await this.#database.read<Columns>(
      `SELECT * FROM settlement WHERE $1 OR stage = 'closed' ORDER BY close_height DESC, channel_id LIMIT $2`,
      [filter.resolved === 'include', filter.limit],
    );
    return rows.map(readSettlement);
  }

  async close(): Promise<void> {
    await this.#database.close();
  }
}

async function insertBroadcast(session: Session, record: port.BroadcastRecord): Promise<boolean> {
  const inserted = await session.query(
    `INSERT INTO broadcast (order_id, kind, channel_id, transactions, confirmed_heights) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (order_id) DO NOTHING RETURNING 1`,
    [
      record.orderId,
      record.kind,
      record.channelId ?? null,
      byteaArray(record.transactions),
      int4Array(record.confirmedHeights.map((height) => height ?? null)),
    ],
  );
  return inserted.length > 0;
}
