// BOLT 2: "if a channel is in an error state: SHOULD retransmit the error packet and ignore any other packets for that channel."
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { describe, expect, test } from 'vitest';
import { effectsOf, forged, receive, take } from '../testing/expect.ts';
import type { TestNode } from '../testing/node.ts';
import { addCommand, ONION, Pair, preimageOf } from '../testing/pair.ts';

const BYTES = new Uint8Array(32).fill(5);
const SIGNATURE = new Uint8Array(64).fill(1);

/** One of each, none of which would be right in a channel that goes on. */
function messages(node: TestNode) {
  const point = node.signer.point(7n);
  return [
    forged(node, 'update_add_htlc', {
      id: 9n,
      amountMsat: 1n,
      paymentHash: BYTES,
      cltvExpiry: 1,
      onionRoutingPacket: ONION,
    }),
    forged(node, 'update_fulfill_htlc', { id: 9n, paymentPreimage: BYTES }),
    forged(node, 'update_fail_htlc', { id: 9n, reason: BYTES }),
    forged(node, 'update_fail_malformed_htlc', { id: 9n, sha256OfOnion: BYTES, failureCode: 1 }),
    forged(node, 'update_fee', { feeratePerKw: 1 }),
    forged(node, 'commitment_signed', { signature: SIGNATURE, htlcSignatures: [] }),
    forged(node, 'revoke_and_ack', { perCommitmentSecret: BYTES, nextPerCommitmentPoint: point }),
    forged(node, 'channel_ready', { secondPerCommitmentPoint: point }),
    forged(node, 'shutdown', { scriptpubkey: BYTES }),
    forged(node, 'closing_signed', { feeSatoshis: 1n, signature: SIGNATURE }),
    forged(node, 'announcement_signatures', {
      shortChannelId: 1n,
      nodeSignature: SIGNATURE,
      bitcoinSignature: SIGNATURE,
    }),
  ];
}

const ENDS: Readonly<Record<string, (pair: Pair) => void>> = {
  closing_force: ({ alice }) => alice.must({ type: 'force_close', reason: 'the user wants it' }),
  passive: ({ alice }) => alice.must({ type: 'state_lost' }),
  closed: ({ alice }) => {
    alice.must({ type: 'force_close', reason: 'the user wants it' });
    alice.must({ type: 'closed', reason: 'all spent' });
  },
  closing_mutual: (pair) => {
    pair.alice.must({ type: 'shutdown' });
    pair.deliverAll();
  },
};

describe.each(Object.keys(ENDS))('a channel in phase %s', (phase) => {
  test.each(['the same connection', 'a later one'])('ignores what its peer says on %s', (connection) => {
    const pair = new Pair(fakeSecp256k1);
    ENDS[phase]?.(pair);
    if (connection === 'a later one') {
      pair.disconnect();
      pair.connect();
    }
    const { alice } = pair;
    expect(alice.channel.phase.type).toBe(phase);
    const before = alice.channel;
    const reactions = messages(alice).map((message) => [message.type, receive(alice, message)?.reaction]);
    expect(reactions).toEqual(messages(alice).map(({ type }) => [type, 'ignore']));
    expect(alice.channel).toBe(before);
  });

  test('takes no update of the holder’s, and resolves its HTLCs on the chain', () => {
    const pair = new Pair(fakeSecp256k1);
    if (phase === 'closing_force') {
      pair.bob.must(addCommand(1, 5_000_000n));
      pair.settle();
    }
    ENDS[phase]?.(pair);
    const { alice } = pair;
    expect(alice.input(addCommand(2, 1_000n))?.code).toBe('channel_not_open');
    expect(alice.input({ type: 'update_fee', feerateSatPerKw: 1_100 })?.code).toBe('channel_not_open');
    expect(alice.input({ type: 'shutdown' })?.reaction).toBe('refuse');
    if (phase !== 'closing_force') return;
    expect(alice.input({ type: 'fail_htlc', id: 0n, reason: new Uint8Array(292) })?.code).toBe(
      'channel_not_open',
    );
    expect(alice.input({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(1) })).toBeUndefined();
  });
});

test('a channel whose closing fee is negotiated takes no update of the holder’s', () => {
  const pair = new Pair(fakeSecp256k1);
  pair.alice.must({ type: 'shutdown' });
  pair.deliver('bob');
  pair.deliver('alice');
  expect(pair.alice.channel.phase.type).toBe('negotiating_closing');
  expect(pair.alice.input(addCommand(1, 1_000n))?.code).toBe('shutdown_in_progress');
  expect(pair.alice.input({ type: 'update_fee', feerateSatPerKw: 1_100 })?.code).toBe('channel_not_open');
});

test('a mutual close ignores the channel_reestablish of a peer that does not know of it', () => {
  const pair = new Pair(fakeSecp256k1);
  ENDS.closing_mutual?.(pair);
  pair.disconnect();
  pair.connect();
  const message = forged(pair.alice, 'channel_reestablish', {
    nextCommitmentNumber: 1n,
    nextRevocationNumber: 0n,
    yourLastPerCommitmentSecret: new Uint8Array(32),
    myCurrentPerCommitmentPoint: pair.bob.signer.point(0n),
  });
  expect(receive(pair.alice, message)).toMatchObject({ code: 'unexpected_message', reaction: 'ignore' });
});

test('the second half of an announcement announces no channel that was closed meanwhile', () => {
  const pair = new Pair(fakeSecp256k1, { announce: true, confirmations: 'zero_conf' });
  for (const node of [pair.alice, pair.bob]) node.must(pair.confirmation(node, 6));
  pair.alice.must({ type: 'force_close', reason: 'the user wants it' });
  expect(receive(pair.alice, take(pair.bob, 'announcement_signatures'))?.reaction).toBe('ignore');
  expect(effectsOf(pair.alice, 'announce_channel')).toEqual([]);
});
