import { WalletServiceService } from '@fulmen/proto/chain/v1/chain';
import { RpcError } from '@fulmen/rpc';
import { expect, test } from 'vitest';
import { startCli } from '../testing/cli.ts';

test('onchain descriptors: for people, for programs, and for bitcoin-cli', async () => {
  const { run, network } = await startCli({});
  const server = network.server('chain');
  const refuse = (): Promise<never> => Promise.reject(new RpcError('unimplemented', 'not here'));
  server.add(WalletServiceService, {
    newAddress: refuse,
    getBalance: refuse,
    getAnchorReserve: refuse,
    fundChannel: refuse,
    releaseFunding: refuse,
    sendCoins: refuse,
    listTransactions: refuse,
    exportDescriptors: () =>
      Promise.resolve({
        descriptors: [
          {
            descriptor: 'wpkh([0a0b0c0d/84h/1h/0h]tpub/0/*)#aaaaaaaa',
            addressType: 'p2wpkh',
            internal: false,
            nextIndex: 3,
            lastIndex: 22,
          },
          {
            descriptor: 'tr([0a0b0c0d/86h/1h/0h]tpub/1/*)#bbbbbbbb',
            addressType: 'p2tr',
            internal: true,
            nextIndex: 0,
            lastIndex: 19,
          },
        ],
      }),
  });
  await server.listen();
  const shown = (await run(['onchain', 'descriptors', '-o', 'table'])).stdout.split('\n');
  expect(shown[1]).toMatch(/^p2wpkh +receiving +3 +wpkh\(\[0a0b0c0d/);
  expect(shown[2]).toMatch(/^p2tr +change +0 +tr\(/);
  expect(JSON.parse((await run(['wallet', 'descriptors', '-o', 'json'])).stdout)).toMatchObject({
    descriptors: [{ address_type: 'p2wpkh', next_index: 3, last_index: 22 }, { internal: true }],
  });
  expect(JSON.parse((await run(['wallet', 'descriptors', '--import'])).stdout)).toEqual([
    {
      desc: 'wpkh([0a0b0c0d/84h/1h/0h]tpub/0/*)#aaaaaaaa',
      active: true,
      internal: false,
      range: [0, 22],
      next_index: 3,
      timestamp: 0,
    },
    {
      desc: 'tr([0a0b0c0d/86h/1h/0h]tpub/1/*)#bbbbbbbb',
      active: true,
      internal: true,
      range: [0, 19],
      next_index: 0,
      timestamp: 0,
    },
  ]);
});
