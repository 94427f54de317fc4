/** So many of a thing at once, and another after each interval. */
export class Allowance {
  readonly #burst: number;
  readonly #refillMs: number;
  #left: number;
  #refilledAtMs = 0;

  /** @param refillMs after which one more is allowed, up to `burst`. */
  constructor(burst: number, refillMs: number) {
    this.#burst = burst;
    this.#refillMs = refillMs;
    this.#left = burst;
  }

  /** Takes one; false when none is left. */
  take(nowMs: number): boolean {
    const refill = Math.floor((nowMs - this.#refilledAtMs) / this.#refillMs);
    if (refill > 0) {
      this.#left = Math.min(this.#burst, this.#left + refill);
      this.#refilledAtMs += refill * this.#refillMs;
    }
    if (this.#left === 0) return false;
    this.#left -= 1;
    return true;
  }
}
