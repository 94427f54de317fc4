/** What a turn orders beside messages: the funding's broadcast, and our terms where it changes what they are worth. */
import { receive, take } from '@fulmen/channel/testing/expect';
import { Pair } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { expect, test } from 'vitest';
import type { ActorHost } from './actor-host.ts';
import type { ChannelActor } from './channel-actor.ts';
import { FollowUps } from './follow-ups.ts';
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

test('the order to broadcast a funding names the channel as it is once the order is committed, not by the id of its opening', () => {
  const { channel } = new Pair(fakeSecp256k1).alice;
  const transaction = new Uint8Array(100);
  const actor = { fundingTransaction: transaction, channelId: new Uint8Array(32).fill(3) };
  const followUps = new FollowUps({} as ActorHost, actor as unknown as ChannelActor);
  expect(followUps.fundingBroadcast(channel, [{ type: 'broadcast_funding' }])).toEqual([
    { kind: 'funding', transactions: [transaction], channelId: channel.channelId },
  ]);
  expect(followUps.fundingBroadcast(channel, [])).toEqual([]);
});
