/** Configuration of channel-manager, from the environment. */
import { fromHex, utf8Encode } from '@fulmen/codec';
import { address, ConfigError, integer, list, readConfig, z } from '@fulmen/service';
import { encodeAddresses, ipAddress, type NodeAddress } from '@fulmen/wire';
import type { NodeIdentity } from './engine/node-announcer.ts';

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
  /** Name of the node in the network; for every replica the same, as the colour and the addresses. */
  FULMEN_ALIAS: z.string().max(32).default(''),
  FULMEN_COLOR: z
    .string()
    .regex(/^#[0-9a-fA-F]{6}$/, 'must be #rrggbb')
    .default('#5b3fd6'),
  /** host:port under which peers reach the gateways, announced to the network. */
  FULMEN_PUBLIC_ADDRESSES: list.default([]),
  /** A public channel is disabled when its peer was away for so long. LDK: ten minutes. */
  FULMEN_DISABLE_AFTER_MS: integer(1_000, 86_400_000).default(600_000),
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

/** Addresses of one announcement; a message could carry more, nobody would try them all. */
const MAX_ADDRESSES = 16;
const ALIAS_BYTES = 32;

export type ManagerConfig = z.infer<typeof schema>;

/** Throws ConfigError naming every bad variable. */
export function managerConfig(environment: Readonly<Record<string, string | undefined>>): ManagerConfig {
  return readConfig(schema, environment);
}

/** What the node says of itself. Throws ConfigError. */
export function nodeIdentity(config: ManagerConfig): NodeIdentity {
  const { FULMEN_ALIAS: alias, FULMEN_COLOR: color, FULMEN_PUBLIC_ADDRESSES: texts } = config;
  if (utf8Encode(alias).length > ALIAS_BYTES)
    throw new ConfigError(`FULMEN_ALIAS is longer than ${ALIAS_BYTES} bytes`);
  if (texts.length > MAX_ADDRESSES)
    throw new ConfigError(`FULMEN_PUBLIC_ADDRESSES has more than ${MAX_ADDRESSES} addresses`);
  const addresses = texts.map(announcedAddress);
  try {
    encodeAddresses(addresses);
  } catch (error) {
    // BOLT 7: "MUST NOT announce more than one `type 5` DNS hostname."
    const why = error instanceof Error ? error.message : '';
    throw new ConfigError(`FULMEN_PUBLIC_ADDRESSES cannot be announced: ${why}`);
  }
  return { alias, rgbColor: fromHex(color.slice(1)), addresses };
}

function announcedAddress(text: string): NodeAddress {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^\s:[\]]+)):(\d{1,5})$/.exec(text);
  const [, ipv6, host = '', port = '0'] = match ?? [];
  if (match === null || Number(port) < 1 || Number(port) > 65_535)
    throw new ConfigError(`FULMEN_PUBLIC_ADDRESSES: ${text} is not host:port`);
  return ipAddress(ipv6 ?? host, Number(port)) ?? { kind: 'dns', hostname: ipv6 ?? host, port: Number(port) };
}
