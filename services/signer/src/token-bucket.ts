/** A rate limit that allows bursts. */
export class TokenBucket {
  readonly #perSecond: number;
  readonly #burst: number;
  #tokens: number;
  #atMs: number;

  /** @param nowMs a monotonic clock's. */
  constructor(limits: { readonly perSecond: number; readonly burst: number }, nowMs: number) {
    this.#perSecond = limits.perSecond;
    this.#burst = limits.burst;
    this.#tokens = limits.burst;
    this.#atMs = nowMs;
  }

  /** Takes one token if there is one. */
  take(nowMs: number): 'taken' | 'empty' {
    const grown = this.#tokens + (Math.max(0, nowMs - this.#atMs) * this.#perSecond) / 1000;
    this.#tokens = Math.min(this.#burst, grown);
    this.#atMs = nowMs;
    if (this.#tokens < 1) return 'empty';
    this.#tokens -= 1;
    return 'taken';
  }
}
