/** A pause that a hint cuts short: the poll makes it right, the hint makes it quick (law 6). */
import type { HintSubject } from '@fulmen/bus';
import { AbortedError } from '@fulmen/service';
import type { RouterContext } from '../ports.ts';

/** Resolves on a hint or after `ms`; rejects with AbortedError when the signal fires. */
export async function sleepUntilHint(
  context: Pick<RouterContext, 'bus' | 'runtime'>,
  subject: HintSubject,
  ms: number,
  signal: AbortSignal,
): Promise<void> {
  const pause = new AbortController();
  const stop = (): void => pause.abort();
  const unsubscribe = context.bus.subscribe(subject, stop);
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    await context.runtime.sleep(ms, pause.signal);
  } catch (error) {
    if (!(error instanceof AbortedError) || signal.aborted) throw error;
  } finally {
    unsubscribe();
    signal.removeEventListener('abort', stop);
  }
}
