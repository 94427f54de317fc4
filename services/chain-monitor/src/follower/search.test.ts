/** Funding outputs whose watch comes long after their spend: channels that were recovered from a backup. */
import { NETWORKS, type Tx, encodeTx, p2wshScript, txid as txidOf } from '@fulmen/bitcoin';
import { ANYONE_SCRIPT } from '@fulmen/chain/compliance';
import { toHex } from '@fulmen/codec';
import { secp256k1 } from '@fulmen/crypto/default';
import { encodeMonitorParameters } from '@fulmen/monitor';
import { RpcError } from '@fulmen/rpc';
import type { FundingRecord } from '@fulmen/store/chain/chain-store';
import { emptyManagerTables } from '@fulmen/store/chain/memory';
import { type StoredTx, storeRawTx } from '@fulmen/testing/devchain';
import { afterEach, expect, test } from 'vitest';
import { type FakeSigner, fakeSigner } from '../testing/fake-signer.ts';
import { type Harness, type HarnessOptions, SEED, payFrom, startHarness } from '../testing/harness.ts';
import { TEST_PARAMETERS } from '../testing/monitor-parameters.ts';
import { BlockGate } from '../testing/source.ts';

const open: Harness[] = [];
afterEach(async () => {
  for (const harness of open.splice(0)) await harness.stop();
});

/** 1 1 DROP: anyone can spend it. */
const WITNESS_SCRIPT = Uint8Array.from([0x51, 0x51, 0x75]);
const VALUE_SAT = 1_000_000n;

function spendOf(fundingTxid: Uint8Array): Tx {
  return {
    version: 2,
    locktime: 0,
    inputs: [
      {
        txid: fundingTxid,
        vout: 0,
        scriptSig: new Uint8Array(0),
        sequence: 0xffff_fffd,
        witness: [WITNESS_SCRIPT],
      },
    ],
    outputs: [{ valueSat: 990_000n, script: ANYONE_SCRIPT }],
  };
}

function stored(raw: Uint8Array): StoredTx {
  const tx = storeRawTx(raw);
  if (tx === undefined) throw new TypeError('no transaction');
  return tx;
}

/** A funding output confirmed at 111 and spent at 112; and then, as many blocks as given before anybody watches it. */
async function watchedLate(
  blocksAfter: number,
  searchFromHeight: number | undefined,
  options: HarnessOptions = {},
) {
  const { channelId } = TEST_PARAMETERS;
  const manager = {
    ...emptyManagerTables(),
    fundingSearches: new Map(searchFromHeight === undefined ? [] : [[toHex(channelId), searchFromHeight]]),
  };
  const harness = await startHarness({ ...options, manager });
  open.push(harness);
  await harness.mine(110);
  const funding = payFrom(harness.devChain, 1, [
    { script: p2wshScript(WITNESS_SCRIPT), valueSat: VALUE_SAT },
  ]);
  const spend = spendOf(funding.txid);
  const transactions = [funding.raw, encodeTx(spend)];
  for (const raw of transactions) harness.devChain.mineWith([stored(raw)], ANYONE_SCRIPT);
  await harness.mine(blocksAfter);
  const watch = {
    channelId,
    fundingTxid: funding.txid,
    fundingOutputIndex: 0,
    fundingValueSat: VALUE_SAT,
    scriptPubKey: p2wshScript(WITNESS_SCRIPT),
    minimumDepth: 1,
  };
  const [first] = TEST_PARAMETERS.fundings;
  if (first === undefined) throw new TypeError('no funding');
  const parameters = {
    ...TEST_PARAMETERS,
    fundings: [{ ...first, fundingTxid: funding.txid, fundingOutputIndex: 0, fundingValueSat: VALUE_SAT }],
  };
  manager.monitorBirths.set(toHex(channelId), encodeMonitorParameters(parameters));
  harness.watch(watch);
  for (let turn = 0; turn < 10; turn += 1) await harness.turn();
  return { harness, watch, transactions, spend, key: toHex(channelId) };
}

test('the blocks since the backup are searched, and the close is settled from them', async () => {
  const { harness, watch, spend, key } = await watchedLate(30, 111);
  expect(harness.status(watch)).toMatchObject({ type: 'spent', txid: txidOf(spend), height: 112, depth: 31 });
  expect([...harness.state.settlement.spends.values()]).toMatchObject([{ txid: txidOf(spend), height: 112 }]);
  expect(harness.state.settlement.settlements.get(key)).toMatchObject({ closeHeight: 112 });
  expect(harness.state.rescanFrom).toBeUndefined();
  expect(harness.clock.failures).toEqual([]);
});

test('the search goes on after a restart', async () => {
  const { harness, watch } = await watchedLate(30, 111);
  harness.state.rescanFrom = 112;
  harness.state.settlement.spends.clear();
  open.splice(open.indexOf(harness), 1);
  const again = await harness.restart();
  open.push(again);
  for (let turn = 0; turn < 10; turn += 1) await again.turn();
  expect(again.status(watch)).toMatchObject({ type: 'spent', height: 112 });
  expect(again.state.settlement.spends.size).toBe(1);
});

test('a close that the search has found is settled when all that followed is known', async () => {
  const { harness, spend, key } = await watchedLate(30, 111);
  const { state } = harness;
  state.rescanFrom = 112;
  state.settlement.spends.clear();
  state.settlement.settlements.clear();
  const { spent: _, ...unspent } = state.fundings.get(key) ?? {};
  state.fundings.set(key, unspent as FundingRecord);
  const gate = new BlockGate(harness.devChain.chain.at(140)?.hash);
  open.splice(open.indexOf(harness), 1);
  const again = await harness.restart({}, gate.wrap);
  open.push(again);
  await again.turn();
  expect(state.rescanFrom).toBe(140);
  expect([...state.settlement.spends.values()]).toMatchObject([{ txid: txidOf(spend), height: 112 }]);
  expect(state.settlement.settlements.size).toBe(0);
  gate.open();
  for (let turn = 0; turn < 5; turn += 1) await again.turn();
  expect(state.rescanFrom).toBeUndefined();
  expect(state.settlement.settlements.get(key)).toMatchObject({ closeHeight: 112 });
  expect(again.clock.failures).toEqual([]);
});

test('a spend in recent blocks is a fact too, without any search asked for', async () => {
  const { harness, watch, spend } = await watchedLate(2, undefined);
  expect(harness.status(watch)).toMatchObject({ type: 'spent', txid: txidOf(spend), height: 112, depth: 3 });
  expect(harness.state.settlement.spends.size).toBe(1);
});

/** A signer that does not tell what the wallet is: no old block is scanned meanwhile. */
function silentSigner(): FakeSigner {
  return {
    ...fakeSigner(secp256k1, SEED, NETWORKS.regtest),
    getWalletDescriptors: () => Promise.reject(new RpcError('unavailable', 'the signer is away')),
  };
}

/** A reorganisation puts the spend into the block of the funding, one lower than it was. */
async function spendsOneLower(harness: Harness, transactions: readonly Uint8Array[]): Promise<void> {
  const { devChain } = harness;
  const [from, tipHeight] = [devChain.chain.at(111), devChain.chain.tip.height];
  if (from === undefined) throw new TypeError('no block');
  devChain.invalidate(from);
  devChain.mineWith(transactions.map(stored), ANYONE_SCRIPT);
  while (devChain.chain.tip.height <= tipHeight) devChain.mineWith([], ANYONE_SCRIPT);
  for (let turn = 0; turn < 10; turn += 1) await harness.turn();
}

test('a spend in recent blocks asks for no scan, and none hides it when a reorganisation puts it lower', async () => {
  const { harness, watch, transactions, spend, key } = await watchedLate(2, undefined, {
    signer: silentSigner(),
  });
  expect(harness.state.settlement.settlements.get(key)).toMatchObject({ closeHeight: 112 });
  await spendsOneLower(harness, transactions);
  expect(harness.status(watch)).toMatchObject({ type: 'spent', txid: txidOf(spend), height: 111 });
  expect(harness.state.settlement.settlements.get(key)).toMatchObject({ closeHeight: 111 });
  expect(harness.state.rescanFrom).toBeUndefined();
});

test('a scan under way knows nothing of blocks that a reorganisation brought', async () => {
  const { harness, transactions, key } = await watchedLate(2, undefined, { signer: silentSigner() });
  harness.state.rescanFrom = 114;
  open.splice(open.indexOf(harness), 1);
  const again = await harness.restart();
  open.push(again);
  await spendsOneLower(again, transactions);
  expect(again.state.settlement.settlements.get(key)).toMatchObject({ closeHeight: 111 });
  expect(again.state.rescanFrom).toBe(111);
});

test('without a search old blocks are not read', async () => {
  const { harness, watch } = await watchedLate(30, undefined);
  expect(harness.status(watch)).toEqual({ type: 'unconfirmed' });
});
