/** Work that is done now and then; what fails for want of another process is tried again at the next turn. */
import { RpcError } from '@fulmen/rpc';
import type { Task } from '@fulmen/service';
import { StoreError } from '@fulmen/store';
import type { RouterContext } from '../ports.ts';

/** Runs `work` every `intervalMs`, the first time after one interval. */
export function periodically(
  context: Pick<RouterContext, 'runtime' | 'logger'>,
  name: string,
  intervalMs: number,
  work: () => void | Promise<void>,
): Task {
  return context.runtime.spawn(name, async (signal) => {
    for (;;) {
      await context.runtime.sleep(intervalMs, signal);
      try {
        await work();
      } catch (error) {
        if (!(error instanceof StoreError) && !(error instanceof RpcError)) throw error;
        context.logger.warn({ task: name, err: error }, 'not done; it will be tried again');
      }
    }
  });
}
