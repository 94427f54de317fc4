/** The console's process. */
import { MemoryBusHub, natsBus } from '@fulmen/bus';
import { secp256k1 } from '@fulmen/crypto/default';
import { Certificates, grpcConnector, grpcServer } from '@fulmen/rpc';
import { runService } from '@fulmen/service';
import { createAdminToken, tokensFromFile } from './auth/token-files.ts';
import { consoleConfig } from './config.ts';
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
  const certificates = new Certificates({ runtime, logger, metrics });
  const encrypted =
    settings.tls &&
    grpcConnector({
      maxMessageBytes: MAX_ANSWER_BYTES,
      tls: await certificates.open(settings.tls.files),
      ...(settings.tls.serverName !== undefined && { serverName: settings.tls.serverName }),
    });
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
      await certificates.close();
      await Promise.all([events.close(), bus.close()]);
    },
  };
});
