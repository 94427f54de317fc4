/** channel-manager as a process. */
import { natsBus } from '@fulmen/bus';
import { secp256k1 } from '@fulmen/crypto/default';
import { Certificates, grpcConnector, grpcServer, tlsFiles } from '@fulmen/rpc';
import { runService } from '@fulmen/service';
import { Database, migrate, requireDurability } from '@fulmen/store';
import { MANAGER_MIGRATIONS, MANAGER_SCHEMA, openManagerStore } from '@fulmen/store/manager/postgres/store';
import { openBackupStore } from '@fulmen/store/manager/backup/postgres';
import { backupFile } from './backup/file.ts';
import { managerConfig, nodeIdentity } from './config.ts';
import { openTowerFeedStore } from '@fulmen/store/tower/feed-postgres';
import { start } from './start.ts';

runService('channel-manager', async ({ runtime, logger, metrics, environment }) => {
  const config = managerConfig(environment);
  const certificates = new Certificates({ runtime, logger, metrics });
  const files = tlsFiles(config);
  const tls = files && { tls: await certificates.open(files) };
  const applicationName = `channel-manager ${config.FULMEN_REPLICA_ID}`;
  const connectionString = config.FULMEN_DATABASE_URL;
  const setup = new Database({
    connectionString,
    applicationName,
    schema: MANAGER_SCHEMA,
    maxConnections: 1,
    statementTimeoutMs: 60_000,
  });
  try {
    await requireDurability(setup, config.FULMEN_DURABILITY);
    await migrate(setup, MANAGER_MIGRATIONS);
  } finally {
    await setup.close();
  }
  const store = openManagerStore({
    connectionString,
    applicationName,
    stepConnections: config.FULMEN_STEP_CONNECTIONS,
    towersRequired: config.FULMEN_TOWERS_REQUIRED,
  });
  const towers =
    config.FULMEN_TOWERS_REQUIRED === 0
      ? undefined
      : openTowerFeedStore({ connectionString, applicationName: `${applicationName} towers` });
  const service = await start(
    {
      replicaId: config.FULMEN_REPLICA_ID,
      network: config.FULMEN_NETWORK,
      leaseMs: config.FULMEN_LEASE_MS,
      chainStaleMs: config.FULMEN_CHAIN_STALE_MS,
      minimumDepth: config.FULMEN_MINIMUM_DEPTH,
      minimumFundingSat: BigInt(config.FULMEN_MINIMUM_CHANNEL_SAT),
      maxAcceptedHtlcs: config.FULMEN_MAX_ACCEPTED_HTLCS,
      keysend: config.FULMEN_KEYSEND,
      maxPendingPerPeer: config.FULMEN_MAX_PENDING_CHANNELS_PER_PEER,
      maxPendingTotal: config.FULMEN_MAX_PENDING_CHANNELS,
      policy: {
        feeBaseMsat: config.FULMEN_FEE_BASE_MSAT,
        feeProportionalMillionths: config.FULMEN_FEE_PPM,
        cltvExpiryDelta: config.FULMEN_CLTV_EXPIRY_DELTA,
      },
      identity: nodeIdentity(config),
      disableAfterMs: config.FULMEN_DISABLE_AFTER_MS,
      signerAddress: config.FULMEN_SIGNER_ADDRESS,
      chainMonitorAddress: config.FULMEN_CHAIN_MONITOR_ADDRESS,
      routerAddress: config.FULMEN_ROUTER_ADDRESS,
      ...(config.FULMEN_ADVERTISED_ADDRESS === undefined
        ? {}
        : { advertise: config.FULMEN_ADVERTISED_ADDRESS }),
    },
    {
      server: grpcServer({
        listenAddress: config.FULMEN_LISTEN_ADDRESS,
        ...tls,
        onInternalError: (path, error) => logger.error({ path, err: error }, 'a call failed inside'),
      }),
      signerConnector: grpcConnector(tls),
      connector: grpcConnector(tls),
      store,
      backupStore: openBackupStore({ connectionString, applicationName }),
      ...(config.FULMEN_BACKUP_FILE === undefined
        ? {}
        : { backupFile: backupFile(config.FULMEN_BACKUP_FILE) }),
      ...(towers !== undefined && {
        towers: { required: config.FULMEN_TOWERS_REQUIRED, acknowledgements: towers },
      }),
      bus: natsBus({
        servers: config.FULMEN_NATS_SERVERS,
        name: `channel-manager ${config.FULMEN_REPLICA_ID}`,
      }),
      runtime,
      logger,
      metrics,
      secp: secp256k1,
    },
  );
  return {
    ...service,
    stop: async () => {
      await service.stop();
      await certificates.close();
    },
  };
});
