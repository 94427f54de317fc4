import { secp256k1 } from '@fulmen/crypto/default';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { describe, expect, test } from 'vitest';
import type { ChannelMonitorUpdateStep } from '@fulmen/monitor';
import { signerWork } from './signer-work.ts';
import { effectsOf, forged, receive, take } from './testing/expect.ts';
import type { TestNode } from './testing/node.ts';
import { Pair, addCommand } from './testing/pair.ts';

function open(): Pair {
  return new Pair(fakeSecp256k1);
}

function stepsOf(node: TestNode): readonly ChannelMonitorUpdateStep[] {
  return effectsOf(node, 'monitor_update').flatMap(({ steps }) => steps);
}

describe('commitment_signed', () => {
  test('is not sent without changes, and refused without', () => {
    const pair = open();
    pair.alice.must({ type: 'commit' });
    expect(pair.alice.outbox).toEqual([]);
    const empty = forged(pair.bob, 'commitment_signed', {
      signature: new Uint8Array(64),
      htlcSignatures: [],
    });
    expect(receive(pair.bob, empty)).toMatchObject({
      code: 'commitment_without_changes',
      reaction: 'warning_disconnect',
    });
  });

  test('with a wrong signature, a high S, or another count of them fails the channel', () => {
    const pair = new Pair(secp256k1);
    pair.alice.must(addCommand(1, 10_000_000n));
    pair.alice.must({ type: 'commit' });
    pair.deliver('bob');
    const good = take(pair.alice, 'commitment_signed');
    const before = pair.bob.state;
    expect(receive(pair.bob, { ...good, htlcSignatures: [] })).toMatchObject({
      code: 'wrong_signature_count',
      reaction: 'fail_channel',
    });
    expect(receive(pair.bob, { ...good, signature: new Uint8Array(64).fill(1) })).toMatchObject({
      code: 'invalid_signature',
      reaction: 'fail_channel',
    });
    const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
    const s = BigInt(`0x${Buffer.from(good.signature.subarray(32)).toString('hex')}`);
    const highS = Uint8Array.from([
      ...good.signature.subarray(0, 32),
      ...Buffer.from((order - s).toString(16).padStart(64, '0'), 'hex'),
    ]);
    expect(receive(pair.bob, { ...good, signature: highS })).toMatchObject({ code: 'invalid_signature' });
    expect(pair.bob.state).toBe(before);
    expect(receive(pair.bob, good)).toBeUndefined();
  });

  test('of a batch needs the funding_txid in each', () => {
    const pair = open();
    const message = forged(pair.bob, 'commitment_signed', {
      signature: new Uint8Array(64),
      htlcSignatures: [],
    });
    expect(pair.bob.input({ type: 'commitment_signed_batch', messages: [message, message] })).toMatchObject({
      code: 'missing_funding_txid',
      reaction: 'fail_channel',
    });
  });
});

describe('revoke_and_ack', () => {
  test('unasked for, with a wrong secret, or from another seed fails the channel', () => {
    const pair = open();
    const revocation = (secret: Uint8Array) =>
      forged(pair.alice, 'revoke_and_ack', {
        perCommitmentSecret: secret,
        nextPerCommitmentPoint: pair.bob.signer.point(2n),
      });
    expect(receive(pair.alice, revocation(new Uint8Array(32).fill(1)))).toMatchObject({
      code: 'unexpected_revocation',
      reaction: 'fail_channel',
    });
    pair.alice.must(addCommand(1, 1_000_000n));
    pair.alice.must({ type: 'commit' });
    expect(receive(pair.alice, revocation(new Uint8Array(32).fill(1)))).toMatchObject({
      code: 'invalid_revocation_secret',
      reaction: 'fail_channel',
    });
    expect(receive(pair.alice, revocation(new Uint8Array(32)))).toMatchObject({
      code: 'invalid_revocation_secret',
      reaction: 'fail_channel',
    });
    pair.deliverAll();
    expect(pair.alice.channel.changes.counterpartySecrets.count).toBe(1n);
  });
});

describe('the monitor', () => {
  test('learns of a holder commitment before the old one is revoked, of a counterparty commitment before it is signed, and of every secret', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 10_000_000n));
    pair.settle();
    expect(stepsOf(pair.alice).map(({ type }) => type)).toEqual([
      'latest_counterparty_commitment',
      'latest_holder_commitment',
      'latest_counterparty_commitment',
      'commitment_secret',
      'latest_holder_commitment',
    ]);
    expect(stepsOf(pair.bob).map(({ type }) => type)).toEqual([
      'latest_counterparty_commitment',
      'latest_holder_commitment',
      'latest_holder_commitment',
      'latest_counterparty_commitment',
      'commitment_secret',
    ]);
    for (const node of [pair.alice, pair.bob]) {
      const order = node.effects.map((effect) =>
        effect.type === 'send' ? effect.message.kind : effect.type,
      );
      expect(order.indexOf('monitor_update')).toBeLessThan(order.indexOf('commitment_signed'));
      expect(effectsOf(node, 'monitor_update').map(({ updateId }) => updateId)).toEqual([1n, 2n, 3n, 4n]);
    }
  });

  test('gets each HTLC body once', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 10_000_000n));
    pair.bob.must(addCommand(2, 10_000_000n));
    pair.settle();
    pair.alice.must(addCommand(3, 10_000_000n));
    pair.settle();
    for (const node of [pair.alice, pair.bob]) {
      const bodies = stepsOf(node).flatMap((step) =>
        'newHtlcs' in step ? step.newHtlcs.map(({ direction, id }) => `${direction} ${id}`) : [],
      );
      expect(bodies).toHaveLength(3);
      expect(new Set(bodies).size).toBe(3);
    }
  });
});

describe('while a monitor update is in progress', () => {
  test('messages are held, and made again in their order on completion', () => {
    const pair = open();
    pair.bob.monitor = 'in_progress';
    pair.alice.must(addCommand(1, 10_000_000n));
    pair.alice.must({ type: 'commit' });
    pair.deliverAll();
    expect(pair.bob.outbox).toEqual([]);
    pair.bob.must({ type: 'commit' });
    expect(pair.bob.outbox).toEqual([]);
    pair.bob.completeMonitor();
    expect(pair.bob.outbox.map(({ type }) => type)).toEqual(['revoke_and_ack']);
    pair.settle();
    expect(effectsOf(pair.bob, 'htlc_accepted')).toHaveLength(1);
  });

  test('an earlier completion thaws nothing, and a disconnect leaves it to the reestablish', () => {
    const pair = open();
    pair.bob.monitor = 'in_progress';
    pair.alice.must(addCommand(1, 10_000_000n));
    pair.alice.must({ type: 'commit' });
    pair.deliverAll();
    pair.bob.must({ type: 'monitor_update_completed', updateId: 1n });
    expect(pair.bob.channel.monitor.durability.type).toBe('in_progress');
    pair.disconnect();
    pair.connect();
    pair.deliverAll();
    expect(pair.bob.outbox).toEqual([]);
    pair.bob.completeMonitor();
    expect(pair.bob.outbox.map(({ type }) => type)).toContain('revoke_and_ack');
    pair.settle();
  });
});

describe('the signer', () => {
  test('that is one step behind gets exactly what it lacks', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 10_000_000n));
    pair.settle();
    const work = signerWork(pair.bob.channel, { holderCommitmentNumber: 0n, counterpartyRevocations: 0n });
    expect(
      work.ok && work.value.counterpartyRevocations.map(({ commitmentNumber }) => commitmentNumber),
    ).toEqual([0n]);
    expect(work.ok && work.value.holderCommitment?.spec.commitmentNumber).toBe(1n);
    const none = signerWork(pair.bob.channel, { holderCommitmentNumber: 1n, counterpartyRevocations: 1n });
    expect(none).toEqual({ ok: true, value: { counterpartyRevocations: [] } });
  });

  test('that is ahead of the channel, or far behind, does not fit', () => {
    const pair = open();
    expect(signerWork(pair.bob.channel, { holderCommitmentNumber: 1n, counterpartyRevocations: 0n }).ok).toBe(
      false,
    );
    for (let seed = 0; seed < 3; seed += 1) {
      pair.alice.must(addCommand(seed, 1_000_000n));
      pair.settle();
    }
    expect(signerWork(pair.bob.channel, { holderCommitmentNumber: 0n, counterpartyRevocations: 0n }).ok).toBe(
      false,
    );
  });
});
