/** Composes a gateway from its configuration and ports; the same in a process, a test and a simulation. */
import { fromHex, toHex } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import { PeerLinkServiceService } from '@fulmen/proto/link/v1/link';
import { GossipServiceService } from '@fulmen/proto/router/v1/router';
import { type GetNodeResponse, SignerServiceService } from '@fulmen/proto/signer/v1/signer';
import { type Client, type RpcConnector, RpcError, type RpcServer } from '@fulmen/rpc';
import { ConfigError, type Logger, type Metrics, type RunningService, type Runtime } from '@fulmen/service';
import { HOLDER_FEATURES } from '@fulmen/wire';
import type { GatewayConfig } from './config.ts';
import { Gateway } from './gateway.ts';
import { LINK_RETRY_MAX_MS } from './limits.ts';
import { gatewayMetrics } from './metrics.ts';
import { EcdhLane } from './peer/ecdh-lane.ts';
import { CHAIN_HASHES } from './peer/init.ts';
import type { SocketPort } from './socket/port.ts';
import type { WireLog } from './wire-log.ts';

export interface StartPorts {
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly sockets: SocketPort;
  /** Reaches managers and the router. */
  readonly connector: RpcConnector;
  /** Reaches the signer, with this service's certificate. */
  readonly signerConnector: RpcConnector;
  /** Answers questions for health; no service of ours is offered there. */
  readonly server: RpcServer;
  readonly secp: Secp256k1;
  /** Absent: messages are not logged. */
  readonly wireLog?: WireLog;
}

/** Time for calls in flight when the gateway stops. */
const SERVER_GRACE_MS = 500;

export interface RunningGateway extends RunningService {
  /** The node's identity, as the signer says. */
  readonly nodeId: Uint8Array;
}

/** Starts a gateway; waits for the signer, without which no handshake can be. */
export async function start(config: GatewayConfig, ports: StartPorts): Promise<RunningGateway> {
  const { runtime, logger, sockets, connector, secp } = ports;
  const wireLog = ports.wireLog === undefined ? {} : { wireLog: ports.wireLog };
  const metrics = gatewayMetrics(ports.metrics);
  const signer = ports.signerConnector.client(SignerServiceService, config.signerAddress);
  const node = await askForNode(signer, runtime, logger);
  if (node.network !== config.network) {
    throw new ConfigError(`FULMEN_NETWORK is ${config.network}, and the signer's network ${node.network}`);
  }
  const ecdh = async (publicKey: Uint8Array, deadlineMs: number): Promise<Uint8Array> =>
    (await signer.ecdh({ publicKey }, { deadlineMs })).sharedSecret;
  const gateway = new Gateway(
    {
      runtime,
      logger,
      metrics,
      sockets,
      managers: config.managerAddresses.map((address) => ({
        address,
        client: connector.client(PeerLinkServiceService, address),
      })),
      router:
        config.routerAddress === undefined
          ? undefined
          : connector.client(GossipServiceService, config.routerAddress),
      ...wireLog,
      establish: {
        ...wireLog,
        runtime,
        secp,
        lane: new EcdhLane(ecdh, metrics),
        holderNodeId: node.nodeId,
        features: HOLDER_FEATURES,
        chainHash: fromHex(CHAIN_HASHES[config.network]),
      },
    },
    {
      gatewayId: config.gatewayId,
      incarnation: BigInt(Math.trunc(runtime.wallClockMs())),
      limits: config.limits,
    },
  );
  const listener = await gateway.start(config.listen);
  const healthAddress = await ports.server.listen();
  const { host, port } = listener.address;
  const address = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  logger.info(
    { nodeId: toHex(node.nodeId), address, healthAddress, network: config.network },
    'the gateway serves',
  );
  return {
    nodeId: node.nodeId,
    address,
    failed: gateway.failed,
    stop: async () => {
      await listener.close();
      await gateway.stop();
      await ports.server.stop(SERVER_GRACE_MS);
    },
  };
}

async function askForNode(
  signer: Client<SignerServiceService>,
  runtime: Runtime,
  logger: Logger,
): Promise<GetNodeResponse> {
  for (;;) {
    try {
      return await signer.getNode({});
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      logger.warn({ code: error.code, detail: error.message }, 'the signer does not answer yet');
      await runtime.sleep(LINK_RETRY_MAX_MS);
    }
  }
}
