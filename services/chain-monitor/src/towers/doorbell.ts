/** Lets those who wait for news go on when there may be some; nobody waits for ever. */
import type { Runtime } from '@fulmen/service';

export class Doorbell {
  readonly #runtime: Runtime;
  #waiting: (() => void)[] = [];

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  ring(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** Resolves at the next ring, after `ms`, or when the signal fires. */
  async wait(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const timer = new AbortController();
    const rung = new Promise<void>((resolve) => this.#waiting.push(resolve));
    const onAbort = (): void => timer.abort();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await Promise.race([rung, this.#runtime.sleep(ms, timer.signal).catch(() => undefined)]);
    } finally {
      signal.removeEventListener('abort', onAbort);
      timer.abort();
    }
  }
}
