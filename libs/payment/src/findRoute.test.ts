/** BOLT 7's routing example, limits one by one, and every found route replayed through the forwarders' policy. */
import { describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { compareBytes } from '@fulmen/codec';
import type { NetworkGraph } from '@fulmen/graph';
import { EDGE_KNOWN, NetworkGraph as Graph, nodeKey } from '@fulmen/graph';
import { syntheticGraph, syntheticNodeId } from '@fulmen/graph/synthetic';
import { forwardingFeeMsat, forwardingFeeNumber } from './fee.ts';
import { findRoute } from './findRoute.ts';
import { checkForward } from './forwardPolicy.ts';
import type { Route, RouteRequest } from './route.ts';
import { directedKey, payloadsOf } from './route.ts';
import { LiquidityScorer } from './scorer.ts';

const NOW = 1_700_000_000;
const HEIGHT = 700_000;

interface Terms {
  readonly base?: number;
  readonly ppm?: number;
  readonly cltv?: number;
  readonly min?: number;
  readonly max?: number;
}

/** Adds a channel whose two ends charge `a` (from → to) and `b`. */
function connect(
  graph: NetworkGraph,
  shortChannelId: bigint,
  from: Uint8Array,
  to: Uint8Array,
  a: Terms,
  b: Terms = a,
): void {
  const inOrder = compareBytes(from, to) < 0;
  const channel = graph.addChannel(shortChannelId, inOrder ? from : to, inOrder ? to : from);
  graph.channelCapacitySat[channel] = 10_000_000;
  for (const [side, terms] of [inOrder ? a : b, inOrder ? b : a].entries()) {
    const edge = 2 * channel + side;
    graph.edgeFlags[edge] = EDGE_KNOWN;
    graph.edgeTimestamp[edge] = NOW;
    graph.edgeFeeBaseMsat[edge] = terms.base ?? 0;
    graph.edgeFeeProportionalMillionths[edge] = terms.ppm ?? 0;
    graph.edgeCltvExpiryDelta[edge] = terms.cltv ?? 10;
    graph.edgeHtlcMinimumMsat[edge] = terms.min ?? 0;
    graph.edgeHtlcMaximumMsat[edge] = terms.max ?? 10_000_000_000;
  }
}

const [A, B, C, D] = [0, 1, 2, 3].map(syntheticNodeId) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];

function request(overrides: Partial<RouteRequest>): RouteRequest {
  return {
    payer: A,
    payee: C,
    amountMsat: 4_999_999n,
    finalCltvDelta: 18,
    firstHops: [],
    hints: [],
    maxFeeMsat: 1_000_000n,
    currentHeight: HEIGHT,
    ...overrides,
  };
}

function firstHop(shortChannelId: bigint, counterparty: Uint8Array, maximumMsat = 10_000_000_000n) {
  return { shortChannelId, counterparty, minimumMsat: 1n, maximumMsat };
}

function found(graph: NetworkGraph, overrides: Partial<RouteRequest>): Route {
  const result = findRoute(graph, request(overrides));
  if (!result.ok) return expect.unreachable(JSON.stringify(result.error));
  return result.value;
}

describe('BOLT 7, "Routing Example"', () => {
  const graph = new Graph(new Uint8Array(32));
  const node = (n: number): Terms => ({ base: 100 * n, ppm: 1000 * n, cltv: 10 * n });
  connect(graph, 1n, A, B, node(1), node(2));
  connect(graph, 2n, A, D, node(1), node(4));
  connect(graph, 3n, B, C, node(2), node(3));
  connect(graph, 4n, D, C, node(4), node(3));

  test('B→C: no fee and no delta of its own', () => {
    const route = found(graph, { payer: B, firstHops: [firstHop(3n, C)], shadowCltvDelta: 42 });
    expect(route.hops.map((hop) => [hop.shortChannelId, hop.amountMsat, hop.cltvExpiryHeight])).toEqual([
      [3n, 4_999_999n, HEIGHT + 18 + 42],
    ]);
    expect(payloadsOf(route, {})).toEqual([
      { amtToForwardMsat: 4_999_999n, outgoingCltvHeight: HEIGHT + 18 + 42 },
    ]);
  });

  test.each([
    ['A→B→C', B, 1n, 3n, 5_010_198n, 20],
    ['A→D→C', D, 2n, 4n, 5_020_398n, 40],
  ] as const)('%s', (_, via, first, second, amountMsat, delta) => {
    const route = found(graph, { firstHops: [firstHop(first, via)], shadowCltvDelta: 42 });
    expect(route.hops.map((hop) => [hop.shortChannelId, hop.amountMsat, hop.cltvExpiryHeight])).toEqual([
      [first, amountMsat, HEIGHT + delta + 18 + 42],
      [second, 4_999_999n, HEIGHT + 18 + 42],
    ]);
    expect(route.feeMsat).toBe(amountMsat - 4_999_999n);
    expect(payloadsOf(route, {})).toEqual([
      { amtToForwardMsat: 4_999_999n, outgoingCltvHeight: HEIGHT + 18 + 42, shortChannelId: second },
      { amtToForwardMsat: 4_999_999n, outgoingCltvHeight: HEIGHT + 18 + 42 },
    ]);
  });

  test('of both, the cheaper is taken', () => {
    expect(found(graph, { firstHops: [firstHop(1n, B), firstHop(2n, D)] }).hops[0]?.nodeId).toEqual(B);
  });

  test('limits, each named when it is what stands in the way', () => {
    const firstHops = [firstHop(1n, B)];
    const outcome = (overrides: Partial<RouteRequest>) =>
      findRoute(graph, request({ firstHops, ...overrides }));
    expect(outcome({ maxFeeMsat: 10_198n })).toEqual({
      ok: false,
      error: { kind: 'no_route', exceeded: ['fee'] },
    });
    expect(outcome({ maxFeeMsat: 10_199n }).ok).toBe(true);
    expect(outcome({ maxCltvDelta: 37 })).toEqual({
      ok: false,
      error: { kind: 'no_route', exceeded: ['cltv'] },
    });
    expect(outcome({ maxCltvDelta: 38 }).ok).toBe(true);
    expect(outcome({ maxHops: 1 })).toEqual({ ok: false, error: { kind: 'no_route', exceeded: ['hops'] } });
    expect(outcome({ firstHops: [firstHop(1n, B, 5_010_198n)] }).ok).toBe(true);
    expect(outcome({ firstHops: [firstHop(1n, B, 5_010_197n)] })).toEqual({
      ok: false,
      error: { kind: 'no_route', exceeded: [] },
    });
    expect(outcome({ firstHops: [firstHop(1n, B, 1n)] })).toEqual({
      ok: false,
      error: { kind: 'no_first_hop' },
    });
    expect(outcome({ payee: A })).toEqual({ ok: false, error: { kind: 'payer_is_payee' } });
    expect(outcome({ amountMsat: 0n })).toEqual({ ok: false, error: { kind: 'invalid_amount' } });
    expect(outcome({ amountMsat: 2n ** 63n })).toEqual({ ok: false, error: { kind: 'invalid_amount' } });
  });

  test('avoided channels and nodes are not used', () => {
    const firstHops = [firstHop(1n, B), firstHop(2n, D)];
    const direction = compareBytes(B, C) < 0 ? 0 : 1;
    expect(
      found(graph, { firstHops, avoidedChannels: new Set([directedKey(3n, direction)]) }).hops[0]?.nodeId,
    ).toEqual(D);
    expect(found(graph, { firstHops, avoidedNodes: new Set([nodeKey(B)]) }).hops[0]?.nodeId).toEqual(D);
    expect(findRoute(graph, request({ firstHops, avoidedNodes: new Set([nodeKey(B), nodeKey(D)]) })).ok).toBe(
      false,
    );
  });

  test('terms learnt for this payment replace the graph’s', () => {
    const direction = compareBytes(B, C) < 0 ? 0 : 1;
    const policy = {
      timestamp: NOW + 1,
      cltvExpiryDelta: 33,
      htlcMinimumMsat: 0n,
      htlcMaximumMsat: 10n ** 10n,
      feeBaseMsat: 77,
      feeProportionalMillionths: 0,
      disabled: false,
    };
    const policyOverrides = new Map([[directedKey(3n, direction), policy]]);
    const route = found(graph, { firstHops: [firstHop(1n, B)], policyOverrides });
    expect(route.feeMsat).toBe(77n);
    expect(route.hops[0]?.cltvExpiryHeight).toBe(HEIGHT + 33 + 18);
    expect(route.hops[1]?.policyTimestamp).toBe(NOW + 1);
  });

  test('hints reach a payee that the graph does not know, over several private channels', () => {
    const [hidden, between] = [syntheticNodeId(77), syntheticNodeId(78)];
    const hint = [
      { nodeId: C, shortChannelId: 50n, feeBaseMsat: 10, feeProportionalMillionths: 0, cltvExpiryDelta: 5 },
      {
        nodeId: between,
        shortChannelId: 51n,
        feeBaseMsat: 20,
        feeProportionalMillionths: 0,
        cltvExpiryDelta: 7,
      },
    ];
    const route = found(graph, {
      payee: hidden,
      hints: [hint],
      firstHops: [firstHop(1n, B)],
      amountMsat: 1_000_000n,
    });
    expect(route.hops.map((hop) => hop.shortChannelId)).toEqual([1n, 3n, 50n, 51n]);
    expect(route.hops.at(-2)?.amountMsat).toBe(1_000_020n);
    expect(route.hops.at(-3)?.amountMsat).toBe(1_000_030n);
    expect(route.hops.at(-3)?.cltvExpiryHeight).toBe(HEIGHT + 18 + 12);
    expect(route.hops.at(-1)?.nodeId).toEqual(hidden);
  });
});

test('a dear path within the fee limit hides no cheap one: the search repeats with the limit as its cost', () => {
  const graph = new Graph(new Uint8Array(32));
  // B→C direct asks 5,000 msat; over D it costs 10 but a hop more, which the scorer dislikes more.
  connect(graph, 1n, B, C, { base: 5_000 });
  connect(graph, 2n, B, D, { base: 5 });
  connect(graph, 3n, D, C, { base: 5 });
  const scorer = { penaltyMsat: () => 100_000 };
  const result = findRoute(graph, request({ firstHops: [firstHop(9n, B)], maxFeeMsat: 100n }), scorer);
  if (!result.ok) return expect.unreachable();
  expect(result.value.feeMsat).toBe(10n);
});

test('fees by number are exact wherever a payment may be', () => {
  fc.assert(
    fc.property(
      fc.bigInt(0n, 2n ** 53n - 1n),
      fc.nat(0xffff_ffff),
      fc.nat(0xffff_ffff),
      (amount, base, ppm) => {
        const exact = forwardingFeeMsat(amount, { feeBaseMsat: base, feeProportionalMillionths: ppm });
        if (exact < 2n ** 53n) expect(BigInt(forwardingFeeNumber(Number(amount), base, ppm))).toBe(exact);
      },
    ),
  );
});

describe('every route of a random graph', () => {
  const graph = syntheticGraph(400, 1_400, 11, NOW);
  const scorer = new LiquidityScorer();
  for (const channel of graph.channels()) {
    scorer.observe(
      {
        shortChannelId: graph.channelScid[channel] ?? 0n,
        direction: (channel & 1) as 0 | 1,
        amountMsat: BigInt(channel) * 100_000n,
        capacityMsat: 10n ** 10n,
        outcome: channel % 3 === 0 ? 'passed' : 'failed',
      },
      NOW,
    );
  }
  const payer = syntheticNodeId(1_000_000);

  test('satisfies each forwarder’s policy and all limits', () => {
    let routes = 0;
    fc.assert(
      fc.property(
        fc.nat(399),
        fc.uniqueArray(fc.nat(399), { minLength: 1, maxLength: 4 }),
        fc.oneof(fc.bigInt(1n, 100_000_000n), fc.bigInt(1n, 2_000_000_000n)),
        fc.bigInt(0n, 3_000_000n),
        fc.integer({ min: 200, max: 1008 }),
        fc.integer({ min: 3, max: 19 }),
        (payeeIndex, peers, amountMsat, maxFeeMsat, maxCltvDelta, maxHops) => {
          const firstHops = peers.map((peer, index) =>
            firstHop(BigInt(index), syntheticNodeId(peer), 3_000_000_000n),
          );
          const result = findRoute(
            graph,
            request({
              payer,
              payee: syntheticNodeId(payeeIndex),
              amountMsat,
              maxFeeMsat,
              maxCltvDelta,
              maxHops,
              firstHops,
              finalCltvDelta: 60,
            }),
            scorer.at(NOW + 60),
          );
          if (!result.ok) return;
          routes++;
          const { hops, feeMsat } = result.value;
          const payloads = payloadsOf(result.value, {});
          expect(feeMsat).toBeLessThanOrEqual(maxFeeMsat);
          expect(hops.length).toBeLessThanOrEqual(maxHops);
          expect(hops[0]?.cltvExpiryHeight).toBeLessThanOrEqual(HEIGHT + maxCltvDelta);
          expect(new Set(hops.map((hop) => nodeKey(hop.nodeId))).size).toBe(hops.length);
          expect(hops.at(-1)).toMatchObject({
            amountMsat,
            cltvExpiryHeight: HEIGHT + 60,
            nodeId: syntheticNodeId(payeeIndex),
          });
          expect(
            firstHops.some(
              (hop) =>
                hop.shortChannelId === hops[0]?.shortChannelId &&
                compareBytes(hop.counterparty, hops[0].nodeId) === 0,
            ),
          ).toBe(true);
          for (const [index, hop] of hops.entries()) {
            const next = hops[index + 1];
            if (next === undefined) continue;
            const channel = graph.channelIndex(next.shortChannelId) ?? -1;
            const edge = 2 * channel + next.direction;
            expect(graph.nodeId(graph.edgeSource[edge] ?? -1)).toEqual(hop.nodeId);
            expect(graph.nodeId(graph.edgeSource[edge ^ 1] ?? -1)).toEqual(next.nodeId);
            const policy = graph.policy(edge);
            if (policy === undefined) return expect.unreachable();
            const verdict = checkForward(
              {
                incomingAmountMsat: hop.amountMsat,
                incomingCltvExpiryHeight: hop.cltvExpiryHeight,
                amountToForwardMsat: payloads[index]?.amtToForwardMsat ?? 0n,
                outgoingCltvExpiryHeight: payloads[index]?.outgoingCltvHeight ?? 0,
              },
              { policy, status: policy.disabled ? 'disabled' : 'enabled', channelUpdate: new Uint8Array(0) },
              HEIGHT,
              NOW,
            );
            expect(verdict).toEqual({ ok: true, value: undefined });
          }
        },
      ),
      { numRuns: 150 },
    );
    expect(routes).toBeGreaterThan(30);
  });
});
