/**
 * Background work without which a service is none. Where such a task ends by an error, what is left would answer every probe
 * and do nothing: the error is the failure of the service, and its process ends.
 */
import type { Runtime } from './runtime.ts';

/** What a task threw was no Error. */
class TaskError extends Error {
  override readonly name = 'TaskError';
}

/**
 * The same runtime, whose tasks must not fail: `failed` is told of each that does. Work of a single peer, channel or call is
 * none of this.
 */
export function essentialTasks(runtime: Runtime, failed: (error: Error) => void): Runtime {
  return {
    wallClockMs: () => runtime.wallClockMs(),
    monotonicMs: () => runtime.monotonicMs(),
    sleep: (ms, signal) => runtime.sleep(ms, signal),
    randomBytes: (length) => runtime.randomBytes(length),
    spawn: (name, work) => {
      const task = runtime.spawn(name, work);
      task.done.catch((error: unknown) =>
        failed(error instanceof Error ? error : new TaskError(String(error))),
      );
      return task;
    },
  };
}
