import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { describe, expect, test } from 'vitest';
import { effectsOf, forged, receive, take, typesOf } from './testing/expect.ts';
import { Pair, addCommand, preimageOf } from './testing/pair.ts';
import type { PersistedChannel } from './persist.ts';
import { restore } from './persist/restore.ts';

function open(): Pair {
  return new Pair(fakeSecp256k1);
}

/** Both reestablish; returns what each then sends. */
function reconnect(pair: Pair): { readonly alice: readonly string[]; readonly bob: readonly string[] } {
  pair.disconnect();
  pair.connect();
  pair.deliver('alice');
  pair.deliver('bob');
  return { alice: typesOf(pair.alice.outbox), bob: typesOf(pair.bob.outbox) };
}

describe('a disconnect', () => {
  test('drops what no commitment_signed covers, and the ids come back', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 1_000_000n));
    pair.deliverAll();
    expect(pair.bob.channel.changes.nextInboundHtlcId).toBe(1n);
    pair.disconnect();
    expect(pair.bob.channel.changes).toMatchObject({ htlcs: [], nextInboundHtlcId: 0n });
    expect(effectsOf(pair.alice, 'htlc_dropped').map(({ htlc }) => htlc.id)).toEqual([0n]);
    pair.connect();
    pair.deliverAll();
    pair.alice.must(addCommand(2, 2_000_000n));
    pair.settle();
    expect(effectsOf(pair.bob, 'htlc_accepted').map(({ htlc }) => [htlc.id, htlc.amountMsat])).toEqual([
      [0n, 2_000_000n],
    ]);
  });

  test('keeps removals, also those decided while away', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 1_000_000n));
    pair.alice.must(addCommand(2, 1_000_000n));
    pair.settle();
    pair.bob.must({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(1) });
    pair.disconnect();
    pair.bob.must({ type: 'fail_htlc', id: 1n, reason: new Uint8Array(3) });
    pair.connect();
    pair.settle();
    expect(pair.alice.channel.changes.htlcs).toEqual([]);
  });

  test('rolls an uncommitted fulfil back, but not the knowledge of its preimage', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 1_000_000n));
    pair.settle();
    pair.bob.must({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(1) });
    pair.deliverAll();
    pair.disconnect();
    expect(pair.alice.channel.changes.htlcs.map(({ state }) => state)).toEqual(['committed']);
    expect(effectsOf(pair.alice, 'htlc_fulfilled')).toHaveLength(1);
  });
});

describe('channel_reestablish', () => {
  test('brings channel_ready again only before the first commitment', () => {
    const pair = open();
    expect(reconnect(pair)).toEqual({ alice: ['channel_ready'], bob: ['channel_ready'] });
    pair.deliverAll();
    pair.alice.must(addCommand(1, 1_000_000n));
    pair.settle();
    expect(reconnect(pair)).toEqual({ alice: [], bob: [] });
  });

  test('brings no channel_ready before the funding is deep enough', () => {
    const waits = { config: { minimumDepth: 8 } };
    const pair = new Pair(fakeSecp256k1, { alice: waits, bob: waits });
    expect(pair.bob.channel.phase.type).toBe('awaiting_funding_confirmations');
    expect(reconnect(pair)).toEqual({ alice: [], bob: [] });
  });

  test('brings lost updates and their commitment_signed again', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 1_000_000n));
    pair.alice.must({ type: 'update_fee', feerateSatPerKw: 1100 });
    pair.alice.must({ type: 'commit' });
    expect(reconnect(pair).alice).toEqual([
      'channel_ready',
      'update_fee',
      'update_add_htlc',
      'commitment_signed',
    ]);
    pair.settle();
    expect(pair.bob.channel.changes.htlcs.map(({ state }) => state)).toEqual(['committed']);
  });

  test('brings a lost revoke_and_ack again', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 1_000_000n));
    pair.alice.must({ type: 'commit' });
    pair.deliver('bob');
    pair.deliver('bob');
    expect(reconnect(pair)).toEqual({ alice: [], bob: ['revoke_and_ack'] });
    pair.settle();
  });

  test('keeps the order of revoke_and_ack and commitment_signed: revocation first', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 1_000_000n));
    pair.alice.must({ type: 'commit' });
    pair.deliver('bob');
    pair.deliver('bob');
    pair.bob.must(addCommand(2, 1_000_000n));
    pair.bob.must({ type: 'commit' });
    expect(typesOf(pair.bob.outbox)).toEqual(['revoke_and_ack', 'update_add_htlc', 'commitment_signed']);
    pair.bob.restart();
    expect(reconnect(pair).bob).toEqual(['revoke_and_ack', 'update_add_htlc', 'commitment_signed']);
    pair.settle();
  });

  test('keeps the order of revoke_and_ack and commitment_signed: commitment first', () => {
    const pair = open();
    pair.bob.must(addCommand(2, 1_000_000n));
    pair.bob.must({ type: 'commit' });
    pair.alice.must(addCommand(1, 1_000_000n));
    pair.alice.must({ type: 'commit' });
    pair.deliver('bob');
    pair.deliver('bob');
    expect(typesOf(pair.bob.outbox)).toEqual(['update_add_htlc', 'commitment_signed', 'revoke_and_ack']);
    pair.bob.restart();
    expect(reconnect(pair).bob).toEqual(['update_add_htlc', 'commitment_signed', 'revoke_and_ack']);
    pair.settle();
  });

  test('with next_commitment_number 0 asks for a force close', () => {
    const pair = open();
    pair.disconnect();
    pair.connect();
    const message = { ...take(pair.alice, 'channel_reestablish'), nextCommitmentNumber: 0n };
    expect(receive(pair.bob, message)).toMatchObject({
      code: 'reestablish_number',
      reaction: 'fail_channel',
    });
  });

  test('with a number beyond all commitments fails the channel', () => {
    const pair = open();
    pair.disconnect();
    pair.connect();
    const message = { ...take(pair.alice, 'channel_reestablish'), nextRevocationNumber: (1n << 64n) - 1n };
    expect(receive(pair.bob, message)).toMatchObject({
      code: 'reestablish_number',
      reaction: 'fail_channel',
    });
  });

  test('with a secret before any was revealed fails the channel', () => {
    const pair = open();
    pair.disconnect();
    pair.connect();
    const message = {
      ...take(pair.alice, 'channel_reestablish'),
      yourLastPerCommitmentSecret: new Uint8Array(32).fill(3),
    };
    expect(receive(pair.bob, message)).toMatchObject({
      code: 'reestablish_secret',
      reaction: 'fail_channel',
    });
  });

  test('with a wrong secret or a number from the future fails the channel', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 1_000_000n));
    pair.settle();
    pair.disconnect();
    pair.connect();
    const good = take(pair.alice, 'channel_reestablish');
    expect(
      receive(pair.bob, { ...good, yourLastPerCommitmentSecret: new Uint8Array(32).fill(3) }),
    ).toMatchObject({ code: 'reestablish_secret', reaction: 'fail_channel' });
    expect(receive(pair.bob, { ...good, nextRevocationNumber: 9n })).toMatchObject({
      code: 'reestablish_secret',
      reaction: 'fail_channel',
    });
    expect(receive(pair.bob, { ...good, nextCommitmentNumber: 9n })).toMatchObject({
      code: 'reestablish_number',
      reaction: 'fail_channel',
    });
    expect(receive(pair.bob, { ...good, nextRevocationNumber: 1n << 60n })).toMatchObject({
      code: 'reestablish_number',
    });
  });

  test('proves a lost state: passive, an error, never a broadcast; the peer waits for that error', () => {
    const pair = open();
    const old = snapshot(pair);
    for (let seed = 0; seed < 3; seed += 1) {
      pair.alice.must(addCommand(seed, 1_000_000n));
      pair.settle();
    }
    pair.disconnect();
    const restored = restore(old);
    if (!restored.ok) throw new TypeError(restored.error.reason);
    pair.bob.state = restored.value;
    pair.bob.persistedState = restored.value;
    pair.bob.rows = old;
    pair.connect();
    // The peer that is ahead waits, and does not close.
    expect(receive(pair.alice, take(pair.bob, 'channel_reestablish'))).toBeUndefined();
    expect(pair.alice.channel.phase.type).toBe('open');
    expect(typesOf(pair.alice.outbox)).toEqual(['channel_reestablish']);
    pair.deliver('bob');
    expect(pair.bob.channel.phase.type).toBe('passive');
    expect(effectsOf(pair.bob, 'force_close')).toMatchObject([{ broadcast: 'passive' }]);
    expect(effectsOf(pair.bob, 'monitor_update').at(-1)?.steps).toMatchObject([
      { type: 'channel_force_closed', shouldBroadcast: 'passive' },
    ]);
    pair.deliver('alice');
    expect(pair.alice.channel.phase.type).toBe('closing_force');
    expect(effectsOf(pair.alice, 'force_close')).toMatchObject([{ broadcast: 'broadcast' }]);
  });

  test('of a peer that has forgotten a commitment or a revocation is waited out', () => {
    const pair = open();
    for (const seed of [1, 2, 3]) {
      pair.alice.must(addCommand(seed, 1_000_000n));
      pair.settle();
    }
    pair.disconnect();
    pair.connect();
    const good = take(pair.alice, 'channel_reestablish');
    const { perCommitmentSecret } = pair.bob.signer.release(good.nextRevocationNumber - 3n);
    const forgotten = [
      { nextCommitmentNumber: good.nextCommitmentNumber - 1n },
      {
        nextRevocationNumber: good.nextRevocationNumber - 2n,
        yourLastPerCommitmentSecret: perCommitmentSecret,
      },
    ];
    pair.bob.outbox.length = 0;
    for (const changes of forgotten) expect(receive(pair.bob, { ...good, ...changes })).toBeUndefined();
    expect(pair.bob.outbox).toEqual([]);
    expect(pair.bob.channel.connection.type).toBe('reestablishing');
  });

  test('comes before everything else, and once', () => {
    const pair = open();
    pair.disconnect();
    pair.connect();
    expect(receive(pair.bob, forged(pair.bob, 'update_fee', { feeratePerKw: 2000 }))?.code).toBe(
      'unexpected_message',
    );
    const message = take(pair.alice, 'channel_reestablish');
    expect(receive(pair.bob, message)).toBeUndefined();
    expect(receive(pair.bob, message)).toMatchObject({
      code: 'unexpected_message',
      reaction: 'warning_disconnect',
    });
  });

  test('of a channel in error is answered with the error', () => {
    const pair = open();
    pair.bob.must({ type: 'force_close', reason: 'because' });
    pair.disconnect();
    pair.connect();
    expect(typesOf(pair.bob.outbox)).toEqual(['error']);
  });
});

test('a channel that is frozen when the peer is back sends its half of the announcement', () => {
  const pair = new Pair(fakeSecp256k1, { announce: true, confirmations: 'zero_conf' });
  pair.alice.must(pair.confirmation(pair.alice, 6));
  expect(typesOf(pair.alice.outbox)).toEqual(['announcement_signatures']);
  pair.alice.must({ type: 'monitor_update_in_progress', held: [] });
  expect(reconnect(pair).alice).toEqual(['announcement_signatures']);
});

describe('a state that the signer has left behind', () => {
  const REASON = 'state was lost: please close the channel';

  test('is passive: an error, never a broadcast, and the peer is asked to close at every reconnect', () => {
    const pair = open();
    pair.disconnect();
    pair.bob.must({ type: 'state_lost' });
    expect(pair.bob.channel.phase).toEqual({ type: 'passive', reason: REASON });
    expect(effectsOf(pair.bob, 'force_close')).toMatchObject([{ broadcast: 'passive' }]);
    expect(effectsOf(pair.bob, 'monitor_update').at(-1)?.steps).toEqual([
      { type: 'channel_force_closed', shouldBroadcast: 'passive', reason: REASON },
    ]);
    expect(effectsOf(pair.bob, 'event').at(-1)).toMatchObject({ event: { type: 'channel_closed' } });
    const rows = restore(snapshot(pair));
    expect(rows.ok && rows.value.type === 'established' && rows.value.phase.type).toBe('passive');
    pair.connect();
    expect(typesOf(pair.bob.outbox)).toEqual(['channel_reestablish', 'error']);
    expect(pair.bob.outbox[0]).toMatchObject({ nextCommitmentNumber: 0n });
  });

  test('tells a peer that is there', () => {
    const pair = open();
    pair.bob.must({ type: 'state_lost' });
    expect(typesOf(pair.bob.outbox)).toEqual(['error']);
  });

  test('keeps every HTLC: what was uncommitted in it may be committed since', () => {
    const pair = open();
    pair.bob.must(addCommand(1, 1_000_000n));
    pair.bob.must({ type: 'state_lost' });
    pair.bob.must({ type: 'peer_disconnected' });
    expect(pair.bob.channel.changes.htlcs.map(({ state }) => state)).toEqual(['add_pending']);
    expect(pair.bob.channel.connection.type).toBe('disconnected');
    expect(effectsOf(pair.bob, 'htlc_dropped')).toEqual([]);
  });

  test('is told once, and nothing else closes it', () => {
    const pair = open();
    pair.bob.must({ type: 'state_lost' });
    const { length } = pair.bob.effects;
    pair.bob.must({ type: 'state_lost' });
    expect(pair.bob.input({ type: 'force_close', reason: 'the operator asked for it' })).toMatchObject({
      code: 'channel_not_open',
      reaction: 'refuse',
    });
    expect(pair.bob.input({ type: 'shutdown' })).toMatchObject({ reaction: 'refuse' });
    expect(pair.bob.effects).toHaveLength(length);
  });

  test('of a channel that is closing changes nothing', () => {
    const pair = open();
    pair.bob.must({ type: 'force_close', reason: 'because' });
    const { length } = pair.bob.effects;
    pair.bob.must({ type: 'state_lost' });
    expect(pair.bob.channel.phase).toEqual({ type: 'closing_force', reason: 'because' });
    expect(pair.bob.effects).toHaveLength(length);
  });
});

function snapshot(pair: Pair): PersistedChannel {
  if (pair.bob.rows === undefined) throw new RangeError('nothing persisted');
  return pair.bob.rows;
}
