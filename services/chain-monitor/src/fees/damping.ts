/**
 * Against an estimate that leaps: a source that errs or lies for a moment must
 * not burn the wallet's fees. A rise that stays becomes the median, and is
 * believed, after half of the samples.
 */

/** Estimates remembered for each target. */
export const REMEMBERED = 15;
/** Fewer say nothing about what is usual. */
const ENOUGH = 5;
/** An estimate is believed up to this multiple of the recent median. */
export const SANITY_FACTOR = 5;

/** The estimate, or the highest that is believable beside these recent ones. In sat per 1000 weight. */
export function damped(estimate: number, recent: readonly number[]): number {
  if (recent.length < ENOUGH) return estimate;
  const sorted = recent.toSorted((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)] ?? estimate;
  return Math.min(estimate, median * SANITY_FACTOR);
}

/** The last estimates of each target, as they came. */
export class RecentEstimates<Target> {
  readonly #byTarget = new Map<Target, number[]>();

  /** Takes an estimate and gives what to believe of it. */
  take(target: Target, estimate: number): number {
    const recent = this.#byTarget.get(target) ?? [];
    const believed = damped(estimate, recent);
    this.#byTarget.set(target, [...recent, estimate].slice(-REMEMBERED));
    return believed;
  }

  /** What was usual long ago says nothing about now. */
  forget(): void {
    this.#byTarget.clear();
  }
}
