import { expect, test } from 'vitest';
import { MemoryChainStore } from '@fulmen/store/chain/memory';
import { chainWith, rows, run } from './chain-fixture.ts';

/** Operations of the store that a start needs, and the rows that it loads. */
async function startWith(open: number, resolved: number): Promise<{ calls: number; loaded: number }> {
  const { chain } = chainWith(1);
  const store = new MemoryChainStore(rows({ open, resolved }));
  let calls = 0;
  const counting = new Proxy(store, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== 'function') return member;
      return (...given: unknown[]) => {
        calls += 1;
        return Reflect.apply(member, target, given) as unknown;
      };
    },
  });
  const running = await run(chain, counting);
  await running.turn();
  await running.stop();
  const snapshot = await store.load();
  const { fundings, settlements, spends, claims, sweeps } = snapshot;
  return {
    calls,
    loaded: fundings.length + settlements.length + spends.length + claims.length + sweeps.length,
  };
}

test('start-up is O(open channels): what ended costs it nothing', async () => {
  const young = await startWith(20, 0);
  const old = await startWith(20, 2_000);
  expect(old).toEqual(young);
  expect(young.loaded).toBe(20);
});
