import { EventServiceService, type Event } from '@fulmen/proto/node/v1/node';
import { nodeRuntime } from '@fulmen/service';
import { expect, test } from 'vitest';
import { FOLLOW } from './metadata.ts';
import { ADMIN, as, PAYER, READER, startTestConsole } from './testing/harness.ts';

const from = (afterPosition: bigint, types: string[] = []) => ({ afterPosition, types });
const upTo = { metadata: { ...as(READER).metadata, [FOLLOW]: 'false' } };

async function take(stream: AsyncIterable<Event>, count: number): Promise<bigint[]> {
  const positions: bigint[] = [];
  for await (const { position } of stream) {
    positions.push(position);
    if (positions.length === count) break;
  }
  return positions;
}

const range = (first: number, last: number): bigint[] =>
  Array.from({ length: last - first + 1 }, (_, index) => BigInt(first + index));

test('a subscriber gets every event after its cursor, over many pages, and resumes where it stopped', async () => {
  const { client, events } = await startTestConsole();
  for (let i = 0; i < 1_000; i += 1) events.append('payment_sent');
  const service = client(EventServiceService);
  expect(await take(service.subscribe(from(0n), as(READER)), 300)).toEqual(range(1, 300));
  expect(await take(service.subscribe(from(300n), as(READER)), 700)).toEqual(range(301, 1000));
});

test('a stream that does not follow ends at the end of the log', async () => {
  const { client, events } = await startTestConsole();
  for (let i = 0; i < 5; i += 1) events.append(i % 2 === 0 ? 'channel_ready' : 'payment_sent');
  const service = client(EventServiceService);
  expect(await take(service.subscribe(from(0n), upTo), Infinity)).toEqual(range(1, 5));
  expect(await take(service.subscribe(from(0n, ['payment_sent']), upTo), Infinity)).toEqual([2n, 4n]);
});

test('a hint wakes a waiting subscriber', async () => {
  const { client, events, hint } = await startTestConsole();
  events.append('a');
  const stream = client(EventServiceService).subscribe(from(0n), as(READER))[Symbol.asyncIterator]();
  expect((await stream.next()).value).toMatchObject({ position: 1n });
  const next = stream.next();
  events.append('b');
  hint();
  expect((await next).value).toMatchObject({ position: 2n, type: 'b', body: '{"n":"2"}' });
  await stream.return?.();
});

test('without any hint the poll finds new events', async () => {
  const runtime = nodeRuntime({ onFailure: () => undefined });
  const { client, events, service } = await startTestConsole({ runtime });
  const taking = take(client(EventServiceService).subscribe(from(0n), as(READER)), 1);
  events.append('quiet');
  expect(await taking).toEqual([1n]);
  await service.stop();
});

test('a slow reader reads no more than a page ahead, and misses nothing', async () => {
  const { client, events } = await startTestConsole();
  for (let i = 0; i < 2_000; i += 1) events.append('x');
  const stream = client(EventServiceService).subscribe(from(0n), as(READER))[Symbol.asyncIterator]();
  await stream.next();
  for (let i = 0; i < 50; i += 1) await Promise.resolve();
  expect(events.reads).toBe(1);
  let last = 1n;
  while (last < 2_000n) {
    const { value } = (await stream.next()) as { value: Event };
    expect(value.position).toBe(last + 1n);
    last = value.position;
  }
  await stream.return?.();
});

test('subscribers at one position share a read', async () => {
  const { client, events, hint } = await startTestConsole({
    config: {
      limits: { callsPerSecond: 50, concurrentCallsOfToken: 40, concurrentCalls: 40, subscribers: 40 },
    },
  });
  const service = client(EventServiceService);
  const first = Array.from({ length: 20 }, () => take(service.subscribe(from(0n), as(READER)), 2));
  await new Promise<void>((resolve) => setImmediate(resolve));
  const before = events.reads;
  events.append('x');
  events.append('y');
  hint();
  await Promise.all(first);
  expect(events.reads - before).toBeLessThanOrEqual(2);
});

test('subscribers are counted, and a stopped console tells them where to resume', async () => {
  const { client, events, service } = await startTestConsole();
  events.append('x');
  const subscriber = client(EventServiceService);
  const open = [READER, PAYER].map((token) =>
    subscriber.subscribe(from(0n), as(token))[Symbol.asyncIterator](),
  );
  for (const stream of open) await stream.next();
  await expect(take(subscriber.subscribe(from(0n), as(ADMIN)), 1)).rejects.toMatchObject({
    code: 'resource_exhausted',
  });
  await open[0]?.return?.();
  expect(await take(subscriber.subscribe(from(0n), as(ADMIN)), 1)).toEqual([1n]);
  const waiting = open[1]?.next();
  await Promise.all([expect(waiting).rejects.toMatchObject({ code: 'unavailable' }), service.stop()]);
});

test('a log that cannot be read ends the stream with its cursor', async () => {
  const { client, events } = await startTestConsole();
  events.readEvents = () => Promise.reject(new TypeError('no database'));
  await expect(take(client(EventServiceService).subscribe(from(41n), as(READER)), 1)).rejects.toMatchObject({
    code: 'unavailable',
    message: 'The event log cannot be read just now. Subscribe again after position 41.',
  });
});
