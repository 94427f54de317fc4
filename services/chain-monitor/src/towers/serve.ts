/** The node's towers, wired: their list on the service's own server, the feed on one that trusts their authority alone. */
import { TowerAdminServiceService, TowerFeedServiceService } from '@fulmen/proto/tower/v1/tower';
import type { SignerServiceService } from '@fulmen/proto/signer/v1/signer';
import type { Bus } from '@fulmen/bus';
import type { Secp256k1 } from '@fulmen/crypto';
import type { Client, RpcServer } from '@fulmen/rpc';
import type { Logger, Metrics, Runtime } from '@fulmen/service';
import type { TowerFeedStore } from '@fulmen/store/tower/tower-store';
import { towerAdminHandlers } from './admin.ts';
import { TowerFeed } from './feed.ts';

/** What towers need of a node's chain-monitor. */
export interface NodeTowers {
  readonly store: TowerFeedStore;
  /** Absent: this replica lets no tower in. */
  readonly feedServer?: RpcServer;
  readonly signer: Pick<Client<SignerServiceService>, 'sealJusticeKey'>;
  /** So many must have a monitor update before it is complete. */
  readonly required: number;
  readonly maximumUpdates: number;
}

export interface TowerSurroundings {
  /** Not listening yet. */
  readonly server: RpcServer;
  readonly bus: Bus;
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly secp: Secp256k1;
}

const STOP_GRACE_MS = 1_000;

/** Resolves with what ends it. */
export async function serveTowers(
  towers: NodeTowers,
  surroundings: TowerSurroundings,
): Promise<() => Promise<void>> {
  const { server, logger, secp } = surroundings;
  const { store, required, feedServer } = towers;
  server.add(TowerAdminServiceService, towerAdminHandlers({ store, secp, logger, required }));
  if (feedServer === undefined) return () => Promise.resolve();
  const feed = new TowerFeed({ ...surroundings, ...towers });
  feedServer.add(TowerFeedServiceService, feed.handlers());
  const address = await feedServer.listen();
  logger.info({ address, required }, 'towers are served');
  const stop = feed.start();
  return async () => {
    await stop();
    await feedServer.stop(STOP_GRACE_MS);
  };
}
