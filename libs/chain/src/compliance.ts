/**
 * What every `ChainSource` must do, as cases that any runner can run: the
 * development chain's tests register them with vitest, and the same cases
 * run against a real bitcoind.
 */
import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import {
  NETWORKS,
  SEQUENCE_FINAL,
  decodeTx,
  displayHash,
  encodeTx,
  opReturnScript,
  p2wshScript,
  parseDisplayHash,
  txidHex,
} from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/bitcoin/bytes';
import type { ChainBlock } from './blocks.ts';
import { readBlock } from './blocks.ts';
import type { ChainFilter } from './filter.ts';
import { Registrations } from './filter.ts';
import type { ChainSource, ChainTip } from './source.ts';

/** A source with the control over its chain that the cases need. */
export interface ChainSourceHarness {
  readonly source: ChainSource;
  /** Mines blocks whose rewards go to this script; returns their hashes. */
  mine(count: number, script: Uint8Array): Promise<readonly string[]>;
  /** Takes this block and all after it out of the best chain. */
  invalidate(hash: string): Promise<void>;
  close(): Promise<void>;
}

/** One case of a suite. */
export interface ComplianceCase {
  readonly name: string;
  run(): Promise<void>;
}

/** Anyone can spend it by showing the script: OP_TRUE behind a P2WSH. */
export const ANYONE_WITNESS_SCRIPT: Uint8Array = Uint8Array.from([0x51]);
export const ANYONE_SCRIPT: Uint8Array = p2wshScript(ANYONE_WITNESS_SCRIPT);
const UNKNOWN_HASH = 'ab'.repeat(32);

/** A transaction that spends outputs of `ANYONE_SCRIPT` to the same script. */
export function spendAnyone(
  from: readonly { readonly txid: string; readonly vout: number; readonly sequence?: number }[],
  valuesSat: readonly bigint[],
  options: { readonly version?: number; readonly locktime?: number } = {},
): Tx {
  return {
    version: options.version ?? 2,
    locktime: options.locktime ?? 0,
    inputs: from.map(({ txid, vout, sequence }) => ({
      txid: parseDisplayHash(txid),
      vout,
      scriptSig: new Uint8Array(0),
      sequence: sequence ?? SEQUENCE_FINAL - 2,
      witness: [ANYONE_WITNESS_SCRIPT],
    })),
    outputs: valuesSat.map((valueSat) => ({ valueSat, script: ANYONE_SCRIPT })),
  };
}

interface Coin {
  readonly txid: string;
  readonly vout: number;
  readonly valueSat: bigint;
}

/** The reward of the block at this height, which must pay to `ANYONE_SCRIPT`. */
async function coinbaseAt(source: ChainSource, height: number): Promise<Coin> {
  const found = await source.getTxByBlockAndIndex(height, 0);
  ok(found !== undefined, `no block at ${height}`);
  const tx = decodeTx(found.tx);
  if (!tx.ok) throw tx.error;
  return { txid: found.txid, vout: 0, valueSat: tx.value.outputs[0]?.valueSat ?? 0n };
}

/** A mature coin nobody has spent, mining until there is one. */
async function freshCoin(harness: ChainSourceHarness): Promise<Coin> {
  const first = (await harness.source.getBestBlock()).height + 1;
  await harness.mine(101, ANYONE_SCRIPT);
  return await coinbaseAt(harness.source, first);
}

async function blockAt(source: ChainSource, tip: ChainTip, filter: ChainFilter): Promise<ChainBlock> {
  const reading = await readBlock(source, NETWORKS.regtest, tip, () => filter);
  ok(reading.kind === 'block', reading.kind === 'fault' ? reading.reason : 'the block is absent');
  return reading.block;
}

type Case = (harness: ChainSourceHarness) => Promise<void>;

const CASES: Readonly<Record<string, Case>> = {
  'knows its network and genesis block': async ({ source }) => {
    strictEqual(await source.networkName(), 'regtest');
    strictEqual(await source.getBlockHash(0), displayHash(NETWORKS.regtest.chainHash));
    const genesis = await source.getBlockHeader(displayHash(NETWORKS.regtest.chainHash));
    strictEqual(genesis?.prevHash, undefined);
    strictEqual(genesis?.height, 0);
    strictEqual(genesis?.time, 1_296_688_602);
  },

  'blocks by height and hash': async (harness) => {
    const { source } = harness;
    const before = await source.getBestBlock();
    const hashes = await harness.mine(3, ANYONE_SCRIPT);
    const tip = await source.getBestBlock();
    deepStrictEqual(tip, { hash: hashes[2], height: before.height + 3 });
    strictEqual(await source.getBlockHash(before.height + 1), hashes[0]);
    strictEqual(await source.getBlockHash(tip.height + 1), undefined);
    const header = await source.getBlockHeader(tip.hash);
    strictEqual(header?.prevHash, hashes[1]);
    strictEqual(header?.height, tip.height);
    strictEqual(header?.inBestChain, true);
    const block = await blockAt(source, tip, new Registrations());
    strictEqual(displayHash(block.hash), tip.hash);
    strictEqual(displayHash(block.header.prevHash), hashes[1]);
    strictEqual(block.header.time, header?.time);
    strictEqual(await source.getBlockHeader(UNKNOWN_HASH), undefined);
    const unknown = { hash: UNKNOWN_HASH, height: tip.height };
    deepStrictEqual(await readBlock(source, NETWORKS.regtest, unknown, () => new Registrations()), {
      kind: 'absent',
    });
  },

  'what is registered is found in its block': async (harness) => {
    const { source } = harness;
    const [coin, other, third] = [
      await freshCoin(harness),
      await freshCoin(harness),
      await freshCoin(harness),
    ];
    const script = p2wshScript(Uint8Array.from([0x52]));
    const first = spendAnyone([coin], [coin.valueSat - 10_000n]);
    const child = spendAnyone([{ txid: txidHex(first), vout: 0 }], [coin.valueSat - 20_000n]);
    const unrelated = spendAnyone([other], [other.valueSat - 10_000n]);
    const paying: Tx = {
      ...spendAnyone([third], []),
      outputs: [{ valueSat: third.valueSat - 10_000n, script }],
    };
    for (const tx of [first, child, unrelated, paying])
      strictEqual((await source.broadcastPackage([encodeTx(tx)])).kind, 'accepted');
    const filter = new Registrations();
    filter.registerOutput(parseDisplayHash(coin.txid), coin.vout);
    filter.registerTx(parseDisplayHash(txidHex(child)));
    filter.registerScript(script);
    if ('getFilteredMempool' in source)
      deepStrictEqual(await source.getFilteredMempool(filter), [encodeTx(paying)]);
    await harness.mine(1, opReturnScript(new Uint8Array([3])));
    const tip = await source.getBestBlock();
    const block = await blockAt(source, tip, filter);
    strictEqual(block.transactions.length, block.coverage === 'whole' ? 5 : 3);
    for (const tx of [first, child, paying]) {
      const at = block.txids.findIndex((txid) => displayHash(txid) === txidHex(tx));
      const index = block.txIndexes[at];
      ok(index !== undefined && index > 0);
      strictEqual((await source.getTxByBlockAndIndex(tip.height, index))?.txid, txidHex(tx));
      deepStrictEqual(block.transactions[at], tx);
    }
    // A later block has nothing of it, but tells what was there.
    await harness.mine(1, ANYONE_SCRIPT);
    const later = await blockAt(source, await source.getBestBlock(), filter);
    if (later.coverage === 'registered') {
      deepStrictEqual(later.transactions, []);
      deepStrictEqual(later.earlier, [{ hash: tip.hash, height: tip.height }]);
    }
  },

  'a chain of transactions in one block': async (harness) => {
    const { source } = harness;
    const coin = await freshCoin(harness);
    const first = spendAnyone([coin], [coin.valueSat - 10_000n]);
    const second = spendAnyone([{ txid: txidHex(first), vout: 0 }], [coin.valueSat - 20_000n]);
    for (const tx of [first, second]) await source.broadcastPackage([encodeTx(tx)]);
    await harness.mine(1, ANYONE_SCRIPT);
    const tip = await source.getBestBlock();
    const filter = new Registrations();
    filter.registerOutput(parseDisplayHash(coin.txid), coin.vout);
    ok((await blockAt(source, tip, filter)).transactions.some((tx) => txidHex(tx) === txidHex(first)));
    // Registered when its parent is seen: the same block is asked again.
    filter.registerOutput(parseDisplayHash(txidHex(first)), 0);
    const again = await blockAt(source, tip, filter);
    ok(again.transactions.some((tx) => txidHex(tx) === txidHex(second)));
  },

  'transactions by block and index, and unspent outputs': async (harness) => {
    const { source } = harness;
    const coin = await freshCoin(harness);
    const utxo = await source.getUtxo(coin.txid, coin.vout);
    deepStrictEqual(utxo, {
      valueSat: coin.valueSat,
      script: ANYONE_SCRIPT,
      confirmations: 101,
      coinbase: true,
    });
    const tx = spendAnyone([coin], [coin.valueSat - 10_000n]);
    deepStrictEqual(await source.broadcastPackage([encodeTx(tx)]), {
      kind: 'accepted',
      txids: [txidHex(tx)],
    });
    // A spend that waits does not count.
    strictEqual((await source.getUtxo(coin.txid, coin.vout))?.valueSat, coin.valueSat);
    strictEqual(await source.getUtxo(txidHex(tx), 0), undefined);
    await harness.mine(1, ANYONE_SCRIPT);
    const { height, hash } = await source.getBestBlock();
    strictEqual(await source.getUtxo(coin.txid, coin.vout), undefined);
    strictEqual((await source.getUtxo(txidHex(tx), 0))?.confirmations, 1);
    const found = await source.getTxByBlockAndIndex(height, 1);
    deepStrictEqual(found, { txid: txidHex(tx), blockHash: hash, tx: encodeTx(tx) });
    strictEqual(await source.getTxByBlockAndIndex(height, 2), undefined);
    strictEqual(await source.getTxByBlockAndIndex(height + 1, 0), undefined);
    strictEqual(await source.getUtxo(UNKNOWN_HASH, 0), undefined);
  },

  'the mempool: test, broadcast, repeat, confirm': async (harness) => {
    const { source } = harness;
    const coin = await freshCoin(harness);
    const tx = spendAnyone([coin], [coin.valueSat - 10_000n]);
    const raw = encodeTx(tx);
    const txid = txidHex(tx);
    if ('testMempoolAccept' in source) {
      const [verdict] = await source.testMempoolAccept([raw]);
      strictEqual(verdict?.kind, 'accepted');
      strictEqual(verdict?.kind === 'accepted' ? verdict.feeSat : undefined, 10_000n);
    }
    strictEqual(await source.getMempoolTransaction(txid), undefined);
    strictEqual((await source.broadcastPackage([raw])).kind, 'accepted');
    ok((await source.getRawMempool()).includes(txid));
    deepStrictEqual(await source.getMempoolTransaction(txid), raw);
    if ('testMempoolAccept' in source) strictEqual((await source.testMempoolAccept([raw]))[0]?.kind, 'known');
    strictEqual((await source.broadcastPackage([raw])).kind, 'accepted');
    await harness.mine(1, ANYONE_SCRIPT);
    strictEqual(await source.getMempoolTransaction(txid), undefined);
    ok(!(await source.getRawMempool()).includes(txid));
    // Known also once it is in the chain.
    strictEqual((await source.broadcastPackage([raw])).kind, 'accepted');
  },

  'which outputs the mempool spends': async (harness) => {
    const { source } = harness;
    const [coin, other] = [await freshCoin(harness), await freshCoin(harness)];
    const tx = spendAnyone([coin], [coin.valueSat - 10_000n]);
    const txid = txidHex(tx);
    const unknown = { txid: UNKNOWN_HASH, vout: 7 };
    const [spent, unspent] = [coin, other].map((of) => ({ txid: of.txid, vout: of.vout }));
    ok(spent !== undefined && unspent !== undefined);
    deepStrictEqual(await source.getMempoolSpends([spent, unspent, unknown]), []);
    deepStrictEqual(await source.getMempoolSpends([]), []);
    await source.broadcastPackage([encodeTx(tx)]);
    deepStrictEqual(await source.getMempoolSpends([unknown, spent, unspent, spent]), [
      { ...spent, spendingTxid: txid },
    ]);
    // More than a node is asked at once; and outputs of what waits itself.
    const child = spendAnyone([{ txid, vout: 0 }], [coin.valueSat - 20_000n]);
    await source.broadcastPackage([encodeTx(child)]);
    const many = Array.from({ length: 2_500 }, (_, vout) => ({ txid, vout }));
    deepStrictEqual(await source.getMempoolSpends([...many, spent]), [
      { txid, vout: 0, spendingTxid: txidHex(child) },
      { ...spent, spendingTxid: txid },
    ]);
    // A replacement is what spends from then on.
    const better = spendAnyone([coin], [coin.valueSat - 50_000n]);
    await source.broadcastPackage([encodeTx(better)]);
    deepStrictEqual(await source.getMempoolSpends([spent, { txid, vout: 0 }]), [
      { ...spent, spendingTxid: txidHex(better) },
    ]);
    await harness.mine(1, ANYONE_SCRIPT);
    deepStrictEqual(await source.getMempoolSpends([spent]), []);
  },

  'a rejected transaction says why': async (harness) => {
    const { source } = harness;
    const coin = await freshCoin(harness);
    const { height } = await source.getBestBlock();
    const reasonOf = async (tx: Tx): Promise<string | undefined> => {
      const outcome = await source.broadcastPackage([encodeTx(tx)]);
      return outcome.kind === 'rejected' ? outcome.reason : undefined;
    };
    strictEqual(await reasonOf(spendAnyone([{ txid: UNKNOWN_HASH, vout: 0 }], [1000n])), 'missing-inputs');
    strictEqual(await reasonOf(spendAnyone([coin], [coin.valueSat + 1n])), 'bad-txns-in-belowout');
    strictEqual(await reasonOf(spendAnyone([coin], [coin.valueSat])), 'min relay fee not met');
    strictEqual(await reasonOf(spendAnyone([coin], [1000n], { locktime: height + 1 })), 'non-final');
    strictEqual(await reasonOf(spendAnyone([{ ...coin, sequence: 200 }], [1000n])), 'non-BIP68-final');
    const young = await coinbaseAt(source, height);
    strictEqual(await reasonOf(spendAnyone([young], [1000n])), 'bad-txns-premature-spend-of-coinbase');
    // The locks are met to the block: next height and relative depth.
    strictEqual(
      await reasonOf(
        spendAnyone([{ ...coin, sequence: 101 }], [coin.valueSat - 5000n], { locktime: height }),
      ),
      undefined,
    );
  },

  'replacement needs a higher fee': async (harness) => {
    const { source } = harness;
    const coin = await freshCoin(harness);
    const low = spendAnyone([coin], [coin.valueSat - 2000n]);
    strictEqual((await source.broadcastPackage([encodeTx(low)])).kind, 'accepted');
    const barely = spendAnyone([coin], [coin.valueSat - 2001n]);
    const refused = await source.broadcastPackage([encodeTx(barely)]);
    strictEqual(refused.kind === 'rejected' ? refused.reason : undefined, 'insufficient fee');
    const high = spendAnyone([coin], [coin.valueSat - 5000n]);
    strictEqual((await source.broadcastPackage([encodeTx(high)])).kind, 'accepted');
    const mempool = await source.getRawMempool();
    ok(mempool.includes(txidHex(high)) && !mempool.includes(txidHex(low)));
    await harness.mine(1, ANYONE_SCRIPT);
  },

  'a child pays for its parent in a package': async (harness) => {
    const { source } = harness;
    const coin = await freshCoin(harness);
    const parent = spendAnyone([coin], [coin.valueSat], { version: 3 });
    const child = spendAnyone([{ txid: txidHex(parent), vout: 0 }], [coin.valueSat - 5000n], { version: 3 });
    strictEqual((await source.broadcastPackage([encodeTx(parent)])).kind, 'rejected');
    const outcome = await source.broadcastPackage([encodeTx(parent), encodeTx(child)]);
    deepStrictEqual(outcome, { kind: 'accepted', txids: [txidHex(parent), txidHex(child)] });
    strictEqual((await source.broadcastPackage([encodeTx(parent), encodeTx(child)])).kind, 'accepted');
    await harness.mine(1, ANYONE_SCRIPT);
    strictEqual((await source.getUtxo(txidHex(child), 0))?.confirmations, 1);
    const poor = await freshCoin(harness);
    const poorParent = spendAnyone([poor], [poor.valueSat], { version: 3 });
    const poorChild = spendAnyone([{ txid: txidHex(poorParent), vout: 0 }], [poor.valueSat], { version: 3 });
    const refused = await source.broadcastPackage([encodeTx(poorParent), encodeTx(poorChild)]);
    strictEqual(refused.kind, 'rejected');
  },

  'a reorg moves transactions back to the mempool': async (harness) => {
    const { source } = harness;
    const coin = await freshCoin(harness);
    const tx = spendAnyone([coin], [coin.valueSat - 10_000n]);
    await source.broadcastPackage([encodeTx(tx)]);
    const before = await source.getBestBlock();
    const [stale] = await harness.mine(1, ANYONE_SCRIPT);
    ok(stale !== undefined);
    await harness.invalidate(stale);
    deepStrictEqual(await source.getBestBlock(), before);
    strictEqual((await source.getBlockHeader(stale))?.inBestChain, false);
    ok((await source.getRawMempool()).includes(txidHex(tx)));
    strictEqual((await source.getUtxo(coin.txid, 0))?.valueSat, coin.valueSat);
    const [next] = await harness.mine(2, opReturnScript(new Uint8Array([1, 2])));
    strictEqual((await source.getTxByBlockAndIndex(before.height + 1, 1))?.blockHash, next);
    if ('getBlock' in source) ok(toHex((await source.getBlock(stale)) ?? new Uint8Array()).length > 160);
    // Nothing is told of a block that is not in the best chain.
    if ('getFilteredBlock' in source)
      strictEqual(await source.getFilteredBlock(stale, new Registrations()), undefined);
  },

  feerates: async ({ source }) => {
    const estimate = await source.estimateFeerateSatPerKw(6, 'conservative');
    ok(estimate === undefined || estimate >= 253);
    ok((await source.mempoolMinFeerateSatPerKw()) >= 253);
  },
};

/**
 * The cases. Each runs on its own harness; a harness may be a view of a
 * chain that earlier cases have used.
 */
export function chainSourceCompliance(
  name: string,
  makeSource: () => Promise<ChainSourceHarness>,
): readonly ComplianceCase[] {
  return Object.entries(CASES).map(([title, run]) => ({
    name: `${name}: ${title}`,
    async run() {
      const harness = await makeSource();
      try {
        await run(harness);
      } finally {
        await harness.close();
      }
    },
  }));
}
