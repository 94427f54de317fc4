/** What shares a turn of the lane, and what comes between two. */
import { Metrics, silentLogger } from '@fulmen/service';
import { expect, test } from 'vitest';
import { SigningLane } from './lane.ts';
import type { LaneRequest } from './lane.ts';
import { signerMetrics } from './metrics.ts';
import { RefusalLog } from './refusal-log.ts';
import { MemorySignerStore } from './store/memory.ts';
import { testRuntime } from './testing/harness.ts';

async function runningLane() {
  const store = new MemorySignerStore();
  const instance = new Uint8Array(16);
  await store.acquireLease(instance, 60_000);
  const metrics = signerMetrics(new Metrics('signer'));
  const lane = new SigningLane({
    store,
    instance,
    runtime: testRuntime,
    metrics,
    head: await store.loadHead(),
    refusals: new RefusalLog(0n, { runtime: testRuntime, logger: silentLogger, metrics }),
    onFatal: (error) => {
      throw error;
    },
    onCommitted: () => undefined,
  });
  lane.start();
  return { lane, store };
}

/** One that commits, or one that leaves nothing behind. */
const request = (kind: 'commits' | 'asks', shard: number, weight: number): LaneRequest<number> => ({
  priority: 'channel',
  channelKeysId: undefined,
  weight,
  evaluate: () => ({ answer: shard, ...(kind === 'commits' && { fence: { shard, epoch: 1n } }) }),
});

const shards = Array.from({ length: 8 }, (_, shard) => shard);

test.each([
  ['light requests share a commit', 10, 1],
  ['as many as a turn may weigh share one', 400, 4],
  ['one that is heavier than a turn has one of its own', 2_500, 8],
])('%s', async (_name, weight, commits) => {
  const { lane, store } = await runningLane();
  const answers = shards.map((shard) => lane.submit(request('commits', shard, weight)));
  expect(await Promise.all(answers)).toEqual(shards);
  expect(store.database.commits).toBe(commits);
  await lane.stop();
});

test('between two turns that commit nothing, other work of the process has its turn', async () => {
  const { lane } = await runningLane();
  const others: number[] = [];
  const answers = shards.map(async (shard) => {
    await lane.submit(request('asks', shard, 2_500));
    setImmediate(() => others.push(shard));
    return others.length;
  });
  const seen = await Promise.all(answers);
  expect(Math.max(...seen)).toBeGreaterThan(1);
  await lane.stop();
});
