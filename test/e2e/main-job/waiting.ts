// Waiting for what must come true, with a bound and a sentence for when it does not.
import { setTimeout as pause } from 'node:timers/promises';

/** A step of the main job did not hold. */
export class StepFailed extends Error {
  override readonly name = 'StepFailed';
}

/** A long wait is looked at less and less often: whoever is asked has work to do. */
const LEAST_POLL_MS = 100;
const MOST_POLL_MS = 400;
const POLLS_OF_WAIT = 5;

/**
 * Polls until `check` gives a value.
 * @param what completes "… did not happen": names what was waited for
 * @throws StepFailed after `timeoutMs`
 */
export async function until<T>(
  what: string,
  check: () => Promise<T | undefined>,
  timeoutMs = 60_000,
): Promise<T> {
  const started = Date.now();
  const deadline = started + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const value = await check();
      if (value !== undefined) return value;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) {
      const why = last instanceof Error ? ` (${last.message})` : '';
      throw new StepFailed(`${what} did not happen in ${Math.round(timeoutMs / 1000)} s${why}`);
    }
    const waitedMs = Date.now() - started;
    await pause(Math.min(Math.max(waitedMs / POLLS_OF_WAIT, LEAST_POLL_MS), MOST_POLL_MS));
  }
}

/** Throws StepFailed unless the condition holds. */
export function ensure(condition: boolean, what: string): asserts condition {
  if (!condition) throw new StepFailed(what);
}
