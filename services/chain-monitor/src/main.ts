/** The process: ports of real adapters, for a node's own chain-monitor or (`FULMEN_TOWER_ID`) for a tower. */
import { natsBus, MemoryBusHub } from '@fulmen/bus';
import { BitcoindChainSource, EsploraChainSource } from '@fulmen/chain';
import { subscribeBlockHints } from '@fulmen/chain/zmq-hints';
import { secp256k1 } from '@fulmen/crypto/default';
import { SignerServiceService } from '@fulmen/proto/signer/v1/signer';
import { JusticeSignerServiceService, TowerFeedServiceService } from '@fulmen/proto/tower/v1/tower';
import { Certificates, grpcConnector, grpcServer } from '@fulmen/rpc';
import { type ProcessPorts, type RunningService, runService } from '@fulmen/service';
import { migrate, prepareManagerDatabase, requireDurability } from '@fulmen/store';
import { CHAIN_MIGRATIONS, PostgresChainStore, openChainDatabase } from '@fulmen/store/chain/postgres';
import { openTowerFeedStore } from '@fulmen/store/tower/feed-postgres';
import { openTowerInbox } from '@fulmen/store/tower/inbox-postgres';
import { type ChainMonitorProcessConfig, readChainMonitorConfig } from './config.ts';
import { start } from './start.ts';
import {
  type NodeTowersConfig,
  readNodeTowersConfig,
  readTowerModeConfig,
  type TowerModeConfig,
} from './towers/config.ts';
import type { NodeTowers } from './towers/serve.ts';
import { startTower } from './towers/start-tower.ts';

async function main(process: ProcessPorts): Promise<RunningService> {
  const config = readChainMonitorConfig(process.environment);
  const tower = readTowerModeConfig(process.environment);
  return tower === undefined
    ? startNode(process, config, readNodeTowersConfig(process.environment))
    : startAsTower(process, config, tower);
}

/** What both kinds work with. */
async function openPorts(process: ProcessPorts, config: ChainMonitorProcessConfig, towersRequired: number) {
  const { runtime, logger, metrics } = process;
  const { replicaId } = config.service;
  const certificates = new Certificates(process);
  const tls = config.tls && { tls: await certificates.open(config.tls) };
  const database = openChainDatabase({
    connectionString: config.databaseUrl,
    applicationName: `fulmen chain-monitor ${replicaId}`,
  });
  await requireDurability(database, config.durability);
  await migrate(database, CHAIN_MIGRATIONS);
  const source =
    config.source.kind === 'bitcoind'
      ? new BitcoindChainSource(config.source.rpc)
      : new EsploraChainSource(config.source.config);
  const bus =
    config.natsServers.length === 0
      ? new MemoryBusHub().connect(replicaId)
      : natsBus({ servers: config.natsServers, name: `chain-monitor ${replicaId}` });
  const connector = grpcConnector(tls);
  const server = grpcServer({
    listenAddress: config.listenAddress,
    onInternalError: (path, error) => logger.error({ path, err: error }, 'a call failed inside'),
    ...tls,
  });
  const { zmqEndpoint } = config;
  const ports = {
    runtime,
    logger,
    metrics,
    bus,
    store: new PostgresChainStore(database, towersRequired),
    source,
    server,
    secp: secp256k1,
    ...(zmqEndpoint !== undefined && {
      blockHints: (onHint: () => void) => subscribeBlockHints(zmqEndpoint, onHint),
    }),
  };
  const close = async (): Promise<void> => {
    connector.close();
    await certificates.close();
    source.close();
    await bus.close();
    await ports.store.close();
  };
  return { ports, connector, certificates, close };
}

async function startNode(
  process: ProcessPorts,
  config: ChainMonitorProcessConfig,
  towersConfig: NodeTowersConfig,
): Promise<RunningService> {
  const { logger } = process;
  const { ports, connector, certificates, close } = await openPorts(process, config, towersConfig.required);
  const signer = connector.client(SignerServiceService, config.signerAddress);
  const { feed, required, maximumUpdates } = towersConfig;
  const towers: NodeTowers = {
    store: openTowerFeedStore({
      connectionString: config.databaseUrl,
      applicationName: `fulmen towers ${config.service.replicaId}`,
    }),
    signer,
    required,
    maximumUpdates,
    ...(feed !== undefined && {
      feedServer: grpcServer({
        listenAddress: feed.listenAddress,
        tls: await certificates.open(feed.tls),
        onInternalError: (path, error) => logger.error({ path, err: error }, 'a tower’s call failed inside'),
      }),
    }),
  };
  const service = await start(config.service, { ...ports, signer, towers });
  return {
    ...service,
    stop: async () => {
      await service.stop();
      await towers.store.close();
      await close();
    },
  };
}

async function startAsTower(
  process: ProcessPorts,
  config: ChainMonitorProcessConfig,
  { towerId, feedAddresses }: TowerModeConfig,
): Promise<RunningService> {
  // A tower's database has the tables that a node's managers fill: here the feed does.
  await prepareManagerDatabase(config.databaseUrl, config.durability);
  const { ports, connector, close } = await openPorts(process, config, 0);
  const inbox = openTowerInbox({
    connectionString: config.databaseUrl,
    applicationName: `fulmen tower ${towerId}`,
    towerId,
  });
  const service = await startTower(
    { ...config.service, towerId },
    {
      ...ports,
      inbox,
      feeds: feedAddresses.map((address) => connector.client(TowerFeedServiceService, address)),
      justice: connector.client(JusticeSignerServiceService, config.signerAddress),
    },
  );
  return {
    ...service,
    stop: async () => {
      await service.stop();
      await inbox.close();
      await close();
    },
  };
}

runService('chain-monitor', main);
