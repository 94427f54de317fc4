/**
 * A node and its tower in one process: the node's rows, feed and signer on one
 * side; on the other the real tower with a database of its own, and the real
 * justice signer. `loseNode` takes everything of the node away.
 */
import { MemoryBusHub } from '@fulmen/bus';
import type { ChainSource, WholeBlockSource } from '@fulmen/chain';
import { serveTowers } from '@fulmen/chain-monitor/towers/serve';
import { type RunningTower, startTower } from '@fulmen/chain-monitor/towers/start-tower';
import type { ChainMonitorConfig } from '@fulmen/chain-monitor/start';
import { TEST_CONFIG } from '@fulmen/chain-monitor/testing/harness';
import { overriding } from '@fulmen/chain-monitor/testing/source';
import { InternalError } from '@fulmen/codec';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import {
  applyUpdate,
  type ChannelMonitor,
  decodeChannelMonitorUpdate,
  decodeMonitorParameters,
  splitMonitor,
  newMonitor,
} from '@fulmen/monitor';
import { JusticeSignerServiceService, TowerFeedServiceService } from '@fulmen/proto/tower/v1/tower';
import { MemoryNetwork, type RpcServer } from '@fulmen/rpc';
import { type Logger, Metrics, nodeRuntime, silentLogger } from '@fulmen/service';
import { startJusticeSigner } from '@fulmen/signer/justice/start';
import { type Harness as SignerHarness, startSigner } from '@fulmen/signer/testing/harness';
import { putChunks } from '@fulmen/store/chain/monitor-rows';
import { CHAIN_MIGRATIONS, CHAIN_SCHEMA, PostgresChainStore } from '@fulmen/store/chain/postgres';
import { MANAGER_MIGRATIONS, MANAGER_SCHEMA } from '@fulmen/store/manager/postgres/store';
import type { Database } from '@fulmen/store/pg/database';
import { migrate } from '@fulmen/store/pg/migrate';
import { createTestDatabase, type TestDatabase } from '@fulmen/store/testing/postgres';
import { openTowerFeedStore, type PostgresTowerFeedStore } from '@fulmen/store/tower/feed-postgres';
import { openTowerInbox } from '@fulmen/store/tower/inbox-postgres';
import { MemoryChainSource } from '@fulmen/testing/devchain';
import { fleetKeys } from '../settlement/policy-signer.ts';
import type { Scenario } from '../settlement/scenario.ts';
import type { World } from '../settlement/world.ts';

export const TOWER_ID = 'far-away';
/** An address of the operator's that no machine of the node knows: P2WSH of nobody. */
export const DESTINATION = Uint8Array.from([0, 32, ...new Uint8Array(32).fill(0xdd)]);
const TOWER_SECRET = new Uint8Array(32).fill(0x44);
const MAXIMUM_UPDATES = 64;

export const runtime = nodeRuntime({ onFailure: () => undefined });

async function database(): Promise<TestDatabase> {
  const made = await createTestDatabase(MANAGER_SCHEMA, MANAGER_MIGRATIONS);
  const chain = made.open({ schema: CHAIN_SCHEMA });
  await migrate(chain, CHAIN_MIGRATIONS);
  await chain.close();
  return made;
}

export class Scene {
  readonly world: World;
  readonly scenario: Scenario;
  /** Errors of the tower's log. */
  readonly alarms: string[] = [];
  /** How often the tower handed something to its node. */
  broadcasts = 0;
  readonly #network = new MemoryNetwork();
  readonly #feedServer: RpcServer = this.#network.server('feed');
  readonly #nodeServer: TestDatabase;
  #towerServer: TestDatabase;
  readonly #admin: Database;
  readonly feed: PostgresTowerFeedStore;
  readonly #signer: SignerHarness;
  readonly #stops: (() => Promise<void>)[] = [];
  #tower: { readonly running: RunningTower; readonly close: () => Promise<void> } | undefined;
  #nodeIsGone = false;

  private constructor(
    world: World,
    scenario: Scenario,
    servers: { readonly node: TestDatabase; readonly tower: TestDatabase },
    signer: SignerHarness,
  ) {
    this.world = world;
    this.scenario = scenario;
    this.#nodeServer = servers.node;
    this.#towerServer = servers.tower;
    this.#admin = servers.node.open();
    this.#signer = signer;
    this.feed = openTowerFeedStore({
      connectionString: servers.node.connectionString,
      applicationName: 'node',
    });
  }

  static async open(world: World, scenario: Scenario): Promise<Scene> {
    const servers = { node: await database(), tower: await database() };
    const party = {
      keys: fleetKeys(secp),
      channelKeysId: new Uint8Array(32),
      walletScript: new Uint8Array(0),
    };
    const towerKeys = [secp.publicKeyOf(TOWER_SECRET)];
    const signer = await startSigner({ secp, party, options: { towerKeys } });
    const scene = new Scene(world, scenario, servers, signer);
    await scene.#serve();
    return scene;
  }

  async #serve(): Promise<void> {
    const hub = new MemoryBusHub();
    const stop = await serveTowers(
      {
        store: this.feed,
        feedServer: this.#feedServer,
        signer: this.#signer.client,
        required: 1,
        maximumUpdates: MAXIMUM_UPDATES,
      },
      {
        server: this.#network.server('node'),
        bus: hub.connect('node'),
        runtime,
        logger: silentLogger,
        metrics: new Metrics('chain-monitor'),
        secp,
      },
    );
    const justice = await startJusticeSigner(
      { secp, secret: TOWER_SECRET, destinationScript: DESTINATION, maximumFeePercent: 95 },
      {
        rpcServer: this.#network.server('justice'),
        logger: silentLogger,
        metrics: new Metrics('signer'),
      },
    );
    this.#stops.push(stop, () => justice.stop());
  }

  async addTower(): Promise<void> {
    await this.feed.addTower({ towerId: TOWER_ID, publicKey: secp.publicKeyOf(TOWER_SECRET) });
  }

  /** The monitor log of the channel, from the manager's rows: its updates by id. */
  get updates(): readonly { readonly updateId: bigint; readonly payload: Uint8Array }[] {
    const [log] = this.scenario.rows().monitorLog.values();
    if (log === undefined) throw new InternalError('a channel without updates');
    return log;
  }

  get #birth(): Uint8Array {
    const [birth] = this.scenario.rows().monitorBirths.values();
    if (birth === undefined) throw new InternalError('a channel without its monitor');
    return birth;
  }

  /** The channel lives through its updates up to this one. */
  async live(from: bigint, to: bigint): Promise<void> {
    for (const { updateId, payload } of this.updates) {
      if (updateId < from || updateId > to) continue;
      await this.#admin.transaction(async (session) => {
        await session.query(
          `INSERT INTO channel (channel_id, counterparty_node_id, channel_keys_id, shard, capacity_sat, announce, holder_is_funder,
             channel_type, phase, version, monitor_update_id, holder_balance_msat, counterparty_balance_msat,
             outbound_capacity_msat, inbound_capacity_msat, htlcs_in_flight, hot)
           VALUES ($1, $2, $1, 1, 1, false, true, 'anchors', 'open', 1, $3, 0, 0, 0, 0, 0, '')
           ON CONFLICT (channel_id) DO UPDATE SET monitor_update_id = excluded.monitor_update_id`,
          [this.scenario.channelId, new Uint8Array(33), updateId],
        );
        if (updateId === 1n)
          await session.query('INSERT INTO monitor_birth (channel_id, parameters) VALUES ($1, $2)', [
            this.scenario.channelId,
            this.#birth,
          ]);
        await session.query(
          'INSERT INTO monitor_update (channel_id, update_id, payload) VALUES ($1, $2, $3)',
          [this.scenario.channelId, updateId, payload],
        );
      });
    }
  }

  /** The channel's monitor once its log was applied up to this update. */
  monitorAt(to: bigint): ChannelMonitor {
    const parameters = decodeMonitorParameters(this.#birth);
    if (!parameters.ok) throw parameters.error;
    let monitor = newMonitor(parameters.value);
    for (const { updateId, payload } of this.updates) {
      if (updateId > to) break;
      const update = decodeChannelMonitorUpdate(payload);
      if (!update.ok) throw update.error;
      const applied = applyUpdate(monitor, update.value);
      if (!applied.ok) throw new InternalError(applied.error.type);
      monitor = applied.value.monitor;
    }
    return monitor;
  }

  /** The node's own chain-monitor applies its log up to this update. */
  async drain(to: bigint): Promise<void> {
    const { channelId } = this.scenario;
    const { snapshot, chunks } = splitMonitor(this.monitorAt(to));
    await this.#admin.transaction(async (session) => {
      await session.query(
        `INSERT INTO ${CHAIN_SCHEMA}.monitor (channel_id, update_id, close_state, snapshot) VALUES ($1, $2, 'open', $3)`,
        [channelId, to, snapshot],
      );
      await putChunks(
        session,
        CHAIN_SCHEMA,
        chunks.map((chunk) => ({ channelId, ...chunk })),
      );
    });
    await this.#admin.write('DELETE FROM monitor_update WHERE update_id <= $1', [to]);
  }

  /** As from an old backup: the node's rows end at this update. */
  async setBack(to: bigint): Promise<void> {
    await this.#admin.write('UPDATE channel SET monitor_update_id = $1', [to]);
    await this.#admin.write('DELETE FROM monitor_update WHERE update_id > $1', [to]);
  }

  /** A step after the set-back writes an update of a number that the tower knows. */
  async repeatUpdate(updateId: bigint): Promise<void> {
    await this.live(updateId, updateId);
  }

  /** The network between the tower and the node is cut; the tower's own bitcoind works. */
  cutFeed(): void {
    this.#network.crash('feed');
  }

  async restoreFeed(): Promise<void> {
    await this.#feedServer.listen();
  }

  async acknowledged(): Promise<bigint> {
    const [found] = await this.feed.durableThrough([this.scenario.channelId], 1);
    return found?.updateId ?? 0n;
  }

  // ---------------------------------------------------------------- the tower

  async startTower({
    rebroadcastMs,
  }: Pick<ChainMonitorConfig, 'rebroadcastMs'> = TEST_CONFIG): Promise<void> {
    const connector = this.#network.connector('tower', ['tower']);
    const { connectionString } = this.#towerServer;
    const inbox = openTowerInbox({ connectionString, applicationName: 'inbox', towerId: TOWER_ID });
    const store = new PostgresChainStore(this.#towerServer.open({ schema: CHAIN_SCHEMA }));
    const running = await startTower(
      { ...TEST_CONFIG, towerId: TOWER_ID, leaseMs: 9_000, pollMs: 50, feeCacheMs: 0, rebroadcastMs },
      {
        runtime,
        logger: this.#logger(),
        metrics: new Metrics('chain-monitor'),
        bus: new MemoryBusHub().connect('tower'),
        store,
        source: this.#source(),
        secp,
        server: this.#network.server('tower'),
        inbox,
        feeds: [connector.client(TowerFeedServiceService, 'feed')],
        justice: connector.client(JusticeSignerServiceService, 'justice'),
      },
    );
    this.#tower = {
      running,
      close: async () => {
        await running.stop();
        await inbox.close();
        await store.close();
      },
    };
  }

  #source(): ChainSource {
    const counted = (real: WholeBlockSource): Partial<WholeBlockSource> => ({
      broadcastPackage: (transactions) => {
        this.broadcasts += 1;
        return real.broadcastPackage(transactions);
      },
    });
    return overriding(new MemoryChainSource(this.world.chain), counted, () => true);
  }

  /** The tower's rows say that old blocks are to be scanned from this height on. */
  async leaveScan(fromHeight: number): Promise<void> {
    const chain = this.#towerServer.open({ schema: CHAIN_SCHEMA });
    await chain.write('UPDATE progress SET rescan_from = $1', [fromHeight]);
    await chain.close();
  }

  async stopTower(): Promise<void> {
    await this.#tower?.close();
    this.#tower = undefined;
  }

  /** A backup of the stopped tower's database. */
  copyTower(): Promise<TestDatabase> {
    return this.#towerServer.copy();
  }

  /** The stopped tower goes on with this database. Default: a new one. */
  async replaceTower(replacement?: TestDatabase): Promise<void> {
    await this.#towerServer.drop();
    this.#towerServer = replacement ?? (await database());
  }

  /** The last update that the tower's database has. */
  async held(): Promise<bigint> {
    const rows = this.#towerServer.open();
    const [row] = await rows.read<{ last: bigint | null }>(
      `SELECT max(update_id) AS last FROM (
         SELECT update_id FROM ${CHAIN_SCHEMA}.monitor UNION ALL SELECT update_id FROM monitor_update) AS u`,
    );
    await rows.close();
    return row?.last ?? 0n;
  }

  wake(): void {
    this.#tower?.running.wake();
  }

  /** What the tower's store says of the channel's close. */
  async settlement() {
    const store = new PostgresChainStore(this.#towerServer.open({ schema: CHAIN_SCHEMA }));
    const [found] = await store.listSettlements({ resolved: 'include', limit: 1 });
    const { claims, sweeps, blocks } = await store.load();
    await store.close();
    return { found, claims, sweeps, height: blocks.at(-1)?.height };
  }

  #logger(): Logger {
    const logger: Logger = {
      ...silentLogger,
      error: (fields, message) => void this.alarms.push(`${message} ${JSON.stringify(fields, printable)}`),
      child: () => logger,
    };
    return logger;
  }

  // ---------------------------------------------------------------- ends

  /** Database and signer of the node are gone, and its feed with them. */
  async loseNode(): Promise<void> {
    if (this.#nodeIsGone) return;
    this.#nodeIsGone = true;
    await this.#signer.stop();
    this.#network.crash('feed');
    await this.#stops[0]?.();
    await this.feed.close();
    await this.#admin.close();
    await this.#nodeServer.drop();
  }

  async close(): Promise<void> {
    await this.stopTower();
    await this.loseNode();
    await this.#stops[1]?.();
    await this.#towerServer.drop();
  }
}

function printable(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  return value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value;
}
