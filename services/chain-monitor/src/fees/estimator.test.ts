import { describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { ChainSourceError } from '@fulmen/chain';
import { Metrics, silentLogger } from '@fulmen/service';
import { chainMetrics } from '../metrics.ts';
import { FeeEstimator, type FeerateTarget, NoFeeEstimateError, arrangeFeerates } from './estimator.ts';

const TARGETS: readonly FeerateTarget[] = [
  'maximum_fee_estimate',
  'urgent_on_chain_sweep',
  'min_allowed_anchor_channel_remote_fee',
  'min_allowed_non_anchor_channel_remote_fee',
  'anchor_channel_fee',
  'non_anchor_channel_fee',
  'channel_close_minimum',
  'output_spending_fee',
];

const estimate = fc.option(
  fc.oneof(fc.integer({ min: -5, max: 2_000_000 }), fc.double({ min: 0, max: 1e9, noNaN: true })),
  { nil: undefined },
);

test('a guess is no reason to refuse an opening or a mutual close that would be relayed', () => {
  const bounds = { minimum: 300, maximum: 100_000, fallback: 1_000 };
  expect(arrangeFeerates({}, bounds)).toMatchObject({
    min_allowed_non_anchor_channel_remote_fee: 253,
    channel_close_minimum: 300,
    non_anchor_channel_fee: 1_000,
  });
  expect(arrangeFeerates({ channel_close_minimum: 900 }, bounds)?.channel_close_minimum).toBe(900);
  // What no mempool takes is no feerate for a commitment, with the room that an estimate has too.
  expect(arrangeFeerates({}, { ...bounds, minimum: 8_000 })).toMatchObject({
    min_allowed_non_anchor_channel_remote_fee: 4_000,
  });
});

test('whatever the node says: bounded, whole, and in order', () => {
  fc.assert(
    fc.property(
      fc.tuple(...TARGETS.map(() => estimate)),
      fc.oneof(fc.integer({ min: 1, max: 5_000 }), fc.integer({ min: 1, max: 1_000_000_000 })),
      (estimates, minimum) => {
        const raw: Partial<Record<FeerateTarget, number>> = {};
        for (const [at, target] of TARGETS.entries())
          if (estimates[at] !== undefined) raw[target] = estimates[at];
        const rates = arrangeFeerates(raw, { minimum, maximum: 100_000, fallback: 1_000 });
        expect(rates).toBeDefined();
        if (rates === undefined) return;
        for (const target of TARGETS) {
          expect(Number.isInteger(rates[target])).toBe(true);
          expect(rates[target]).toBeGreaterThanOrEqual(253);
          expect(rates[target]).toBeLessThanOrEqual(100_000);
        }
        expect(rates.min_allowed_anchor_channel_remote_fee).toBeLessThanOrEqual(rates.anchor_channel_fee);
        expect(rates.min_allowed_non_anchor_channel_remote_fee).toBeLessThanOrEqual(
          rates.non_anchor_channel_fee,
        );
        expect(rates.channel_close_minimum).toBeLessThanOrEqual(rates.non_anchor_channel_fee);
        expect(rates.anchor_channel_fee).toBeLessThanOrEqual(rates.non_anchor_channel_fee);
        expect(rates.non_anchor_channel_fee).toBeLessThanOrEqual(rates.urgent_on_chain_sweep);
        expect(rates.output_spending_fee).toBeLessThanOrEqual(rates.urgent_on_chain_sweep);
        expect(rates.urgent_on_chain_sweep).toBeLessThanOrEqual(rates.maximum_fee_estimate);
      },
    ),
    { numRuns: 200 },
  );
});

describe('the estimator', () => {
  function setup(fallbackFeerateSatPerKw: number | undefined) {
    const node = { estimate: undefined as number | undefined, calls: 0, away: false };
    const clock = { nowMs: 0 };
    const metrics = new Metrics('test');
    const origin = async (): Promise<string | undefined> =>
      /chain_fee_estimate_origin\{[^}]*\} (\d)/.exec(await metrics.registry.metrics())?.[1];
    const estimator = new FeeEstimator({
      logger: silentLogger,
      metrics: chainMetrics(metrics),
      source: {
        mempoolMinFeerateSatPerKw: async () => {
          if (node.away) throw new ChainSourceError('unreachable', 'away');
          return 250;
        },
        estimateFeerateSatPerKw: async () => {
          node.calls += 1;
          return node.estimate;
        },
      },
      runtime: { monotonicMs: () => clock.nowMs },
      fallbackFeerateSatPerKw,
      maximumFeerateSatPerKw: 50_000,
      cacheMs: 1_000,
    });
    return { node, clock, estimator, origin };
  }

  test('asks once in a while, and keeps the last estimate for some hours', async () => {
    const { node, clock, estimator, origin } = setup(undefined);
    node.estimate = 2_000;
    expect(await estimator.estimateSatPerKw('output_spending_fee')).toBe(2_000);
    expect(await estimator.estimateSatPerKw('maximum_fee_estimate')).toBe(20_000);
    expect(node.calls).toBe(8);
    clock.nowMs = 3_600_000;
    node.away = true;
    expect(await estimator.estimateSatPerKw('output_spending_fee')).toBe(2_000);
    expect(await origin()).toBe('1');
    clock.nowMs = 7 * 3_600_000;
    await expect(estimator.estimateSatPerKw('output_spending_fee')).rejects.toBeInstanceOf(
      NoFeeEstimateError,
    );
    expect(await origin()).toBe('3');
    node.away = false;
    clock.nowMs += 1_000;
    expect(await estimator.estimateSatPerKw('output_spending_fee')).toBe(2_000);
    expect(await origin()).toBe('0');
  });

  test('asked seldom, as with each block, it answers what the node says now', async () => {
    const { node, clock, estimator, origin } = setup(undefined);
    node.estimate = 2_000;
    expect(await estimator.estimateSatPerKw('non_anchor_channel_fee')).toBe(2_000);
    clock.nowMs += 600_000;
    node.estimate = 2_500;
    expect(await estimator.estimateSatPerKw('non_anchor_channel_fee')).toBe(2_500);
    expect(await origin()).toBe('0');
  });

  test('after hours without estimates: the configured fallback, and it is told', async () => {
    const { node, clock, estimator, origin } = setup(1_500);
    node.estimate = 4_000;
    expect(await estimator.estimateSatPerKw('urgent_on_chain_sweep')).toBe(4_000);
    node.estimate = undefined;
    clock.nowMs = 6 * 3_600_000 - 1;
    expect(await estimator.estimateSatPerKw('urgent_on_chain_sweep')).toBe(4_000);
    clock.nowMs += 1;
    expect(await estimator.estimateSatPerKw('urgent_on_chain_sweep')).toBe(1_500);
    expect(await origin()).toBe('2');
  });

  test('an estimate that leaps is damped until it has stayed', async () => {
    const { node, clock, estimator } = setup(undefined);
    const next = async (estimate: number): Promise<number> => {
      node.estimate = estimate;
      clock.nowMs += 1_000;
      await estimator.estimateSatPerKw('urgent_on_chain_sweep');
      // The renewal runs behind the answer.
      for (let i = 0; i < 40; i++) await Promise.resolve();
      return estimator.estimateSatPerKw('urgent_on_chain_sweep');
    };
    for (let i = 0; i < 15; i++) expect(await next(1_000)).toBe(1_000);
    expect(await next(40_000)).toBe(5_000);
    // A fall is believed at once.
    expect(await next(300)).toBe(300);
    const seen: number[] = [];
    for (let i = 0; i < 9; i++) seen.push(await next(40_000));
    expect(seen[0]).toBe(5_000);
    expect(seen.at(-1)).toBe(40_000);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
  });

  test('without estimates: the fallback, or an error', async () => {
    expect(await setup(1_500).estimator.estimateSatPerKw('non_anchor_channel_fee')).toBe(1_500);
    expect(await setup(1_500).estimator.estimateSatPerKw('min_allowed_anchor_channel_remote_fee')).toBe(253);
    await expect(
      setup(undefined).estimator.estimateSatPerKw('non_anchor_channel_fee'),
    ).rejects.toBeInstanceOf(NoFeeEstimateError);
  });
});
