/** The console's process. */
import { readFileSync } from 'node:fs';
import { MemoryBusHub, natsBus } from '@fulmen/bus';
import { secp256k1 } from '@fulmen/crypto/default';
import { grpcConnector, grpcServer, type RpcConnector } from '@fulmen/rpc';
import { ConfigError, runService } from '@fulmen/service';
import { createAdminToken, tokensFromFile } from './auth/token-files.ts';
import { consoleConfig, type TlsConfig } from './config.ts';
import { postgresEvents } from './events/postgres.ts';
import { startConsole } from './start.ts';

/** Answers of the fleet: a list of every channel of a large node. */
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;

runService('console', async ({ runtime, logger, metrics, environment }) => {
  const { process: settings, ...config } = consoleConfig(environment);
  const { tokensFile, adminTokenFile } = settings;
  if (
    adminTokenFile !== undefined &&
    (await createAdminToken(tokensFile, adminTokenFile, runtime.randomBytes))
  )
    logger.info({ file: adminTokenFile }, 'a token of scope "admin" was created');
  const plaintext = grpcConnector({ maxMessageBytes: MAX_ANSWER_BYTES });
  const encrypted = settings.tls === undefined ? undefined : encryptedConnector(settings.tls);
  const server = grpcServer({
    listenAddress: settings.listenAddress,
    maxMessageBytes: settings.maxRequestBytes,
    maxConcurrentStreams: config.limits.concurrentCalls,
    onInternalError: (path, error) => logger.error({ path, err: error }, 'a call failed'),
  });
  const events = postgresEvents(settings.databaseUrl);
  const bus =
    settings.natsServers.length === 0
      ? // Nobody to hear: events are polled.
        new MemoryBusHub().connect('console')
      : natsBus({
          servers: settings.natsServers,
          name: 'console',
          onStatus: (connected) => logger.info({ connected }, 'hint bus'),
        });
  const service = await startConsole(config, {
    runtime,
    logger,
    metrics,
    server,
    connectorOf: (kind) =>
      encrypted !== undefined && settings.tls?.services.includes(kind) === true ? encrypted : plaintext,
    bus,
    events,
    tokens: tokensFromFile(tokensFile),
    curve: secp256k1,
  });
  return {
    ...service,
    stop: async () => {
      await service.stop();
      plaintext.close();
      encrypted?.close();
      await Promise.all([events.close(), bus.close()]);
    },
  };
});

function encryptedConnector({ ca, certificate, key, serverName }: TlsConfig): RpcConnector {
  const read = (file: string): Buffer => {
    try {
      return readFileSync(file);
    } catch {
      throw new ConfigError(`the TLS file ${file} cannot be read`);
    }
  };
  return grpcConnector({
    maxMessageBytes: MAX_ANSWER_BYTES,
    tls: { caCertificate: read(ca), certificate: read(certificate), privateKey: read(key) },
    ...(serverName === undefined ? {} : { serverName }),
  });
}
