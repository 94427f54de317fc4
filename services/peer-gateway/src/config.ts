/** What the gateway takes from its environment. */
import { type TlsFiles, tlsFiles } from '@fulmen/rpc';
import { address, integer, list, readConfig } from '@fulmen/service';
import { z } from 'zod';
import { DEFAULT_LIMITS, type GatewayLimits } from './limits.ts';
import type { NetworkName } from './peer/init.ts';
import type { SocketAddress } from './socket/port.ts';
import { DEFAULT_WIRE_LOG_BYTES, type WireLogOptions } from './wire-log.ts';

export interface GatewayConfig {
  readonly gatewayId: string;
  readonly network: NetworkName;
  /** Where counterparties connect. */
  readonly listen: SocketAddress;
  /** Where the fleet asks for health (gRPC). */
  readonly healthAddress: string;
  readonly managerAddresses: readonly string[];
  readonly signerAddress: string;
  /** Absent: no gossip. */
  readonly routerAddress: string | undefined;
  readonly limits: GatewayLimits;
  /** Absent: messages are not logged. */
  readonly wireLog: WireLogOptions | undefined;
}

/** How the process proves itself to the signer. */
export interface SignerIdentity {
  readonly files: TlsFiles;
  /** The name on the signer's certificate when it is dialled by IP address. */
  readonly serverName: string;
}

const schema = z.object({
  FULMEN_GATEWAY_ID: z.string().min(1).max(128),
  FULMEN_NETWORK: z.enum(['mainnet', 'testnet', 'signet', 'regtest']),
  FULMEN_LIGHTNING_LISTEN_ADDRESS: z
    .string()
    .regex(/^(\[[0-9a-fA-F:.]+\]|[^\s:]+):\d{1,5}$/, 'must be host:port'),
  FULMEN_LISTEN_ADDRESS: address.default('127.0.0.1:0'),
  FULMEN_MANAGER_ADDRESSES: list.pipe(z.array(address).min(1)),
  FULMEN_SIGNER_ADDRESS: address,
  FULMEN_ROUTER_ADDRESS: address.optional(),
  FULMEN_MAX_CONNECTIONS: integer(1, 100_000).default(DEFAULT_LIMITS.maxConnections),
  FULMEN_MAX_UNWANTED_PEERS: integer(0, 100_000).default(DEFAULT_LIMITS.maxUnwantedPeers),
  FULMEN_MAX_CONNECTIONS_PER_ADDRESS: integer(1, 100_000).default(DEFAULT_LIMITS.maxConnectionsPerAddress),
  FULMEN_MAX_PENDING_HANDSHAKES: integer(1, 10_000).default(DEFAULT_LIMITS.maxPendingHandshakes),
  FULMEN_HANDSHAKES_PER_SECOND_PER_ADDRESS: integer(1, 10_000).default(
    DEFAULT_LIMITS.handshakesPerSecondPerAddress,
  ),
  FULMEN_WIRE_LOG_DIRECTORY: z.string().min(1).optional(),
  FULMEN_WIRE_LOG_MAX_BYTES: integer(1024 * 1024, 2 ** 40).default(DEFAULT_WIRE_LOG_BYTES),
});

const tlsSchema = z.object({
  FULMEN_TLS_CA_FILE: z.string().optional(),
  FULMEN_TLS_CERTIFICATE_FILE: z.string().optional(),
  FULMEN_TLS_KEY_FILE: z.string().optional(),
  FULMEN_SIGNER_SERVER_NAME: z.string().default('localhost'),
});

type Environment = Readonly<Record<string, string | undefined>>;

/** Throws ConfigError. */
export function gatewayConfig(environment: Environment): GatewayConfig {
  const values = readConfig(schema, environment);
  const colon = values.FULMEN_LIGHTNING_LISTEN_ADDRESS.lastIndexOf(':');
  return {
    gatewayId: values.FULMEN_GATEWAY_ID,
    network: values.FULMEN_NETWORK,
    listen: {
      host: values.FULMEN_LIGHTNING_LISTEN_ADDRESS.slice(0, colon).replace(/^\[|\]$/g, ''),
      port: Number(values.FULMEN_LIGHTNING_LISTEN_ADDRESS.slice(colon + 1)),
    },
    healthAddress: values.FULMEN_LISTEN_ADDRESS,
    managerAddresses: [...new Set(values.FULMEN_MANAGER_ADDRESSES)],
    signerAddress: values.FULMEN_SIGNER_ADDRESS,
    routerAddress: values.FULMEN_ROUTER_ADDRESS,
    limits: {
      maxConnections: values.FULMEN_MAX_CONNECTIONS,
      maxUnwantedPeers: values.FULMEN_MAX_UNWANTED_PEERS,
      maxConnectionsPerAddress: values.FULMEN_MAX_CONNECTIONS_PER_ADDRESS,
      maxPendingHandshakes: values.FULMEN_MAX_PENDING_HANDSHAKES,
      handshakesPerSecondPerAddress: values.FULMEN_HANDSHAKES_PER_SECOND_PER_ADDRESS,
      maxWantedPeers: DEFAULT_LIMITS.maxWantedPeers,
    },
    wireLog:
      values.FULMEN_WIRE_LOG_DIRECTORY === undefined
        ? undefined
        : { directory: values.FULMEN_WIRE_LOG_DIRECTORY, maxBytes: values.FULMEN_WIRE_LOG_MAX_BYTES },
  };
}

/** The client certificate for the signer; undefined when none is configured. Throws ConfigError. */
export function signerIdentity(environment: Environment): SignerIdentity | undefined {
  const values = readConfig(tlsSchema, environment);
  const files = tlsFiles(values);
  return files && { files, serverName: values.FULMEN_SIGNER_SERVER_NAME };
}
