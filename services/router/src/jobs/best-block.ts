/** Keeps the height of the best block: polled, sooner on a hint. */
import { RpcError } from '@fulmen/rpc';
import type { Task } from '@fulmen/service';
import type { RouterContext } from '../ports.ts';
import { sleepUntilHint } from './sleep-until-hint.ts';

const POLL_MS = 10_000;

/** Reads it once; a chain-monitor that does not answer leaves it as it was. */
export async function readBestBlock(context: RouterContext): Promise<void> {
  try {
    const best = await context.chain.getBestBlock({}, { deadlineMs: 5_000 });
    context.state.bestHeight = best.height;
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    context.logger.debug({ err: error }, 'the best block is not known');
  }
}

/** Follows it until stopped. */
export function followBestBlock(context: RouterContext): Task {
  return context.runtime.spawn('best block', async (signal) => {
    for (;;) {
      await readBestBlock(context);
      await sleepUntilHint(context, 'fulmen.block', POLL_MS, signal);
    }
  });
}
