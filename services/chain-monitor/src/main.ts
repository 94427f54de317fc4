/** The process: ports of real adapters. */
import { readFileSync } from 'node:fs';
import { natsBus, MemoryBusHub } from '@fulmen/bus';
import { BitcoindChainSource, EsploraChainSource } from '@fulmen/chain';
import { subscribeBlockHints } from '@fulmen/chain/zmq-hints';
import { secp256k1 } from '@fulmen/crypto/default';
import { SignerServiceService } from '@fulmen/proto/signer/v1/signer';
import { grpcConnector, grpcServer } from '@fulmen/rpc';
import { type ProcessPorts, type RunningService, runService } from '@fulmen/service';
import { migrate, requireDurability } from '@fulmen/store';
import { CHAIN_MIGRATIONS, PostgresChainStore, openChainDatabase } from '@fulmen/store/chain/postgres';
import { readChainMonitorConfig } from './config.ts';
import { start } from './start.ts';

async function main({ runtime, logger, metrics, environment }: ProcessPorts): Promise<RunningService> {
  const config = readChainMonitorConfig(environment);
  const { replicaId } = config.service;
  const tls = config.tls && {
    caCertificate: readFileSync(config.tls.ca),
    certificate: readFileSync(config.tls.certificate),
    privateKey: readFileSync(config.tls.key),
  };
  const database = openChainDatabase({
    connectionString: config.databaseUrl,
    applicationName: `fulmen chain-monitor ${replicaId}`,
  });
  await requireDurability(database, config.durability);
  await migrate(database, CHAIN_MIGRATIONS);
  const store = new PostgresChainStore(database);
  const source =
    config.source.kind === 'bitcoind'
      ? new BitcoindChainSource(config.source.rpc)
      : new EsploraChainSource(config.source.config);
  const bus =
    config.natsServers.length === 0
      ? new MemoryBusHub().connect(replicaId)
      : natsBus({ servers: config.natsServers, name: `chain-monitor ${replicaId}` });
  const connector = grpcConnector(tls === undefined ? {} : { tls });
  const server = grpcServer({
    listenAddress: config.listenAddress,
    onInternalError: (path, error) => logger.error({ path, err: error }, 'a call failed inside'),
    ...(tls !== undefined && { tls }),
  });
  const { zmqEndpoint } = config;
  const service = await start(config.service, {
    runtime,
    logger,
    metrics,
    bus,
    store,
    source,
    server,
    secp: secp256k1,
    signer: connector.client(SignerServiceService, config.signerAddress),
    ...(zmqEndpoint !== undefined && {
      blockHints: (onHint: () => void) => subscribeBlockHints(zmqEndpoint, onHint),
    }),
  });
  return {
    ...service,
    stop: async () => {
      await service.stop();
      connector.close();
      source.close();
      await bus.close();
      await store.close();
    },
  };
}

runService('chain-monitor', main);
