/** Lets those who wait for news go on when there may be some; nobody waits for ever. */
import type { Runtime } from '@fulmen/service';

export class Doorbell {
  readonly #runtime: Runtime;
  readonly #waiting = new Set<() => void>();

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  /** Those who wait now. */
  get waiting(): number {
    return this.#waiting.size;
  }

  ring(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  /** Resolves at the next ring, after `ms`, or when the signal fires. */
  async wait(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const timer = new AbortController();
    let wake = (): void => undefined;
    const rung = new Promise<void>((resolve) => (wake = resolve));
    this.#waiting.add(wake);
    const onAbort = (): void => timer.abort();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await Promise.race([rung, this.#runtime.sleep(ms, timer.signal).catch(() => undefined)]);
    } finally {
      // Whoever waited long enough is not waiting for the next ring, which may never come.
      this.#waiting.delete(wake);
      signal.removeEventListener('abort', onAbort);
      timer.abort();
    }
  }
}
