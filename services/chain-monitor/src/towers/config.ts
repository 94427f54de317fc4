/** What the environment says of towers: of the node's, and of being one. */
import { ConfigError, address, integer, list, readConfig } from '@fulmen/service';
import type { TlsFiles } from '@fulmen/rpc';
import { z } from 'zod';

const file = z.string().min(1);

const nodeSchema = z.object({
  /** Where towers come for their updates; absent: this replica lets none in. */
  FULMEN_TOWER_LISTEN_ADDRESS: address.optional(),
  /** The towers' own authority, and this server's certificate under it: no tower is let in anywhere else. */
  FULMEN_TOWER_TLS_CA_FILE: file.optional(),
  FULMEN_TOWER_TLS_CERTIFICATE_FILE: file.optional(),
  FULMEN_TOWER_TLS_KEY_FILE: file.optional(),
  /** As channel-manager has it: a funding is broadcast when so many towers have the channel. */
  FULMEN_TOWERS_REQUIRED: integer(0, 16).default(0),
  /** Updates of one channel that wait for a slow tower; behind that it fetches the monitor whole. */
  FULMEN_TOWER_LOG_UPDATES: integer(16, 1_000_000).default(4_096),
});

export interface NodeTowersConfig {
  readonly feed: { readonly listenAddress: string; readonly tls: TlsFiles } | undefined;
  readonly required: number;
  readonly maximumUpdates: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** @throws ConfigError */
export function readNodeTowersConfig(environment: Environment): NodeTowersConfig {
  const read = readConfig(nodeSchema, environment);
  const listenAddress = read.FULMEN_TOWER_LISTEN_ADDRESS;
  const [ca, certificate, key] = [
    read.FULMEN_TOWER_TLS_CA_FILE,
    read.FULMEN_TOWER_TLS_CERTIFICATE_FILE,
    read.FULMEN_TOWER_TLS_KEY_FILE,
  ];
  if (listenAddress !== undefined && (ca === undefined || certificate === undefined || key === undefined))
    throw new ConfigError(
      'FULMEN_TOWER_LISTEN_ADDRESS needs FULMEN_TOWER_TLS_CA_FILE, FULMEN_TOWER_TLS_CERTIFICATE_FILE and FULMEN_TOWER_TLS_KEY_FILE',
    );
  return {
    feed:
      listenAddress === undefined || ca === undefined || certificate === undefined || key === undefined
        ? undefined
        : { listenAddress, tls: { ca, certificate, key } },
    required: read.FULMEN_TOWERS_REQUIRED,
    maximumUpdates: read.FULMEN_TOWER_LOG_UPDATES,
  };
}

const towerSchema = z.object({
  /** As the node's operator registers it. */
  FULMEN_TOWER_ID: z.string().regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'must be 1 to 64 of a-z, 0-9, . _ -'),
  /** The tower servers of the node's chain-monitors. */
  FULMEN_TOWER_FEED_ADDRESSES: list.refine((addresses) => addresses.length > 0, 'must name at least one'),
});

export interface TowerModeConfig {
  readonly towerId: string;
  readonly feedAddresses: readonly string[];
}

/** Undefined: this process is a node's own chain-monitor. @throws ConfigError */
export function readTowerModeConfig(environment: Environment): TowerModeConfig | undefined {
  if (environment['FULMEN_TOWER_ID'] === undefined) return undefined;
  const read = readConfig(towerSchema, environment);
  return { towerId: read.FULMEN_TOWER_ID, feedAddresses: read.FULMEN_TOWER_FEED_ADDRESSES };
}
