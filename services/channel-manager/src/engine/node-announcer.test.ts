import { utf8Encode } from '@fulmen/codec';
import { RpcError } from '@fulmen/rpc';
import { HOLDER_FEATURES } from '@fulmen/wire';
import { describe, expect, test } from 'vitest';
import { NODE } from '../payments/testing/bench.ts';
import { NodeAnnouncer } from './node-announcer.ts';
import { GossipBench } from './testing/gossip-bench.ts';

const WEEK_MS = 7 * 86_400_000;

describe('the node’s announcement', () => {
  const identity = {
    alias: 'ada ⚡',
    rgbColor: Uint8Array.of(1, 2, 3),
    addresses: [{ kind: 'ipv4', address: Uint8Array.of(203, 0, 113, 5), port: 9735 } as const],
  };
  const { ports, router, runtime } = new GossipBench();
  const announcer = () => new NodeAnnouncer(ports, NODE, identity);

  test('is made once there is a public channel, and again when it says something else or is old', async () => {
    await announcer().run();
    expect(router.nodes).toEqual([]);
    router.node = { ...router.node, found: true, channels: 1 };
    await announcer().run();
    const [first] = router.nodes;
    const alias = new Uint8Array(32);
    alias.set(utf8Encode('ada ⚡'));
    expect(first).toMatchObject({ nodeId: NODE.nodeId, rgbColor: identity.rgbColor, alias });
    const said = {
      ...router.node,
      alias: 'ada ⚡',
      addresses: ['203.0.113.5:9735'],
      features: HOLDER_FEATURES.encode(),
      rgbColor: identity.rgbColor,
      timestamp: first?.timestamp ?? 0,
    };
    router.node = said;
    await announcer().run();
    expect(router.nodes).toHaveLength(1);
    router.node = { ...said, alias: 'bob' };
    await announcer().run();
    expect(router.nodes.map(({ timestamp }) => timestamp)).toEqual([said.timestamp, said.timestamp + 1]);
    router.node = said;
    runtime.nowMs += WEEK_MS;
    await announcer().run();
    expect(router.nodes).toHaveLength(3);
    for (const other of [
      { rgbColor: new Uint8Array(3) },
      { features: new Uint8Array(1) },
      { addresses: [] },
    ]) {
      router.node = { ...said, timestamp: said.timestamp + WEEK_MS / 1_000, ...other };
      await announcer().run();
    }
    expect(router.nodes).toHaveLength(6);
  });

  test('that another replica made first is no failure; one that the router cannot take is', async () => {
    router.node = { ...router.node, found: true, channels: 1 };
    router.publishOwn = () => Promise.reject(new RpcError('failed_precondition', 'stale'));
    await announcer().run();
    router.publishOwn = () => Promise.reject(new RpcError('unavailable', 'away'));
    await expect(announcer().run()).rejects.toMatchObject({ code: 'unavailable' });
  });
});
