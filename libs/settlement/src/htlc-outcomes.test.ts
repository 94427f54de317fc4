/** Preimages, from blocks and from the mempool, and when a failure may go upstream. */
import { txid as txidOf } from '@fulmen/bitcoin';
import { preimageOf } from '@fulmen/channel/testing/pair';
import { equalBytes } from '@fulmen/codec';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { describe, expect, test } from 'vitest';
import { settle } from './settle.ts';
import { claimTransactions } from './testing/claims.ts';
import { TestChain } from './testing/test-chain.ts';
import { TestChannel } from './testing/test-channel.ts';
import type { SignedCommitment } from './testing/test-channel.ts';
import { outcomes } from './testing/words.ts';

const EXPIRY = 500;

/** alice offers twins 0 and 1 (one hash, amount and expiry), and 2 of the same hash as dust. */
function twins(): TestChannel {
  const channel = new TestChannel();
  for (const amountMsat of [50_000_000n, 50_000_000n, 200_000n])
    channel.add('alice', { seed: 1, amountMsat, cltvExpiryHeight: EXPIRY });
  channel.settle();
  return channel;
}

function opened(channel: TestChannel): TestChain {
  const chain = new TestChain();
  chain.fund(channel);
  return chain;
}

/** bob takes an HTLC of alice's with its preimage, from either side's commitment. */
function taken(channel: TestChannel, commitment: SignedCommitment, id: bigint, seed: number) {
  const isOwn = commitment.owner === 'bob';
  const { outputIndex } = channel.htlcOutput(commitment, isOwn ? 'inbound' : 'outbound', id);
  return isOwn
    ? channel.secondStage(commitment, [{ outputIndex, preimage: preimageOf(seed) }])
    : channel.directClaim(commitment, outputIndex, preimageOf(seed));
}

describe.each(['alice', 'bob'] as const)('on the commitment of %s', (owner) => {
  test('a preimage in the mempool goes upstream at once, and stays when it is mined', () => {
    const channel = twins();
    const chain = opened(channel);
    const commitment = channel.commitment(owner);
    chain.mine([commitment.tx]);
    const claim = taken(channel, commitment, 1n, 1);
    chain.mempool = [claim];
    let { settlement } = chain.settlement(channel, 'alice');
    expect(outcomes(settlement)).toEqual({ 'out:0': 'pending', 'out:1': 'fulfilled', 'out:2': 'pending' });
    const fulfilled = settlement.htlcs.find(({ type }) => type === 'fulfilled');
    expect(fulfilled?.type === 'fulfilled' && equalBytes(fulfilled.preimage, preimageOf(1))).toBe(true);
    chain.mine([claim]);
    ({ settlement } = chain.settlement(channel, 'alice'));
    expect(outcomes(settlement)).toMatchObject({ 'out:1': 'fulfilled' });
  });

  test('twins: each ends by its own output, whatever the other revealed', () => {
    const channel = twins();
    const chain = opened(channel);
    const commitment = channel.commitment(owner);
    chain.mine([commitment.tx]);
    chain.mine([taken(channel, commitment, 0n, 1)]);
    chain.mineTo(EXPIRY);
    const { settlement } = chain.settlement(channel, 'alice');
    chain.mine(claimTransactions(channel, 'alice', settlement));
    chain.mineTo(EXPIRY + 6);
    expect(outcomes(chain.settlement(channel, 'alice').settlement)).toEqual({
      'out:0': 'fulfilled',
      'out:1': 'failed timeout',
      'out:2': 'failed dust',
    });
  });

  test('even after the expiry a preimage wins while the time-out is not final', () => {
    const channel = twins();
    const chain = opened(channel);
    const commitment = channel.commitment(owner);
    chain.mine([commitment.tx]);
    chain.mineTo(EXPIRY + 30);
    chain.mempool = [taken(channel, commitment, 0n, 1)];
    expect(outcomes(chain.settlement(channel, 'alice').settlement)).toMatchObject({ 'out:0': 'fulfilled' });
  });

  test('a witness of 32 bytes that are not the preimage is none', () => {
    const channel = twins();
    const chain = opened(channel);
    const commitment = channel.commitment(owner);
    chain.mine([commitment.tx]);
    chain.mempool = [taken(channel, commitment, 0n, 2)];
    expect(outcomes(chain.settlement(channel, 'alice').settlement)).toMatchObject({ 'out:0': 'pending' });
  });
});

test('preimages are read behind a commitment that is not confirmed yet, and behind the rival of one that is', () => {
  const channel = twins();
  channel.add('alice', { seed: 7, amountMsat: 10_000_000n, cltvExpiryHeight: EXPIRY });
  channel.signUnheard('alice');
  const next = channel.commitment('bob');
  const current = channel.commitment('bob', next.number - 1n);
  const chain = opened(channel);
  chain.mempool = [next.tx, taken(channel, next, 3n, 7)];
  const open = chain.settlement(channel, 'alice').settlement;
  expect(open.stage).toBe('open');
  expect(outcomes(open)).toEqual({ 'out:3': 'fulfilled' });
  // The rival confirms while the other waits in somebody's mempool: the preimage is known all the same.
  chain.mine([current.tx]);
  const { facts } = chain.settlement(channel, 'alice');
  const unconfirmed = [next.tx, taken(channel, next, 3n, 7)];
  const settlement = settle({ secp }, channel.monitor('alice'), { ...facts, unconfirmed });
  expect(settlement.close?.type).toBe('counterparty');
  expect(outcomes(settlement)).toEqual({
    'out:0': 'pending',
    'out:1': 'pending',
    'out:2': 'pending',
    'out:3': 'fulfilled',
  });
});

test('HTLCs that the confirmed commitment never had are failed at its depth, and not before', () => {
  const channel = twins();
  const before = channel.commitment('bob');
  channel.add('alice', { seed: 7, amountMsat: 10_000_000n, cltvExpiryHeight: EXPIRY });
  channel.signUnheard('alice');
  const chain = opened(channel);
  chain.mine([before.tx]);
  chain.mineTo(105);
  expect(outcomes(chain.settlement(channel, 'alice').settlement)['out:3']).toBe('pending');
  chain.mine();
  expect(outcomes(chain.settlement(channel, 'alice').settlement)['out:3']).toBe('failed not_on_commitment');
  // Another commitment wins after a reorganisation: nothing is failed then.
  chain.disconnect(6);
  expect(chain.settlement(channel, 'alice').settlement.stage).toBe('open');
  chain.mine([channel.commitment('bob').tx]);
  expect(outcomes(chain.settlement(channel, 'alice').settlement)['out:3']).toBe('pending');
});

test('an HTLC that ended off-chain for good is not told again', () => {
  const channel = twins();
  channel.fulfill('bob', 0n, 1);
  channel.settle();
  // The holder's last but one commitment has it still.
  const monitor = channel.monitor('alice');
  expect(monitor.previousHolderCommitment?.content.htlcs).toContainEqual({ direction: 'outbound', id: 0n });
  expect(monitor.htlcs.has('out:0')).toBe(true);
  const chain = opened(channel);
  chain.mine([channel.commitment('alice').tx]);
  chain.mineTo(120);
  expect(outcomes(chain.settlement(channel, 'alice').settlement)).toEqual({
    'out:1': 'pending',
    'out:2': 'failed dust',
  });
});

test('an outbound HTLC whose preimage is known by other ways is never failed', () => {
  const channel = twins();
  const chain = opened(channel);
  chain.mine([channel.commitment('alice').tx]);
  chain.mineTo(120);
  const known = new Map([['out:2', preimageOf(1)]]);
  expect(outcomes(chain.settlement(channel, 'alice', known).settlement)).toMatchObject({
    'out:2': 'fulfilled',
  });
  const wrong = new Map([['out:2', preimageOf(9)]]);
  expect(outcomes(chain.settlement(channel, 'alice', wrong).settlement)).toMatchObject({
    'out:2': 'failed dust',
  });
});

test('the settlement watches what concerns the holder, and nothing of the counterparty', () => {
  const channel = twins();
  channel.add('bob', { seed: 8, amountMsat: 30_000_000n, cltvExpiryHeight: EXPIRY });
  channel.settle();
  const commitment = channel.commitment('bob');
  const chain = opened(channel);
  chain.mine([commitment.tx]);
  const claim = taken(channel, commitment, 0n, 1);
  chain.mine([claim]);
  const { watched } = chain.settlement(channel, 'alice').settlement;
  const kinds = watched.flatMap(({ txid, outputIndex }) =>
    equalBytes(txid, commitment.txid) ? [commitment.built.outputs[outputIndex]?.type] : [],
  );
  // bob is the owner: his to_local and his anchor are his own business.
  expect(new Set(kinds)).toEqual(new Set(['anchor_counterparty', 'htlc', 'to_remote']));
  expect(watched.some(({ txid }) => equalBytes(txid, txidOf(claim)))).toBe(false);
  expect(watched).toHaveLength(6);
});
