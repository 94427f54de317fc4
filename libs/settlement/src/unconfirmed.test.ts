/** Commitments in the mempool: whose they are, and the holder's anchor with its deadline. */
import { preimageOf } from '@fulmen/channel/testing/pair';
import { equalBytes } from '@fulmen/codec';
import { describe, expect, test } from 'vitest';
import { claimTransaction } from './testing/claims.ts';
import { TestChain } from './testing/test-chain.ts';
import { TestChannel } from './testing/test-channel.ts';
import type { Side } from './testing/test-channel.ts';

function waiting(channel: TestChannel, owner: Side, preimages?: ReadonlyMap<string, Uint8Array>) {
  const chain = new TestChain();
  chain.fund(channel);
  const commitment = channel.commitment(owner);
  chain.mempool = [commitment.tx];
  const { settlement } = chain.settlement(channel, 'alice', preimages);
  expect(settlement.stage).toBe('open');
  expect(settlement.unconfirmedCommitments).toHaveLength(1);
  return { chain, commitment, waits: settlement.unconfirmedCommitments[0] };
}

describe.each([
  ['alice', 'holder'],
  ['bob', 'counterparty'],
] as const)('the commitment of %s', (owner, name) => {
  test('has the anchor of the holder, due in time for the HTLCs behind it', () => {
    const channel = new TestChannel();
    channel.add('alice', { seed: 1, amountMsat: 50_000_000n, cltvExpiryHeight: 600 });
    channel.add('bob', { seed: 2, amountMsat: 50_000_000n, cltvExpiryHeight: 500 });
    channel.settle();
    const { waits } = waiting(channel, owner);
    expect(waits?.owner).toBe(name);
    // 3 blocks until the force close, 18 for this transaction, 18 for the time-out, 6 + 3 for the failure upstream: 48.
    expect(waits?.anchor).toMatchObject({ valueSat: 330n, deadlineHeight: 621, kind: { type: 'anchor' } });
    // With the preimage, the claim of 500 needs its own 18 blocks.
    const known = waiting(channel, owner, new Map([['in:0', preimageOf(2)]]));
    expect(known.waits?.anchor?.deadlineHeight).toBe(482);
  });

  test('has an anchor that the holder can spend, and no hurry without HTLCs', () => {
    const channel = new TestChannel();
    const { chain, commitment, waits } = waiting(channel, owner);
    const anchor = waits?.anchor;
    if (anchor === undefined) throw new RangeError('no anchor');
    expect(anchor.deadlineHeight).toBeUndefined();
    expect(equalBytes(anchor.outPoint.txid, commitment.txid)).toBe(true);
    chain.mine([commitment.tx, claimTransaction(channel, 'alice', [anchor])]);
  });

  test('has none without anchors', () => {
    const channel = new TestChannel({ format: 'static_remotekey' });
    expect(waiting(channel, owner).waits).toMatchObject({ owner: name, anchor: undefined });
  });
});

test('a revoked commitment is not helped to confirm', () => {
  const channel = new TestChannel();
  channel.add('alice', { seed: 1, amountMsat: 50_000_000n, cltvExpiryHeight: 600 });
  channel.settle();
  const chain = new TestChain();
  chain.fund(channel);
  chain.mempool = [channel.commitment('bob', 0n).tx];
  const { settlement } = chain.settlement(channel, 'alice');
  expect(settlement).toMatchObject({ stage: 'open', unconfirmedCommitments: [], htlcs: [] });
});

test('nothing happened: the fundings are watched, and that is all', () => {
  const channel = new TestChannel();
  const { settlement } = new TestChain().settlement(channel, 'alice');
  expect(settlement).toEqual({
    stage: 'open',
    close: undefined,
    outputs: [],
    htlcs: [],
    unconfirmedCommitments: [],
    watched: [{ txid: channel.funding.fundingTxid, outputIndex: channel.funding.fundingOutputIndex }],
  });
});
