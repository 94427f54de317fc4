/** TowerService: the node's watchtowers. */
import type { TowerServiceService } from '@fulmen/proto/node/v1/node';
import type { Handlers } from '@fulmen/rpc';
import { toHex } from '@fulmen/codec';
import { refuse } from '../errors.ts';
import { requireBytes, requireLength } from '../validate.ts';
import { command, type ConsoleContext, query } from './context.ts';

const MAX_TOWER_ID = 64;

export function towerService({ guard, towers }: ConsoleContext): Handlers<typeof TowerServiceService> {
  return {
    listTowers: guard.unary({ name: 'TowerService.ListTowers', scope: 'read' }, (request, call) =>
      towers.run((client, options) => client.listTowers(request, options), query(call)),
    ),
    addTower: guard.unary(
      {
        name: 'TowerService.AddTower',
        scope: 'channels',
        audit: ({ towerId, publicKey }) => ({ towerId, publicKey: toHex(publicKey) }),
      },
      (request, call) => {
        requireTowerId(request.towerId);
        requireBytes('public_key', request.publicKey, 33);
        return towers.run((client, options) => client.addTower(request, options), command(call));
      },
    ),
    removeTower: guard.unary(
      { name: 'TowerService.RemoveTower', scope: 'channels', audit: ({ towerId }) => ({ towerId }) },
      (request, call) => {
        requireTowerId(request.towerId);
        return towers.run((client, options) => client.removeTower(request, options), command(call));
      },
    ),
  };
}

function requireTowerId(towerId: string): void {
  if (towerId === '') throw refuse('invalid_argument', 'tower_id is missing.');
  requireLength('tower_id', towerId, MAX_TOWER_ID);
}
