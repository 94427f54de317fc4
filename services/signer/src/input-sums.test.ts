import type { Tx } from '@fulmen/bitcoin';
import { expect, test } from 'vitest';
import { InputSums } from './input-sums.ts';

const transaction = (locktime: number): Tx => ({ version: 2, locktime, inputs: [], outputs: [] });
const said = (...valuesSat: readonly bigint[]) => new Map(valuesSat.entries());

test('the largest value of each input counts, whatever is said later', () => {
  const sums = new InputSums();
  expect(sums.totalSat(transaction(1), said(5n, 1n))).toBe(6n);
  sums.add(transaction(1), said(5n, 1n));
  sums.add(transaction(1), said(0n, 7n));
  expect(sums.totalSat(transaction(1), said(1n))).toBe(12n);
  expect(sums.totalSat(transaction(2), said(1n))).toBe(1n);
});

test('beyond the bound the transaction is forgotten that was not asked for longest', () => {
  const sums = new InputSums(4);
  sums.add(transaction(1), said(10n, 10n));
  sums.add(transaction(2), said(20n, 20n));
  sums.add(transaction(1), said(10n, 10n));
  sums.add(transaction(3), said(30n));
  expect([1, 2, 3].map((locktime) => sums.totalSat(transaction(locktime), said()))).toEqual([20n, 0n, 30n]);
  // One that is larger than the bound is remembered all the same.
  sums.add(transaction(4), said(1n, 1n, 1n, 1n, 1n));
  expect([1, 3, 4].map((locktime) => sums.totalSat(transaction(locktime), said()))).toEqual([0n, 0n, 5n]);
});
