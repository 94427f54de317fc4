/** When our terms of a channel are told: at the turns that change what they are worth, and at no other. */
import { receive, take } from '@fulmen/channel/testing/expect';
import { Pair } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { expect, test } from 'vitest';
import { LoneActor } from './testing/lone-actor.ts';

test('terms are told when a channel is usable on a connection, and when it closes', async () => {
  const pair = new Pair(fakeSecp256k1);
  pair.disconnect();
  pair.connect();
  const ours = take(pair.alice, 'channel_reestablish');
  const theirs = take(pair.bob, 'channel_reestablish');
  const alice = new LoneActor(pair.alice);
  await alice.idle();
  expect(alice.policiesTold).toBe(0);
  alice.receive(theirs);
  await alice.idle();
  expect(alice.policiesTold).toBe(1);
  expect(receive(pair.bob, ours)).toBeUndefined();
  // Sent again, since nothing was ever committed: it changes nothing.
  alice.receive(take(pair.bob, 'channel_ready'));
  await alice.idle();
  expect(alice.policiesTold).toBe(1);
  pair.bob.must({ type: 'shutdown' });
  alice.receive(take(pair.bob, 'shutdown'));
  await alice.idle();
  expect(alice.phase).toBe('negotiating_closing');
  expect(alice.policiesTold).toBe(2);
});
