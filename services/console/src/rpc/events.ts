/**
 * EventService: the event log from a cursor, at least once and in order. The
 * reader's cursor is the position of the last event it kept; nothing is
 * remembered here, and nothing is dropped for a slow reader: it is simply
 * further behind.
 */
import type { Event, EventServiceService, SubscribeRequest } from '@fulmen/proto/node/v1/node';
import type { Handlers } from '@fulmen/rpc';
import type { Call } from '../auth/guard.ts';
import { refuse } from '../errors.ts';
import type { EventFeed } from '../events/feed.ts';
import type { StoredEvent } from '../events/reader.ts';
import { FOLLOW } from '../metadata.ts';
import { requireLength } from '../validate.ts';
import type { ConsoleContext } from './context.ts';

const MAX_TYPES = 64;
const MAX_TYPE_LENGTH = 64;
/** Positions are signed 64-bit numbers in the database. */
const MAX_POSITION = 2n ** 63n - 1n;

export function eventService(
  { guard, logger }: ConsoleContext,
  feed: EventFeed,
): Handlers<typeof EventServiceService> {
  return {
    subscribe: guard.stream({ name: 'EventService.Subscribe', scope: 'read' }, (request, call) =>
      subscribe(feed, request, call, (error) => logger.warn({ err: error }, 'the event log cannot be read')),
    ),
  };
}

async function* subscribe(
  feed: EventFeed,
  request: SubscribeRequest,
  call: Call,
  onReadError: (error: unknown) => void,
): AsyncGenerator<Event> {
  if (request.types.length > MAX_TYPES)
    throw refuse('invalid_argument', `types may name at most ${MAX_TYPES}.`);
  for (const type of request.types) requireLength('types', type, MAX_TYPE_LENGTH);
  if (request.afterPosition > MAX_POSITION)
    throw refuse('invalid_argument', 'after_position is no position.');
  const wanted = new Set(request.types);
  const follow = call.metadata[FOLLOW] !== 'false';
  let after = request.afterPosition;
  const resume = (): string => `Subscribe again after position ${after}.`;
  while (!call.signal.aborted) {
    if (feed.closed) throw refuse('unavailable', `The console is stopping. ${resume()}`);
    // Taken before the read: an event that commits during it wakes the wait below.
    const seen = feed.version;
    const page = await feed.read(after).catch((error: unknown) => {
      onReadError(error);
      throw refuse('unavailable', `The event log cannot be read just now. ${resume()}`);
    });
    for (const stored of page) {
      if (call.signal.aborted) return;
      if (wanted.size === 0 || wanted.has(stored.event.type)) yield toEvent(stored);
      after = stored.position;
    }
    if (page.length > 0) continue;
    if (!follow) return;
    await feed.changed(seen, call.signal);
  }
}

function toEvent({ position, event }: StoredEvent): Event {
  return { position, type: event.type, timeUnixMs: BigInt(event.timeUnixMs), body: event.body };
}
