import { expect, test } from 'vitest';
import { ANYONE_SCRIPT } from '@fulmen/chain/compliance';
import type { ChainSource } from '@fulmen/chain';
import { DevChain, MemoryChainSource } from '@fulmen/testing/devchain';
import { overriding } from '../testing/source.ts';
import { coinAt } from '../testing/harness.ts';
import { UtxoLookup } from './utxo-lookup.ts';

const scid = (height: number, txIndex: number, output: number): bigint =>
  (BigInt(height) << 40n) | (BigInt(txIndex) << 16n) | BigInt(output);

function chain(): DevChain {
  let seconds = 1_700_000_000;
  const devChain = new DevChain({ now: () => seconds++ });
  devChain.mine(3, ANYONE_SCRIPT);
  return devChain;
}

test('finds the output that a short channel id names', async () => {
  const devChain = chain();
  const lookup = new UtxoLookup(new MemoryChainSource(devChain));
  expect(await lookup.find(scid(2, 0, 0))).toEqual({
    valueSat: coinAt(devChain, 2).valueSat,
    script: ANYONE_SCRIPT,
    confirmations: 2,
  });
  for (const missing of [scid(2, 0, 9), scid(2, 5, 0), scid(99, 0, 0), 2n ** 64n - 1n, 0n])
    expect(await lookup.find(missing)).toBeUndefined();
});

test('never asks more than 32 questions at once, and forgets with a block', async () => {
  let running = 0;
  let most = 0;
  let asked = 0;
  const waiting: (() => void)[] = [];
  const source: ChainSource = overriding(
    new MemoryChainSource(chain()),
    (inner) => ({
      getTxByBlockAndIndex: async (height, index) => {
        asked += 1;
        running += 1;
        most = Math.max(most, running);
        await new Promise<void>((resolve) => waiting.push(resolve));
        running -= 1;
        return inner.getTxByBlockAndIndex(height, index);
      },
    }),
    () => true,
  );
  const lookup = new UtxoLookup(source);
  const all = Promise.all(Array.from({ length: 100 }, (_, output) => lookup.find(scid(1, 0, output))));
  while (asked < 100 || running > 0) {
    for (const resume of waiting.splice(0)) resume();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await all;
  expect(most).toBe(32);
  await lookup.find(scid(1, 0, 0));
  expect(asked).toBe(100);
  lookup.forget();
  const again = lookup.find(scid(1, 0, 0));
  await new Promise((resolve) => setImmediate(resolve));
  for (const resume of waiting.splice(0)) resume();
  await again;
  expect(asked).toBe(101);
});
