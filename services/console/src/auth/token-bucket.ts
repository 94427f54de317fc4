/** A rate with a burst: `capacity` at once, then `perSecond`. Time comes in, in monotonic milliseconds. */
export class TokenBucket {
  readonly #capacity: number;
  readonly #perSecond: number;
  #level: number;
  #atMs: number;

  constructor(capacity: number, perSecond: number, nowMs: number) {
    this.#capacity = capacity;
    this.#perSecond = perSecond;
    this.#level = capacity;
    this.#atMs = nowMs;
  }

  /** Takes one, or returns false. */
  take(nowMs: number): boolean {
    this.#level = Math.min(
      this.#capacity,
      this.#level + (Math.max(0, nowMs - this.#atMs) * this.#perSecond) / 1000,
    );
    this.#atMs = nowMs;
    if (this.#level < 1) return false;
    this.#level -= 1;
    return true;
  }
}
