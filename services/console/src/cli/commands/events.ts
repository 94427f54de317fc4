/** events: the log of what happened, from a position, once or for ever. */
import type { Command } from 'commander';
import type { Event } from '@fulmen/proto/node/v1/node';
import { FOLLOW } from '../../metadata.ts';
import { type CliContext, examples } from '../context.ts';
import { printable, time } from '../format.ts';
import { CliError } from '../io.ts';
import { toJson } from '../output.ts';
import * as parse from '../parse.ts';
import type { Session } from '../session.ts';

interface EventFlags {
  readonly follow?: true;
  readonly after: string;
  readonly type?: readonly string[];
}

/** Pause before asking again when a followed stream broke. */
const RECONNECT_MS = 1_000;

export function eventCommands(program: Command, context: CliContext): void {
  const events = program
    .command('events')
    .option('-f, --follow', 'wait for new events until Ctrl-C')
    .option('--after <position>', 'begin after this position', '0')
    .option('--type <type...>', 'only these types')
    .description('What happened: channels, payments, forwards; JSON comes one event a line')
    .action(async (options: EventFlags) => {
      const request = {
        afterPosition: parse.position('--after', options.after),
        types: [...(options.type ?? [])],
      };
      const session = await context.session();
      if (options.follow === true) await follow(context, session, request);
      else await printEvents(context, session, request, { [FOLLOW]: 'false' });
    });
  examples(events, [
    ['events', 'every event that is kept'],
    ['events --follow --after 1200', 'from a cursor on'],
    ['events -f --type payment_sent payment_failed', ''],
  ]);
}

interface Cursor {
  afterPosition: bigint;
  readonly types: string[];
}

/** Prints, and moves the cursor with each event printed. */
async function printEvents(
  context: CliContext,
  session: Session,
  cursor: Cursor,
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const stream = session.stream(
    (d) => d.EventServiceService,
    (client, options) => client.subscribe({ ...cursor }, options),
    metadata,
  );
  for await (const event of stream) {
    context.io.stdout(context.format === 'json' ? eventJson(event) : eventLine(event));
    cursor.afterPosition = event.position;
  }
}

/** A first connection that fails is an error; later ones are tried again, from the cursor. */
async function follow(context: CliContext, session: Session, cursor: Cursor): Promise<void> {
  const { interrupted, sleep, stderr } = context.io;
  await session
    .call(
      (d) => d.NodeServiceService,
      (client, options) => client.getInfo({}, options),
    )
    .catch((error: unknown) => {
      // Only whether it can be reached and lets us in: a fleet that is half up still has its events.
      if (error instanceof CliError && error.exitCode === 1 && !/token|scope/.test(error.message)) return;
      throw error;
    });
  let told = false;
  while (!interrupted.aborted) {
    try {
      await printEvents(context, session, cursor, {});
      told = false;
    } catch (error) {
      if (interrupted.aborted) return;
      if (!(error instanceof CliError)) throw error;
      if (!told) stderr(`${error.message} Trying again from position ${cursor.afterPosition}.\n`);
      told = true;
    }
    await sleep(RECONNECT_MS, interrupted).catch(() => undefined);
  }
}

function eventLine({ position, type, timeUnixMs, body }: Event): string {
  return `${position.toString().padStart(8)}  ${time(timeUnixMs).padEnd(20)}  ${printable(type).padEnd(26)}  ${printable(body)}\n`;
}

function eventJson(event: Event): string {
  let body: unknown = event.body;
  try {
    body = JSON.parse(event.body);
  } catch {
    // Shown as the text that it is.
  }
  return `${JSON.stringify({ ...(toJson({ ...event, body: '' }) as object), body })}\n`;
}
