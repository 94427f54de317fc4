import { expect, test } from 'vitest';
import { ManualClock } from '../testing/harness.ts';
import { Doorbell } from './doorbell.ts';

test('a wait leaves nobody behind, however it ends', async () => {
  const clock = new ManualClock();
  const doorbell = new Doorbell(clock.runtime());
  const { signal } = new AbortController();
  for (let i = 0; i < 1_000; i++) {
    const waited = doorbell.wait(1, signal);
    expect(doorbell.waiting).toBe(1);
    await clock.advance(1);
    await waited;
  }
  const gone = new AbortController();
  const waiting = doorbell.wait(1, gone.signal);
  gone.abort();
  await waiting;
  expect(doorbell.waiting).toBe(0);
});

test('a ring ends every wait, long before its time', async () => {
  const clock = new ManualClock();
  const doorbell = new Doorbell(clock.runtime());
  const { signal } = new AbortController();
  const waits = [1, 2].map(() => doorbell.wait(60_000, signal));
  doorbell.ring();
  await Promise.all(waits);
  expect(doorbell.waiting).toBe(0);
});
