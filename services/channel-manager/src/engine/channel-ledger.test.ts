/** What is written of a channel's turns, and what only stays in mind between them. */
import { Pair, addCommand, preimageOf } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { describe, expect, test } from 'vitest';
import type { Item } from './items.ts';
import { LoneActor } from './testing/lone-actor.ts';

test('a link is written once; that its preimage was heard stays known when the connection takes the removal back', async () => {
  const pair = new Pair(fakeSecp256k1);
  const { alice, bob } = pair;
  bob.must(addCommand(2, 10_000_000n));
  pair.settle();
  const source = { type: 'htlc', channelId: new Uint8Array(32).fill(0xab), htlcId: 9n } as const;
  const lone = new LoneActor(bob, [
    { htlcId: 0n, source, sourceShard: 3, incomingAmountMsat: 10_001_000n, preimage: 'awaited' },
  ]);
  alice.must({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(2) });
  lone.receive(...alice.outbox);
  await lone.idle();
  lone.actor.post({ kind: 'disconnected', generation: 1n });
  await lone.idle();
  lone.actor.post({ kind: 'closing_decided', reason: 'the peer stays away' });
  await lone.idle();
  const writes = lone.commits.map(({ commit }) => commit.forwarding);
  expect(writes.map(({ resolutions }) => resolutions.length)).toEqual([1, 0, 0]);
  expect(writes.flatMap(({ outgoing }) => outgoing)).toEqual([]);
  const types = writes.map(({ events }) => events.map(({ type }) => type));
  expect(types).toEqual([[], [], ['channel_closed', 'payment_forwarded']]);
});

describe('what is fulfilled past its deadline', () => {
  const linkOf = (htlcId: bigint, preimage: 'heard' | 'awaited') =>
    ({
      htlcId,
      source: { type: 'htlc', channelId: new Uint8Array(32).fill(0xab), htlcId },
      sourceShard: 3,
      incomingAmountMsat: 2_001_000n,
      preimage,
    }) as const;
  const BLOCK: Item = { kind: 'block', height: 500 };
  const CLOSED = {
    type: 'closing_force',
    reason: expect.stringMatching(
      /2010 sat at stake in 1 HTLCs \(2000 of them fulfilled too late before\)/,
    ) as string,
  };

  test.each(['turn by turn', 'in one turn'])(
    'is written when it leaves, and counts with the next HTLC that is not settled in time: %s',
    async (how) => {
      const pair = new Pair(fakeSecp256k1);
      const { alice, bob } = pair;
      bob.must(addCommand(2, 2_000_000n, 490));
      bob.must(addCommand(3, 10_000n, 490));
      pair.settle();
      alice.must({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(2) });
      alice.must({ type: 'commit' });
      while (pair.deliver('bob'));
      bob.must({ type: 'commit' });
      while (pair.deliver('alice'));
      const lone = new LoneActor(bob, [linkOf(0n, 'heard'), linkOf(1n, 'awaited')]);
      // The first item begins a turn; what comes until that ends is the next.
      lone.actor.post({ kind: 'block', height: 400 });
      lone.receive(...alice.outbox);
      if (how === 'turn by turn') await lone.idle();
      lone.actor.post(BLOCK);
      await lone.idle();
      const late = lone.commits
        .map(({ kind, commit }) => (kind === 'channel' ? commit : {}))
        .map((commit) => ('fulfilledLateMsat' in commit ? commit.fulfilledLateMsat : undefined));
      expect(late).toEqual(how === 'turn by turn' ? [2_000_000n, undefined] : [2_000_000n]);
      expect(lone.actor.state.phase).toMatchObject(CLOSED);
    },
  );

  test('counts after a restart, too', async () => {
    const pair = new Pair(fakeSecp256k1);
    pair.bob.must(addCommand(3, 10_000n, 490));
    pair.settle();
    const lone = new LoneActor(pair.bob, [linkOf(0n, 'awaited')], 2_000_000n);
    lone.actor.post(BLOCK);
    await lone.idle();
    expect(lone.actor.state.phase).toMatchObject(CLOSED);
  });
});
