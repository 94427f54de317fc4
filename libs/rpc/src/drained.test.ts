import { EventEmitter } from 'node:events';
import { expect, it } from 'vitest';
import { drained } from './grpc-server.ts';

const WRITERS = 50;

function writers(call: EventEmitter, signal: AbortSignal): Promise<unknown> {
  return Promise.all(Array.from({ length: WRITERS }, () => drained(call, signal)));
}

it('listens once to a call without room, however many write', async () => {
  const call = new EventEmitter();
  for (const end of ['drain', 'close']) {
    const waiting = writers(call, new AbortController().signal);
    expect(call.listenerCount('drain')).toBe(1);
    expect(call.listenerCount('close')).toBe(1);
    call.emit(end);
    await waiting;
    expect(call.listenerCount('drain') + call.listenerCount('close')).toBe(0);
  }
});

it('ends every wait with the call', async () => {
  const call = new EventEmitter();
  const ended = new AbortController();
  const waiting = writers(call, ended.signal);
  ended.abort();
  await waiting;
  await writers(call, ended.signal);
  expect(call.listenerCount('drain') + call.listenerCount('close')).toBe(0);
});
