/**
 * This replica's lease, as it may believe in it: counted on the monotonic
 * clock from *before* the renewal was asked for, less a margin. Whatever
 * leaves the process asks `isValid` first (law 3).
 */
import type { Runtime } from '@fulmen/service';

export class Lease {
  readonly #runtime: Runtime;
  readonly #durationMs: number;
  readonly #marginMs: number;
  #deadline = Number.NEGATIVE_INFINITY;

  constructor(runtime: Runtime, durationMs: number) {
    this.#runtime = runtime;
    this.#durationMs = durationMs;
    this.#marginMs = Math.ceil(durationMs / 5);
  }

  /** A renewal that was asked for at `askedAtMs` (monotonic) succeeded. */
  renewed(askedAtMs: number): void {
    this.#deadline = Math.max(this.#deadline, askedAtMs + this.#durationMs - this.#marginMs);
  }

  /** The lease is gone, whatever the clock says. */
  lost(): void {
    this.#deadline = Number.NEGATIVE_INFINITY;
  }

  isValid(): boolean {
    return this.#runtime.monotonicMs() < this.#deadline;
  }
}
