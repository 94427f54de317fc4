/** The gateway as a process. */
import { isIP } from 'node:net';
import { secp256k1 } from '@fulmen/crypto/default';
import { grpcConnector, grpcServer } from '@fulmen/rpc';
import { runService } from '@fulmen/service';
import { gatewayConfig, signerIdentity } from './config.ts';
import { nodeSockets } from './socket/node.ts';
import { start } from './start.ts';

runService('peer-gateway', async ({ runtime, logger, metrics, environment }) => {
  const config = gatewayConfig(environment);
  const identity = signerIdentity(environment);
  const connector = grpcConnector();
  // An address of digits is on no certificate; a name is, and is checked as it was dialled.
  const byAddress = isIP(config.signerAddress.slice(0, config.signerAddress.lastIndexOf(':'))) !== 0;
  const signerConnector = grpcConnector(
    identity === undefined || byAddress ? { ...identity } : { tls: identity.tls },
  );
  const service = await start(config, {
    runtime,
    logger,
    metrics,
    connector,
    signerConnector,
    sockets: nodeSockets(),
    server: grpcServer({ listenAddress: config.healthAddress }),
    secp: secp256k1,
  });
  return {
    ...service,
    stop: async () => {
      await service.stop();
      connector.close();
      signerConnector.close();
    },
  };
});
