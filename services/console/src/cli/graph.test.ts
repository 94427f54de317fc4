import { type GraphChannel, RouterServiceService } from '@fulmen/proto/router/v1/router';
import { type Handlers, RpcError } from '@fulmen/rpc';
import { describe, expect, test } from 'vitest';
import { NODE_HEX, NODE_ID, startCli } from '../testing/cli.ts';
import { EXIT } from './io.ts';

const SCID = (800_000n << 40n) | (12n << 16n) | 1n;
const channel: GraphChannel = {
  shortChannelId: SCID,
  nodeId1: NODE_ID,
  nodeId2: NODE_ID,
  capacitySat: 1_000_000n,
  spentHeight: 0,
  policy1: {
    timestamp: 1_700_000_000,
    cltvExpiryDelta: 72,
    htlcMinimumMsat: 1n,
    htlcMaximumMsat: 250_000_000n,
    feeBaseMsat: 1_000,
    feeProportionalMillionths: 20,
    disabled: true,
  },
  policy2: undefined,
};

async function startGraph(handlers: Partial<Handlers<RouterServiceService>>) {
  const cli = await startCli({});
  const server = cli.network.server('router');
  const refuse = (): Promise<never> => Promise.reject(new RpcError('unimplemented', 'not here'));
  server.add(RouterServiceService, {
    findRoute: refuse,
    reportPath: refuse,
    publishOwn: refuse,
    getGraphInfo: refuse,
    getNode: refuse,
    lookupChannel: refuse,
    listChannels: refuse,
    ...handlers,
  });
  await server.listen();
  return cli;
}

describe('graph', () => {
  test('shows a channel with the terms of both ends', async () => {
    const cli = await startGraph({
      lookupChannel: ({ shortChannelId }) =>
        Promise.resolve({ channel: shortChannelId === SCID ? channel : undefined }),
    });
    const shown = await cli.run(['graph', 'channel', '800000x12x1', '-o', 'table']);
    expect(shown.code).toBe(0);
    expect(shown.stdout).toContain('disabled; 1000 msat + 20 ppm, 72 blocks, 0.001 sat to 250,000 sat');
    expect(shown.stdout).toMatch(/terms of node 2 +unknown/);
    const missing = await cli.run(['graph', 'channel', '1x1x1']);
    expect(missing.code).not.toBe(0);
    expect(missing.stderr).toContain('not known');
    expect((await cli.run(['graph', 'channel', '800000'])).code).toBe(EXIT.usage);
  });

  test('shows a node, the size of the network, and pages of channels', async () => {
    const asked: unknown[] = [];
    const cli = await startGraph({
      getGraphInfo: () => Promise.resolve({ nodes: 17_000, channels: 51_000, updates: 100_000 }),
      getNode: () =>
        Promise.resolve({
          found: true,
          alias: 'ada',
          addresses: ['127.0.0.1:9735'],
          channels: 3,
          features: Uint8Array.of(2),
          timestamp: 1_700_000_000,
          rgbColor: Uint8Array.of(1, 2, 3),
          capacitySat: 5_000_000n,
        }),
      listChannels: (request) => {
        asked.push({ ...request, nodeId: Uint8Array.from(request.nodeId) });
        return Promise.resolve({ channels: [channel] });
      },
    });
    expect((await cli.run(['graph', 'info', '-o', 'table'])).stdout).toContain('51,000');
    const node = await cli.run(['graph', 'node', NODE_HEX, '-o', 'table']);
    expect(node.stdout).toContain('ada');
    expect(node.stdout).toContain('2023-11-14 22:13:20Z');
    const page = await cli.run([
      'graph',
      'channels',
      '--node',
      NODE_HEX,
      '--after',
      '7x1x0',
      '--limit',
      '5',
      '-o',
      'json',
    ]);
    expect(page.code).toBe(0);
    const { channels } = JSON.parse(page.stdout) as { channels: { policy1: unknown; policy2: unknown }[] };
    expect(channels).toHaveLength(1);
    expect(asked).toEqual([{ afterShortChannelId: (7n << 40n) | (1n << 16n), limit: 5, nodeId: NODE_ID }]);
  });
});
