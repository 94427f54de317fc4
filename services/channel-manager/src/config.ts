/** Configuration of channel-manager, from the environment. */
import { address, integer, list, readConfig, z } from '@fulmen/service';

const schema = z.object({
  /** Name of this replica; stable over restarts (a StatefulSet's pod name). */
  FULMEN_REPLICA_ID: z.string().min(1).max(64),
  FULMEN_LISTEN_ADDRESS: address.default('127.0.0.1:0'),
  /** What others dial; defaults to where it listens. */
  FULMEN_ADVERTISED_ADDRESS: address.optional(),
  FULMEN_DATABASE_URL: z.string().min(1),
  FULMEN_NATS_SERVERS: list.default([]),
  FULMEN_SIGNER_ADDRESS: address,
  FULMEN_CHAIN_MONITOR_ADDRESS: address,
  FULMEN_ROUTER_ADDRESS: address,
  FULMEN_TLS_CA_FILE: z.string().optional(),
  FULMEN_TLS_CERTIFICATE_FILE: z.string().optional(),
  FULMEN_TLS_KEY_FILE: z.string().optional(),
  FULMEN_NETWORK: z.enum(['mainnet', 'testnet', 'signet', 'regtest']),
  FULMEN_LEASE_MS: integer(500, 120_000).default(10_000),
  FULMEN_CHAIN_STALE_MS: integer(1_000, 86_400_000).default(120_000),
  FULMEN_MINIMUM_DEPTH: integer(1, 144).default(6),
  /** The smallest channel that this node opens or accepts. */
  FULMEN_MINIMUM_CHANNEL_SAT: integer(1_000, 2_100_000_000_000_000).default(1_000),
  FULMEN_FEE_BASE_MSAT: integer(0, 4_294_967_295).default(1000),
  FULMEN_FEE_PPM: integer(0, 4_294_967_295).default(0),
  FULMEN_CLTV_EXPIRY_DELTA: integer(48, 2016).default(72),
  FULMEN_MAX_PENDING_CHANNELS_PER_PEER: integer(1, 1000).default(4),
  FULMEN_MAX_PENDING_CHANNELS: integer(1, 100_000).default(1000),
  FULMEN_MAX_ACCEPTED_HTLCS: integer(1, 483).default(483),
  /** Whether payments that come without an invoice are taken. */
  FULMEN_KEYSEND: z.enum(['accepted', 'refused']).default('accepted'),
  /** Towers that must have a monitor update before a channel goes on; every replica and chain-monitor alike. */
  FULMEN_TOWERS_REQUIRED: integer(0, 16).default(0),
  FULMEN_STEP_CONNECTIONS: integer(2, 100).default(4),
  /** Where this replica keeps the node's static channel backup as a file, beside the peers' and the database's. */
  FULMEN_BACKUP_FILE: z.string().min(1).optional(),
  /** Whether one server is trusted, or a synchronous standby is demanded. */
  FULMEN_DURABILITY: z.enum(['single', 'high_availability']).default('single'),
});

export type ManagerConfig = z.infer<typeof schema>;

/** Throws ConfigError naming every bad variable. */
export function managerConfig(environment: Readonly<Record<string, string | undefined>>): ManagerConfig {
  return readConfig(schema, environment);
}
