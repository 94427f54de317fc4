/** The gateway as a process. */
import { secp256k1 } from '@fulmen/crypto/default';
import { grpcConnector } from '@fulmen/rpc';
import { runService } from '@fulmen/service';
import { gatewayConfig, signerIdentity } from './config.ts';
import { nodeSockets } from './socket/node.ts';
import { start } from './start.ts';

runService('peer-gateway', async ({ runtime, logger, metrics, environment }) => {
  const identity = signerIdentity(environment);
  const connector = grpcConnector();
  const signerConnector = grpcConnector(
    identity === undefined
      ? {}
      : {
          tls: identity.tls,
          ...(identity.serverName === undefined ? {} : { serverName: identity.serverName }),
        },
  );
  const sockets = nodeSockets();
  const ports = { runtime, logger, metrics, sockets, connector, signerConnector, secp: secp256k1 };
  const service = await start(gatewayConfig(environment), ports);
  return {
    ...service,
    stop: async () => {
      await service.stop();
      connector.close();
      signerConnector.close();
    },
  };
});
