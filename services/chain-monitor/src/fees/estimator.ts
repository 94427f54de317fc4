/**
 * Fee estimates for the fleet: asked of the node now and then, damped,
 * bounded and arranged. When the node has none: its last ones for some hours,
 * then the configured fallback, else an error. Each step down is told.
 */
import { FEERATE_FLOOR_SAT_PER_KW } from '@fulmen/bitcoin';
import { type ChainSource, ChainSourceError } from '@fulmen/chain';
import type { Logger, Runtime } from '@fulmen/service';
import type { ChainMetrics } from '../metrics.ts';
import { type Feerates, type FeerateTarget, QUESTIONS, TARGETS, arrangeFeerates } from './arrange.ts';
import { RecentEstimates } from './damping.ts';

export { type FeerateTarget, arrangeFeerates } from './arrange.ts';

/** An estimate older than this says nothing any more. */
const MAX_AGE_MS = 6 * 3_600_000;
/** An estimate that could not be renewed for so many times its cache's time is the node's last, not its present one. */
const RENEWALS_MISSED = 3;

/** Where feerates come from; the metric shows the position. */
const ORIGINS = ['node', 'last of the node', 'fallback', 'none'] as const;
type Origin = (typeof ORIGINS)[number];

/** There is no estimate, and no fallback was configured. */
export class NoFeeEstimateError extends Error {
  override readonly name = 'NoFeeEstimateError';
}

export interface FeeEstimatorOptions {
  readonly source: Pick<ChainSource, 'estimateFeerateSatPerKw' | 'mempoolMinFeerateSatPerKw'>;
  readonly runtime: Pick<Runtime, 'monotonicMs'>;
  readonly logger: Logger;
  readonly metrics: Pick<ChainMetrics, 'feeOrigin'>;
  /** Used only when the node has had no estimate for hours. Absent: an error instead. */
  readonly fallbackFeerateSatPerKw: number | undefined;
  readonly maximumFeerateSatPerKw: number;
  readonly cacheMs: number;
}

export class FeeEstimator {
  readonly #options: FeeEstimatorOptions;
  readonly #recent = new RecentEstimates<FeerateTarget>();
  #cached: { readonly feerates: Feerates; readonly atMs: number } | undefined;
  #minimumSatPerKw = FEERATE_FLOOR_SAT_PER_KW;
  #refreshing: Promise<void> | undefined;
  #triedAtMs = Number.NEGATIVE_INFINITY;
  #origin: Origin = 'node';

  constructor(options: FeeEstimatorOptions) {
    this.#options = options;
  }

  /** sat per 1000 weight, from 253 to the configured maximum. @throws NoFeeEstimateError */
  async estimateSatPerKw(target: FeerateTarget): Promise<number> {
    const { runtime, cacheMs, fallbackFeerateSatPerKw } = this.#options;
    if (runtime.monotonicMs() - this.#triedAtMs >= cacheMs)
      this.#refreshing ??= this.#refresh().finally(() => (this.#refreshing = undefined));
    const isOld = ({ atMs }: { readonly atMs: number }): boolean =>
      runtime.monotonicMs() - atMs > Math.max(cacheMs, 1_000) * RENEWALS_MISSED;
    // Waits only when there is nothing to answer with, or nobody asked for so long that it says nothing about now.
    const last = this.#usable();
    if (last === undefined || isOld(last)) await this.#refreshing;
    const usable = this.#usable();
    if (usable !== undefined) {
      this.#tell(isOld(usable) ? 'last of the node' : 'node');
      return usable.feerates[target];
    }
    const fallback = this.#arrange({}, fallbackFeerateSatPerKw);
    this.#tell(fallback === undefined ? 'none' : 'fallback');
    if (fallback === undefined)
      throw new NoFeeEstimateError('the node has no fee estimates yet, and no fallback is configured');
    return fallback[target];
  }

  #usable(): { readonly feerates: Feerates; readonly atMs: number } | undefined {
    const cached = this.#cached;
    if (cached === undefined || this.#options.runtime.monotonicMs() - cached.atMs < MAX_AGE_MS) return cached;
    this.#cached = undefined;
    this.#recent.forget();
    return undefined;
  }

  #arrange(
    raw: Readonly<Partial<Record<FeerateTarget, number>>>,
    fallback: number | undefined,
  ): Feerates | undefined {
    const { maximumFeerateSatPerKw: maximum } = this.#options;
    return arrangeFeerates(raw, { minimum: this.#minimumSatPerKw, maximum, fallback });
  }

  /** Whoever pays must hear that these are not the network's feerates of the moment. */
  #tell(origin: Origin): void {
    if (origin === this.#origin) return;
    const { logger, metrics, fallbackFeerateSatPerKw } = this.#options;
    this.#origin = origin;
    metrics.feeOrigin.set(ORIGINS.indexOf(origin));
    if (origin === 'node') logger.info({}, 'the node has fee estimates again');
    else if (origin === 'none') logger.error({}, 'no fee estimate and no fallback: nothing can be priced');
    else
      logger.warn(
        { origin, fallbackFeerateSatPerKw: fallbackFeerateSatPerKw ?? 'none' },
        'the node has no fee estimates: others are used',
      );
  }

  async #refresh(): Promise<void> {
    const { source, runtime } = this.#options;
    this.#triedAtMs = runtime.monotonicMs();
    try {
      this.#minimumSatPerKw = await source.mempoolMinFeerateSatPerKw();
      const raw: Partial<Record<FeerateTarget, number>> = {};
      for (const target of TARGETS) {
        const { blocks, mode } = QUESTIONS[target];
        const estimate = await source.estimateFeerateSatPerKw(blocks, mode);
        if (estimate !== undefined && Number.isFinite(estimate) && estimate > 0)
          raw[target] = this.#recent.take(target, estimate);
      }
      const feerates = this.#arrange(raw, undefined);
      if (feerates !== undefined) this.#cached = { feerates, atMs: runtime.monotonicMs() };
    } catch (error) {
      // A node that does not answer is the follower's alarm; the last estimate stays for a while.
      if (!(error instanceof ChainSourceError)) throw error;
    }
  }
}
