/** The order to broadcast a funding transaction. */
import { Pair } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { expect, test } from 'vitest';
import type { ActorHost } from './actor-host.ts';
import type { ChannelActor } from './channel-actor.ts';
import { FollowUps } from './follow-ups.ts';

test('it names the channel as it is once the order is committed, not by the id of its opening', () => {
  const { channel } = new Pair(fakeSecp256k1).alice;
  const transaction = new Uint8Array(100);
  const actor = { fundingTransaction: transaction, channelId: new Uint8Array(32).fill(3) };
  const followUps = new FollowUps({} as ActorHost, actor as unknown as ChannelActor);
  expect(followUps.fundingBroadcast(channel, [{ type: 'broadcast_funding' }])).toEqual([
    { kind: 'funding', transactions: [transaction], channelId: channel.channelId },
  ]);
  expect(followUps.fundingBroadcast(channel, [])).toEqual([]);
});
