/** Blocks that are read again for a channel, while the chain goes on or is replaced. */
import { NETWORKS, type Tx, encodeTx, parseDisplayHash, txid as txidOf, txidHex } from '@fulmen/bitcoin';
import { ANYONE_SCRIPT, spendAnyone } from '@fulmen/chain/compliance';
import { toHex } from '@fulmen/codec';
import { silentLogger } from '@fulmen/service';
import { MemoryChainState, MemoryChainStore, emptyManagerTables } from '@fulmen/store/chain/memory';
import { type DevChain, MemoryChainSource, storeRawTx } from '@fulmen/testing/devchain';
import { expect, test } from 'vitest';
import { outPointKey } from '../state/keys.ts';
import { Writer } from '../state/writer.ts';
import { coinAt, newDevChain } from '../testing/harness.ts';
import { MissingFacts } from './missing-facts.ts';

const CHANNEL_ID = new Uint8Array(32).fill(1);
const VALUE_SAT = 1_000_000n;

function mineWith(devChain: DevChain, ...transactions: readonly Tx[]): void {
  const stored = transactions.map((tx) => {
    const one = storeRawTx(encodeTx(tx));
    if (one === undefined) throw new TypeError('no transaction');
    return one;
  });
  devChain.mineWith(stored, ANYONE_SCRIPT);
}

/** Whoever follows a chain of transactions by their first outputs. */
const settler = {
  watchedBy: async (_: string, facts: readonly { readonly txid: Uint8Array }[]) =>
    new Map(facts.map(({ txid }) => [outPointKey(txid, 0), { txid, outputIndex: 0 }] as const)),
};

/** Takes the stored chain to the development chain's. */
async function follow(writer: Writer, devChain: DevChain): Promise<void> {
  const stored = await writer.exclusive(async (view) => view.blocks);
  for (const { hash, height } of stored.toReversed()) {
    if (devChain.chain.at(height)?.hash === toHex(hash.toReversed())) break;
    await writer.turn((draft) => void (draft.block = { type: 'disconnect', hash }));
  }
  const tip = await writer.exclusive(async (view) => view.tip?.height ?? 0);
  for (let height = tip + 1; height <= devChain.chain.tip.height; height += 1) {
    const [hash, prevHash] = [height, height - 1].map((at) => devChain.chain.at(at)?.hash ?? '');
    const block = {
      height,
      hash: parseDisplayHash(hash ?? ''),
      prevHash: parseDisplayHash(prevHash ?? ''),
      timeUnixSeconds: height,
    };
    await writer.turn((draft) => void (draft.block = { type: 'connect', block }));
  }
}

/** A funding confirmed at 111 and spent at 112, and the spend spent again at 150, with the tip at 200. */
async function closedLongAgo() {
  const devChain = newDevChain();
  devChain.mine(110, ANYONE_SCRIPT);
  const funding = spendAnyone([coinAt(devChain, 1)], [VALUE_SAT]);
  const close = spendAnyone([{ txid: txidHex(funding), vout: 0 }], [VALUE_SAT - 1_000n]);
  const child = spendAnyone([{ txid: txidHex(close), vout: 0 }], [VALUE_SAT - 2_000n]);
  mineWith(devChain, funding);
  mineWith(devChain, close);
  while (devChain.chain.tip.height < 149) mineWith(devChain);
  mineWith(devChain, child);
  while (devChain.chain.tip.height < 200) mineWith(devChain);
  const state = new MemoryChainState(emptyManagerTables(), () => 0);
  const writer = new Writer(new MemoryChainStore(state), () => undefined);
  const outcome = await writer.store.acquireLease({
    holder: 'test',
    address: 'test:1',
    leaseMs: 1_000_000,
    doubt: undefined,
  });
  if (outcome.type === 'acquired') writer.setLease(outcome.lease);
  await follow(writer, devChain);
  await writer.turn((draft) =>
    draft.putFunding({
      channelId: CHANNEL_ID,
      fundingTxid: txidOf(funding),
      fundingOutputIndex: 0,
      fundingValueSat: VALUE_SAT,
      scriptPubKey: ANYONE_SCRIPT,
      minimumDepth: 3,
      seen: { height: 111, txIndex: 1 },
      spent: { txid: txidOf(close), height: 112 },
    }),
  );
  const source = new MemoryChainSource(devChain);
  const missing = new MissingFacts({
    source,
    network: NETWORKS.regtest,
    writer,
    logger: silentLogger,
    settler,
  });
  const facts = () => [...state.settlement.spends.values()].map(({ txid, height }) => ({ txid, height }));
  return { devChain, writer, missing, facts, close: txidOf(close), child: txidOf(child) };
}

test('every fact is found, in as many turns as it takes', async () => {
  const { missing, facts, close, child } = await closedLongAgo();
  while ((await missing.run()) === 'more');
  expect(facts()).toEqual([
    { txid: close, height: 112 },
    { txid: child, height: 150 },
  ]);
});

test('what was found in blocks that were replaced between two turns is no fact', async () => {
  const { devChain, writer, missing, facts, close } = await closedLongAgo();
  await missing.run();
  const replaced = devChain.chain.at(140);
  if (replaced === undefined) throw new TypeError('no block');
  devChain.invalidate(replaced);
  while (devChain.chain.tip.height < 201) mineWith(devChain);
  await follow(writer, devChain);
  while ((await missing.run()) === 'more');
  mineWith(devChain);
  await follow(writer, devChain);
  while ((await missing.run()) === 'more');
  expect(facts()).toEqual([{ txid: close, height: 112 }]);
});
