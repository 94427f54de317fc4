import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { expect, test } from 'vitest';
import { Pair } from '../testing/pair.ts';
import { feerateToPropose } from './fee-policy.ts';
import { newestFeerate } from './spec.ts';

test('the funder follows a rise of a tenth and a fall to half, while the channel is open and connected', () => {
  const pair = new Pair(fakeSecp256k1);
  const { alice, bob } = pair;
  const present = newestFeerate(alice.channel.changes);
  const wanted = (satPerKw: number) => ({ anchors: satPerKw, static_remotekey: satPerKw });
  const asked = (factor: number): number | undefined =>
    feerateToPropose(alice.channel, wanted(Math.round(present * factor)));
  expect([0.51, 0.9, 1, 1.09].map(asked)).toEqual([undefined, undefined, undefined, undefined]);
  expect(asked(1.1)).toBe(Math.round(present * 1.1));
  expect(asked(0.5)).toBe(present / 2);
  expect(feerateToPropose(bob.channel, wanted(present * 3))).toBeUndefined();

  alice.must({ type: 'update_fee', feerateSatPerKw: present * 3 });
  pair.settle();
  expect(feerateToPropose(alice.channel, wanted(present * 3))).toBeUndefined();
  expect(newestFeerate(bob.channel.changes)).toBe(present * 3);
  alice.must({ type: 'peer_disconnected' });
  expect(feerateToPropose(alice.channel, wanted(present * 9))).toBeUndefined();
});
