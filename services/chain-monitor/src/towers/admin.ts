/** The node's list of towers, for operators. */
import type { Tower, TowerAdminServiceService } from '@fulmen/proto/tower/v1/tower';
import type { Secp256k1 } from '@fulmen/crypto';
import { type Handlers, RpcError } from '@fulmen/rpc';
import type { Logger } from '@fulmen/service';
import type { TowerFeedStore, TowerStatus } from '@fulmen/store/tower/tower-store';

const TOWER_ID = /^[a-z0-9][a-z0-9._-]{0,63}$/;

export interface TowerAdminPorts {
  readonly store: TowerFeedStore;
  readonly secp: Secp256k1;
  readonly logger: Logger;
  readonly required: number;
}

export function towerAdminHandlers(ports: TowerAdminPorts): Handlers<typeof TowerAdminServiceService> {
  const { store, secp, logger, required } = ports;
  return {
    listTowers: async () => ({ towers: (await store.listTowers()).map(towerOf), required }),
    addTower: async ({ towerId, publicKey }) => {
      if (!TOWER_ID.test(towerId))
        throw new RpcError(
          'invalid_argument',
          'a tower’s name has 1 to 64 of a-z, 0-9, dot, dash, underscore',
        );
      const key = Uint8Array.from(publicKey);
      if (key.length !== 33 || !secp.isPublicKey(key))
        throw new RpcError('invalid_argument', 'the public key is no compressed point of the curve');
      if ((await store.addTower({ towerId, publicKey: key })) === 'exists')
        throw new RpcError('already_exists', 'a tower of this name has another key: remove it first');
      logger.info({ tower: towerId }, 'a tower was added');
      return {};
    },
    removeTower: async ({ towerId }) => {
      if ((await store.removeTower(towerId)) === 'unknown')
        throw new RpcError('not_found', 'there is no such tower');
      logger.warn({ tower: towerId }, 'a tower was removed: what it acknowledged counts no more');
      return {};
    },
  };
}

function towerOf(status: TowerStatus): Tower {
  return {
    towerId: status.towerId,
    publicKey: status.publicKey,
    addedUnixMs: BigInt(status.addedUnixMs),
    lastSeenUnixMs: status.lastSeenUnixMs === undefined ? undefined : BigInt(status.lastSeenUnixMs),
    channelsBehind: BigInt(status.channelsBehind),
    updatesWaiting: BigInt(status.updatesWaiting),
    faults: status.faults.map(({ channelId, reason }) => ({ channelId, reason })),
  };
}
