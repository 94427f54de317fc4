/**
 * LDK's eight feerate targets from the node's estimates: cached, bounded, in
 * an order that makes sense, and with a policy for a node without estimates.
 */
import { FEERATE_FLOOR_SAT_PER_KW } from '@fulmen/bitcoin';
import type { ChainSource, FeeEstimateMode } from '@fulmen/chain';
import type { Runtime } from '@fulmen/service';

export type FeerateTarget =
  | 'maximum_fee_estimate'
  | 'urgent_on_chain_sweep'
  | 'min_allowed_anchor_channel_remote_fee'
  | 'min_allowed_non_anchor_channel_remote_fee'
  | 'anchor_channel_fee'
  | 'non_anchor_channel_fee'
  | 'channel_close_minimum'
  | 'output_spending_fee';

/** Blocks to confirm within, and how an estimate weighs a recent fall. */
const QUESTIONS: Readonly<
  Record<FeerateTarget, { readonly blocks: number; readonly mode: FeeEstimateMode }>
> = {
  maximum_fee_estimate: { blocks: 1, mode: 'conservative' },
  urgent_on_chain_sweep: { blocks: 3, mode: 'conservative' },
  non_anchor_channel_fee: { blocks: 12, mode: 'economical' },
  output_spending_fee: { blocks: 12, mode: 'economical' },
  channel_close_minimum: { blocks: 144, mode: 'economical' },
  min_allowed_non_anchor_channel_remote_fee: { blocks: 144, mode: 'economical' },
  anchor_channel_fee: { blocks: 1008, mode: 'economical' },
  min_allowed_anchor_channel_remote_fee: { blocks: 1008, mode: 'economical' },
};
const TARGETS = Object.keys(QUESTIONS) as readonly FeerateTarget[];

/** From the lowest to the highest: none may be above the next. */
const ORDER: readonly FeerateTarget[] = [
  'min_allowed_anchor_channel_remote_fee',
  'anchor_channel_fee',
  'min_allowed_non_anchor_channel_remote_fee',
  'channel_close_minimum',
  'non_anchor_channel_fee',
  'output_spending_fee',
  'urgent_on_chain_sweep',
  'maximum_fee_estimate',
];

/** An estimate older than this says nothing any more. */
const MAX_AGE_MS = 6 * 3_600_000;
/** The fee above which a peer's fee is refused is far above any estimate of today: fees rise fast. */
const MAXIMUM_FACTOR = 10;

/** There is no estimate, and no fallback was configured. */
export class NoFeeEstimateError extends Error {
  override readonly name = 'NoFeeEstimateError';
}

export interface FeeEstimatorOptions {
  readonly source: Pick<ChainSource, 'estimateFeerateSatPerKw' | 'mempoolMinFeerateSatPerKw'>;
  readonly runtime: Pick<Runtime, 'monotonicMs'>;
  readonly fallbackFeerateSatPerKw: number | undefined;
  readonly maximumFeerateSatPerKw: number;
  readonly cacheMs: number;
}

type Feerates = Readonly<Record<FeerateTarget, number>>;

/** Bounds and order, whatever the node said. `undefined` where it said nothing. */
export function arrangeFeerates(
  raw: Readonly<Partial<Record<FeerateTarget, number>>>,
  bounds: { readonly minimum: number; readonly maximum: number; readonly fallback: number | undefined },
): Feerates | undefined {
  const known = ORDER.map((target) => raw[target]).filter((feerate) => feerate !== undefined);
  const start = bounds.fallback ?? (known.length === 0 ? undefined : Math.min(...known));
  if (start === undefined) return undefined;
  const minimum = Math.max(bounds.minimum, FEERATE_FLOOR_SAT_PER_KW);
  const clamp = (feerate: number): number =>
    Math.ceil(Math.min(Math.max(feerate, minimum), Math.max(bounds.maximum, minimum)));
  const result: Partial<Record<FeerateTarget, number>> = {};
  let previous = minimum;
  for (const target of ORDER) {
    const estimate = raw[target] ?? (known.length === 0 ? start : previous);
    const wanted = target === 'maximum_fee_estimate' ? estimate * MAXIMUM_FACTOR : estimate;
    previous = Math.max(previous, clamp(wanted));
    result[target] = previous;
  }
  // What the counterparty must pay at least is the floor of relaying, with room for what changed since it last looked.
  result.min_allowed_anchor_channel_remote_fee = FEERATE_FLOOR_SAT_PER_KW;
  result.min_allowed_non_anchor_channel_remote_fee = Math.max(
    FEERATE_FLOOR_SAT_PER_KW,
    Math.floor((result.min_allowed_non_anchor_channel_remote_fee ?? previous) / 2),
  );
  return result as Feerates;
}

export class FeeEstimator {
  readonly #options: FeeEstimatorOptions;
  #cached: { readonly feerates: Feerates; readonly atMs: number } | undefined;
  #refreshing: Promise<void> | undefined;
  #triedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: FeeEstimatorOptions) {
    this.#options = options;
  }

  /** sat per 1000 weight, at least 253. @throws NoFeeEstimateError */
  async estimateSatPerKw(target: FeerateTarget): Promise<number> {
    const { runtime, cacheMs, fallbackFeerateSatPerKw, maximumFeerateSatPerKw } = this.#options;
    if (runtime.monotonicMs() - this.#triedAtMs >= cacheMs) {
      this.#refreshing ??= this.#refresh().finally(() => (this.#refreshing = undefined));
    }
    // Waits only when there is nothing to answer with.
    const isUsable = this.#cached !== undefined && runtime.monotonicMs() - this.#cached.atMs < MAX_AGE_MS;
    if (!isUsable) await this.#refreshing;
    const cached = this.#cached;
    if (cached !== undefined && runtime.monotonicMs() - cached.atMs < MAX_AGE_MS)
      return cached.feerates[target];
    const fallback = arrangeFeerates(
      {},
      {
        minimum: FEERATE_FLOOR_SAT_PER_KW,
        maximum: maximumFeerateSatPerKw,
        fallback: fallbackFeerateSatPerKw,
      },
    );
    if (fallback === undefined)
      throw new NoFeeEstimateError('the node has no fee estimates yet, and no fallback is configured');
    return fallback[target];
  }

  async #refresh(): Promise<void> {
    const { source, runtime, maximumFeerateSatPerKw } = this.#options;
    this.#triedAtMs = runtime.monotonicMs();
    try {
      const minimum = await source.mempoolMinFeerateSatPerKw();
      const raw: Partial<Record<FeerateTarget, number>> = {};
      for (const target of TARGETS) {
        const estimate = await source.estimateFeerateSatPerKw(
          QUESTIONS[target].blocks,
          QUESTIONS[target].mode,
        );
        if (estimate !== undefined && Number.isFinite(estimate)) raw[target] = estimate;
      }
      const feerates = arrangeFeerates(raw, {
        minimum,
        maximum: maximumFeerateSatPerKw,
        fallback: undefined,
      });
      if (feerates !== undefined) this.#cached = { feerates, atMs: runtime.monotonicMs() };
    } catch {
      // A node that does not answer is the follower's alarm; the last estimate stays for a while.
    }
  }
}
