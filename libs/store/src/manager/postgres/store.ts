/**
 * The manager's store on Postgres. Four pools, so that nothing waits for what is
 * less urgent: leases (a heartbeat behind slow steps would lose every shard),
 * steps, everything else, and one connection for upkeep.
 */
import { StoreError } from '../../error.ts';
import { int4Array } from '../../pg/binary.ts';
import { Database, type Parameter } from '../../pg/database.ts';
import { type DurabilityMode, requireDurability } from '../../pg/durability.ts';
import { migrate } from '../../pg/migrate.ts';
import { readStatements } from '../../pg/statements.ts';
import type * as port from '../manager-store.ts';
import type { Fence, ManagerStore } from '../manager-store.ts';
import { encodeSource } from '../source.ts';
import { commitUnits } from './commit.ts';
import { signed } from './commit-columns.ts';
import { loadPayment, loadShard } from './load.ts';
import * as rows from './rows.ts';

export const MANAGER_SCHEMA = 'manager';
export const MANAGER_MIGRATIONS: URL = new URL('./migrations/', import.meta.url);

/** A first try that does not wait for a hanging owner; then one long enough for its session to be ended. */
const SHORT_LOCK_TIMEOUT_MS = 50;
const TAKEOVER_LOCK_TIMEOUT_MS = 1_000;

export interface PostgresManagerStoreOptions {
  readonly connectionString: string;
  /** Names the sessions in pg_stat_activity. */
  readonly applicationName: string;
  /** Connections for steps; each commit lane uses one. Default 4. */
  readonly stepConnections?: number;
  /** Connections for loads, polls and the API. Default 4. */
  readonly queryConnections?: number;
  /** Failures go on only when so many towers have the update behind them. Default 0. */
  readonly towersRequired?: number;
  /** Must be shorter than the lease. Default 5 000 ms. */
  readonly statementTimeoutMs?: number;
}

/** The hot path's plan is always the same: by key, row by row, whatever the statistics say of a young table. */
const STEP_SETTINGS = {
  plan_cache_mode: 'force_generic_plan',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  enable_seqscan: 'off',
};

/** Opens the pools; the schema must have been migrated (`migrate(database, MANAGER_MIGRATIONS)`). */
export function openManagerStore(options: PostgresManagerStoreOptions): PostgresManagerStore {
  const pool = (name: string, maxConnections: number, settings: Readonly<Record<string, string>>): Database =>
    new Database({
      connectionString: options.connectionString,
      applicationName: `${options.applicationName} ${name}`,
      schema: MANAGER_SCHEMA,
      maxConnections,
      settings,
      ...(options.statementTimeoutMs !== undefined && { statementTimeoutMs: options.statementTimeoutMs }),
    });
  return new PostgresManagerStore(
    pool('leases', 2, {}),
    pool('steps', options.stepConnections ?? 4, STEP_SETTINGS),
    pool('queries', options.queryConnections ?? 4, {}),
    pool('upkeep', 1, {}),
    options.towersRequired ?? 0,
  );
}

/**
 * The start-up of every replica: applies the migrations (replicas take turns), and refuses a database that can forget.
 * @throws StoreSetupError
 */
export async function prepareManagerDatabase(connectionString: string, mode: DurabilityMode): Promise<void> {
  const database = new Database({
    connectionString,
    applicationName: 'migrate',
    schema: MANAGER_SCHEMA,
    maxConnections: 1,
    statementTimeoutMs: 60_000,
    lockTimeoutMs: 60_000,
  });
  try {
    await requireDurability(database, mode);
    await migrate(database, MANAGER_MIGRATIONS);
  } finally {
    await database.close();
  }
}

export class PostgresManagerStore implements ManagerStore {
  readonly #leases: Database;
  readonly #steps: Database;
  readonly #queries: Database;
  readonly #upkeep: Database;
  readonly #towersRequired: number;
  readonly #statement = readStatements(new URL('./queries/', import.meta.url));

  constructor(leases: Database, steps: Database, queries: Database, upkeep: Database, towersRequired = 0) {
    this.#leases = leases;
    this.#steps = steps;
    this.#queries = queries;
    this.#upkeep = upkeep;
    this.#towersRequired = towersRequired;
  }

  async heartbeat(
    replicaId: string,
    incarnation: bigint,
    address: string,
    leaseMs: number,
  ): Promise<boolean> {
    return (
      await this.#writeOne<{ ok: boolean }>(this.#leases, 'heartbeat', [
        replicaId,
        incarnation,
        address,
        leaseMs,
      ])
    ).ok;
  }

  async endLease(replicaId: string, incarnation: bigint): Promise<void> {
    await this.#leases.write(this.#statement('end_lease'), [replicaId, incarnation]);
  }

  async listReplicas(): Promise<readonly port.Replica[]> {
    const found = await this.#read<{ replica_id: string; address: string; age_ms: bigint }>(
      'list_replicas',
      [],
    );
    return found.map((row) => ({
      replicaId: row.replica_id,
      address: row.address,
      lastHeartbeatAgeMs: Number(row.age_ms),
    }));
  }

  async listShards(): Promise<readonly port.ShardOwner[]> {
    const found = await this.#read<{
      shard: number;
      epoch: bigint;
      owner: string | null;
      address: string | null;
    }>('list_shards', []);
    return found.map(({ shard, epoch, owner, address }) => ({
      shard,
      epoch,
      replicaId: owner ?? undefined,
      address: address ?? undefined,
    }));
  }

  async acquireShard(shard: number, replicaId: string): Promise<port.AcquireOutcome> {
    const first = await this.#acquire(shard, replicaId, SHORT_LOCK_TIMEOUT_MS, () => Promise.resolve());
    if (first.type !== 'busy') return first;
    // Blockers can be told only while somebody waits for them: one session waits, another ends them.
    return this.#acquire(
      shard,
      replicaId,
      TAKEOVER_LOCK_TIMEOUT_MS,
      async (pid) => void (await this.#queries.write(this.#statement('end_blockers'), [pid])),
    );
  }

  async #acquire(
    shard: number,
    replicaId: string,
    lockTimeoutMs: number,
    meanwhile: (pid: number) => Promise<void>,
  ): Promise<port.AcquireOutcome> {
    type Found = { outcome: 'acquired' | 'held' | 'busy'; new_epoch: bigint | null; holder: string | null };
    const found = await this.#leases.transaction(async (session) => {
      const [self] = await session.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      const [[result]] = await Promise.all([
        session.query<Found>(this.#statement('acquire_shard'), [shard, replicaId, lockTimeoutMs]),
        meanwhile(self?.pid ?? 0),
      ]);
      return result;
    });
    if (found?.outcome === 'acquired') return { type: 'acquired', epoch: found.new_epoch ?? 0n };
    if (found?.outcome === 'held') return { type: 'held', replicaId: found.holder ?? '' };
    return { type: 'busy' };
  }

  async releaseShard(fence: Fence): Promise<void> {
    await this.#leases.write(this.#statement('release_shard'), fenceValues(fence));
  }

  loadShard(fence: Fence): ReturnType<ManagerStore['loadShard']> {
    return loadShard(this.#queries, this.#statement, fence);
  }

  loadPayment(fence: Fence, paymentHash: Uint8Array): Promise<port.LoadedPayment | undefined> {
    return this.#queries.transaction((session) =>
      loadPayment(session, this.#statement('load_payment'), fence, paymentHash),
    );
  }

  async decideClose(
    fence: Fence,
    channelId: Uint8Array,
    reason: string,
    event: port.StoreEvent,
  ): Promise<port.DecideCloseOutcome> {
    const { outcome } = await this.#writeOne<{ outcome: port.DecideCloseOutcome }>(
      this.#queries,
      'decide_close',
      [...fenceValues(fence), channelId, reason, event.type, event.timeUnixMs, event.body],
    );
    return outcome;
  }

  commitSteps(units: readonly port.CommitUnit[]): Promise<readonly port.Verdict[]> {
    return commitUnits(this.#steps, units);
  }

  async pendingIntents(
    shards: readonly number[],
    limit: number,
    after?: port.IntentPlace,
  ): Promise<readonly port.Intent[]> {
    const source = after === undefined ? null : encodeSource(after.source);
    const values = [int4Array(shards), limit, after?.createdUnixMs ?? null, source];
    return (await this.#read<rows.IntentColumns>('pending_intents', values)).map(rows.intent);
  }

  async pendingResolutions(
    shards: readonly number[],
    limit: number,
    after?: port.HtlcSource,
  ): Promise<readonly port.Resolution[]> {
    const source = after === undefined ? null : encodeSource(after);
    const values = [int4Array(shards), limit, this.#towersRequired, source];
    return (await this.#read<rows.ResolutionColumns>('pending_resolutions', values)).map(rows.resolution);
  }

  async fundingStatuses(shards: readonly number[]): ReturnType<ManagerStore['fundingStatuses']> {
    const found = await this.#read<rows.WatchColumns>('funding_statuses', [int4Array(shards)]);
    return found.flatMap((row) => {
      const status = rows.fundingStatus(row);
      return status === undefined
        ? []
        : [{ channelId: row.channel_id, status, ...rows.closingDecision(row) }];
    });
  }

  async shardOfScid(shortChannelId: bigint): Promise<{ shard: number; channelId: Uint8Array } | undefined> {
    const [row] = await this.#read<{ shard: number; channel_id: Uint8Array }>('shard_of_scid', [
      signed(shortChannelId),
    ]);
    return row && { shard: row.shard, channelId: row.channel_id };
  }

  async acceptConnection(
    fence: Fence,
    peerNodeId: Uint8Array,
    { gatewayId, connectionId, features }: port.PeerConnection,
  ): Promise<port.ConnectionOutcome> {
    type Found = { accepted: boolean; new_generation: bigint; previous_gateway: string | null };
    const found = await this.#writeOne<Found>(this.#steps, 'accept_connection', [
      ...fenceValues(fence),
      peerNodeId,
      gatewayId,
      signed(connectionId),
      features,
    ]);
    if (!found.accepted) return { type: 'fence_lost' };
    return {
      type: 'accepted',
      generation: found.new_generation,
      previousGatewayId: found.previous_gateway ?? undefined,
    };
  }

  async dropConnection(fence: Fence, peerNodeId: Uint8Array, generation: bigint): Promise<void> {
    await this.#queries.write(this.#statement('drop_connection'), [
      ...fenceValues(fence),
      peerNodeId,
      generation,
    ]);
  }

  async upsertPeerAddress(
    peerNodeId: Uint8Array,
    host: string,
    tcpPort: number,
    wanted: 'wanted' | 'not_wanted',
  ): Promise<void> {
    await this.#queries.write(this.#statement('upsert_peer_address'), [
      peerNodeId,
      host,
      tcpPort,
      wanted === 'wanted',
    ]);
  }

  async setZeroConfTrust(peerNodeId: Uint8Array, trust: port.ZeroConfTrust): Promise<void> {
    const name = trust === 'trusted' ? 'trust_zero_conf' : 'distrust_zero_conf';
    await this.#queries.write(this.#statement(name), [peerNodeId]);
  }

  async zeroConfTrust(peerNodeId: Uint8Array): Promise<port.ZeroConfTrust> {
    const [row] = await this.#read<{ trusted: boolean }>('is_zero_conf_trusted', [peerNodeId]);
    return row?.trusted === true ? 'trusted' : 'refused';
  }

  async listPeers(): Promise<readonly port.PeerPresence[]> {
    return (await this.#read<rows.PeerColumns>('list_peers', [])).map(rows.peerPresence);
  }

  async listChannels(filter: {
    readonly closed: 'include' | 'exclude';
  }): Promise<readonly port.ChannelRow[]> {
    return (await this.#read<rows.ChannelColumns>('list_channels', [filter.closed === 'include'])).map(
      rows.channelRow,
    );
  }

  async listPayments(
    type: 'inbound' | 'outbound',
    limit: number,
  ): Promise<readonly { paymentHash: Uint8Array; row: port.PaymentRow }[]> {
    const found = await this.#read<rows.PaymentColumns>('list_payments', [type, limit]);
    return found.map((row) => ({ paymentHash: row.payment_hash, row: rows.paymentRow(row) }));
  }

  async getPayment(paymentHash: Uint8Array): Promise<port.PaymentRow | undefined> {
    const [row] = await this.#read<rows.PaymentColumns>('get_payment', [paymentHash]);
    return row && rows.paymentRow(row);
  }

  async getPaymentState(paymentHash: Uint8Array): Promise<Uint8Array | undefined> {
    const [row] = await this.#read<rows.PaymentColumns>('get_payment', [paymentHash]);
    return row?.state;
  }

  async listForwards(limit: number): Promise<readonly port.ForwardRow[]> {
    return (await this.#read<rows.ForwardColumns>('list_forwards', [limit])).map(rows.forwardRow);
  }

  async getPolicy(channelId: Uint8Array): Promise<port.ChannelPolicyRow | undefined> {
    const [row] = await this.#read<rows.PolicyColumns>('get_policy', [channelId]);
    return row && rows.policyRow(row);
  }

  async setPolicy(
    fence: Fence,
    channelId: Uint8Array,
    policy: port.ChannelPolicyRow,
  ): Promise<'ok' | 'fence_lost'> {
    const { previous } = policy;
    const written = await this.#queries.write(this.#statement('set_policy'), [
      ...fenceValues(fence),
      channelId,
      policy.feeBaseMsat,
      policy.feeProportionalMillionths,
      policy.cltvExpiryDelta,
      policy.htlcMinimumMsat,
      policy.htlcMaximumMsat,
      policy.updatedUnixMs,
      previous?.feeBaseMsat ?? null,
      previous?.feeProportionalMillionths ?? null,
      previous?.cltvExpiryDelta ?? null,
    ]);
    return written.length === 1 ? 'ok' : 'fence_lost';
  }

  async setCounterpartyPolicy(
    fence: Fence,
    channelId: Uint8Array,
    policy: port.CounterpartyPolicy,
  ): Promise<void> {
    await this.#queries.write(this.#statement('set_counterparty_policy'), [
      ...fenceValues(fence),
      channelId,
      BigInt.asIntN(64, policy.shortChannelId),
      policy.feeBaseMsat,
      policy.feeProportionalMillionths,
      policy.cltvExpiryDelta,
      policy.state === 'enabled',
      policy.timestampUnixSeconds,
    ]);
  }

  async listRouteHints(
    amountMsat: bigint,
    when: 'always' | 'needed',
    limit: number,
  ): Promise<readonly port.RouteHintRow[]> {
    const values = [amountMsat, when === 'always', limit];
    return (await this.#read<rows.RouteHintColumns>('list_route_hints', values)).map(rows.routeHintRow);
  }

  async idempotent(key: string, value: Uint8Array): Promise<Uint8Array> {
    return (await this.#writeOne<{ value: Uint8Array }>(this.#queries, 'idempotent', [key, value])).value;
  }

  async sequenceEvents(replicaId: string, limit: number): Promise<number> {
    return (await this.#writeOne<{ moved: number }>(this.#queries, 'sequence_events', [replicaId, limit]))
      .moved;
  }

  async readEvents(
    afterPosition: bigint,
    limit: number,
  ): Promise<readonly { position: bigint; event: port.StoreEvent }[]> {
    const found = await this.#read<{ position: bigint; type: string; time_unix_ms: bigint; body: string }>(
      'read_events',
      [afterPosition, limit],
    );
    return found.map(({ position, type, time_unix_ms, body }) => ({
      position,
      event: { type, timeUnixMs: Number(time_unix_ms), body },
    }));
  }

  async prune(limit: number, blockHeight: number, idempotencyMs: number): Promise<number> {
    return (
      await this.#writeOne<{ removed: number }>(this.#upkeep, 'prune', [limit, blockHeight, idempotencyMs])
    ).removed;
  }

  async close(): Promise<void> {
    await Promise.all([
      this.#leases.close(),
      this.#steps.close(),
      this.#queries.close(),
      this.#upkeep.close(),
    ]);
  }

  #read<R extends object>(name: string, values: readonly Parameter[]): Promise<R[]> {
    return this.#queries.read<R>(this.#statement(name), values);
  }

  async #writeOne<R extends object>(
    database: Database,
    name: string,
    values: readonly Parameter[],
  ): Promise<R> {
    const [row] = await database.write<R>(this.#statement(name), values);
    if (row === undefined) throw new StoreError('unknown', `${name} answered no row`);
    return row;
  }
}

const fenceValues = (fence: Fence): readonly Parameter[] => [fence.shard, fence.epoch, fence.replicaId];
