import { AbortedError } from '@fulmen/service';
import { StoreError } from '@fulmen/store';
import { describe, expect, test } from 'vitest';
import { Incarnation, Prng, Scheduler, SimulationError, simulatedCalls } from './index.ts';

function world(seed: string) {
  const random = new Prng(seed);
  const lines: string[] = [];
  const scheduler = new Scheduler(random.fork('order'), (nowMs, label) => lines.push(`${nowMs} ${label}`));
  const failures: string[] = [];
  const process = new Incarnation('p', scheduler, random.fork('p'), (task) => failures.push(task));
  return { random, scheduler, lines, process, failures };
}

describe('chance', () => {
  test('is the seed’s, and each fork’s own', () => {
    const draw = (random: Prng): number[] => Array.from({ length: 5 }, () => random.uint32());
    expect(draw(new Prng('a'))).toEqual(draw(new Prng('a')));
    expect(draw(new Prng('a'))).not.toEqual(draw(new Prng('b')));
    const parent = new Prng('a');
    const before = draw(parent.fork('x'));
    draw(parent);
    expect(draw(parent.fork('x'))).toEqual(before);
  });
});

describe('the scheduler', () => {
  test('runs events in the order of their time, and ties in the order of the seed', async () => {
    const orderOf = async (seed: string): Promise<string> => {
      const { scheduler } = world(seed);
      const order: string[] = [];
      for (const name of ['a', 'b', 'c', 'd', 'e', 'f']) scheduler.schedule(5, name, () => order.push(name));
      scheduler.schedule(1, 'first', () => order.push('first'));
      await scheduler.runUntil(() => order.length === 7, 100);
      return order.join('');
    };
    expect(await orderOf('1')).toBe(await orderOf('1'));
    expect((await orderOf('1')).startsWith('first')).toBe(true);
    expect(new Set(await Promise.all(['1', '2', '3', '4'].map(orderOf))).size).toBeGreaterThan(1);
  });

  test('lets every microtask run before the next event', async () => {
    const { scheduler } = world('1');
    const order: string[] = [];
    scheduler.schedule(1, 'one', () => {
      let chain = Promise.resolve();
      for (let i = 0; i < 50; i += 1) chain = chain.then(() => undefined);
      void chain.then(() => order.push('after one'));
    });
    scheduler.schedule(1.001, 'two', () => order.push('two'));
    await scheduler.runUntil(() => order.length === 2, 100);
    expect(order).toEqual(['after one', 'two']);
  });

  test('says when nothing is left to happen, or too much happens', async () => {
    const { scheduler } = world('1');
    await expect(scheduler.runUntil(() => false, 10)).rejects.toThrow(SimulationError);
    const again = (): void => void scheduler.schedule(1, 'again', again);
    again();
    await expect(scheduler.runUntil(() => false, 10)).rejects.toThrow('10 events');
  });

  test('forgets what was taken back', async () => {
    const { scheduler, lines } = world('1');
    scheduler.schedule(1, 'no', () => lines.push('wrong')).cancel();
    scheduler.schedule(2, 'yes', () => lines.push('ran'));
    await scheduler.runUntil(() => lines.includes('ran'), 10);
    expect(lines.some((line) => line.endsWith(' no'))).toBe(false);
  });
});

describe('a process', () => {
  test('that is killed never goes on, not even to its finally', async () => {
    const { scheduler, process } = world('1');
    const seen: string[] = [];
    const work = async (): Promise<void> => {
      try {
        await process.runtime.sleep(10);
        seen.push('slept');
      } finally {
        seen.push('finally');
      }
    };
    void work();
    scheduler.schedule(5, 'kill', () => process.crash());
    let over = false;
    scheduler.schedule(50, 'over', () => (over = true));
    await scheduler.runUntil(() => over, 100);
    expect(seen).toEqual([]);
  });

  test('that is stopped takes up later what came meanwhile, and sees that time went on', async () => {
    const { scheduler, process } = world('1');
    let wokenAt: number | undefined;
    void process.runtime.sleep(10).then(() => (wokenAt = process.runtime.monotonicMs()));
    scheduler.schedule(5, 'stop', () => process.freeze());
    scheduler.schedule(5_000, 'continue', () => process.resume());
    await scheduler.runUntil(() => wokenAt !== undefined, 100);
    expect(wokenAt).toBeGreaterThanOrEqual(5_000);
  });

  test('has waits that an abort ends', async () => {
    const { scheduler, process } = world('1');
    const abort = new AbortController();
    const wait = process.runtime.sleep(1_000, abort.signal);
    scheduler.schedule(5, 'abort', () => abort.abort());
    let error: unknown;
    wait.catch((reason: unknown) => (error = reason));
    await scheduler.runUntil(() => error !== undefined, 100);
    expect(error).toBeInstanceOf(AbortedError);
    expect(scheduler.nowMs).toBeLessThan(10);
  });
});

describe('calls', () => {
  const counter = () => {
    const port = {
      value: 0,
      add: (amount: number): Promise<number> => {
        port.value += amount;
        return Promise.resolve(port.value);
      },
    };
    return port;
  };

  test.each(['before', 'after'] as const)('fail %s their effect', async (at) => {
    const { scheduler, process } = world('1');
    const port = counter();
    const error = new StoreError('unknown', 'lost');
    const calls = simulatedCalls(port, 'store', process, scheduler, {
      latencyMs: () => 3,
      faultOf: () => ({ at, error }),
    });
    let seen: unknown;
    calls.add(2).catch((reason: unknown) => (seen = reason));
    await scheduler.runUntil(() => seen !== undefined, 10);
    expect(seen).toBe(error);
    expect(port.value).toBe(at === 'before' ? 0 : 2);
  });

  test('of a process that died have their effect, and no answer', async () => {
    const { scheduler, process } = world('1');
    const port = counter();
    const calls = simulatedCalls(port, 'store', process, scheduler, {
      latencyMs: () => 3,
      faultOf: () => undefined,
    });
    let isAnswered = false;
    void calls.add(2).then(() => (isAnswered = true));
    scheduler.schedule(1, 'kill', () => process.crash());
    let over = false;
    scheduler.schedule(50, 'over', () => (over = true));
    await scheduler.runUntil(() => over, 100);
    expect([port.value, isAnswered]).toEqual([2, false]);
  });
});
