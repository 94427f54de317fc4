/**
 * How long path finding takes on a made-up graph of the network's size.
 * Prints one line of JSON; run it alone, with nothing else on the machine.
 */
import { findRoute, LiquidityScorer } from '@fulmen/payment';
import { encodeSnapshot } from '@fulmen/graph';
import { syntheticGraph, syntheticNodeId, syntheticRandom } from '@fulmen/graph/synthetic';

const NODES = 17_000;
const CHANNELS = 51_000;
const SEARCHES = 200;
const NOW = 1_700_000_000;

const buildStart = performance.now();
const graph = syntheticGraph(NODES, CHANNELS, 1, NOW);
const buildMs = performance.now() - buildStart;
const scorer = new LiquidityScorer();
const random = syntheticRandom(7);
const pick = (below: number): number => Math.floor(random.next().value * below);
for (const channel of graph.channels()) {
  if (pick(2) === 0) continue;
  scorer.observe(
    {
      shortChannelId: graph.channelScid[channel] ?? 0n,
      direction: pick(2) === 0 ? 0 : 1,
      amountMsat: BigInt(pick(1_000_000_000)),
      capacityMsat: BigInt(graph.channelCapacitySat[channel] ?? 0) * 1000n,
      outcome: pick(2) === 0 ? 'passed' : 'failed',
    },
    NOW - pick(3_600),
  );
}
const view = scorer.at(NOW);
const payer = syntheticNodeId(1_000_000);
const times: number[] = [];
let found = 0;
let hops = 0;
for (let i = 0; i < SEARCHES; i++) {
  const firstHops = [1, 2, 3].map((n) => ({
    shortChannelId: BigInt(n),
    counterparty: syntheticNodeId(pick(200)),
    minimumMsat: 1n,
    maximumMsat: 5_000_000_000n,
  }));
  const started = performance.now();
  const route = findRoute(
    graph,
    {
      payer,
      payee: syntheticNodeId(pick(NODES)),
      amountMsat: BigInt(10_000 + pick(100_000_000)),
      finalCltvDelta: 18,
      firstHops,
      hints: [],
      maxFeeMsat: 1_000_000n,
      currentHeight: 800_000,
    },
    view,
  );
  times.push(performance.now() - started);
  if (route.ok) {
    found++;
    hops += route.value.hops.length;
  }
}
times.sort((a, b) => a - b);
const snapshotStart = performance.now();
const snapshotBytes = encodeSnapshot(graph).length;
process.stdout.write(
  `${JSON.stringify({
    nodes: graph.nodeCount,
    channels: graph.channelCount,
    buildMs: Math.round(buildMs),
    snapshotMb: Math.round(snapshotBytes / 1e6),
    snapshotMs: Math.round(performance.now() - snapshotStart),
    searches: SEARCHES,
    found,
    averageHops: Number((hops / Math.max(found, 1)).toFixed(1)),
    medianMs: Number(times[SEARCHES >> 1]?.toFixed(1)),
    p99Ms: Number(times[Math.floor(SEARCHES * 0.99)]?.toFixed(1)),
  })}\n`,
);
