/** A runtime whose clock moves only when a test says so. */
import { sha256 } from '@fulmen/crypto';
import { AbortedError, type Runtime, spawnTask, type Task } from '@fulmen/service';

interface Timer {
  readonly atMs: number;
  readonly fire: () => void;
}

/** Lets every promise that can go on do so. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

export class ManualRuntime implements Runtime {
  readonly failures: { readonly task: string; readonly error: unknown }[] = [];
  readonly #timers = new Set<Timer>();
  #nowMs = 1_000;
  #counter = 0;

  wallClockMs(): number {
    return 1_700_000_000_000 + this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(new AbortedError('the wait was aborted'));
      const timer: Timer = { atMs: this.#nowMs + ms, fire: resolve };
      this.#timers.add(timer);
      signal?.addEventListener(
        'abort',
        () => {
          if (this.#timers.delete(timer)) reject(new AbortedError('the wait was aborted'));
        },
        { once: true },
      );
    });
  }

  randomBytes(length: number): Uint8Array {
    const out = new Uint8Array(length);
    for (let offset = 0; offset < length; offset += 32) {
      const block = sha256(new TextEncoder().encode(`manual ${this.#counter++}`));
      out.set(block.subarray(0, length - offset), offset);
    }
    return out;
  }

  spawn(name: string, work: (signal: AbortSignal) => Promise<void>): Task {
    return spawnTask(name, work, (task, error) => this.failures.push({ task, error }));
  }

  /** Moves the clock, stopping at every timer on the way. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await settle();
    for (;;) {
      let next: Timer | undefined;
      for (const timer of this.#timers) {
        if (timer.atMs <= untilMs && (next === undefined || timer.atMs < next.atMs)) next = timer;
      }
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.fire();
      await settle();
    }
    this.#nowMs = untilMs;
  }
}
