/** Fundings that never confirm: the manager hears of it, once it is certain. */
import { afterEach, expect, test } from 'vitest';
import { decodeTx, encodeTx, p2wshScript } from '@fulmen/bitcoin';
import { ANYONE_SCRIPT } from '@fulmen/chain/compliance';
import { toHex } from '@fulmen/codec';
import { type ChannelMonitor, encodeMonitor, newMonitor } from '@fulmen/monitor';
import type { FundingWatch } from '@fulmen/store';
import { storeRawTx } from '@fulmen/testing/devchain';
import { type Harness, payFrom, startHarness } from '../testing/harness.ts';
import { TEST_PARAMETERS } from '../testing/monitor-parameters.ts';

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

/** A channel of the counterparty's that failed, and whose funding was never seen. */
async function failedAndLost(toHolderMsat: bigint): Promise<Awaited<ReturnType<typeof watched>>> {
  const bench = await watched();
  const { harness, watch, raw } = bench;
  const key = toHex(watch.channelId);
  const content = {
    commitmentNumber: 0n,
    feerateSatPerKw: 253,
    toHolderMsat,
    toCounterpartyMsat: 1_000_000_000n - toHolderMsat,
    htlcs: [],
  };
  const monitor: ChannelMonitor = {
    ...newMonitor({ ...TEST_PARAMETERS, channelId: watch.channelId }),
    holderCommitment: { content, signatures: [] },
  };
  harness.state.monitors.set(key, {
    channelId: watch.channelId,
    updateId: 1n,
    snapshot: encodeMonitor(monitor),
    closeState: 'ordered',
  });
  // Any transaction that no mempool takes.
  harness.manager.broadcasts.push({
    kind: 'force_close',
    channelId: watch.channelId,
    transactions: [orphan(raw)],
  });
  await mineMany(harness, TIMEOUT_BLOCKS);
  expect(harness.status(watch)).toMatchObject({ type: 'lost' });
  await harness.mine(1);
  expect(harness.state.broadcasts.size).toBe(1);
  expect(harness.state.fundings.get(key)?.settledHeight).toBeUndefined();
  const channel = harness.manager.channels.get(key);
  if (channel !== undefined)
    harness.manager.channels.set(key, { ...channel, row: { ...channel.row, phase: 'closed' } });
  await harness.mine(1);
  return bench;
}

test('one in which the holder has nothing is forgotten once its channel is closed', async () => {
  const { harness, watch } = await failedAndLost(0n);
  expect(harness.state.broadcasts.size).toBe(0);
  expect(harness.state.fundings.get(toHex(watch.channelId))?.settledHeight).toBe(110 + TIMEOUT_BLOCKS + 2);
});

test('one in which the holder has a balance is watched, and its commitment kept, for good', async () => {
  const { harness, watch, raw } = await failedAndLost(1_000n);
  expect(harness.state.broadcasts.size).toBe(1);
  submit(harness, raw);
  await harness.mine(1);
  expect(harness.status(watch)).toMatchObject({ type: 'confirmed', depth: 1 });
  expect(harness.state.broadcasts.size).toBe(1);
});
