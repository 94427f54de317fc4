import { TowerAdminServiceService, type Tower } from '@fulmen/proto/tower/v1/tower';
import { type Handlers, RpcError } from '@fulmen/rpc';
import { describe, expect, test } from 'vitest';
import { CHANNEL, startCli } from '../testing/cli.ts';
import { EXIT } from './io.ts';

const KEY = `02${'ab'.repeat(32)}`;
const tower: Tower = {
  towerId: 'zurich',
  publicKey: Uint8Array.from(Buffer.from(KEY, 'hex')),
  addedUnixMs: 1_700_000_000_000n,
  lastSeenUnixMs: 1_700_000_100_000n,
  channelsBehind: 2n,
  updatesWaiting: 1_234n,
  faults: [{ channelId: CHANNEL, reason: 'the database was set back' }],
};

async function startTowers(handlers: Partial<Handlers<TowerAdminServiceService>>) {
  const cli = await startCli({});
  const server = cli.network.server('chain');
  const refuse = (): Promise<never> => Promise.reject(new RpcError('unimplemented', 'not here'));
  server.add(TowerAdminServiceService, {
    listTowers: refuse,
    addTower: refuse,
    removeTower: refuse,
    ...handlers,
  });
  await server.listen();
  return cli;
}

describe('towers', () => {
  test('are listed with how far they are', async () => {
    const cli = await startTowers({
      listTowers: () => Promise.resolve({ towers: [tower], required: 1 }),
    });
    const shown = await cli.run(['towers', 'list', '-o', 'table']);
    expect(shown.code).toBe(0);
    expect(shown.stdout).toContain('zurich');
    expect(shown.stdout).toContain('2023-11-14T22:15:00');
    expect(shown.stdout).toContain('1,234');
    expect(shown.stdout).toContain('complete when 1 of them have it');
    const asJson = JSON.parse((await cli.run(['towers', 'list', '-o', 'json'])).stdout) as {
      towers: { faults: { reason: string }[] }[];
    };
    expect(asJson.towers[0]?.faults[0]?.reason).toBe('the database was set back');
  });

  test('are added and removed by name', async () => {
    const asked: unknown[] = [];
    const cli = await startTowers({
      addTower: ({ towerId, publicKey }) => {
        asked.push([towerId, Buffer.from(publicKey).toString('hex')]);
        return Promise.resolve({});
      },
      removeTower: ({ towerId }) => {
        asked.push(towerId);
        return towerId === 'zurich'
          ? Promise.resolve({})
          : Promise.reject(new RpcError('not_found', 'there is no such tower'));
      },
    });
    expect((await cli.run(['towers', 'add', 'zurich', KEY])).code).toBe(0);
    expect((await cli.run(['towers', 'add', 'zurich', 'ff'])).code).toBe(EXIT.usage);
    expect((await cli.run(['towers', 'remove', 'zurich'])).code).toBe(0);
    const missing = await cli.run(['towers', 'remove', 'bern']);
    expect(missing.code).not.toBe(0);
    expect(missing.stderr).toContain('there is no such tower');
    expect(asked).toEqual([['zurich', KEY], 'zurich', 'bern']);
  });
});
