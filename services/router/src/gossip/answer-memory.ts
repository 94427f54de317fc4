/** The bytes that answers under way hold, of all peers together: a slow peer's answer takes as long as the peer likes. */
import type { RouterMetrics } from '../metrics.ts';

/** Some 400 queries of 8,000 ids, or 3,000 of 1,000. */
const MAX_BYTES = 64 * 1024 * 1024;

export class AnswerMemory {
  readonly #metrics: RouterMetrics;
  #bytes = 0;

  constructor(metrics: RouterMetrics) {
    this.#metrics = metrics;
  }

  /** Takes bytes if they are there. */
  take(bytes: number): boolean {
    if (this.#bytes + bytes > MAX_BYTES) return false;
    this.#add(bytes);
    return true;
  }

  giveBack(bytes: number): void {
    this.#add(-bytes);
  }

  #add(bytes: number): void {
    this.#bytes += bytes;
    this.#metrics.answerBytes.set(this.#bytes);
  }
}
