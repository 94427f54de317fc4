/** Fundings that never confirm: the manager hears of it, once it is certain. */
import { afterEach, expect, test } from 'vitest';
import { decodeTx, encodeTx, p2wshScript } from '@fulmen/bitcoin';
import { ANYONE_SCRIPT } from '@fulmen/chain/compliance';
import { toHex } from '@fulmen/codec';
import {
  type ChannelMonitor,
  type CommitmentContent,
  encodeMonitor,
  htlcKey,
  newMonitor,
} from '@fulmen/monitor';
import type { FundingWatch } from '@fulmen/store';
import { storeRawTx } from '@fulmen/testing/devchain';
import { type Harness, payFrom, startHarness } from '../testing/harness.ts';
import { TEST_PARAMETERS } from '../testing/monitor-parameters.ts';
import { BURIAL_DEPTH } from './orders.ts';

const open: Harness[] = [];
afterEach(async () => {
  for (const harness of open.splice(0)) await harness.stop();
});

const SCRIPT = p2wshScript(Uint8Array.from([0x51, 0x51, 0x75]));
const TIMEOUT_BLOCKS = 2016;

/** A funding that is watched and in no mempool. */
async function watched(
  funder: 'holder' | 'counterparty' = 'counterparty',
): Promise<{ harness: Harness; watch: FundingWatch; raw: Uint8Array }> {
  const harness = await startHarness();
  open.push(harness);
  await harness.mine(110);
  const funding = payFrom(harness.devChain, 1, [{ script: SCRIPT, valueSat: 1_000_000n }]);
  const watch: FundingWatch = {
    channelId: new Uint8Array(32).fill(1),
    fundingTxid: funding.txid,
    fundingOutputIndex: 0,
    fundingValueSat: 1_000_000n,
    scriptPubKey: SCRIPT,
    minimumDepth: 3,
  };
  harness.manager.channels.set(toHex(watch.channelId), {
    row: { channelKeysId: new Uint8Array(32), holderIsFunder: funder === 'holder' },
    monitorUpdateId: 1n,
    outgoing: new Map(),
  });
  harness.watch(watch);
  await harness.turn();
  return { harness, watch, raw: funding.raw };
}

/** Mines in pieces, so that the follower keeps up. */
async function mineMany(harness: Harness, count: number): Promise<void> {
  for (let left = count; left > 0; left -= 50) await harness.mine(Math.min(left, 50));
}

function submit(harness: Harness, raw: Uint8Array): void {
  const stored = storeRawTx(raw);
  if (stored === undefined) throw new TypeError('not a transaction');
  harness.devChain.submit(stored);
}

/** The same of inputs that are not there: no mempool takes it, and nobody spends what it spends. */
function orphan(raw: Uint8Array): Uint8Array {
  const tx = decodeTx(raw);
  if (!tx.ok) throw new TypeError('not a transaction');
  return encodeTx({ ...tx.value, inputs: tx.value.inputs.map((input) => ({ ...input, vout: 9 })) });
}

test('another transaction takes the inputs of our own funding: six blocks later it is lost', async () => {
  const { harness, watch, raw } = await watched('holder');
  const other = payFrom(harness.devChain, 1, [{ script: ANYONE_SCRIPT, valueSat: 2_000_000n }]);
  submit(harness, other.raw);
  harness.manager.broadcasts.push({ kind: 'funding', channelId: watch.channelId, transactions: [raw] });
  await harness.turn();
  await harness.mine(5);
  expect(harness.status(watch)).toEqual({ type: 'unconfirmed' });
  await harness.mine(1);
  expect(harness.status(watch)).toEqual({
    type: 'lost',
    reason: 'another transaction spent what the funding transaction spends',
  });
});

test('a conflict that is found late is told all the same', async () => {
  const { harness, watch, raw } = await watched('holder');
  submit(harness, payFrom(harness.devChain, 1, [{ script: ANYONE_SCRIPT, valueSat: 2_000_000n }]).raw);
  harness.manager.broadcasts.push({ kind: 'funding', channelId: watch.channelId, transactions: [raw] });
  await harness.turn();
  await harness.mine(2);
  // As a release before left it, or a source that tells of a block's transactions only now.
  for (const [id, order] of harness.state.broadcasts)
    harness.state.broadcasts.set(id, { ...order, conflictHeight: 90 });
  const again = await harness.restart();
  open.splice(0, 1, again);
  await again.mine(1);
  expect(again.status(watch)).toMatchObject({ type: 'lost' });
});

test('our own funding that only waits is never lost', async () => {
  const { harness, watch } = await watched('holder');
  const raw = orphan(payFrom(harness.devChain, 1, [{ script: SCRIPT, valueSat: 1_000_000n }]).raw);
  harness.manager.broadcasts.push({ kind: 'funding', channelId: watch.channelId, transactions: [raw] });
  await harness.turn();
  await mineMany(harness, TIMEOUT_BLOCKS + 10);
  expect(harness.status(watch)).toEqual({ type: 'unconfirmed' });
});

test('nor while it waits for the towers: its order is not here yet', async () => {
  const { harness, watch } = await watched('holder');
  await mineMany(harness, TIMEOUT_BLOCKS + 10);
  expect(harness.status(watch)).toEqual({ type: 'unconfirmed' });
});

// BOLT 2: the fundee "SHOULD forget the channel if it does not see the correct funding transaction after a timeout of 2016 blocks".
test('a funding of the counterparty is lost after 2016 blocks, and not one before', async () => {
  const { harness, watch } = await watched();
  await mineMany(harness, TIMEOUT_BLOCKS - 1);
  expect(harness.status(watch)).toEqual({ type: 'unconfirmed' });
  await harness.mine(1);
  expect(harness.status(watch)).toEqual({
    type: 'lost',
    reason: `the funding transaction was not seen in ${TIMEOUT_BLOCKS} blocks`,
  });
});

test('a watch from a release that noted neither its height nor its funder gets the same time', async () => {
  const { harness, watch } = await watched();
  const key = toHex(watch.channelId);
  const old = harness.state.fundings.get(key);
  if (old === undefined) throw new TypeError('not watched');
  const { watchedHeight: _, funder: __, ...rest } = old;
  harness.state.fundings.set(key, rest);
  const again = await harness.restart();
  open.splice(0, 1, again);
  await again.turn();
  expect(again.state.fundings.get(key)).toEqual({ ...rest, watchedHeight: 110, funder: 'counterparty' });
  // One that lacks the funder alone has had some of its time already.
  again.state.fundings.set(key, { ...rest, watchedHeight: 7 });
  const third = await again.restart();
  open.splice(0, 1, third);
  await third.turn();
  expect(third.state.fundings.get(key)).toMatchObject({ watchedHeight: 7, funder: 'counterparty' });
});

test('but not one of a channel from a backup: it was mined long ago, wherever it is', async () => {
  const { harness, watch } = await watched();
  const key = toHex(watch.channelId);
  const old = harness.state.fundings.get(key);
  if (old === undefined) throw new TypeError('not watched');
  const { watchedHeight: _, funder: __, ...rest } = old;
  harness.state.fundings.set(key, rest);
  Object.assign(harness.manager, { fundingSearches: new Map([[key, 100]]) });
  const again = await harness.restart();
  open.splice(0, 1, again);
  await again.turn();
  expect(again.state.fundings.get(key)).toEqual({ ...rest, funder: 'counterparty' });
});

test('one that confirms in time is not', async () => {
  const { harness, watch, raw } = await watched();
  await mineMany(harness, TIMEOUT_BLOCKS - 1);
  submit(harness, raw);
  await harness.mine(1);
  expect(harness.status(watch)).toMatchObject({ type: 'confirmed', depth: 1 });
  await harness.mine(10);
  expect(harness.status(watch)).toMatchObject({ type: 'confirmed', depth: 11 });
});

const EMPTY: CommitmentContent = {
  commitmentNumber: 0n,
  feerateSatPerKw: 253,
  toHolderMsat: 0n,
  toCounterpartyMsat: 1_000_000_000n,
  htlcs: [],
};
const PAID: CommitmentContent = { ...EMPTY, toHolderMsat: 1_000n, toCounterpartyMsat: 999_999_000n };
const OFFERED: CommitmentContent = {
  ...EMPTY,
  toCounterpartyMsat: 999_999_000n,
  htlcs: [{ direction: 'inbound', id: 0n }],
};
const HTLCS: ChannelMonitor['htlcs'] = new Map([
  [
    htlcKey({ direction: 'inbound', id: 0n }),
    {
      htlc: {
        direction: 'inbound',
        id: 0n,
        amountMsat: 1_000n,
        paymentHash: new Uint8Array(32).fill(5),
        cltvExpiryHeight: 5_000,
      },
    },
  ],
]);

/** As the monitor keeps a commitment of either side. */
function commitmentOf(content: CommitmentContent) {
  return { content, signatures: [], perCommitmentPoint: new Uint8Array(33).fill(2) };
}

type Bench = Awaited<ReturnType<typeof watched>>;

/** Its channel failed: the commitment, a transaction that no mempool takes, is ordered, or waits for the signer. */
function fail(
  { harness, watch, raw }: Bench,
  leftovers: Partial<ChannelMonitor>,
  closeState: 'ordered' | 'pending' = 'ordered',
): void {
  const { channelId } = watch;
  const monitor: ChannelMonitor = {
    ...newMonitor({ ...TEST_PARAMETERS, channelId }),
    holderCommitment: commitmentOf(EMPTY),
    ...leftovers,
  };
  harness.state.monitors.set(toHex(channelId), {
    channelId,
    updateId: 1n,
    snapshot: encodeMonitor(monitor),
    closeState,
  });
  if (closeState === 'ordered')
    harness.manager.broadcasts.push({ kind: 'force_close', channelId, transactions: [orphan(raw)] });
}

/** The manager closes the channel for good. */
function close({ harness, watch }: Bench): void {
  const key = toHex(watch.channelId);
  const channel = harness.manager.channels.get(key);
  if (channel !== undefined)
    harness.manager.channels.set(key, { ...channel, row: { ...channel.row, phase: 'closed' } });
}

/** A funding of the counterparty's that was not seen in all its time, but for the last block. */
async function almostLost(): Promise<Bench> {
  const { harness: first, watch, raw } = await watched();
  const key = toHex(watch.channelId);
  const young = first.state.fundings.get(key);
  if (young?.watchedHeight === undefined) throw new TypeError('not watched');
  first.state.fundings.set(key, { ...young, watchedHeight: young.watchedHeight + 1 - TIMEOUT_BLOCKS });
  const harness = await first.restart();
  open.splice(0, 1, harness);
  return { harness, watch, raw };
}

/** A channel of the counterparty's that failed, and whose funding was never seen. */
async function failedAndLost(leftovers: Partial<ChannelMonitor>): Promise<Bench> {
  const bench = await almostLost();
  const { harness, watch } = bench;
  fail(bench, leftovers);
  await harness.mine(1);
  expect(harness.status(watch)).toMatchObject({ type: 'lost' });
  await harness.mine(1);
  expect(harness.state.broadcasts.size).toBe(1);
  expect(harness.state.fundings.get(toHex(watch.channelId))?.settledHeight).toBeUndefined();
  close(bench);
  await harness.mine(1);
  return bench;
}

test('one in which the holder has nothing is forgotten once its channel is closed', async () => {
  const { harness, watch } = await failedAndLost({});
  expect(harness.state.broadcasts.size).toBe(0);
  expect(harness.state.fundings.get(toHex(watch.channelId))?.settledHeight).toBe(110 + 3);
});

test('nor before the signer has signed its commitment: the order would come afterwards, and stay', async () => {
  const bench = await almostLost();
  const { harness, watch, raw } = bench;
  fail(bench, {}, 'pending');
  close(bench);
  await harness.mine(3);
  expect(harness.state.fundings.get(toHex(watch.channelId))?.settledHeight).toBeUndefined();
  harness.signer.answers.holderCommitment = orphan(raw);
  await harness.clock.advance(60_000);
  await harness.mine(1);
  await harness.mine(1);
  expect(harness.signer.calls.closes.length).toBeGreaterThan(0);
  expect(harness.state.broadcasts.size).toBe(0);
  expect(harness.state.fundings.get(toHex(watch.channelId))?.settledHeight).toBeDefined();
});

test.each<{ readonly what: string; readonly leftovers: Partial<ChannelMonitor> }>([
  { what: 'a balance', leftovers: { holderCommitment: commitmentOf(PAID) } },
  { what: 'an HTLC', leftovers: { holderCommitment: commitmentOf(OFFERED), htlcs: HTLCS } },
  { what: 'a balance before the last', leftovers: { previousHolderCommitment: commitmentOf(PAID) } },
  { what: 'a balance by the peer’s', leftovers: { counterpartyCommitment: commitmentOf(PAID) } },
  { what: 'a balance by the peer’s next', leftovers: { nextCounterpartyCommitment: commitmentOf(PAID) } },
])(
  'one in whose commitments the holder has $what is watched, and its commitment kept, for good',
  async ({ leftovers }) => {
    const { harness, watch, raw } = await failedAndLost(leftovers);
    expect(harness.state.broadcasts.size).toBe(1);
    submit(harness, raw);
    await harness.mine(1);
    expect(harness.status(watch)).toMatchObject({ type: 'confirmed', depth: 1 });
    expect(harness.state.broadcasts.size).toBe(1);
  },
);

test('the commitment of one that was lost is tried once a block, and not every half minute', async () => {
  const { harness } = await failedAndLost({ holderCommitment: commitmentOf(PAID) });
  const attempts = async (): Promise<number> =>
    Number(/rebroadcasts_total\{[^}]*\} (\d+)/.exec(await harness.metrics.registry.metrics())?.[1]);
  const before = await attempts();
  await harness.clock.advance(30_000);
  await harness.turn();
  expect(await attempts()).toBe(before);
  await harness.mine(1);
  expect(await attempts()).toBe(before + 1);
});

test('of our own that was replaced nothing is left once the conflict is buried', async () => {
  const bench = await watched('holder');
  const { harness, watch, raw } = bench;
  submit(harness, payFrom(harness.devChain, 1, [{ script: ANYONE_SCRIPT, valueSat: 2_000_000n }]).raw);
  harness.manager.broadcasts.push({ kind: 'funding', channelId: watch.channelId, transactions: [raw] });
  await harness.turn();
  fail(bench, { holderCommitment: commitmentOf(PAID) });
  await harness.mine(6);
  expect(harness.status(watch)).toMatchObject({ type: 'lost' });
  close(bench);
  await mineMany(harness, BURIAL_DEPTH - 7);
  expect(harness.state.fundings.get(toHex(watch.channelId))?.settledHeight).toBeUndefined();
  await harness.mine(1);
  expect(harness.state.broadcasts.size).toBe(0);
  expect(harness.state.fundings.get(toHex(watch.channelId))?.settledHeight).toBe(110 + BURIAL_DEPTH);
});
