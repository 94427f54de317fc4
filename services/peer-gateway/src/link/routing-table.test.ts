import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RoutingTable } from './routing-table.ts';

const claim = (shard: number, epoch: bigint) => ({ shard, epoch });

test('the highest epoch wins, and a lower one never again', () => {
  const table = new RoutingTable<string>();
  expect(table.announce('a', [claim(1, 5n), claim(2, 5n)])).toEqual([1, 2]);
  expect(table.announce('b', [claim(1, 6n)])).toEqual([1]);
  expect(table.owner(1)).toEqual({ link: 'b', epoch: 6n });
  // The old owner repeats itself.
  expect(table.announce('a', [claim(1, 5n), claim(2, 5n)])).toEqual([]);
  expect(table.drop('b')).toEqual([1]);
  expect(table.owner(1)).toBeUndefined();
  expect(table.announce('a', [claim(1, 7n)])).toEqual([1, 2]);
  expect(table.owner(1)).toEqual({ link: 'a', epoch: 7n });
  expect(table.owner(2)).toBeUndefined();
  expect(table.ownedShards).toBe(1);
});

test('a release counts for its own epoch only', () => {
  const table = new RoutingTable<string>();
  table.announce('a', [claim(1, 5n), claim(2, 5n)]);
  expect(table.release('a', 1, 4n)).toEqual([]);
  expect(table.release('a', 1, 5n)).toEqual([1]);
  expect(table.owner(1)).toBeUndefined();
  expect(table.owner(2)).toEqual({ link: 'a', epoch: 5n });
});

test('an owner always has the highest epoch ever seen, and every change is told', () => {
  const links = fc.constantFrom('a', 'b', 'c');
  const claims = fc.array(
    fc.record({ shard: fc.integer({ min: 0, max: 3 }), epoch: fc.bigInt({ min: 1n, max: 6n }) }),
    {
      maxLength: 4,
    },
  );
  const step = fc.oneof(
    fc.record({ kind: fc.constant('announce' as const), link: links, claims }),
    fc.record({ kind: fc.constant('drop' as const), link: links }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const table = new RoutingTable<string>();
      const highest = new Map<number, bigint>();
      for (const one of steps) {
        const before = [0, 1, 2, 3].map((shard) => table.owner(shard));
        const changed = one.kind === 'drop' ? table.drop(one.link) : table.announce(one.link, one.claims);
        if (one.kind === 'announce') {
          // Of several claims of one hello the last counts.
          for (const { shard, epoch } of new Map(one.claims.map((item) => [item.shard, item])).values()) {
            if (epoch > (highest.get(shard) ?? 0n)) highest.set(shard, epoch);
          }
        }
        for (const shard of [0, 1, 2, 3]) {
          const owner = table.owner(shard);
          if (owner !== undefined) expect(owner.epoch).toBe(highest.get(shard));
          const same = owner?.link === before[shard]?.link && owner?.epoch === before[shard]?.epoch;
          expect(changed.includes(shard)).toBe(!same);
        }
      }
    }),
    { numRuns: 300 },
  );
});
