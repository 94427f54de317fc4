/** The signer's configuration, from the environment. */
import { fromHex } from '@fulmen/codec';
import type { TlsFiles } from '@fulmen/rpc';
import { address, ConfigError, integer, list, readConfig, z } from '@fulmen/service';
import type { DurabilityMode } from '@fulmen/store';
import type { SeedKeySource } from './seed/seed-key.ts';
import type { SignerOptions } from './start.ts';

const satoshis = z
  .string()
  .regex(/^\d{1,16}$/, 'must be a whole number of satoshis')
  .transform(BigInt);
const file = z.string().min(1);

const variables = z.object({
  FULMEN_LISTEN_ADDRESS: address.default('127.0.0.1:0'),
  FULMEN_NETWORK: z.enum(['mainnet', 'testnet', 'signet', 'regtest']),
  /** The signer's own database, with a role that no other service has. */
  FULMEN_DATABASE_URL: z.string().min(1),
  FULMEN_DURABILITY: z.enum(['single', 'high_availability']).default('single'),
  FULMEN_TLS_CA_FILE: file,
  FULMEN_TLS_CERTIFICATE_FILE: file,
  FULMEN_TLS_KEY_FILE: file,
  /** Made at the first start. The marker lies beside it, with the ending `.generation`. */
  FULMEN_SIGNER_SEED_FILE: file,
  /** Exactly one of the three opens the seed. */
  FULMEN_SIGNER_SEED_KEY_FILE: file.optional(),
  FULMEN_SIGNER_SEED_KEY: z.string().optional(),
  FULMEN_SIGNER_SEED_KEY_COMMAND: z
    .string()
    .transform((text) => text.split(' ').filter((part) => part !== ''))
    .optional(),
  /** Words of a node to be restored; read only when there is no seed file. */
  FULMEN_SIGNER_MNEMONIC_FILE: file.optional(),
  FULMEN_SIGNER_LEASE_MS: integer(500, 120_000).default(2_000),
  /** What to do, once, with a database that was set back. */
  FULMEN_SIGNER_RECONCILE: z.enum(['freeze', 'accept']).optional(),
  FULMEN_SIGNER_ECDH_PER_SECOND: integer(1, 100_000).default(200),
  FULMEN_SIGNER_ECDH_BURST: integer(1, 100_000).default(400),
  /** Scripts (hex) besides the wallet's own to which closes and payments may go. */
  FULMEN_SIGNER_ALLOWED_SCRIPTS: list.default([]),
  FULMEN_SIGNER_MAX_CHANNEL_SAT: satoshis.optional(),
  FULMEN_SIGNER_MAX_ONCHAIN_FEE_SAT: satoshis.optional(),
  /** Public keys (hex) of towers’ justice signers that may punish for this node. */
  FULMEN_SIGNER_TOWER_KEYS: list.default([]),
  /** What may leave the wallet to foreign scripts in 24 hours. */
  FULMEN_SIGNER_VELOCITY_SAT: satoshis.optional(),
});

export interface SignerConfig {
  readonly options: SignerOptions;
  readonly listenAddress: string;
  readonly databaseUrl: string;
  readonly durability: DurabilityMode;
  readonly tls: TlsFiles;
  readonly seed: {
    readonly file: string;
    readonly key: SeedKeySource;
    readonly mnemonicFile: string | undefined;
  };
}

/** Throws ConfigError naming every bad variable. */
export function signerConfig(environment: Readonly<Record<string, string | undefined>>): SignerConfig {
  const read = readConfig(variables, environment);
  return {
    listenAddress: read.FULMEN_LISTEN_ADDRESS,
    databaseUrl: read.FULMEN_DATABASE_URL,
    durability: read.FULMEN_DURABILITY,
    tls: {
      ca: read.FULMEN_TLS_CA_FILE,
      certificate: read.FULMEN_TLS_CERTIFICATE_FILE,
      key: read.FULMEN_TLS_KEY_FILE,
    },
    seed: {
      file: read.FULMEN_SIGNER_SEED_FILE,
      key: seedKey(read),
      mnemonicFile: read.FULMEN_SIGNER_MNEMONIC_FILE,
    },
    options: {
      network: read.FULMEN_NETWORK,
      leaseMs: read.FULMEN_SIGNER_LEASE_MS,
      ...(read.FULMEN_SIGNER_RECONCILE === undefined ? {} : { reconcile: read.FULMEN_SIGNER_RECONCILE }),
      ecdh: { perSecond: read.FULMEN_SIGNER_ECDH_PER_SECOND, burst: read.FULMEN_SIGNER_ECDH_BURST },
      limits: {
        allowedScripts: read.FULMEN_SIGNER_ALLOWED_SCRIPTS.map(scriptOf),
        ...given('maximumChannelSat', read.FULMEN_SIGNER_MAX_CHANNEL_SAT),
      },
      towerKeys: read.FULMEN_SIGNER_TOWER_KEYS.map(towerKeyOf),
      onchain: {
        ...given('maximumFeeSat', read.FULMEN_SIGNER_MAX_ONCHAIN_FEE_SAT),
        ...given('velocitySat', read.FULMEN_SIGNER_VELOCITY_SAT),
      },
    },
  };
}

function given<K extends string, V>(key: K, value: V | undefined): { readonly [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { readonly [P in K]?: V });
}

function scriptOf(hex: string): Uint8Array {
  if (!/^([0-9a-fA-F]{2}){4,520}$/.test(hex))
    throw new ConfigError('FULMEN_SIGNER_ALLOWED_SCRIPTS: must be scripts in hex');
  return fromHex(hex);
}

function towerKeyOf(hex: string): Uint8Array {
  if (!/^0[23][0-9a-fA-F]{64}$/.test(hex))
    throw new ConfigError('FULMEN_SIGNER_TOWER_KEYS: must be compressed public keys in hex');
  return fromHex(hex);
}

function seedKey(read: z.infer<typeof variables>): SeedKeySource {
  const {
    FULMEN_SIGNER_SEED_KEY_FILE: path,
    FULMEN_SIGNER_SEED_KEY: value,
    FULMEN_SIGNER_SEED_KEY_COMMAND: command,
  } = read;
  const sources: SeedKeySource[] = [];
  if (path !== undefined) sources.push({ type: 'file', path });
  if (value !== undefined) sources.push({ type: 'value', value });
  if (command !== undefined) sources.push({ type: 'command', command });
  const [only, ...more] = sources;
  if (only === undefined || more.length > 0) {
    throw new ConfigError(
      'set exactly one of FULMEN_SIGNER_SEED_KEY_FILE, FULMEN_SIGNER_SEED_KEY, FULMEN_SIGNER_SEED_KEY_COMMAND',
    );
  }
  return only;
}
