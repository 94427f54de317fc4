import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { expect, test } from 'vitest';
import {
  CLTV_CLAIM_BUFFER_BLOCKS,
  HTLC_FAIL_BACK_BUFFER_BLOCKS,
  LATENCY_GRACE_PERIOD_BLOCKS,
} from './config.ts';
import {
  htlcDeadlines,
  isTooLateToOffer,
  nextDeadlineHeight,
  unsignedHtlcs,
  weighClosing,
} from './deadlines.ts';
import { Pair, addCommand, preimageOf } from './testing/pair.ts';

test('the constants keep their relations', () => {
  expect(HTLC_FAIL_BACK_BUFFER_BLOCKS).toBe(39);
  expect(CLTV_CLAIM_BUFFER_BLOCKS).toBeGreaterThan(LATENCY_GRACE_PERIOD_BLOCKS);
});

test('an outbound HTLC demands the chain three blocks after its expiry, an uncommitted one never', () => {
  const pair = new Pair(fakeSecp256k1);
  pair.alice.must(addCommand(1, 1_000_000n, 500));
  expect(htlcDeadlines(pair.alice.channel, 10_000)).toEqual([]);
  pair.alice.must({ type: 'commit' });
  expect(nextDeadlineHeight(pair.alice.channel)).toBe(503);
  expect(htlcDeadlines(pair.alice.channel, 502)).toEqual([]);
  expect(htlcDeadlines(pair.alice.channel, 503)).toEqual([
    {
      direction: 'outbound',
      id: 0n,
      amountMsat: 1_000_000n,
      deadlineHeight: 503,
      reason: 'outbound_expired',
    },
  ]);
});

test('an HTLC that is not signed yet is looked at when it is too late to sign it: three blocks before its expiry', () => {
  const pair = new Pair(fakeSecp256k1);
  expect(nextDeadlineHeight(pair.alice.channel)).toBeUndefined();
  pair.alice.must(addCommand(1, 1_000_000n, 500));
  expect(unsignedHtlcs(pair.alice.channel)).toMatchObject([{ id: 0n, cltvExpiryHeight: 500 }]);
  expect(nextDeadlineHeight(pair.alice.channel)).toBe(497);
  expect([496, 497].map((height) => isTooLateToOffer(500, height))).toEqual([false, true]);
  pair.alice.must({ type: 'commit' });
  expect(unsignedHtlcs(pair.alice.channel)).toEqual([]);
});

test('an inbound HTLC demands the chain 36 blocks before its expiry once its preimage is known', () => {
  const pair = new Pair(fakeSecp256k1);
  pair.alice.must(addCommand(1, 1n, 500));
  pair.alice.must(addCommand(2, 1_000_000n, 600));
  pair.settle();
  expect(htlcDeadlines(pair.bob.channel, 10_000)).toEqual([]);
  pair.disconnect();
  pair.bob.must({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(1) });
  pair.bob.must({ type: 'fail_htlc', id: 1n, reason: new Uint8Array(1) });
  expect(htlcDeadlines(pair.bob.channel, 463)).toEqual([]);
  expect(htlcDeadlines(pair.bob.channel, 464)).toMatchObject([
    { direction: 'inbound', id: 0n, reason: 'inbound_preimage_known' },
  ]);
});

test('force close weighs value at stake against cost', () => {
  const tenSat = { amountMsat: 10_000n };
  expect(weighClosing([tenSat], 0n, 253)).toEqual({
    verdict: 'not_worth_it',
    atStakeSat: 10n,
    costSat: 506n,
    summary: '10 sat at stake in 1 HTLCs, about 506 sat to close',
  });
  // Many small ones count together: what is given up never exceeds what one close costs.
  expect(weighClosing(Array(483).fill({ amountMsat: 300_000n }), 0n, 253)).toMatchObject({
    verdict: 'close',
  });
  expect(weighClosing([{ amountMsat: 506_999n }], 0n, 253).verdict).toBe('close');
  expect(weighClosing([{ amountMsat: 506_999n }], 0n, 2_530)).toMatchObject({ costSat: 5_065n });
  // What was lost before counts with the next one.
  expect(weighClosing([tenSat], 495_999n, 253).verdict).toBe('not_worth_it');
  expect(weighClosing([tenSat], 496_000n, 253)).toMatchObject({
    verdict: 'close',
    summary: '506 sat at stake in 1 HTLCs (496 of them fulfilled too late before), about 506 sat to close',
  });
});
