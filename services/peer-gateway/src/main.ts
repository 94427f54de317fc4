/** The gateway as a process. */
import { secp256k1 } from '@fulmen/crypto/default';
import { Certificates, grpcConnector, grpcServer } from '@fulmen/rpc';
import { runService } from '@fulmen/service';
import { gatewayConfig, signerIdentity } from './config.ts';
import { nodeSockets } from './socket/node.ts';
import { start } from './start.ts';
import { fileWireLog } from './wire-log.ts';

runService('peer-gateway', async ({ runtime, logger, metrics, environment }) => {
  const config = gatewayConfig(environment);
  const identity = signerIdentity(environment);
  const certificates = new Certificates({ runtime, logger, metrics });
  const tls = identity && { tls: await certificates.open(identity.files) };
  const connector = grpcConnector(tls);
  const signerConnector = grpcConnector(tls && { ...tls, serverName: identity.serverName });
  const wallClockMs = (): number => runtime.wallClockMs();
  const wireLog =
    config.wireLog === undefined ? undefined : fileWireLog(config.wireLog, { wallClockMs, logger });
  if (wireLog !== undefined) logger.warn({ ...config.wireLog }, 'every message is logged in plaintext');
  const service = await start(config, {
    runtime,
    logger,
    metrics,
    connector,
    signerConnector,
    sockets: nodeSockets(),
    server: grpcServer({ listenAddress: config.healthAddress, ...tls }),
    secp: secp256k1,
    ...(wireLog !== undefined && { wireLog }),
  });
  return {
    ...service,
    stop: async () => {
      await service.stop();
      connector.close();
      signerConnector.close();
      await certificates.close();
      wireLog?.close();
    },
  };
});
