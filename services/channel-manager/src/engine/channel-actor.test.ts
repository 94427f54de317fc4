/** What a channel's actor takes note of outside of its turns. */
import { Pair } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { silentLogger } from '@fulmen/service';
import type { FundingStatus } from '@fulmen/store';
import { make } from '@fulmen/wire';
import { describe, expect, test } from 'vitest';
import type { ActorHost } from './actor-host.ts';
import { ChannelActor } from './channel-actor.ts';
import { PolicyDefaults } from './policy.ts';

function actorOf(minimumDepth: number, consumed: bigint[] = []): ChannelActor {
  const { bob } = new Pair(fakeSecp256k1);
  const policy = new PolicyDefaults({ feeBaseMsat: 0, feeProportionalMillionths: 0, cltvExpiryDelta: 40 });
  const host = {
    ports: { logger: silentLogger },
    consumed: (_actor: ChannelActor, frames: readonly bigint[]) => void consumed.push(...frames),
  };
  return new ChannelActor(host as unknown as ActorHost, {
    fence: { shard: 1, epoch: 1n, replicaId: 'a' },
    channelKeysId: new Uint8Array(32),
    state: { ...bob.channel, minimumDepth },
    policy: policy.initial(1_000_000n, false, 0),
    points: { first: 0n, points: [] },
  });
}

const confirmed = (depth: number): FundingStatus => ({ type: 'confirmed', height: 100, txIndex: 1, depth });

describe('what chain-monitor says of the funding', () => {
  test('is news at every depth until the channel is announced, and not for ever', () => {
    const actor = actorOf(3);
    const depths = [1, 2, 6, 6, 10, 11, 144].filter((depth) => actor.isNews(confirmed(depth)));
    expect(depths).toEqual([1, 2, 6, 10]);
  });

  test('is news at the depth that both agreed to wait for, however deep', () => {
    const actor = actorOf(20);
    const depths = [9, 10, 15, 19, 20, 21].filter((depth) => actor.isNews(confirmed(depth)));
    expect(depths).toEqual([9, 10, 15, 19, 20]);
  });
});

test('frames that wait for an actor when it stops are acknowledged, for its peer’s other channels', () => {
  const consumed: bigint[] = [];
  const actor = actorOf(3, consumed);
  const message = make('stfu', { channelId: actor.channelId, initiator: 1 });
  // The first of them begins a turn, which has its frame.
  for (const frame of [1n, 2n, 3n])
    actor.post({ kind: 'message', input: { type: 'message', message }, generation: 1n, frame });
  actor.stop();
  expect(consumed).toEqual([2n, 3n]);
});
