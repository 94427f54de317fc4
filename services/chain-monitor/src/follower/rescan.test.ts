/** Old blocks, scanned while everything else goes on. */
import { txidHex } from '@fulmen/bitcoin';
import type { WholeBlockSource } from '@fulmen/chain';
import { ANYONE_SCRIPT } from '@fulmen/chain/compliance';
import { storeRawTx } from '@fulmen/testing/devchain';
import { afterEach, expect, test } from 'vitest';
import { type Harness, payFrom, startHarness } from '../testing/harness.ts';
import { BlockGate, overriding } from '../testing/source.ts';

const open: Harness[] = [];
const gates: BlockGate[] = [];
afterEach(async () => {
  for (const gate of gates.splice(0)) gate.open();
  for (const harness of open.splice(0)) await harness.stop();
});

/** The wallet was paid in block 111, and so many followed. */
async function paid(blocksAfter: number): Promise<Harness> {
  const harness = await startHarness();
  open.push(harness);
  await harness.mine(110);
  const { scriptPubkey } = await harness.wallet.newAddress({ addressType: '' });
  const { raw } = payFrom(harness.devChain, 1, [{ script: scriptPubkey, valueSat: 3_000_000n }]);
  const stored = storeRawTx(raw);
  if (stored === undefined) throw new TypeError('no transaction');
  harness.devChain.mineWith([stored], ANYONE_SCRIPT);
  await harness.mine(blocksAfter);
  return harness;
}

/** Another process, as if the wallet had only now come to the node; it scans from height 1 on. */
async function rescanning(
  harness: Harness,
  wrapSource?: (source: WholeBlockSource) => WholeBlockSource,
): Promise<Harness> {
  harness.state.addresses.clear();
  harness.state.utxos.clear();
  harness.state.scannedFrom = harness.devChain.chain.tip.height;
  open.splice(open.indexOf(harness), 1);
  const next = await harness.restart({ rescanHeight: 1 }, wrapSource);
  open.push(next);
  return next;
}

const balanceOf = async (harness: Harness): Promise<bigint> =>
  (await harness.wallet.getBalance({})).confirmedSat;

test('finds what was paid before the first start', async () => {
  const harness = await rescanning(await paid(0));
  for (let i = 0; i < 10; i++) await harness.turn();
  expect(await balanceOf(harness)).toBe(3_000_000n);
  expect(harness.state.rescanFrom).toBeUndefined();
});

test('everything else goes on, and no coin is trusted that a later block may have spent', async () => {
  const before = await paid(200);
  const ordered = payFrom(before.devChain, 2, [{ script: ANYONE_SCRIPT, valueSat: 1_000n }]);
  before.manager.broadcasts.push({
    kind: 'force_close',
    channelId: new Uint8Array(32).fill(1),
    transactions: [ordered.raw],
  });
  const gate = new BlockGate(before.devChain.chain.at(150)?.hash);
  gates.push(gate);
  const harness = await rescanning(before, gate.wrap);
  await harness.turn();
  expect(harness.state.rescanFrom).toBe(150);
  expect(harness.devChain.mempool.get(txidHex(ordered.tx))).toBeDefined();
  expect(await harness.chain.getBestBlock({})).toMatchObject({ height: 311, halted: false });
  expect(await harness.wallet.getBalance({})).toMatchObject({
    confirmedSat: 0n,
    unconfirmedSat: 3_000_000n,
  });
  expect(await harness.metrics.registry.metrics()).toMatch(/fulmen_chain_rescan_blocks\{[^}]*\} 162/);
  gate.open();
  for (let i = 0; i < 20; i++) await harness.turn();
  expect(harness.state.rescanFrom).toBeUndefined();
  expect(await balanceOf(harness)).toBe(3_000_000n);
  expect(harness.clock.failures).toEqual([]);
});

test.each([
  { waitMs: 6_000, what: 'for a moment: it is waited for', foundSat: 3_000_000n },
  { waitMs: 11_000, what: 'for good: the scan ends', foundSat: 0n },
])('a block that the source does not have $what', async ({ waitMs, foundSat }) => {
  const before = await paid(0);
  const hash = before.devChain.chain.tip.hash;
  let isAbsent = true;
  const harness = await rescanning(before, (source) =>
    overriding(
      source,
      () => ({ getBlock: async (asked) => (asked === hash ? undefined : source.getBlock(asked)) }),
      () => isAbsent,
    ),
  );
  for (let i = 0; i < 10; i++) await harness.turn();
  expect(harness.state.rescanFrom).toBe(111);
  expect(await harness.chain.getBestBlock({})).toMatchObject({ height: 111, halted: false });
  await harness.clock.advance(waitMs);
  await harness.turn();
  isAbsent = false;
  await harness.turn();
  expect(harness.state.rescanFrom).toBeUndefined();
  expect(await balanceOf(harness)).toBe(foundSat);
  expect(harness.clock.failures).toEqual([]);
});
