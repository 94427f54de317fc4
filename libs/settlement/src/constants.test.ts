/** How the waiting times hang together. */
import { CLTV_CLAIM_BUFFER_BLOCKS, LATENCY_GRACE_PERIOD_BLOCKS } from '@fulmen/channel/config';
import { ANCHOR_ANYONE_DELAY_BLOCKS } from '@fulmen/channel/commitment/scripts/anchor';
import { expect, test } from 'vitest';
import {
  ANTI_REORG_DELAY_BLOCKS,
  IRREVOCABLE_DEPTH,
  JUSTICE_WITHIN_BLOCKS,
  MAX_BLOCKS_FOR_CONFIRMATION,
  MIN_CLTV_EXPIRY_DELTA_BLOCKS,
  TIMEOUT_COMMITMENT_WITHIN_BLOCKS,
  TIMEOUT_CONFIRMED_WITHIN_BLOCKS,
} from './constants.ts';

test('a failed outgoing HTLC is final, and told upstream, before the incoming one expires', () => {
  expect(
    TIMEOUT_CONFIRMED_WITHIN_BLOCKS + ANTI_REORG_DELAY_BLOCKS + LATENCY_GRACE_PERIOD_BLOCKS,
  ).toBeLessThanOrEqual(MIN_CLTV_EXPIRY_DELTA_BLOCKS);
});

test('from the force close after an expiry on, both transactions have their time', () => {
  expect(TIMEOUT_COMMITMENT_WITHIN_BLOCKS).toBeGreaterThanOrEqual(
    LATENCY_GRACE_PERIOD_BLOCKS + MAX_BLOCKS_FOR_CONFIRMATION,
  );
  expect(TIMEOUT_CONFIRMED_WITHIN_BLOCKS).toBe(
    TIMEOUT_COMMITMENT_WITHIN_BLOCKS + MAX_BLOCKS_FOR_CONFIRMATION,
  );
});

test('the force close before an incoming expiry leaves time for commitment and claim', () => {
  expect(CLTV_CLAIM_BUFFER_BLOCKS).toBeGreaterThanOrEqual(2 * MAX_BLOCKS_FOR_CONFIRMATION);
});

test('nothing is forgotten before it is final, and the anchors are anybody’s by then', () => {
  expect(IRREVOCABLE_DEPTH).toBeGreaterThan(ANTI_REORG_DELAY_BLOCKS);
  expect(IRREVOCABLE_DEPTH).toBeGreaterThan(ANCHOR_ANYONE_DELAY_BLOCKS);
});

test('justice on HTLC outputs is due before a cheater could bring a second stage home', () => {
  expect(JUSTICE_WITHIN_BLOCKS).toBeLessThan(144);
});
