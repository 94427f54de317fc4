/** The router as a process. */
import { MemoryBusHub, natsBus } from '@fulmen/bus';
import { secp256k1 } from '@fulmen/crypto/default';
import { Certificates, grpcConnector, grpcServer } from '@fulmen/rpc';
import { runService } from '@fulmen/service';
import { Database, requireDurability } from '@fulmen/store';
import { readRouterConfig } from './config.ts';
import { start } from './start.ts';
import { ROUTER_SCHEMA, postgresRouterStore } from './store/postgres/postgres.ts';

runService('router', async ({ runtime, logger, metrics, environment }) => {
  const config = readRouterConfig(environment);
  const certificates = new Certificates({ runtime, logger, metrics });
  const tls = config.tls && { tls: await certificates.open(config.tls) };
  const database = new Database({
    connectionString: config.databaseUrl,
    applicationName: `router ${config.router.replicaId}`,
    schema: ROUTER_SCHEMA,
    maxConnections: 4,
  });
  await requireDurability(database, config.durability);
  const store = await postgresRouterStore(database);
  const bus =
    config.natsServers.length === 0
      ? new MemoryBusHub().connect('router')
      : natsBus({ servers: config.natsServers, name: config.router.replicaId });
  const connector = grpcConnector(tls);
  const service = await start(config.router, {
    rpcServer: grpcServer({
      listenAddress: config.listenAddress,
      ...tls,
      onInternalError: (path, error) => logger.error({ path, err: error }, 'a call failed'),
    }),
    connector,
    store,
    bus,
    runtime,
    logger,
    metrics,
    secp: secp256k1,
  });
  return {
    ...service,
    stop: async () => {
      await service.stop();
      connector.close();
      await certificates.close();
      await bus.close();
      await store.close();
    },
  };
});
