/** Wires a channel-manager replica from its ports. A test, a container and the all-in-one node compose the same thing. */
import type { Bus } from '@fulmen/bus';
import { NETWORKS } from '@fulmen/bitcoin';
import { defaultChannelConfig, type FeerateEstimates } from '@fulmen/channel';
import type { Secp256k1 } from '@fulmen/crypto';
import { ChainServiceService, FeeTarget, WalletServiceService } from '@fulmen/proto/chain/v1/chain';
import { PeerLinkServiceService } from '@fulmen/proto/link/v1/link';
import { ManagerServiceService } from '@fulmen/proto/manager/v1/manager';
import { RouterServiceService } from '@fulmen/proto/router/v1/router';
import { SignerServiceService } from '@fulmen/proto/signer/v1/signer';
import type { RpcConnector, RpcServer } from '@fulmen/rpc';
import {
  essentialTasks,
  type Logger,
  type Metrics,
  type RunningService,
  type Runtime,
} from '@fulmen/service';
import type { ManagerStore } from '@fulmen/store';
import { heedDamage } from '@fulmen/store/heed-damage';
import { ChainWatch } from './engine/chain-watch.ts';
import { EngineCommands } from './engine/commands.ts';
import { Committer } from './engine/committer.ts';
import { Engine } from './engine/engine.ts';
import type { NodeIdentity } from './engine/node-announcer.ts';
import type { EnginePorts, NodeView, RequiredTowers } from './engine/ports.ts';
import { PeriodicJob, wakeByHints } from './engine/work-finder.ts';
import type { BackupStore } from '@fulmen/store/manager/backup/backup-store';
import type { BackupFile } from './backup/file.ts';
import type { CommitmentFeerates } from '@fulmen/channel/updates/fee-policy';
import { Lease } from './lease/lease.ts';
import { ShardKeeper } from './lease/shard-keeper.ts';
import { observe } from './metrics.ts';
import { managerHandlers } from './rpc/manager-handlers.ts';
import { SignLane } from './signing/sign-lane.ts';

export interface ManagerOptions {
  readonly replicaId: string;
  readonly network: keyof typeof NETWORKS;
  readonly leaseMs: number;
  readonly minimumDepth: number;
  /** Of the smallest channel that is opened or accepted. */
  readonly minimumFundingSat: bigint;
  readonly maxAcceptedHtlcs: number;
  /** Whether payments that come without an invoice are taken. */
  readonly keysend: 'accepted' | 'refused';
  /** Silence of chain-monitor after which no HTLC is added. */
  readonly chainStaleMs: number;
  readonly maxPendingPerPeer: number;
  readonly maxPendingTotal: number;
  readonly policy: {
    readonly feeBaseMsat: number;
    readonly feeProportionalMillionths: number;
    readonly cltvExpiryDelta: number;
  };
  /** What the node says of itself to the network. */
  readonly identity: NodeIdentity;
  /** How long a peer may be away before its public channels are disabled. */
  readonly disableAfterMs: number;
  readonly signerAddress: string;
  readonly chainMonitorAddress: string;
  readonly routerAddress: string;
  /** What other processes dial; defaults to where the server listens. */
  readonly advertise?: string;
}

export interface ManagerPorts {
  readonly server: RpcServer;
  /** To the signer, with this service's certificate. */
  readonly signerConnector: RpcConnector;
  readonly connector: RpcConnector;
  readonly store: ManagerStore;
  readonly backupStore: BackupStore;
  /** Where the node's static backup is kept as a file; absent: this replica writes none. */
  readonly backupFile?: BackupFile;
  /** Absent: no tower has to acknowledge anything. */
  readonly towers?: RequiredTowers;
  readonly bus: Bus;
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly secp: Secp256k1;
}

const START_RETRY_MS = 250;
const WORK_INTERVAL_MS = 500;
const BLOCK_INTERVAL_MS = 1_000;
const EVENT_INTERVAL_MS = 100;
const TOWER_INTERVAL_MS = 100;
const TICK_INTERVAL_MS = 1_000;
const PRUNE_INTERVAL_MS = 5_000;
const ANNOUNCE_INTERVAL_MS = 10_000;
const GOSSIP_LOOK_INTERVAL_MS = 2_000;
const GOSSIP_REFRESH_INTERVAL_MS = 3_600_000;
const BACKUP_INTERVAL_MS = 5_000;
const PRUNE_STORAGE_INTERVAL_MS = 600_000;
const PRUNE_LIMIT = 2_000;
const IDEMPOTENCY_MS = 7 * 24 * 3_600_000;
const EVENTS_AT_ONCE = 1_000;

export async function start(options: ManagerOptions, ports: ManagerPorts): Promise<RunningService> {
  const { logger, bus } = ports;
  const failed = Promise.withResolvers<Error>();
  const store = heedDamage(ports.store, failed.resolve);
  const backupStore = heedDamage(ports.backupStore, failed.resolve);
  const towersRequired = ports.towers && {
    ...ports.towers,
    acknowledgements: heedDamage(ports.towers.acknowledgements, failed.resolve),
  };
  const runtime = essentialTasks(ports.runtime, failed.resolve);
  const signer = ports.signerConnector.client(SignerServiceService, options.signerAddress);
  const chain = ports.connector.client(ChainServiceService, options.chainMonitorAddress);
  const wallet = ports.connector.client(WalletServiceService, options.chainMonitorAddress);
  const router = ports.connector.client(RouterServiceService, options.routerAddress);

  const lease = new Lease(runtime, options.leaseMs);
  const signLane = new SignLane(signer, runtime, logger);
  const committer = new Committer(store, signLane, runtime, logger);
  const enginePorts: EnginePorts = {
    store,
    bus,
    // What the engine spawns is work of single channels.
    runtime: ports.runtime,
    logger,
    metrics: ports.metrics,
    secp: ports.secp,
    signer,
    signLane,
    chain,
    wallet,
    router,
    committer,
    lease,
    ...(towersRequired !== undefined && { towers: towersRequired }),
  };

  const { nodeId } = await untilAnswered(runtime, logger, 'the signer', () => signer.getNode({}));
  const startBlock = await untilAnswered(runtime, logger, 'chain-monitor', () => chain.getBestBlock({}));
  const { height: startHeight } = startBlock;
  const chainWatch = new ChainWatch(runtime, logger, options.chainStaleMs);
  chainWatch.heard(startBlock);
  const { chainHash } = NETWORKS[options.network];
  const node: NodeView = {
    nodeId,
    chainHash,
    channelConfig: {
      ...defaultChannelConfig(chainHash),
      minimumDepth: options.minimumDepth,
      minimumFundingSat: options.minimumFundingSat,
      maxAcceptedHtlcs: options.maxAcceptedHtlcs,
    },
    keysend: options.keysend,
    feerates: await readFeerates(chain).catch((error: unknown) => {
      // A node that was off, or indexes anew, has none for hours. The channels that exist need an owner all the same.
      logger.warn({ err: error }, 'there is no fee estimate yet: no channel is opened until there is one');
      return undefined;
    }),
    blockHeight: startHeight,
    chainDoubt: () => chainWatch.doubt(),
    blocksUnseen: () => chainWatch.blocksUnseen(),
  };
  const engine = new Engine(enginePorts, node, {
    replicaId: options.replicaId,
    openings: { maxPendingPerPeer: options.maxPendingPerPeer, maxPendingTotal: options.maxPendingTotal },
    policy: options.policy,
    backups: { store: backupStore, network: options.network, file: ports.backupFile },
    identity: options.identity,
    disableAfterMs: options.disableAfterMs,
  });
  const commands = new EngineCommands(engine);
  ports.server.add(PeerLinkServiceService, { link: (stream) => engine.peers.serve(stream) });
  ports.server.add(
    ManagerServiceService,
    managerHandlers({
      engine: commands,
      payments: engine.payments,
      backups: engine.backups,
      store,
      node,
      secp: ports.secp,
      runtime,
      network: options.network,
    }),
  );
  const bound = await ports.server.listen();
  const address = options.advertise ?? bound;

  const keeper = new ShardKeeper(
    { store, bus, runtime, logger, lease },
    {
      replicaId: options.replicaId,
      incarnation: BigInt(runtime.wallClockMs()),
      address,
      leaseMs: options.leaseMs,
    },
    engine,
    failed.resolve,
  );
  const work = new PeriodicJob(
    { name: 'find work', intervalMs: WORK_INTERVAL_MS, run: () => engine.findWork() },
    runtime,
    logger,
  );
  const blocks = new PeriodicJob(
    {
      name: 'follow the chain',
      intervalMs: BLOCK_INTERVAL_MS,
      run: async () => {
        const best = await chain.getBestBlock({});
        chainWatch.heard(best);
        await engine.followChain(best.height);
      },
    },
    runtime,
    logger,
  );
  const { towers } = engine;
  const towerWatch =
    towers === undefined
      ? undefined
      : new PeriodicJob(
          { name: 'acknowledgements of towers', intervalMs: TOWER_INTERVAL_MS, run: () => towers.look() },
          runtime,
          logger,
        );
  const backups = new PeriodicJob(
    { name: 'backups', intervalMs: BACKUP_INTERVAL_MS, run: () => engine.backups.run() },
    runtime,
    logger,
  );
  const fees = new PeriodicJob(
    {
      name: 'fee estimates',
      intervalMs: 30_000,
      run: async () => {
        node.feerates = await readFeerates(chain);
        engine.followFeerates(await readCommitmentFeerates(chain));
      },
    },
    runtime,
    logger,
  );
  const jobs = [
    work,
    blocks,
    ...(towerWatch === undefined ? [] : [towerWatch]),
    backups,
    fees,
    new PeriodicJob(
      {
        name: 'sequence events',
        intervalMs: EVENT_INTERVAL_MS,
        run: async () => {
          if ((await store.sequenceEvents(options.replicaId, EVENTS_AT_ONCE)) > 0)
            bus.publish('fulmen.event');
        },
      },
      runtime,
      logger,
    ),
    new PeriodicJob(
      {
        name: 'payments tick',
        intervalMs: TICK_INTERVAL_MS,
        run: () => Promise.resolve(engine.payments.tick()),
      },
      runtime,
      logger,
    ),
    new PeriodicJob(
      {
        name: 'upkeep',
        intervalMs: PRUNE_INTERVAL_MS,
        run: async () => void (await store.prune(PRUNE_LIMIT, node.blockHeight, IDEMPOTENCY_MS)),
      },
      runtime,
      logger,
    ),
    new PeriodicJob(
      {
        name: 'prune peer storage',
        intervalMs: PRUNE_STORAGE_INTERVAL_MS,
        run: () => engine.backups.storage.prune(),
      },
      runtime,
      logger,
    ),
    new PeriodicJob(
      { name: 'node announcement', intervalMs: ANNOUNCE_INTERVAL_MS, run: () => engine.announceNode() },
      runtime,
      logger,
    ),
    new PeriodicJob(
      {
        name: 'public channels',
        intervalMs: GOSSIP_LOOK_INTERVAL_MS,
        run: () => Promise.resolve(engine.lookAfterGossip('changed')),
      },
      runtime,
      logger,
    ),
    new PeriodicJob(
      {
        name: 'refresh gossip',
        intervalMs: GOSSIP_REFRESH_INTERVAL_MS,
        run: () => Promise.resolve(engine.lookAfterGossip('all')),
      },
      runtime,
      logger,
    ),
    new PeriodicJob(
      { name: 'wanted peers', intervalMs: 5_000, run: () => engine.peers.reconnectWanted() },
      runtime,
      logger,
    ),
  ];
  engine.attach(keeper, () => work.wake());
  const unsubscribe = wakeByHints(bus, (shard) => engine.fenceOf(shard) !== undefined, {
    shardWork: () => work.wake(),
    block: () => {
      blocks.wake();
      fees.wake();
    },
  });
  const unsubscribeTowers = bus.subscribe('fulmen.tower.ack', () => towerWatch?.wake());
  const unsubscribeBackups = bus.subscribe('fulmen.backup', () => {
    engine.backups.keeper.due();
    backups.wake();
  });
  observe(ports.metrics, engine, enginePorts);
  await keeper.start();
  logger.info({ address, shards: keeper.ownedShards().length }, 'channel-manager serves');

  return {
    address,
    failed: failed.promise,
    stop: async () => {
      unsubscribe();
      unsubscribeTowers();
      unsubscribeBackups();
      await keeper.stop();
      await Promise.all(jobs.map((job) => job.stop()));
      engine.peers.close();
      await ports.server.stop(1_000);
      await signLane.close();
      ports.connector.close();
      ports.signerConnector.close();
      await bus.close();
      await store.close();
      await ports.backupStore.close();
      await ports.towers?.acknowledgements.close();
    },
  };
}

/** Other services may start later than this one: waits for them, and says for whom. */
async function untilAnswered<T>(
  runtime: Runtime,
  logger: Logger,
  whom: string,
  ask: () => Promise<T>,
): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      logger.info({ whom, err: error }, 'waiting for another service');
      await runtime.sleep(START_RETRY_MS);
    }
  }
}

async function readCommitmentFeerates(chain: EnginePorts['chain']): Promise<CommitmentFeerates> {
  const [anchors, { feerateSatPerKw }] = await Promise.all([
    chain.estimateFee({ target: FeeTarget.FEE_TARGET_ANCHOR_CHANNEL_FEE }),
    chain.estimateFee({ target: FeeTarget.FEE_TARGET_NON_ANCHOR_CHANNEL_FEE }),
  ]);
  return { anchors: anchors.feerateSatPerKw, static_remotekey: feerateSatPerKw };
}

async function readFeerates(chain: EnginePorts['chain']): Promise<FeerateEstimates> {
  const ask = async (target: FeeTarget): Promise<number> =>
    (await chain.estimateFee({ target })).feerateSatPerKw;
  const [
    minimumAnchorSatPerKw,
    minimumNonAnchorSatPerKw,
    maximumSatPerKw,
    closeMinimumSatPerKw,
    closeTargetSatPerKw,
  ] = await Promise.all([
    ask(FeeTarget.FEE_TARGET_MIN_ALLOWED_ANCHOR_CHANNEL_REMOTE_FEE),
    ask(FeeTarget.FEE_TARGET_MIN_ALLOWED_NON_ANCHOR_CHANNEL_REMOTE_FEE),
    ask(FeeTarget.FEE_TARGET_MAXIMUM_FEE_ESTIMATE),
    ask(FeeTarget.FEE_TARGET_CHANNEL_CLOSE_MINIMUM),
    ask(FeeTarget.FEE_TARGET_NON_ANCHOR_CHANNEL_FEE),
  ]);
  return {
    minimumAnchorSatPerKw,
    minimumNonAnchorSatPerKw,
    maximumSatPerKw,
    closeMinimumSatPerKw,
    closeTargetSatPerKw,
  };
}
