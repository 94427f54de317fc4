/** The service's configuration from the environment. */
import { type Network, networkByName } from '@fulmen/bitcoin';
import type { BitcoindRpcConfig, EsploraConfig } from '@fulmen/chain';
import { type TlsFiles, tlsFiles } from '@fulmen/rpc';
import { ConfigError, address, integer, list, readConfig } from '@fulmen/service';
import { z } from 'zod';
import type { ChainMonitorConfig } from './ports.ts';

const schema = z.object({
  FULMEN_REPLICA_ID: z.string().min(1).max(40).default('chain-monitor'),
  FULMEN_NETWORK: z.string().refine((name) => networkByName(name) !== undefined, 'is not a network'),
  FULMEN_LISTEN_ADDRESS: address.default('127.0.0.1:0'),
  FULMEN_DATABASE_URL: z.string().min(1),
  FULMEN_DURABILITY: z.enum(['single', 'high_availability']).default('single'),
  FULMEN_NATS_SERVERS: list.default([]),
  FULMEN_SIGNER_ADDRESS: address,
  /** Bitcoin Core's RPC; or else an Esplora server. */
  FULMEN_BITCOIND_ADDRESS: address.optional(),
  FULMEN_ESPLORA_URL: z.url({ protocol: /^https?$/ }).optional(),
  FULMEN_BITCOIND_RPC_USER: z.string().optional(),
  FULMEN_BITCOIND_RPC_PASSWORD: z.string().optional(),
  /** The cookie file that the node writes at each start. */
  FULMEN_BITCOIND_COOKIE: z.string().optional(),
  /** The node's zmqpubhashblock, such as tcp://127.0.0.1:28332. */
  FULMEN_BITCOIND_ZMQ: z.string().optional(),
  FULMEN_LEASE_MS: integer(1_000, 120_000).default(10_000),
  FULMEN_CHAIN_POLL_MS: integer(20, 60_000).default(1_000),
  FULMEN_CHAIN_MEMPOOL_POLL_MS: integer(50, 3_600_000).default(10_000),
  FULMEN_CHAIN_MEMPOOL_SCAN_LIMIT: integer(0, 100_000).default(5_000),
  FULMEN_CHAIN_REBROADCAST_MS: integer(1_000, 3_600_000).default(30_000),
  FULMEN_CHAIN_BEHIND_GRACE_MS: integer(0, 86_400_000).default(600_000),
  /** 0: of any age. */
  FULMEN_CHAIN_MAX_BLOCK_AGE_MS: integer(0, 604_800_000).optional(),
  FULMEN_WALLET_RESCAN_HEIGHT: integer(0, 0xff_ffff).optional(),
  FULMEN_FALLBACK_FEERATE_SAT_PER_KW: integer(253, 1_000_000).optional(),
  FULMEN_MAXIMUM_FEERATE_SAT_PER_KW: integer(253, 10_000_000).default(250_000),
  FULMEN_FEE_CACHE_MS: integer(0, 3_600_000).default(60_000),
  FULMEN_WALLET_RESERVATION_BLOCKS: integer(1, 100_000).default(2_016),
  /** Kept back in the wallet for each channel with anchors, and for so many of them at most; 0: nothing. */
  FULMEN_ANCHOR_RESERVE_SAT: integer(0, 100_000_000).default(10_000),
  FULMEN_ANCHOR_RESERVE_CHANNELS: integer(1, 100_000).default(10),
  FULMEN_MAXIMUM_SWEEP_FEE_SAT: integer(1_000, 1_000_000_000).default(5_000_000),
  FULMEN_TLS_CA_FILE: z.string().optional(),
  FULMEN_TLS_CERTIFICATE_FILE: z.string().optional(),
  FULMEN_TLS_KEY_FILE: z.string().optional(),
});

/** The one chain source. */
export type SourceConfig =
  | { readonly kind: 'bitcoind'; readonly rpc: BitcoindRpcConfig }
  | { readonly kind: 'esplora'; readonly config: EsploraConfig };

/** What a process needs beside the service's own configuration. */
export interface ChainMonitorProcessConfig {
  readonly service: ChainMonitorConfig;
  readonly listenAddress: string;
  readonly databaseUrl: string;
  readonly durability: 'single' | 'high_availability';
  readonly natsServers: readonly string[];
  readonly signerAddress: string;
  readonly source: SourceConfig;
  readonly zmqEndpoint: string | undefined;
  /** Paths of PEM files; absent: plaintext. */
  readonly tls: TlsFiles | undefined;
}

/** In three hours without a block there is one chance in 60 million that nobody found one. */
const MAX_BLOCK_AGE_MS = 3 * 3_600_000;

/** Blocks of regtest come when somebody asks for them. */
function maximumBlockAge(asked: number | undefined, { name }: Network): number | undefined {
  const ageMs = asked ?? (name === 'regtest' ? 0 : MAX_BLOCK_AGE_MS);
  return ageMs === 0 ? undefined : ageMs;
}

/** Feerate on regtest, where no node ever has an estimate. */
const REGTEST_FALLBACK_SAT_PER_KW = 1_000;

/** @throws ConfigError */
export function readChainMonitorConfig(
  environment: Readonly<Record<string, string | undefined>>,
): ChainMonitorProcessConfig {
  const values = readConfig(schema, environment);
  const network = networkByName(values.FULMEN_NETWORK);
  if (network === undefined) throw new ConfigError('FULMEN_NETWORK: is not a network');
  return {
    service: {
      network,
      replicaId: values.FULMEN_REPLICA_ID,
      leaseMs: values.FULMEN_LEASE_MS,
      pollMs: values.FULMEN_CHAIN_POLL_MS,
      mempoolPollMs: values.FULMEN_CHAIN_MEMPOOL_POLL_MS,
      mempoolScanLimit: values.FULMEN_CHAIN_MEMPOOL_SCAN_LIMIT,
      rebroadcastMs: values.FULMEN_CHAIN_REBROADCAST_MS,
      behindGraceMs: values.FULMEN_CHAIN_BEHIND_GRACE_MS,
      maximumBlockAgeMs: maximumBlockAge(values.FULMEN_CHAIN_MAX_BLOCK_AGE_MS, network),
      rescanHeight: values.FULMEN_WALLET_RESCAN_HEIGHT,
      fallbackFeerateSatPerKw:
        values.FULMEN_FALLBACK_FEERATE_SAT_PER_KW ??
        (network.name === 'regtest' ? REGTEST_FALLBACK_SAT_PER_KW : undefined),
      maximumFeerateSatPerKw: values.FULMEN_MAXIMUM_FEERATE_SAT_PER_KW,
      feeCacheMs: values.FULMEN_FEE_CACHE_MS,
      reservationExpiryBlocks: values.FULMEN_WALLET_RESERVATION_BLOCKS,
      anchorReserve: {
        perChannelSat: BigInt(values.FULMEN_ANCHOR_RESERVE_SAT),
        maximumChannels: values.FULMEN_ANCHOR_RESERVE_CHANNELS,
      },
      maximumSweepFeeSat: BigInt(values.FULMEN_MAXIMUM_SWEEP_FEE_SAT),
    },
    listenAddress: values.FULMEN_LISTEN_ADDRESS,
    databaseUrl: values.FULMEN_DATABASE_URL,
    durability: values.FULMEN_DURABILITY,
    natsServers: values.FULMEN_NATS_SERVERS,
    signerAddress: values.FULMEN_SIGNER_ADDRESS,
    source: sourceOf(values),
    zmqEndpoint: values.FULMEN_BITCOIND_ZMQ,
    tls: tlsFiles(values),
  };
}

function sourceOf(values: z.infer<typeof schema>): SourceConfig {
  const { FULMEN_BITCOIND_ADDRESS: bitcoind, FULMEN_ESPLORA_URL: url } = values;
  if ((bitcoind === undefined) === (url === undefined))
    throw new ConfigError('exactly one of FULMEN_BITCOIND_ADDRESS and FULMEN_ESPLORA_URL must be set');
  if (url !== undefined) return { kind: 'esplora', config: { url } };
  const at = bitcoind ?? '';
  const colon = at.lastIndexOf(':');
  const auth = authOf(
    values.FULMEN_BITCOIND_COOKIE,
    values.FULMEN_BITCOIND_RPC_USER,
    values.FULMEN_BITCOIND_RPC_PASSWORD,
  );
  return {
    kind: 'bitcoind',
    rpc: { host: at.slice(0, colon), port: Number(at.slice(colon + 1)), auth },
  };
}

function authOf(
  cookie: string | undefined,
  user: string | undefined,
  password: string | undefined,
): BitcoindRpcConfig['auth'] {
  if (cookie !== undefined) return { kind: 'cookie', path: cookie };
  if (user !== undefined && password !== undefined) return { kind: 'password', user, password };
  throw new ConfigError(
    'FULMEN_BITCOIND_COOKIE, or FULMEN_BITCOIND_RPC_USER and FULMEN_BITCOIND_RPC_PASSWORD, are needed',
  );
}
