/** The justice signer's configuration, from the environment, and its key from a file. */
import { existsSync, readFileSync } from 'node:fs';
import { fromHex, toHex } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import type { TlsFiles } from '@fulmen/rpc';
import { address, ConfigError, integer, readConfig, z } from '@fulmen/service';
import { createDurably } from '../durable-file.ts';

const file = z.string().min(1);

const variables = z.object({
  FULMEN_LISTEN_ADDRESS: address.default('127.0.0.1:0'),
  FULMEN_TLS_CA_FILE: file,
  FULMEN_TLS_CERTIFICATE_FILE: file,
  FULMEN_TLS_KEY_FILE: file,
  /** 32 bytes in hex; made at the first start. */
  FULMEN_JUSTICE_KEY_FILE: file,
  /** The only script that is ever paid, in hex: an address of the operator's, of no machine near the node. */
  FULMEN_JUSTICE_DESTINATION_SCRIPT: z.string().regex(/^([0-9a-fA-F]{2}){4,42}$/, 'must be a script in hex'),
  /** Of what a claim brings in, what may go to miners at most. */
  FULMEN_JUSTICE_MAX_FEE_PERCENT: integer(1, 100).default(95),
});

export interface JusticeConfig {
  readonly listenAddress: string;
  readonly tls: TlsFiles;
  readonly keyFile: string;
  readonly destinationScript: Uint8Array;
  readonly maximumFeePercent: number;
}

/** Throws ConfigError naming every bad variable. */
export function justiceConfig(environment: Readonly<Record<string, string | undefined>>): JusticeConfig {
  const read = readConfig(variables, environment);
  return {
    listenAddress: read.FULMEN_LISTEN_ADDRESS,
    tls: {
      ca: read.FULMEN_TLS_CA_FILE,
      certificate: read.FULMEN_TLS_CERTIFICATE_FILE,
      key: read.FULMEN_TLS_KEY_FILE,
    },
    keyFile: read.FULMEN_JUSTICE_KEY_FILE,
    destinationScript: fromHex(read.FULMEN_JUSTICE_DESTINATION_SCRIPT),
    maximumFeePercent: read.FULMEN_JUSTICE_MAX_FEE_PERCENT,
  };
}

/** The key of the file, which is made when there is none. @throws ConfigError for anything but a key */
export function readJusticeKey(
  secp: Secp256k1,
  path: string,
  randomBytes: (length: number) => Uint8Array,
): Uint8Array {
  if (!existsSync(path)) createDurably(path, `${toHex(randomBytes(32))}\n`);
  const text = readFileSync(path, 'utf8').trim();
  const key = /^[0-9a-fA-F]{64}$/.test(text) ? fromHex(text) : undefined;
  if (key === undefined || !secp.isSecretKey(key))
    throw new ConfigError('FULMEN_JUSTICE_KEY_FILE: does not hold a key of 32 bytes in hex');
  return key;
}
