/** The negotiation of a closing fee whose beginning waits for a monitor update to be durable everywhere. */
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { describe, expect, test } from 'vitest';
import { canCommit } from '../commit.ts';
import { effectsOf, forged, receive, take, typesOf } from '../testing/expect.ts';
import type { NodeOptions } from '../testing/node.ts';
import { Pair, type Side, addCommand, preimageOf, testScript } from '../testing/pair.ts';
import { isFrozen } from '../updates/ready.ts';

const SIDES: readonly Side[] = ['alice', 'bob'];

/**
 * Both have sent shutdown, and the last HTLC is off both commitments with what `from` says next; its receiver is frozen by
 * that from then on.
 */
function lastRevocation(from: Side, options: { readonly bob?: NodeOptions } = {}): Pair {
  const pair = new Pair(fakeSecp256k1, options);
  const [peer, own] = [pair.node(from), pair.node(pair.other(from))];
  own.must(addCommand(1, 1_000_000n));
  pair.settle();
  peer.must({ type: 'shutdown' });
  pair.deliverAll();
  peer.must({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(1) });
  peer.must({ type: 'commit' });
  pair.deliver(pair.other(from));
  pair.deliver(pair.other(from));
  own.must({ type: 'commit' });
  pair.deliver(from);
  pair.deliver(from);
  own.monitor = 'in_progress';
  return pair;
}

function expectClosed(pair: Pair): void {
  pair.deliverAll();
  const fees = [pair.alice, pair.bob].map((node) => {
    expect(node.channel.phase.type).toBe('closing_mutual');
    return effectsOf(node, 'broadcast_closing')[0]?.closing.feeSat;
  });
  expect(fees[0]).toBe(fees[1]);
}

test('a fundee answers an offer below its minimum when it thaws', () => {
  const pair = lastRevocation('alice', { bob: { feerates: { closeMinimumSatPerKw: 1500 } } });
  expect(typesOf(pair.alice.outbox)).toEqual(['revoke_and_ack', 'closing_signed']);
  pair.deliver('bob');
  pair.deliver('bob');
  expect(isFrozen(pair.bob.channel)).toBe(true);
  expect(typesOf(pair.bob.outbox)).toEqual([]);
  pair.bob.completeMonitor();
  expect(typesOf(pair.bob.outbox)).toEqual(['closing_signed']);
  expectClosed(pair);
});

test('so it does to an offer without a range, of which it remembers the fee', () => {
  const pair = lastRevocation('alice', { bob: { feerates: { closeMinimumSatPerKw: 1500 } } });
  pair.deliver('bob');
  const offer = take(pair.alice, 'closing_signed');
  expect(receive(pair.bob, { ...offer, tlvs: {} })).toBeUndefined();
  pair.bob.completeMonitor();
  const answer = take(pair.bob, 'closing_signed');
  expect(answer.feeSatoshis).toBeGreaterThan(offer.feeSatoshis);
  // Further away than before: it does not converge.
  const farther = { ...offer, feeSatoshis: offer.feeSatoshis, tlvs: {} };
  expect(receive(pair.bob, farther)).toMatchObject({ code: 'closing_fee', reaction: 'warning_disconnect' });
});

test('a fundee answers an offer that it accepts when it thaws', () => {
  const pair = lastRevocation('alice');
  pair.deliver('bob');
  const offer = take(pair.alice, 'closing_signed');
  expect(receive(pair.bob, offer)).toBeUndefined();
  expect(pair.bob.channel.phase.type).toBe('closing_mutual');
  expect(typesOf(pair.bob.outbox)).toEqual([]);
  pair.bob.restart();
  pair.bob.completeMonitor();
  expect(typesOf(pair.bob.outbox)).toEqual(['closing_signed']);
  expect(pair.bob.outbox).toMatchObject([{ feeSatoshis: offer.feeSatoshis }]);
  expectClosed(pair);
});

test('a funder makes its offer when it thaws, once', () => {
  const pair = lastRevocation('bob');
  expect(typesOf(pair.bob.outbox)).toEqual(['revoke_and_ack']);
  pair.deliver('alice');
  expect(isFrozen(pair.alice.channel)).toBe(true);
  expect(typesOf(pair.alice.outbox)).toEqual([]);
  pair.alice.completeMonitor();
  expect(typesOf(pair.alice.outbox)).toEqual(['closing_signed']);
  expectClosed(pair);
});

test.each([
  { who: 'funder', receiver: 'alice', held: ['shutdown', 'closing_signed'] },
  { who: 'fundee', receiver: 'bob', held: ['shutdown'] },
] as const)('a $who of an idle channel answers shutdown when it thaws', ({ receiver, held }) => {
  const pair = new Pair(fakeSecp256k1);
  const [own, peer] = [pair.node(receiver), pair.node(pair.other(receiver))];
  own.monitor = 'in_progress';
  peer.must({ type: 'shutdown' });
  pair.deliver(receiver);
  expect(isFrozen(own.channel)).toBe(true);
  expect(typesOf(own.outbox)).toEqual([]);
  own.completeMonitor();
  expect(typesOf(own.outbox)).toEqual(held);
  expectClosed(pair);
});

test('a close that is agreed on before its shutdown has left is answered with both when it thaws', () => {
  const pair = new Pair(fakeSecp256k1);
  pair.bob.monitor = 'in_progress';
  pair.alice.must({ type: 'shutdown' });
  pair.deliver('bob');
  // The peer knows the script from elsewhere, and does not wait to hear it.
  expect(
    receive(pair.alice, forged(pair.alice, 'shutdown', { scriptpubkey: testScript(2) })),
  ).toBeUndefined();
  pair.deliver('bob');
  expect(pair.bob.channel.phase.type).toBe('closing_mutual');
  pair.bob.completeMonitor();
  expect(typesOf(pair.bob.outbox)).toEqual(['shutdown', 'closing_signed']);
});

test('a close that was agreed on is not answered on the next connection', () => {
  const pair = lastRevocation('alice');
  pair.deliver('bob');
  pair.deliver('bob');
  pair.disconnect();
  pair.connect();
  pair.bob.completeMonitor();
  expect(typesOf(pair.bob.outbox)).toEqual([]);
});

test('a reconnection before the thaw begins anew', () => {
  const pair = lastRevocation('alice', { bob: { feerates: { closeMinimumSatPerKw: 1500 } } });
  pair.deliver('bob');
  pair.deliver('bob');
  pair.bob.restart();
  pair.disconnect();
  pair.connect();
  pair.deliverAll();
  expect(typesOf(pair.bob.outbox)).toEqual([]);
  pair.bob.completeMonitor();
  expectClosed(pair);
});

/** One message, or one commitment; false when both are silent. */
function move(pair: Pair): boolean {
  for (const side of SIDES) if (pair.deliver(side)) return true;
  for (const node of [pair.alice, pair.bob]) {
    if (!canCommit(node.channel)) continue;
    node.must({ type: 'commit' });
    return true;
  }
  return false;
}

interface Close {
  readonly closer: Side;
  /** Of an HTLC that is fulfilled meanwhile. */
  readonly offerer: Side | 'nobody';
  readonly frozen: Side;
}

/** What follows the first `moves` of a close freezes one side. Whether there were so many. */
function closeFrozenAfter(moves: number, { closer, offerer, frozen }: Close): boolean {
  const pair = new Pair(fakeSecp256k1);
  if (offerer !== 'nobody') pair.node(offerer).must(addCommand(1, 1_000_000n));
  pair.settle();
  pair.node(closer).must({ type: 'shutdown' });
  if (offerer !== 'nobody')
    pair.node(pair.other(offerer)).must({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(1) });
  let made = 0;
  while (made < moves && move(pair)) made += 1;
  pair.node(frozen).monitor = 'in_progress';
  while (move(pair));
  pair.node(frozen).completeMonitor();
  pair.settle();
  expectClosed(pair);
  return made === moves;
}

describe.each(['nobody', ...SIDES] as const)('a close while an HTLC of %s is fulfilled', (offerer) => {
  test.each(SIDES.flatMap((closer) => SIDES.map((frozen) => ({ closer, frozen }))))(
    'that $closer asks for is agreed on, wherever in the middle of it $frozen is frozen',
    ({ closer, frozen }) => {
      let moves = 0;
      while (closeFrozenAfter(moves, { closer, offerer, frozen })) moves += 1;
      expect(moves).toBeGreaterThan(2);
    },
  );
});
