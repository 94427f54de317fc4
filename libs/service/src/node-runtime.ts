/** The runtime of real processes. */
import { randomBytes } from 'node:crypto';
import { AbortedError, type Runtime, type Task } from './runtime.ts';

export interface NodeRuntimeOptions {
  /** A background task ended with an error that nobody awaited. */
  readonly onFailure: (task: string, error: unknown) => void;
}

export function nodeRuntime(options: NodeRuntimeOptions): Runtime {
  return {
    wallClockMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(new AbortedError('the wait was aborted'));
        // A timer of zero is a millisecond in Node; giving way to I/O once is what a wait of zero asks for.
        if (ms <= 0 && signal === undefined) {
          setImmediate(resolve);
          return;
        }
        const onAbort = (): void => {
          clearTimeout(timer);
          reject(new AbortedError('the wait was aborted'));
        };
        const timer = setTimeout(() => {
          signal?.removeEventListener('abort', onAbort);
          resolve();
        }, ms);
        signal?.addEventListener('abort', onAbort, { once: true });
      }),
    randomBytes: (length) => new Uint8Array(randomBytes(length)),
    spawn: (name, work) => spawnTask(name, work, options.onFailure),
  };
}

/** Runs work until it ends or is stopped; an abort is a normal end. */
export function spawnTask(
  name: string,
  work: (signal: AbortSignal) => Promise<void>,
  onFailure: (task: string, error: unknown) => void,
): Task {
  const controller = new AbortController();
  const done = (async () => {
    try {
      await work(controller.signal);
    } catch (error) {
      if (error instanceof AbortedError && controller.signal.aborted) return;
      onFailure(name, error);
      throw error;
    }
  })();
  // Observed through onFailure; whoever awaits `done` still sees the rejection.
  done.catch(() => undefined);
  return {
    name,
    done,
    stop: async () => {
      controller.abort();
      await done.catch(() => undefined);
    },
  };
}
