/**
 * Finds what other shards, chain-monitor and time left to do. Hints make it
 * quick, polling makes it certain (law 6): lose every hint, and it is only
 * slower.
 */
import type { Bus } from '@fulmen/bus';
import type { Logger, Runtime, Task } from '@fulmen/service';
import { AbortedError } from '@fulmen/service';

export interface Job {
  readonly name: string;
  /** Runs at least this often. */
  readonly intervalMs: number;
  readonly run: () => Promise<void>;
}

/** Pause after a failure, so that a store that is away is not hammered. */
const FAILURE_PAUSE_MS = 250;

/** One job: runs when woken and at its interval, never twice at once. */
export class PeriodicJob {
  readonly #job: Job;
  readonly #runtime: Runtime;
  readonly #logger: Logger;
  readonly #task: Task;
  #wake: AbortController | undefined;
  #woken = false;

  constructor(job: Job, runtime: Runtime, logger: Logger) {
    this.#job = job;
    this.#runtime = runtime;
    this.#logger = logger;
    this.#task = runtime.spawn(job.name, (signal) => this.#loop(signal));
  }

  /** There is work: run as soon as the present run is over. */
  wake(): void {
    this.#woken = true;
    this.#wake?.abort();
  }

  stop(): Promise<void> {
    return this.#task.stop();
  }

  async #loop(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (!this.#woken) {
        const wake = new AbortController();
        this.#wake = wake;
        try {
          await this.#runtime.sleep(this.#job.intervalMs, AbortSignal.any([signal, wake.signal]));
        } catch (error) {
          if (!(error instanceof AbortedError)) throw error;
        }
        this.#wake = undefined;
      }
      if (signal.aborted) return;
      this.#woken = false;
      try {
        await this.#job.run();
      } catch (error) {
        if (signal.aborted) return;
        this.#logger.warn({ err: error, job: this.#job.name }, 'a periodic job failed; it runs again');
        await this.#runtime.sleep(FAILURE_PAUSE_MS, signal).catch(() => undefined);
      }
    }
  }
}

/** Wakes jobs by hints; returns the unsubscriber. */
export function wakeByHints(
  bus: Bus,
  ownsShard: (shard: number) => boolean,
  wakes: { readonly shardWork: () => void; readonly block: () => void },
): () => void {
  const shards = bus.subscribe('fulmen.shard.>', (subject) => {
    if (ownsShard(Number(subject.slice('fulmen.shard.'.length)))) wakes.shardWork();
  });
  const blocks = bus.subscribe('fulmen.block', () => wakes.block());
  return () => {
    shards();
    blocks();
  };
}
