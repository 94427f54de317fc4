/** The console's configuration, from the environment. */
import { type TlsFiles, tlsFiles } from '@fulmen/rpc';
import { address, integer, list, readConfig } from '@fulmen/service';
import { z } from 'zod';

/** The kinds of service that the console calls. */
export const FLEET_SERVICES = ['managers', 'chain', 'routers', 'signers', 'gateways'] as const;
export type FleetService = (typeof FLEET_SERVICES)[number];

const addresses = list.pipe(z.array(address));

const variables = z.object({
  /** Where the public API listens. Loopback by default: tokens travel with each call, so put TLS in front of others. */
  FULMEN_LISTEN_ADDRESS: address.default('127.0.0.1:9740'),
  FULMEN_MANAGER_ADDRESSES: addresses.pipe(z.array(z.string()).min(1)),
  FULMEN_CHAIN_ADDRESSES: addresses.pipe(z.array(z.string()).min(1)),
  FULMEN_ROUTER_ADDRESSES: addresses.default([]),
  /** Asked for their health only. */
  FULMEN_SIGNER_ADDRESSES: addresses.default([]),
  /** Asked for their health only. */
  FULMEN_GATEWAY_ADDRESSES: addresses.default([]),
  /** The event log: a role that may read the manager's table `event` is enough. */
  FULMEN_DATABASE_URL: z.string().min(1),
  FULMEN_NATS_SERVERS: list.default([]),
  /** JSON lines {"name","scopes","sha256"}. */
  FULMEN_TOKENS_FILE: z.string().min(1),
  /** Gets a new token of scope "admin" when the file does not exist. */
  FULMEN_ADMIN_TOKEN_FILE: z.string().min(1).optional(),
  FULMEN_ALIAS: z.string().max(32).default(''),
  /** host:port under which peers reach the gateways. */
  FULMEN_PUBLIC_ADDRESSES: addresses.default([]),
  FULMEN_TOKEN_CALLS_PER_SECOND: integer(1, 100_000).default(50),
  FULMEN_TOKEN_CONCURRENT_CALLS: integer(1, 10_000).default(64),
  FULMEN_MAX_CONCURRENT_CALLS: integer(1, 100_000).default(512),
  FULMEN_MAX_SUBSCRIBERS: integer(1, 10_000).default(64),
  FULMEN_MAX_REQUEST_BYTES: integer(1_024, 4_194_304).default(65_536),
  /** PEM files of the console's certificate towards the fleet; all three, or none for plaintext on loopback. */
  FULMEN_TLS_CA_FILE: z.string().min(1).optional(),
  FULMEN_TLS_CERTIFICATE_FILE: z.string().min(1).optional(),
  FULMEN_TLS_KEY_FILE: z.string().min(1).optional(),
  /** Which services are called with TLS, when there is a certificate. */
  FULMEN_TLS_SERVICES: list.pipe(z.array(z.enum(FLEET_SERVICES))).default(['signers']),
  /** Name on the services' certificates when they are dialled by IP address. */
  FULMEN_TLS_SERVER_NAME: z.string().min(1).optional(),
});

/** Services of the fleet, with the addresses where replicas answer. */
export type FleetAddresses = Readonly<Record<FleetService, readonly string[]>>;

export interface Limits {
  readonly callsPerSecond: number;
  readonly concurrentCallsOfToken: number;
  readonly concurrentCalls: number;
  readonly subscribers: number;
}

export interface ConsoleConfig {
  readonly fleet: FleetAddresses;
  readonly alias: string;
  readonly publicAddresses: readonly string[];
  readonly limits: Limits;
}

/** Files of the certificate, and where it is used. */
export interface TlsConfig {
  readonly files: TlsFiles;
  readonly services: readonly FleetService[];
  readonly serverName: string | undefined;
}

/** What only the process needs, to make the ports. */
export interface ProcessConfig {
  readonly listenAddress: string;
  readonly maxRequestBytes: number;
  readonly databaseUrl: string;
  readonly natsServers: readonly string[];
  readonly tokensFile: string;
  readonly adminTokenFile: string | undefined;
  readonly tls: TlsConfig | undefined;
}

/** Throws ConfigError naming every bad variable. */
export function consoleConfig(
  environment: Readonly<Record<string, string | undefined>>,
): ConsoleConfig & { readonly process: ProcessConfig } {
  const read = readConfig(variables, environment);
  const files = tlsFiles(read);
  return {
    fleet: {
      managers: read.FULMEN_MANAGER_ADDRESSES,
      chain: read.FULMEN_CHAIN_ADDRESSES,
      routers: read.FULMEN_ROUTER_ADDRESSES,
      signers: read.FULMEN_SIGNER_ADDRESSES,
      gateways: read.FULMEN_GATEWAY_ADDRESSES,
    },
    alias: read.FULMEN_ALIAS,
    publicAddresses: read.FULMEN_PUBLIC_ADDRESSES,
    limits: {
      callsPerSecond: read.FULMEN_TOKEN_CALLS_PER_SECOND,
      concurrentCallsOfToken: read.FULMEN_TOKEN_CONCURRENT_CALLS,
      concurrentCalls: read.FULMEN_MAX_CONCURRENT_CALLS,
      subscribers: read.FULMEN_MAX_SUBSCRIBERS,
    },
    process: {
      listenAddress: read.FULMEN_LISTEN_ADDRESS,
      maxRequestBytes: read.FULMEN_MAX_REQUEST_BYTES,
      databaseUrl: read.FULMEN_DATABASE_URL,
      natsServers: read.FULMEN_NATS_SERVERS,
      tokensFile: read.FULMEN_TOKENS_FILE,
      adminTokenFile: read.FULMEN_ADMIN_TOKEN_FILE,
      tls: files && {
        files,
        services: read.FULMEN_TLS_SERVICES,
        serverName: read.FULMEN_TLS_SERVER_NAME,
      },
    },
  };
}
