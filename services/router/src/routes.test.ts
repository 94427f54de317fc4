/** Routes, over the router's RPCs. */
import { compareBytes } from '@fulmen/codec';
import { syntheticUpdate } from '@fulmen/graph/synthetic';
import { describe, expect, test } from 'vitest';
import { HEIGHT, NOW_SECONDS } from './testing/fleet.ts';
import { until } from './testing/manual-runtime.ts';
import { fleetOf, idOf, channelOf, lineOf, learn, request } from './testing/questions.ts';

describe('routes', () => {
  test('over the graph, over a hint, and within the limits', async () => {
    const fleet = await fleetOf();
    const router = await fleet.startRouter('router', { ownNodeId: idOf(fleet, 99) });
    const gateway = fleet.gateway('g1', 'router');
    await gateway.peerUp(idOf(fleet, 100));
    const channels = lineOf(fleet, 3);
    await learn(fleet, gateway, idOf(fleet, 100), channels);
    const client = fleet.client('router');
    const found = await client.findRoute(request(fleet, 4));
    expect(found.failure).toBe('');
    expect(found.hops.map((hop) => hop.shortChannelId)).toEqual([42n, ...channels.map(({ scid }) => scid)]);
    // 1000 msat and 100 ppm at each of three forwarding nodes, on what each forwards.
    expect(found.hops.map((hop) => hop.amountMsat)).toEqual([103_030n, 102_020n, 101_010n, 100_000n]);
    expect(found.hops.map((hop) => hop.feeMsat)).toEqual([1_010n, 1_010n, 1_010n, 0n]);
    expect(found.totalFeeMsat).toBe(3_030n);
    expect(found.hops.map((hop) => hop.cltvExpiryHeight - HEIGHT)).toEqual([138, 98, 58, 18]);

    expect(await client.findRoute(request(fleet, 4, { maxFeeMsat: 3_029n }))).toMatchObject({
      failure: 'fee_limit',
      hops: [],
    });
    expect(await client.findRoute(request(fleet, 4, { maxTotalCltvDelta: 137 }))).toMatchObject({
      failure: 'cltv_limit',
    });
    expect(await client.findRoute(request(fleet, 4, { amountMsat: 400_001n }))).toMatchObject({
      failure: 'insufficient_outbound',
    });
    expect(await client.findRoute(request(fleet, 50))).toMatchObject({ failure: 'unknown_payee' });
    const halves = { maxParts: 4, minPartMsat: 10_000n, amountMsat: 700_000n };
    const firstHops = [42n, 43n].map((shortChannelId) => ({
      shortChannelId,
      counterpartyNodeId: idOf(fleet, 1),
      outboundCapacityMsat: 500_000n,
      htlcMinimumMsat: 1n,
      htlcMaximumMsat: 500_000n,
    }));
    const split = await client.findRoute(request(fleet, 1, { ...halves, firstHops }));
    expect(split).toMatchObject({ failure: '', hops: [] });
    expect(split.paths.map(({ hops }) => hops[0]?.amountMsat)).toEqual([500_000n, 200_000n]);
    const ownDirection = compareBytes(idOf(fleet, 99), idOf(fleet, 1)) < 0 ? 0 : 1;
    const uses = [
      { shortChannelId: 42n, direction: ownDirection, inFlightMsat: 200_000n, maximumMsat: 100_000n },
    ];
    const rest = await client.findRoute(
      request(fleet, 1, { ...halves, firstHops, uses, amountMsat: 600_000n }),
    );
    expect(rest.paths.map(({ hops }) => hops[0]?.amountMsat)).toEqual([500_000n, 100_000n]);
    expect(await client.findRoute(request(fleet, 1, { ...halves, firstHops, uses }))).toMatchObject({
      failure: 'insufficient_outbound',
    });
    const direction = compareBytes(idOf(fleet, 2), idOf(fleet, 3)) < 0 ? 0 : 1;
    const avoid = [{ shortChannelId: channels[1]?.scid ?? 0n, direction }];
    expect(await client.findRoute(request(fleet, 4, { avoid }))).toMatchObject({ failure: 'no_route' });

    // A path through the payer would use its channels twice.
    expect(await client.findRoute(request(fleet, 4))).toMatchObject({ failure: '' });
    expect(await client.findRoute(request(fleet, 4, { payerNodeId: idOf(fleet, 2) }))).toMatchObject({
      failure: 'no_route',
    });

    const hints = [
      {
        hops: [
          {
            sourceNodeId: idOf(fleet, 3),
            shortChannelId: 77n,
            feeBaseMsat: 5,
            feeProportionalMillionths: 0,
            cltvExpiryDelta: 10,
          },
        ],
      },
    ];
    const hinted = await client.findRoute(request(fleet, 50, { hints }));
    expect(hinted.hops.at(-1)).toMatchObject({ shortChannelId: 77n, amountMsat: 100_000n });
    expect(hinted.hops.at(-2)).toMatchObject({ shortChannelId: channels[1]?.scid, feeMsat: 5n });
    expect((await client.findRoute(request(fleet, 1))).hops.length).toBe(1);
    await expect(client.findRoute(request(fleet, 4, { amountMsat: 0n }))).rejects.toMatchObject({
      code: 'invalid_argument',
    });
    await router.stop();
  });

  test('leave everything else its turn between two searches, the writer’s lease among it', async () => {
    const fleet = await fleetOf();
    const router = await fleet.startRouter('router', { ownNodeId: idOf(fleet, 99) });
    const client = fleet.client('router');
    const firstHops = [42n, 43n, 44n].map((shortChannelId) => ({
      shortChannelId,
      counterpartyNodeId: idOf(fleet, 1),
      outboundCapacityMsat: 500_000n,
      htlcMinimumMsat: 1n,
      htlcMaximumMsat: 500_000n,
    }));
    const turnsFor = async (amountMsat: bigint) => {
      let turns = 0;
      let parts: number | undefined;
      const asked = { maxParts: 4, minPartMsat: 10_000n, amountMsat, firstHops };
      const answered = client.findRoute(request(fleet, 1, asked)).then(({ paths }) => (parts = paths.length));
      await until(() => (turns++, parts !== undefined));
      return { turns, parts: await answered };
    };
    const whole = await turnsFor(400_000n);
    const split = await turnsFor(1_300_000n);
    expect([whole.parts, split.parts]).toEqual([0, 3]);
    expect(split.turns).toBeGreaterThanOrEqual(whole.turns + 3);
    await router.stop();
  });

  test('learn from what attempts have shown, and remember it over a restart', async () => {
    const fleet = await fleetOf();
    const router = await fleet.startRouter('router');
    const gateway = fleet.gateway('g1', 'router');
    await gateway.peerUp(idOf(fleet, 100));
    // Two ways from 1 to 4: over 2 or over 3.
    const channels = [
      channelOf(fleet, 700_000, [1, 2]),
      channelOf(fleet, 700_001, [2, 4]),
      channelOf(fleet, 700_002, [1, 3]),
      channelOf(fleet, 700_003, [3, 4]),
    ];
    await learn(fleet, gateway, idOf(fleet, 100), channels);
    const before = await fleet.client('router').findRoute(request(fleet, 4));
    const lastScid = before.hops.at(-1)?.shortChannelId;
    await fleet.client('router').reportPath({
      hops: before.hops,
      outcome: {
        $case: 'failure',
        value: { hopIndex: 1, failureCode: 0x1007, channelUpdate: new Uint8Array(0) },
      },
    });
    const after = await fleet.client('router').findRoute(request(fleet, 4));
    expect(after.hops.at(-1)?.shortChannelId).not.toBe(lastScid);
    await router.stop();
    const again = await fleet.startRouter('router');
    expect((await fleet.client('router').findRoute(request(fleet, 4))).hops).toEqual(after.hops);
    await again.stop();
  });

  test('the terms that came with a failure hold for the next route, and for it alone', async () => {
    const fleet = await fleetOf();
    const router = await fleet.startRouter('router');
    const gateway = fleet.gateway('g1', 'router');
    await gateway.peerUp(idOf(fleet, 100));
    const channels = lineOf(fleet, 2);
    await learn(fleet, gateway, idOf(fleet, 100), channels);
    const before = await fleet.client('router').findRoute(request(fleet, 3));
    const update = syntheticUpdate(fleet.secp, 2, {
      shortChannelId: channels[1]?.scid ?? 0n,
      timestamp: NOW_SECONDS,
      channelFlags: compareBytes(idOf(fleet, 2), idOf(fleet, 3)) < 0 ? 0 : 1,
      feeBaseMsat: 9_000,
      feeProportionalMillionths: 0,
    });
    await fleet.client('router').reportPath({
      hops: before.hops,
      outcome: {
        $case: 'failure',
        value: { hopIndex: 1, failureCode: 0x100c, channelUpdate: update.raw.slice(2) },
      },
    });
    const after = await fleet.client('router').findRoute(request(fleet, 3));
    expect(after.hops[1]?.feeMsat).toBe(9_000n);
    await router.stop();
    expect(fleet.disk.updates.size).toBe(4);
    expect([...fleet.disk.updates.values()].map((row) => row.value)).not.toContainEqual(update.raw);
  });
});
