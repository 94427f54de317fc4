/** The event log hears when the chain is not followed any more, and when it is again. */
import type { Logger, Runtime } from '@fulmen/service';
import type { Writer } from '../state/writer.ts';
import type { Halt } from './health.ts';

/** Writes the event; it hurries nobody, so that a failure to write it is only logged. */
export async function tellHalt(
  writer: Writer,
  runtime: Pick<Runtime, 'wallClockMs'>,
  logger: Logger,
  halt: Halt | undefined,
): Promise<void> {
  const body = halt === undefined ? {} : { halt: halt.type, reason: halt.reason };
  try {
    await writer.turn((draft) =>
      draft.settlement.event({
        type: halt === undefined ? 'chain_resumed' : 'chain_halted',
        // Of every channel, and of none.
        channelId: new Uint8Array(0),
        timeUnixMs: runtime.wallClockMs(),
        body: JSON.stringify(body),
      }),
    );
  } catch (error) {
    logger.warn({ err: error, ...body }, 'an event of the chain could not be written');
  }
}
