/**
 * One life of a simulated process. Everything that comes into it from outside
 * (time, answers, messages) passes `enter`, so that it can be killed at any
 * await (nothing in it runs again, no `finally` either, as with kill -9) or
 * stopped and continued like a process under SIGSTOP.
 */
import { AbortedError, type Runtime, spawnTask } from '@fulmen/service';
import type { Prng } from './prng.ts';
import type { Scheduler } from './scheduler.ts';

/** What the wall clock shows when a simulation begins. */
const EPOCH_UNIX_MS = 1_750_000_000_000;

export class Incarnation {
  readonly name: string;
  readonly runtime: Runtime;
  readonly #scheduler: Scheduler;
  #state: 'running' | 'frozen' | 'dead' = 'running';
  #held: (() => void)[] = [];

  constructor(
    name: string,
    scheduler: Scheduler,
    random: Prng,
    onFailure: (task: string, error: unknown) => void,
  ) {
    this.name = name;
    this.#scheduler = scheduler;
    this.runtime = {
      wallClockMs: () => EPOCH_UNIX_MS + Math.floor(scheduler.nowMs),
      monotonicMs: () => scheduler.nowMs,
      sleep: (ms, signal) => this.#sleep(ms + (ms > 0 ? random.fraction() : 0), signal),
      randomBytes: (length) => random.bytes(length),
      spawn: (task, work) => spawnTask(task, work, (failed, error) => onFailure(`${name}: ${failed}`, error)),
    };
  }

  get isDead(): boolean {
    return this.#state === 'dead';
  }

  get isFrozen(): boolean {
    return this.#state === 'frozen';
  }

  /** Something from outside reaches the process: at once, when it is continued, or never. */
  enter(run: () => void): void {
    if (this.#state === 'running') run();
    else if (this.#state === 'frozen') this.#held.push(run);
  }

  /** The promise as this process sees it: it settles only while the process lives. */
  guard<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      promise.then(
        (value) => this.enter(() => resolve(value)),
        (error: unknown) => this.enter(() => reject(error)),
      );
    });
  }

  /** Kill -9. */
  crash(): void {
    this.#state = 'dead';
    this.#held = [];
  }

  /** SIGSTOP. */
  freeze(): void {
    if (this.#state === 'running') this.#state = 'frozen';
  }

  /** SIGCONT: what came meanwhile is taken in one event each. */
  resume(): void {
    if (this.#state !== 'frozen') return;
    this.#state = 'running';
    const held = this.#held;
    this.#held = [];
    for (const run of held) this.#scheduler.schedule(0, `resume ${this.name}`, () => this.enter(run));
  }

  #sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(new AbortedError('the wait was aborted'));
      const timer = this.#scheduler.schedule(ms, `sleep ${this.name}`, () =>
        this.enter(() => {
          signal?.removeEventListener('abort', onAbort);
          resolve();
        }),
      );
      const onAbort = (): void => {
        timer.cancel();
        reject(new AbortedError('the wait was aborted'));
      };
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
}
