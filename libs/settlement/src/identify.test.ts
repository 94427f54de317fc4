/** Whose transaction spent the funding output: nothing is taken for what it is not. */
import { txid as txidOf } from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { preimageOf, testScript } from '@fulmen/channel/testing/pair';
import { describe, expect, test } from 'vitest';
import { IRREVOCABLE_DEPTH } from './constants.ts';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { settle } from './settle.ts';
import { claimTransactions } from './testing/claims.ts';
import { TestChain } from './testing/test-chain.ts';
import { TestChannel } from './testing/test-channel.ts';
import { outcomes, words } from './testing/words.ts';

const EXPIRY = 500;

function opened(channel: TestChannel): TestChain {
  const chain = new TestChain();
  chain.fund(channel);
  return chain;
}

function pay(channel: TestChannel, seed: number): void {
  const id = channel.add('alice', { seed, amountMsat: 50_000_000n, cltvExpiryHeight: EXPIRY });
  channel.settle();
  channel.fulfill('bob', id, seed);
  channel.settle();
}

/** A fact that nobody validated: the funding is spent by this transaction. */
function settledBy(channel: TestChannel, tx: Tx, monitor = channel.monitor('alice')) {
  const spend = { tx, txid: txidOf(tx), height: 101 };
  return settle({ secp }, monitor, {
    confirmed: [spend],
    unconfirmed: [],
    bestHeight: 101,
    preimages: new Map(),
  });
}

describe('the same number does not make the same commitment', () => {
  test.each(['alice', 'bob'] as const)('%s', (owner) => {
    const channel = new TestChannel();
    pay(channel, 1);
    const { tx } = channel.commitment(owner);
    const [first, ...rest] = tx.outputs;
    if (first === undefined) throw new RangeError('no outputs');
    const altered = { ...tx, outputs: [{ ...first, valueSat: first.valueSat - 1n }, ...rest] };
    expect(settledBy(channel, tx).close?.type).toBe(owner === 'alice' ? 'holder' : 'counterparty');
    expect(settledBy(channel, altered).close?.type).toBe('unknown');
  });
});

test('the holder commitment before the newest is known too, with the counterparty signatures of its own', () => {
  const channel = new TestChannel();
  channel.add('bob', { seed: 1, amountMsat: 50_000_000n, cltvExpiryHeight: EXPIRY });
  channel.settle();
  // The newest holder commitment is one later, and the HTLC is still on the one before.
  const before = channel.newestNumber('alice');
  channel.add('bob', { seed: 2, amountMsat: 30_000_000n, cltvExpiryHeight: EXPIRY });
  channel.settle();
  expect(channel.newestNumber('alice')).toBe(before + 1n);
  const chain = opened(channel);
  chain.mine([channel.commitment('alice', before).tx]);
  const preimages = new Map([['in:0', preimageOf(1)]]);
  const { settlement } = chain.settlement(channel, 'alice', preimages);
  expect(settlement.close).toMatchObject({ type: 'holder', commitmentNumber: before });
  chain.mine(claimTransactions(channel, 'alice', settlement));
  expect(words(chain.settlement(channel, 'alice', preimages).settlement)).toContain(
    'htlc_offered_by_counterparty 0: second_stage by holder, young',
  );
});

test("an old commitment of the holder's own is unknown: it was revoked, and the counterparty punishes", () => {
  const channel = new TestChannel();
  pay(channel, 1);
  pay(channel, 2);
  const chain = opened(channel);
  chain.mine([channel.commitment('alice', 0n).tx]);
  const { settlement } = chain.settlement(channel, 'alice');
  expect(settlement.close?.type).toBe('unknown');
  expect(words(settlement)).toEqual(['anchor: anchor']);
});

test('a monitor that lost data: to_remote is claimed, preimages are read, the rest is left alone', () => {
  const channel = new TestChannel();
  channel.add('alice', { seed: 1, amountMsat: 50_000_000n, cltvExpiryHeight: EXPIRY });
  channel.settle();
  const stale = channel.monitor('alice');
  pay(channel, 2);
  pay(channel, 3);
  const commitment = channel.commitment('bob');
  const chain = opened(channel);
  chain.mine([commitment.tx]);
  let { settlement } = chain.settlementOf(stale);
  expect(settlement.close).toMatchObject({ type: 'data_loss', commitmentNumber: commitment.number });
  expect(words(settlement).sort()).toEqual(['anchor: anchor', 'to_remote: counterparty_balance']);
  expect(outcomes(settlement)).toEqual({ 'out:0': 'pending' });
  chain.mine(claimTransactions(channel, 'alice', settlement));
  chain.mineTo(300);
  ({ settlement } = chain.settlementOf(stale));
  expect(settlement.stage).toBe('closed');
  expect(outcomes(settlement)).toEqual({ 'out:0': 'pending' });

  const { outputIndex } = channel.htlcOutput(commitment, 'inbound', 0n);
  chain.mempool = [channel.secondStage(commitment, [{ outputIndex, preimage: preimageOf(1) }])];
  expect(outcomes(chain.settlementOf(stale).settlement)).toEqual({ 'out:0': 'fulfilled' });

  // Nobody takes it: long after the expiry whoever waits upstream is told.
  chain.mempool = [];
  chain.mineTo(EXPIRY + IRREVOCABLE_DEPTH - 2);
  expect(outcomes(chain.settlementOf(stale).settlement)).toEqual({ 'out:0': 'pending' });
  chain.mine();
  ({ settlement } = chain.settlementOf(stale));
  expect(outcomes(settlement)).toEqual({ 'out:0': 'failed timeout' });
  expect(settlement.stage).toBe('resolved');
});

test("a holder commitment that is newer than the monitor is no loss of data of the counterparty's", () => {
  const channel = new TestChannel();
  pay(channel, 1);
  const stale = channel.monitor('alice');
  pay(channel, 2);
  pay(channel, 3);
  expect(settledBy(channel, channel.commitment('alice').tx, stale).close?.type).toBe('unknown');
});

describe('a transaction of another form', () => {
  const mutual = (channel: TestChannel, outputs: Tx['outputs']): Tx => {
    const { fundingTxid, fundingOutputIndex } = channel.funding;
    const input = { txid: fundingTxid, vout: fundingOutputIndex, scriptSig: new Uint8Array(0) };
    return { version: 2, locktime: 0, inputs: [{ ...input, sequence: 0xffff_fffd, witness: [] }], outputs };
  };
  const shutDown = (): TestChannel => {
    const channel = new TestChannel();
    pay(channel, 1);
    channel.pair.alice.must({ type: 'shutdown' });
    channel.pair.deliverAll();
    return channel;
  };

  test('is a mutual close when it pays the agreed script, and nothing is outstanding', () => {
    const channel = shutDown();
    const tx = mutual(channel, [{ valueSat: 500_000n, script: testScript(1) }]);
    const settlement = settledBy(channel, tx);
    expect(settlement).toMatchObject({ stage: 'closed', outputs: [], htlcs: [] });
    expect(settlement.close?.type).toBe('mutual');
    const spend = { tx, txid: txidOf(tx), height: 101 };
    const facts = { confirmed: [spend], unconfirmed: [], preimages: new Map<string, Uint8Array>() };
    const at = (bestHeight: number): string =>
      settle({ secp }, channel.monitor('alice'), { ...facts, bestHeight }).stage;
    expect(at(101 + IRREVOCABLE_DEPTH - 2)).toBe('closed');
    expect(at(101 + IRREVOCABLE_DEPTH - 1)).toBe('resolved');
  });

  test('is unknown when it pays others what is the holder’s, or no shutdown was agreed', () => {
    const stolen = shutDown();
    const outputs = [{ valueSat: 990_000n, script: testScript(2) }];
    expect(settledBy(stolen, mutual(stolen, outputs)).close?.type).toBe('unknown');
    const channel = new TestChannel();
    const paid = [{ valueSat: 500_000n, script: testScript(1) }];
    expect(settledBy(channel, mutual(channel, paid)).close?.type).toBe('unknown');
  });
});

test('without its point a holder commitment is unknown until somebody says it', () => {
  const channel = new TestChannel();
  pay(channel, 1);
  const monitor = channel.monitor('alice');
  if (monitor.holderCommitment === undefined) throw new RangeError('no holder commitment');
  const { perCommitmentPoint, ...rest } = monitor.holderCommitment;
  const old = { ...monitor, holderCommitment: rest };
  const { tx } = channel.commitment('alice');
  const facts = {
    confirmed: [{ tx, txid: txidOf(tx), height: 101 }],
    unconfirmed: [],
    bestHeight: 101,
    preimages: new Map<string, Uint8Array>(),
  };
  expect(settle({ secp }, old, facts).close?.type).toBe('unknown');
  expect(settle({ secp, holderPoint: () => perCommitmentPoint }, old, facts).close?.type).toBe('holder');
});

test('of several fundings the one that was spent counts', () => {
  const channel = new TestChannel();
  pay(channel, 1);
  const monitor = channel.monitor('alice');
  const other = { ...channel.funding, fundingTxid: new Uint8Array(32).fill(9), fundingValueSat: 5n };
  const parameters = { ...monitor.parameters, fundings: [other, ...monitor.parameters.fundings] };
  const { tx } = channel.commitment('bob');
  const settlement = settledBy(channel, tx, { ...monitor, parameters });
  expect(settlement.close?.type).toBe('counterparty');
  // On the other funding the same content does not add up: it is not that commitment.
  const moved = { ...tx, inputs: tx.inputs.map((input) => ({ ...input, txid: other.fundingTxid, vout: 1 })) };
  expect(settledBy(channel, moved, { ...monitor, parameters }).close?.type).toBe('unknown');
  expect(settlement.watched.length).toBeGreaterThan(2);
});
