/** Which channels count against the caps on pending ones. */
import { Pair } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { expect, test } from 'vitest';
import { isPending } from './openings.ts';

const FAILED = { type: 'force_close', reason: 'error from the peer' } as const;

test('a channel of the peer’s that fails before its funding confirmed counts until it is over', () => {
  // Without confirmations it is open, and no block has its funding.
  const { bob } = new Pair(fakeSecp256k1, { confirmations: 'zero_conf', pushMsat: 0n });
  expect(isPending(bob.channel)).toBe(false);
  bob.must(FAILED);
  expect(isPending(bob.channel)).toBe(true);
  bob.must({ type: 'funding_lost', reason: 'nobody saw it' });
  expect(isPending(bob.channel)).toBe(false);
});

test('one that fails afterwards does not, nor one that this node funds', () => {
  const { bob } = new Pair(fakeSecp256k1);
  bob.must(FAILED);
  expect(isPending(bob.channel)).toBe(false);
  const { alice } = new Pair(fakeSecp256k1, { confirmations: 'zero_conf' });
  alice.must(FAILED);
  expect(isPending(alice.channel)).toBe(false);
});
