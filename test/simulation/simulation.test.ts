// The fleet under virtual time: FULMEN_SEEDS=n runs n seeds with faults (default below).
import { expect, test } from 'vitest';
import { run } from './run.ts';

const DEFAULT_SEEDS = 100;
const SEEDS = Number(process.env['FULMEN_SEEDS'] ?? DEFAULT_SEEDS);
/** Patience with a slow machine: a seed takes a fraction of a second on an idle one. */
const MS_PER_SEED = 5_000;

async function failureOf(seed: number): Promise<string | undefined> {
  try {
    await run(seed, { faults: 'seeded' });
    return undefined;
  } catch (error) {
    const text =
      error instanceof Error
        ? `${error.message}\n${error.name === 'ViolationError' ? '' : error.stack}`
        : String(error);
    return `${text}\n  replay: npm run simulate -- --seed ${seed} --trace`;
  }
}

test('without faults every payment ends as it should', async () => {
  for (const seed of [1, 2, 3]) {
    const report = await run(seed, { faults: 'none' });
    expect(report.fulfilled).toBeGreaterThan(0);
  }
});

test('a seed decides everything: two runs have one trace', async () => {
  for (const seed of [4, 5]) {
    const [first, second] = [await run(seed, { faults: 'seeded' }), await run(seed, { faults: 'seeded' })];
    expect(second).toEqual(first);
  }
  expect((await run(6, { faults: 'seeded' })).traceHash).not.toBe(
    (await run(7, { faults: 'seeded' })).traceHash,
  );
});

test('seeds that found a fault once: an opening whose shard left, an update that overtook its commitment, an answer that was repeated for ever', async () => {
  for (const seed of [75, 5193, 5240]) expect(await failureOf(seed)).toBeUndefined();
});

test(
  `${SEEDS} seeds: crashes, stale owners, cuts and lost answers cost no msat, no channel and no HTLC`,
  async () => {
    const failures: string[] = [];
    for (let seed = 1; seed <= SEEDS; seed += 1) {
      const failure = await failureOf(seed);
      if (failure !== undefined) failures.push(failure);
    }
    expect(failures.join('\n')).toBe('');
  },
  60_000 + SEEDS * MS_PER_SEED,
);
