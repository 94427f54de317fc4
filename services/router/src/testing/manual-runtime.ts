/** A runtime whose clock stands still until a test moves it. */
import type { Runtime } from '@fulmen/service';
import { AbortedError, spawnTask } from '@fulmen/service';

interface Sleeper {
  readonly dueMs: number;
  readonly wake: () => void;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const MAX_TURNS = 20_000;

/** Resolves when `condition` holds, after as many turns of the event loop as that takes. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let turns = 0; turns < MAX_TURNS; turns++) {
    if (await condition()) return;
    await turn();
  }
  throw new TypeError('the condition never held');
}

export class ManualRuntime implements Runtime {
  readonly failures: unknown[] = [];
  readonly #startSeconds: number;
  readonly #sleepers = new Set<Sleeper>();
  #nowMs = 0;

  constructor(startSeconds: number) {
    this.#startSeconds = startSeconds;
  }

  wallClockMs(): number {
    return this.#startSeconds * 1_000 + this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (ms === 0) await turn();
    else {
      await new Promise<void>((resolve) => {
        const sleeper = { dueMs: this.#nowMs + ms, wake: resolve };
        this.#sleepers.add(sleeper);
        signal?.addEventListener('abort', () => {
          this.#sleepers.delete(sleeper);
          resolve();
        });
        if (signal?.aborted === true) resolve();
      });
    }
    if (signal?.aborted === true) throw new AbortedError('the wait was aborted');
  }

  randomBytes(length: number): Uint8Array {
    return new Uint8Array(length);
  }

  spawn(name: string, work: (signal: AbortSignal) => Promise<void>): ReturnType<Runtime['spawn']> {
    return spawnTask(name, work, (_task, error) => this.failures.push(error));
  }

  /** Moves the clock, waking sleepers in the order of their time. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    for (;;) {
      const next = [...this.#sleepers]
        .filter((sleeper) => sleeper.dueMs <= endMs)
        .sort((a, b) => a.dueMs - b.dueMs)[0];
      if (next === undefined) break;
      this.#sleepers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.wake();
      for (let turns = 0; turns < 4; turns++) await turn();
    }
    this.#nowMs = endMs;
  }
}
