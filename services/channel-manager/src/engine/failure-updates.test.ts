import { primaryFunding } from '@fulmen/channel';
import { Pair } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { decodeMessage } from '@fulmen/wire';
import type { Intent } from '@fulmen/store';
import { expect, test } from 'vitest';
import type { ActorHost } from './actor-host.ts';
import type { ChannelActor } from './channel-actor.ts';
import { FailureUpdates } from './failure-updates.ts';

test('a channel tells its terms under its own names, and not under that of one it stands in for', async () => {
  const { channel: state } = new Pair(fakeSecp256k1).bob;
  const { confirmation } = primaryFunding(state);
  const scid = confirmation.type === 'confirmed' ? confirmation.shortChannelId : 0n;
  const host = {
    ports: {
      runtime: { wallClockMs: () => 1_000 },
      signer: { signGossip: () => Promise.resolve({ nodeSignature: new Uint8Array(64) }) },
    },
    node: { nodeId: new Uint8Array(33).fill(2), chainHash: new Uint8Array(32) },
  } as unknown as Pick<ActorHost, 'ports' | 'node'>;
  const policy = {
    feeBaseMsat: 1,
    feeProportionalMillionths: 0,
    cltvExpiryDelta: 40,
    htlcMinimumMsat: 1n,
    htlcMaximumMsat: 1_000n,
    updatedUnixMs: 0,
  };
  const actor = { state, policy, stopped: false, lastUpdateTimestamp: 0 } as unknown as ChannelActor;
  const updates = new FailureUpdates(host, actor);
  const names = [scid, state.aliasScid ?? 0n, scid + 1n];
  const items = names.map((shortChannelId) => ({
    kind: 'forward' as const,
    intent: { target: { type: 'scid', shortChannelId } } as Intent,
    alternatives: 'none' as const,
  }));
  await updates.prepare(items, (_, channelUpdate) => ({
    kind: 'fee_insufficient',
    htlcMsat: 1n,
    channelUpdate,
  }));
  const told = names.map((name) => {
    const decoded = decodeMessage(updates.of(name));
    return decoded.ok && decoded.value.type === 'channel_update' ? decoded.value.shortChannelId : undefined;
  });
  expect(told).toEqual([scid, state.aliasScid, undefined]);
});
