/** What payments and forwards are told of a channel before they try it. */
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { describe, expect, test } from 'vitest';
import { summary } from './summary.ts';
import type { TestNode } from './testing/node.ts';
import { addCommand, Pair } from './testing/pair.ts';

const told = (node: TestNode) => summary(node.ctx, node.channel);

describe('what may be offered', () => {
  test('is bounded by what the peer has in flight at most, less what is under way', () => {
    // An announced channel: a quarter of it may be in flight, and Alice has 600,000 sat.
    const { alice } = new Pair(fakeSecp256k1, { announce: true });
    expect(told(alice).outboundLiquidityMsat).toBe(250_000_000n);
    alice.must(addCommand(1, 100_000_000n));
    expect(told(alice).outboundLiquidityMsat).toBe(150_000_000n);
    expect(alice.input(addCommand(2, 150_000_001n))?.code).toBe('max_htlc_value_in_flight');
    alice.must(addCommand(2, 150_000_000n));
    expect(told(alice).outboundLiquidityMsat).toBe(0n);
  });

  test('is nothing while the peer has as many HTLCs as it takes', () => {
    const pair = new Pair(fakeSecp256k1, { bob: { config: { maxAcceptedHtlcs: 2 } } });
    for (const seed of [1, 2]) pair.alice.must(addCommand(seed, 1_000_000n));
    expect(told(pair.alice).outboundLiquidityMsat).toBe(0n);
    expect(pair.alice.input(addCommand(3, 1_000n))?.code).toBe('too_many_htlcs');
  });
});

test('what may come is bounded by what the holder has in flight at most, less what is under way', () => {
  const pair = new Pair(fakeSecp256k1, { announce: true });
  expect(told(pair.bob).inboundLiquidityMsat).toBe(250_000_000n);
  pair.alice.must(addCommand(1, 100_000_000n));
  pair.settle();
  expect(told(pair.bob).inboundLiquidityMsat).toBe(150_000_000n);
});
