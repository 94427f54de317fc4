/** Splitting: only when one path does not do, in few parts, and never more than channels hold or the limits allow. */
import { describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { NetworkGraph as Graph } from '@fulmen/graph';
import { syntheticGraph, syntheticNodeId } from '@fulmen/graph/synthetic';
import type { FirstHop, Route, RouteRequest } from './route.ts';
import { directedKey, directionBetween } from './route.ts';
import { UNINFORMED_SCORER } from './scorer.ts';
import { findRoutes, type Routes, searchRoutes, type SplitLimits } from './splitRoute.ts';

const NOW = 1_700_000_000;
const [A, B, C, D] = [0, 1, 2, 3].map(syntheticNodeId) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
const LIMITS: SplitLimits = { maxParts: 16, minPartMsat: 1_000n };
/** Terms of a hint, whose channels need no graph. */
const FREE = { feeBaseMsat: 0, feeProportionalMillionths: 0, cltvExpiryDelta: 10 };

function firstHop(shortChannelId: bigint, counterparty: Uint8Array, maximumMsat: bigint): FirstHop {
  return { shortChannelId, counterparty, minimumMsat: 1n, maximumMsat };
}

function request(overrides: Partial<RouteRequest>): RouteRequest {
  return {
    payer: A,
    payee: C,
    amountMsat: 1_000_000n,
    finalCltvDelta: 18,
    firstHops: [],
    hints: [],
    maxFeeMsat: 10_000n,
    currentHeight: 700_000,
    ...overrides,
  };
}

const emptyGraph = new Graph(new Uint8Array(32));
const amountsOf = (routes: readonly Route[]) => routes.map((route) => route.amountMsat);

function found(overrides: Partial<RouteRequest>, limits: Partial<SplitLimits> = {}): readonly Route[] {
  const result = findRoutes(emptyGraph, request(overrides), { ...LIMITS, ...limits });
  if (!result.ok) return expect.unreachable(JSON.stringify(result.error));
  return result.value;
}

describe('splitting', () => {
  const two = [firstHop(1n, C, 700_000n), firstHop(2n, C, 350_000n)];

  test('one path that carries it all is the only part', () => {
    expect(amountsOf(found({ firstHops: [...two, firstHop(3n, C, 1_000_000n)] }))).toEqual([1_000_000n]);
  });

  test('two channels of different size need two parts, the larger filled first', () => {
    const routes = found({ firstHops: two });
    expect(amountsOf(routes)).toEqual([700_000n, 300_000n]);
    expect(routes.map(({ hops }) => hops[0]?.shortChannelId)).toEqual([1n, 2n]);
  });

  test('not into more parts than allowed, nor into smaller ones', () => {
    const firstHops = [1n, 2n, 3n, 4n].map((scid) => firstHop(scid, C, 260_000n));
    expect(found({ firstHops }).length).toBe(4);
    expect(findRoutes(emptyGraph, request({ firstHops }), { ...LIMITS, maxParts: 3 })).toMatchObject({
      ok: false,
      error: { kind: 'no_route' },
    });
    expect(
      findRoutes(emptyGraph, request({ firstHops }), { ...LIMITS, minPartMsat: 260_001n }),
    ).toMatchObject({
      ok: false,
    });
    expect(findRoutes(emptyGraph, request({ firstHops }), { ...LIMITS, maxParts: 1 })).toEqual({
      ok: false,
      error: { kind: 'no_first_hop' },
    });
    expect(amountsOf(found({ firstHops: two }, { minPartMsat: 320_000n }))).toEqual([680_000n, 320_000n]);
  });

  test('own channels that together hold too little are named', () => {
    expect(findRoutes(emptyGraph, request({ firstHops: two, amountMsat: 1_050_001n }), LIMITS)).toEqual({
      ok: false,
      error: { kind: 'no_first_hop' },
    });
  });

  test('what other parts have in flight is not there, and a channel that failed is given less', () => {
    const key = directedKey(1n, directionBetween(A, C));
    const uses = new Map([[key, { inFlightMsat: 300_000n, maximumMsat: undefined }]]);
    expect(amountsOf(found({ firstHops: two, amountMsat: 740_000n, uses }))).toEqual([400_000n, 340_000n]);
    const lessons = new Map([[key, { inFlightMsat: 0n, maximumMsat: 200_000n }]]);
    expect(amountsOf(found({ firstHops: two, amountMsat: 540_000n, uses: lessons }))).toEqual([
      350_000n,
      190_000n,
    ]);
  });

  test('hinted channels that failed with the whole amount carry parts of it', () => {
    const hints = [
      [{ nodeId: B, shortChannelId: 10n, ...FREE }],
      [{ nodeId: D, shortChannelId: 11n, ...FREE }],
    ];
    const firstHops = [firstHop(1n, B, 2_000_000n), firstHop(2n, D, 2_000_000n)];
    const half = { inFlightMsat: 0n, maximumMsat: 500_000n };
    const uses = new Map([
      [directedKey(10n, directionBetween(B, C)), half],
      [directedKey(11n, directionBetween(D, C)), half],
    ]);
    const routes = found({ firstHops, hints, uses });
    expect(amountsOf(routes)).toEqual([500_000n, 500_000n]);
    expect(new Set(routes.map(({ hops }) => hops[1]?.shortChannelId))).toEqual(new Set([10n, 11n]));
  });

  test('the fee limit holds for all parts together', () => {
    const terms = { ...FREE, feeBaseMsat: 4_000 };
    const hints = [
      [{ nodeId: B, shortChannelId: 10n, ...terms }],
      [{ nodeId: D, shortChannelId: 11n, ...terms }],
    ];
    const firstHops = [firstHop(1n, B, 600_000n), firstHop(2n, D, 600_000n)];
    expect(found({ firstHops, hints, maxFeeMsat: 8_000n }).length).toBe(2);
    expect(findRoutes(emptyGraph, request({ firstHops, hints, maxFeeMsat: 7_999n }), LIMITS)).toEqual({
      ok: false,
      error: { kind: 'no_route', exceeded: ['fee'] },
    });
  });
});

test('in any graph: the parts make up the amount and keep every limit together', () => {
  const graph = syntheticGraph(200, 800, 5, NOW);
  const payer = syntheticNodeId(1_000);
  let split = 0;
  fc.assert(
    fc.property(
      fc.nat(199),
      fc.array(fc.tuple(fc.nat(199), fc.bigInt(1_000_000n, 4_000_000_000n)), { minLength: 2, maxLength: 6 }),
      fc.bigInt(1_000_000_000n, 8_000_000_000n),
      fc.bigInt(0n, 200_000_000n),
      fc.integer({ min: 1, max: 16 }),
      fc.bigInt(1_000n, 10_000_000n),
      fc.bigInt(0n, 1_000_000_000n),
      (payeeIndex, peers, amountMsat, maxFeeMsat, maxParts, minPartMsat, inFlightMsat) => {
        const firstHops = peers.map(([peer, room], index) =>
          firstHop(BigInt(index), syntheticNodeId(peer), room),
        );
        const ownKey = (hop: FirstHop) =>
          directedKey(hop.shortChannelId, directionBetween(payer, hop.counterparty));
        const uses = new Map(
          firstHops.slice(0, 1).map((hop) => [ownKey(hop), { inFlightMsat, maximumMsat: undefined }]),
        );
        const result = findRoutes(
          graph,
          request({ payer, payee: syntheticNodeId(payeeIndex), amountMsat, maxFeeMsat, firstHops, uses }),
          { maxParts, minPartMsat },
        );
        if (!result.ok) return;
        const routes = result.value;
        if (routes.length > 1) {
          split++;
          for (const route of routes) expect(route.amountMsat).toBeGreaterThanOrEqual(minPartMsat);
        }
        expect(routes.length).toBeLessThanOrEqual(maxParts);
        expect(routes.reduce((sum, route) => sum + route.amountMsat, 0n)).toBe(amountMsat);
        expect(routes.reduce((sum, route) => sum + route.feeMsat, 0n)).toBeLessThanOrEqual(maxFeeMsat);
        const load = new Map<bigint, bigint>([...uses].map(([key, use]) => [key, use.inFlightMsat]));
        for (const { hops } of routes) {
          for (const hop of hops) {
            const key = directedKey(hop.shortChannelId, hop.direction);
            load.set(key, (load.get(key) ?? 0n) + hop.amountMsat);
          }
        }
        for (const hop of firstHops) {
          const used = load.get(ownKey(hop)) ?? 0n;
          if (used > (uses.get(ownKey(hop))?.inFlightMsat ?? 0n))
            expect(used).toBeLessThanOrEqual(hop.maximumMsat);
        }
        for (const [key, used] of load) {
          const channel = graph.channelIndex(key >> 1n);
          if (channel === undefined) continue;
          expect(used).toBeLessThanOrEqual(BigInt((graph.channelCapacitySat[channel] ?? 0) * 1_000));
        }
      },
    ),
    { numRuns: 150 },
  );
  expect(split).toBeGreaterThan(10);
});

describe('in turns', () => {
  const graph = syntheticGraph(200, 800, 5, NOW);
  const payer = syntheticNodeId(1_000);
  const firstHops = [3, 50, 120].map((peer, index) =>
    firstHop(BigInt(index), syntheticNodeId(peer), 4_000_000_000n),
  );
  const asked = (payee: number) =>
    request({
      payer,
      payee: syntheticNodeId(payee),
      amountMsat: 6_000_000_000n,
      maxFeeMsat: 200_000_000n,
      firstHops,
    });

  /** The answer of all searches, with something happening before each further one. */
  function inSteps(graph: Graph, payee: number, between: () => void): Routes {
    const searches = searchRoutes(graph, asked(payee), LIMITS, UNINFORMED_SCORER);
    for (;;) {
      const step = searches.next();
      if (step.done === true) return step.value;
      between();
    }
  }

  test('the answer is the same search by search', () => {
    let split = 0;
    for (let payee = 0; payee < 20; payee++) {
      let pauses = 0;
      const result = inSteps(graph, payee, () => (pauses += 1));
      expect(result).toEqual(findRoutes(graph, asked(payee), LIMITS));
      if (!result.ok || result.value.length < 2) continue;
      split += 1;
      expect(pauses).toBeGreaterThanOrEqual(result.value.length);
    }
    expect(split).toBeGreaterThan(0);
  });

  test('channels that go away between two searches are harmless', () => {
    const shrinking = syntheticGraph(200, 800, 5, NOW);
    let split = 0;
    for (let payee = 0; payee < 20; payee++) {
      const result = inSteps(shrinking, payee, () => {
        const [channel] = shrinking.channels();
        if (channel !== undefined) shrinking.removeChannel(channel);
      });
      if (!result.ok) continue;
      split += 1;
      expect(result.value.reduce((sum, route) => sum + route.amountMsat, 0n)).toBe(6_000_000_000n);
    }
    expect(split).toBeGreaterThan(0);
  });
});
