/** What a channel's actor takes note of outside of its turns. */
import type { PeerMessage } from '@fulmen/channel';
import { addCommand, Pair } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { RpcError } from '@fulmen/rpc';
import { silentLogger } from '@fulmen/service';
import type { FundingStatus } from '@fulmen/store';
import { make } from '@fulmen/wire';
import { describe, expect, test } from 'vitest';
import type { ActorHost } from './actor-host.ts';
import { ChannelActor } from './channel-actor.ts';
import { PolicyDefaults } from './policy.ts';
import { LoneActor } from './testing/lone-actor.ts';

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

const MAX_MAILBOX = 20_000;

/** Until its mailbox takes no more; the first item begins a turn, which has it. */
function fill(actor: ChannelActor): void {
  for (let item = 0; item <= MAX_MAILBOX; item++) actor.post({ kind: 'block', height: 1 });
}

const confirmed = (depth: number): FundingStatus => ({ type: 'confirmed', height: 100, txIndex: 1, depth });

/** As each look of the engine does. */
function tells(actor: ChannelActor, status: FundingStatus): boolean {
  return actor.isNews(status) && actor.post({ kind: 'funding_status', status });
}

describe('what chain-monitor says of the funding', () => {
  test('is news at every depth until the channel is announced, and not for ever', () => {
    const actor = actorOf(3);
    const depths = [1, 2, 6, 6, 10, 11, 144].filter((depth) => tells(actor, confirmed(depth)));
    actor.stop();
    expect(depths).toEqual([1, 2, 6, 10]);
  });

  test('is news at the depth that both agreed to wait for, however deep', () => {
    const actor = actorOf(20);
    const depths = [9, 10, 15, 19, 20, 21].filter((depth) => tells(actor, confirmed(depth)));
    actor.stop();
    expect(depths).toEqual([9, 10, 15, 19, 20]);
  });

  test('is told again when the channel had no room for it, and not when it waits to be looked at', () => {
    const actor = actorOf(3);
    fill(actor);
    const lost: FundingStatus = { type: 'lost', reason: 'its inputs were spent' };
    expect(tells(actor, lost)).toBe(false);
    expect(actor.isNews(lost)).toBe(true);
    actor.stop();

    const idle = actorOf(3);
    expect(tells(idle, lost)).toBe(true);
    expect(idle.isNews(lost)).toBe(false);
    idle.stop();
  });

  test('a decision to close waits in its mailbox once, however often its row is read', () => {
    const actor = actorOf(3);
    for (let look = 0; look < MAX_MAILBOX + 2; look++) actor.closingDecided('an HTLC cannot wait');
    expect(actor.post({ kind: 'block', height: 1 })).toBe(true);
    actor.stop();
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

test('a channel that was taken out of service is not in service: no forward is given to it', () => {
  const actor = actorOf(3);
  expect(actor.isInService).toBe(true);
  actor.stop();
  expect(actor.isInService).toBe(false);
});

test('a channel that is passive acknowledges its frames, for its peer’s other channels, and carries nothing', () => {
  const consumed: bigint[] = [];
  const actor = actorOf(3, consumed);
  expect(actor.isInService).toBe(true);
  actor.makePassive('the signer was set back');
  const message = make('stfu', { channelId: actor.channelId, initiator: 1 });
  for (const frame of [1n, 2n])
    actor.post({ kind: 'message', input: { type: 'message', message }, generation: 1n, frame });
  expect(consumed).toEqual([1n, 2n]);
  expect(actor.isInService).toBe(false);
});

describe('a mutual close that the signer refuses', () => {
  const refuse = () =>
    Promise.reject(new RpcError('failed_precondition', 'policy-mutual-fee-range: too much'));
  const REASON = 'the signer refused a mutual close: policy-mutual-fee-range: too much';

  test('when it is agreed and to be broadcast, is a close by force', async () => {
    const pair = new Pair(fakeSecp256k1);
    pair.alice.must({ type: 'shutdown' });
    pair.deliverAll();
    const lone = new LoneActor(pair.bob);
    expect(lone.phase).toBe('closing_mutual');
    lone.signClosing = refuse;
    lone.actor.rebroadcastClosing();
    await lone.idle();
    expect(lone.phase).toBe('closing_force');
    expect(lone.actor.state.phase).toEqual({ type: 'closing_force', reason: REASON });
    expect(lone.quarantines).toEqual([]);
  });

  test('when it is answered, is a close by force, and the peer hears of that alone', async () => {
    const pair = new Pair(fakeSecp256k1);
    pair.alice.must({ type: 'shutdown' });
    pair.deliver('bob');
    pair.deliver('alice');
    const lone = new LoneActor(pair.bob);
    lone.signClosing = refuse;
    lone.receive(...pair.alice.outbox);
    await lone.idle();
    expect(lone.phase).toBe('closing_force');
    expect(lone.actor.state.phase).toEqual({ type: 'closing_force', reason: REASON });
    expect(lone.sent.map(({ type }) => type)).toEqual(['error']);
    expect(lone.quarantines).toEqual([]);
  });
});

test('the time for a negotiation begins when its first message is no longer held', async () => {
  const pair = new Pair(fakeSecp256k1);
  pair.bob.monitor = 'in_progress';
  pair.alice.must({ type: 'shutdown' });
  pair.deliver('bob');
  const lone = new LoneActor(pair.bob);
  lone.actor.post({ kind: 'block', height: 500 });
  await lone.idle();
  expect(lone.phase).toBe('negotiating_closing');
  expect(lone.sleepsMs).toEqual([]);
  lone.actor.post({ kind: 'monitor_completed', updateId: pair.bob.channel.monitor.updateId });
  await lone.idle();
  expect(lone.sent.map(({ type }) => type)).toEqual(['shutdown']);
  expect(lone.sleepsMs).toEqual([120_000]);
});

describe('a peer that goes on sending channel_reestablish', () => {
  const COUNT = 1_000;
  const SECOND = 'a second channel_reestablish';

  /** `claim`: of a revocation, by number, and of the secret that it brought. */
  function reestablishes(
    { bob }: Pair,
    claim: (n: number) => { readonly number: bigint; readonly secret: Uint8Array },
  ): PeerMessage[] {
    const { channelId, changes } = bob.channel;
    return Array.from({ length: COUNT }, (_, n) => {
      const { number, secret } = claim(n);
      return make('channel_reestablish', {
        channelId,
        nextCommitmentNumber: changes.counterpartyCommitmentNumber + 1n,
        nextRevocationNumber: number + 1n,
        yourLastPerCommitmentSecret: secret,
        myCurrentPerCommitmentPoint: bob.signer.point(0n),
      });
    });
  }

  const future = (n: number) => ({ number: 100n + BigInt(n), secret: new Uint8Array(32).fill(9) });

  test.each(['closing_force', 'passive', 'closed'] as const)(
    'of a channel that is %s is disconnected, and the signer is not asked',
    async (phase) => {
      const pair = new Pair(fakeSecp256k1);
      if (phase === 'passive') pair.bob.must({ type: 'state_lost' });
      else pair.bob.must({ type: 'force_close', reason: 'because' });
      if (phase === 'closed') pair.bob.must({ type: 'closed', reason: 'because' });
      pair.disconnect();
      pair.connect();
      const lone = new LoneActor(pair.bob);
      lone.receive(...reestablishes(pair, future));
      await lone.idle();
      expect(lone.askedPoints).toEqual([]);
      expect(lone.disconnects).toContain(SECOND);
      expect(lone.sent.filter(({ type }) => type === 'error')).toHaveLength(1);
      expect(lone.phase).toBe(phase);
      expect(lone.consumed).toHaveLength(COUNT);
    },
  );

  test.each(['future', 'past'] as const)(
    'about the %s of a live channel is disconnected, with one question to the signer and nothing kept',
    async (time) => {
      const pair = new Pair(fakeSecp256k1);
      for (let seed = 0; seed < 5; seed += 1) {
        pair.alice.must(addCommand(seed, 1_000_000n));
        pair.settle();
      }
      pair.disconnect();
      pair.connect();
      const past = (n: number) => ({
        number: BigInt(n % 3),
        secret: pair.bob.signer.release(BigInt(n % 3)).perCommitmentSecret,
      });
      const lone = new LoneActor(pair.bob);
      const messages = reestablishes(pair, time === 'past' ? past : future);
      lone.receive(...messages);
      await lone.idle();
      expect(lone.askedPoints).toHaveLength(1);
      expect(lone.disconnects).toContain(SECOND);
      expect(lone.phase).toBe(time === 'past' ? 'open' : 'closing_force');
      expect(lone.askedPoints.map((number) => lone.actor.points.get(number))).toEqual([undefined]);
      expect(lone.quarantines).toEqual([]);
    },
  );

  test('is heard again on its next connection', async () => {
    const pair = new Pair(fakeSecp256k1);
    pair.bob.must({ type: 'force_close', reason: 'because' });
    const lone = new LoneActor(pair.bob);
    const [message] = reestablishes(pair, future);
    if (message === undefined) throw new TypeError('no message');
    for (const generation of [2n, 3n]) {
      lone.actor.post({ kind: 'connected', generation, features: pair.features });
      const input = { type: 'message', message } as const;
      lone.actor.post({ kind: 'message', input, generation, frame: generation });
      await lone.idle();
    }
    expect(lone.sent.map(({ type }) => type)).toEqual(['error', 'error', 'error', 'error']);
    expect(lone.disconnects).toEqual([]);
  });

  test('on more connections than the signer gives points at once, all within one turn, leaves the channel in service', async () => {
    const pair = new Pair(fakeSecp256k1);
    const lone = new LoneActor(pair.bob);
    const messages = reestablishes(pair, future).slice(0, 17);
    // The first item begins a turn; what comes until that ends is the next.
    lone.actor.post({ kind: 'block', height: 500 });
    for (const [n, message] of messages.entries()) {
      const generation = BigInt(n + 2);
      lone.actor.post({ kind: 'disconnected', generation: generation - 1n });
      lone.actor.post({ kind: 'connected', generation, features: pair.features });
      const input = { type: 'message', message } as const;
      lone.actor.post({ kind: 'message', input, generation, frame: generation });
    }
    await lone.idle();
    expect(lone.quarantines).toEqual([]);
    expect(lone.askedPoints).toHaveLength(messages.length);
    expect(lone.consumed).toHaveLength(messages.length);
    expect(lone.phase).toBe('closing_force');
  });
});
