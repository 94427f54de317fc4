/**
 * chain-monitor on a real bitcoind, by its RPC and through an Esplora-speaking
 * front of it: the wallet's coins are found, its payments are taken, and the
 * descriptors that it exports let bitcoind find the same coins.
 */
import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { NETWORKS, displayHash, encodeAddress } from '@fulmen/bitcoin';
import type { BitcoindRpc, ChainSource } from '@fulmen/chain';
import { BitcoindChainSource, EsploraChainSource } from '@fulmen/chain';
import { ANYONE_SCRIPT } from '@fulmen/chain/compliance';
import type { ComplianceCase } from '@fulmen/chain/compliance';
import { startEsploraFront } from '@fulmen/testing/devchain';
import { type RunningBitcoind, startBitcoind } from './start-bitcoind.ts';
import { type Harness, startHarness } from '@fulmen/chain-monitor/testing/harness';

const PATIENCE_MS = 60_000;
const nobody = encodeAddress(ANYONE_SCRIPT, NETWORKS.regtest) ?? '';

async function until(harness: Harness, what: string, isSo: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (performance.now() < deadline) {
    if (await isSo()) return;
    await harness.turn();
  }
  ok(false, `never: ${what}`);
}

/** The wallet receives on both kinds of addresses, spends, and is watched by bitcoind itself. */
async function walletStory(source: ChainSource, rpc: BitcoindRpc, name: string): Promise<void> {
  await rpc.call('generatetoaddress', 1, nobody);
  const harness = await startHarness({ wrapSource: () => source });
  try {
    const height = async (): Promise<number> =>
      harness.chain.getBestBlock({}).then(
        (best) => best.height,
        () => -1,
      );
    const best = async (): Promise<number> => (await rpc.call('getblockcount')) as number;
    await until(harness, 'the chain is followed', async () => (await height()) === (await best()));
    for (const addressType of ['p2wpkh', 'p2tr']) {
      const { address } = await harness.wallet.newAddress({ addressType });
      await rpc.call('generatetoaddress', 1, address);
    }
    await rpc.call('generatetoaddress', 100, nobody);
    await until(harness, 'both rewards are mature', async () => {
      const { confirmedSat, unconfirmedSat } = await harness.wallet.getBalance({});
      return confirmedSat > 0n && unconfirmedSat === 0n && (await height()) === (await best());
    });
    const before = await harness.wallet.getBalance({});
    const sent = await harness.wallet.sendCoins({
      address: nobody,
      valueSat: before.confirmedSat / 2n,
      feerateSatPerKw: 2_500,
      idempotencyKey: name,
    });
    const txid = displayHash(Uint8Array.from(sent.txid));
    await until(harness, 'the payment is in the mempool', async () =>
      ((await rpc.call('getrawmempool')) as string[]).includes(txid),
    );
    await rpc.call('generatetoaddress', 1, nobody);
    await until(harness, 'the payment is confirmed', async () => {
      const { transactions } = await harness.wallet.listTransactions({ limit: 10 });
      return transactions.some(
        (tx) => displayHash(Uint8Array.from(tx.txid)) === txid && tx.confirmedHeight !== undefined,
      );
    });
    const after = await harness.wallet.getBalance({});
    strictEqual(after.confirmedSat, before.confirmedSat - before.confirmedSat / 2n - sent.feeSat);

    const { descriptors } = await harness.wallet.exportDescriptors({});
    const watching = `watch-only ${name}`;
    // The only one that is loaded: calls go to it. No private keys, blank, no passphrase, no avoidance of reuse, descriptors.
    await rpc.call('createwallet', watching, true, true, '', false, true);
    const imported = (await rpc.call('importdescriptors', [
      ...descriptors.map(({ descriptor, internal, nextIndex, lastIndex }) => ({
        desc: descriptor,
        active: true,
        internal,
        range: [0, lastIndex],
        next_index: nextIndex,
        timestamp: 0,
      })),
    ])) as { success: boolean }[];
    deepStrictEqual(
      imported.map(({ success }) => success),
      descriptors.map(() => true),
    );
    const balances = (await rpc.call('getbalances')) as { mine: { trusted: number } };
    strictEqual(BigInt(Math.round(balances.mine.trusted * 1e8)), after.confirmedSat);
    // The next address is the same in both.
    const theirs = await rpc.call('getnewaddress', '', 'bech32m');
    const ours = await harness.wallet.newAddress({ addressType: 'p2tr' });
    strictEqual(theirs, ours.address);
    await rpc.call('unloadwallet', watching);
    deepStrictEqual(harness.clock.failures, []);
  } finally {
    await harness.stop();
  }
}

/** The cases, each on a node of its own: the wallet is the same in all, and rewards halve every 150 blocks. */
export function chainMonitorCases(bitcoind: string): readonly ComplianceCase[] {
  const onNode = async (work: (node: RunningBitcoind) => Promise<void>): Promise<void> => {
    const node = await startBitcoind(bitcoind);
    try {
      await work(node);
    } finally {
      await node.stop();
    }
  };
  return [
    {
      name: 'chain-monitor by RPC: the wallet, and its descriptors in bitcoind',
      run: () =>
        onNode(async ({ config, rpc }) => {
          const source = new BitcoindChainSource(config);
          try {
            await walletStory(source, rpc, 'rpc');
          } finally {
            source.close();
          }
        }),
    },
    {
      name: 'chain-monitor by Esplora: the wallet, and its descriptors in bitcoind',
      run: () =>
        onNode(async ({ rpc }) => {
          const front = await startEsploraFront({ rpc });
          const source = new EsploraChainSource({ url: front.url });
          try {
            await walletStory(source, rpc, 'esplora');
          } finally {
            source.close();
            await front.stop();
          }
        }),
    },
  ];
}
