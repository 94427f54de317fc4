import { expect, test } from 'vitest';
import { GossipQueue } from './gossip-queue.ts';

const message = (value: number) => ({
  body: {
    $case: 'message' as const,
    value: { peerNodeId: new Uint8Array(33), message: Uint8Array.of(value) },
  },
});
const up = (value: number) => ({ body: { $case: 'peerUp' as const, value: Uint8Array.of(value) } });

function drain(queue: GossipQueue): unknown[] {
  const out: unknown[] = [];
  for (let item = queue.shift(); item !== undefined; item = queue.shift()) out.push(item);
  return out;
}

test('drops the oldest messages and keeps what happened to peers', () => {
  const queue = new GossipQueue(2 * (1 + 128));
  queue.pushEvent(up(1));
  expect(queue.pushMessage(message(1), 1)).toBe(0);
  queue.pushEvent(up(2));
  expect(queue.pushMessage(message(2), 1)).toBe(0);
  expect(queue.pushMessage(message(3), 1)).toBe(1);
  expect(queue.events).toBe(2);
  expect(drain(queue)).toEqual([up(1), up(2), message(2), message(3)]);
  expect(queue.bytes).toBe(0);
  expect(queue.events).toBe(0);
});

test('a reader that takes nothing costs no more than the bound', () => {
  const queue = new GossipQueue(10 * (1 + 128));
  let dropped = 0;
  for (let i = 0; i < 100_000; i += 1) dropped += queue.pushMessage(message(i % 256), 1);
  expect(dropped).toBe(99_990);
  expect(drain(queue)).toEqual(Array.from({ length: 10 }, (_, i) => message((99_990 + i) % 256)));
});

test('taking from the front while dropping keeps the order', () => {
  const queue = new GossipQueue(1_500 * (1 + 128));
  const taken: unknown[] = [];
  for (let i = 0; i < 6_000; i += 1) {
    queue.pushMessage(message(i % 256), 1);
    if (i % 2 === 0) taken.push(queue.shift());
  }
  const all = [...taken, ...drain(queue)];
  expect(all.length).toBe(3_000 + 1_500);
  expect(all.at(-1)).toEqual(message(5_999 % 256));
});
