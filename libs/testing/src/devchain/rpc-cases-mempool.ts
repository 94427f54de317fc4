/** Compliance cases about policy: fees, replacement, packages, version 3. */
import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import type { Tx } from '@fulmen/bitcoin';
import {
  OP,
  P2A_SCRIPT,
  compileScript,
  encodeTx,
  opReturnScript,
  txVsize,
  txidHex,
  withWitness,
} from '@fulmen/bitcoin';
import { fromHex, toHex } from '@fulmen/bitcoin/bytes';
import { ANYONE_SCRIPT, spendAnyone } from '@fulmen/chain/compliance';
import type { Coin, Json, RpcCase } from './rpc-bench.ts';
import { FEE_SAT, UNKNOWN, codeOf, rejectedAsTruc, spend } from './rpc-bench.ts';

export const MEMPOOL_CASES: Readonly<Record<string, RpcCase>> = {
  'the mempool’s view of a family': async (bench) => {
    const coin = await bench.coin();
    const parent = spendAnyone([coin], [coin.valueSat - 1000n]);
    const parentId = await bench.send(parent);
    const child = spendAnyone([{ txid: parentId, vout: 0 }], [coin.valueSat - 4000n]);
    const childId = await bench.send(child);
    strictEqual(await bench.send(child), childId);
    const entry = await bench.call('getmempoolentry', parentId);
    deepStrictEqual(
      [entry['descendantcount'], entry['ancestorcount'], entry['vsize'], entry['spentby']],
      [2, 1, txVsize(parent), [childId]],
    );
    deepStrictEqual(entry['fees'], {
      base: 0.00001,
      modified: 0.00001,
      ancestor: 0.00001,
      descendant: 0.00004,
    });
    const verbose = await bench.call<Record<string, Json>>('getrawmempool', true);
    deepStrictEqual(verbose[childId]?.['depends'], [parentId]);
    deepStrictEqual(
      await bench.call('gettxspendingprevout', [
        { txid: coin.txid, vout: coin.vout },
        { txid: UNKNOWN, vout: 0 },
      ]),
      [
        { txid: coin.txid, vout: coin.vout, spendingtxid: parentId },
        { txid: UNKNOWN, vout: 0 },
      ],
    );
    strictEqual(await bench.call('gettxout', parentId, 0), null);
    strictEqual((await bench.call('gettxout', childId, 0))['confirmations'], 0);
    strictEqual(await bench.call('gettxout', childId, 0, false), null);
    deepStrictEqual(await bench.call('getmempoolancestors', childId), [parentId]);
    deepStrictEqual(await bench.call('getmempooldescendants', parentId), [childId]);
    strictEqual((await bench.call('getmempoolinfo'))['size'], 2);
    await bench.mine(1);
    strictEqual(codeOf(await bench.rpc.try('getmempoolentry', childId)), -5);
    strictEqual(codeOf(await bench.rpc.try('sendrawtransaction', toHex(encodeTx(child)))), -27);
    strictEqual(codeOf(await bench.rpc.try('sendrawtransaction', toHex(encodeTx(parent)))), -25);
    strictEqual(await bench.refusal(child), 'txn-already-known');
  },

  'limits on fees and burnt money': async (bench) => {
    const coin = await bench.coin();
    const dear = toHex(encodeTx(spendAnyone([coin], [1000n])));
    strictEqual(codeOf(await bench.rpc.try('sendrawtransaction', dear)), -25);
    const [verdict] = await bench.call<Json[]>('testmempoolaccept', [dear]);
    strictEqual(verdict?.['reject-reason'], 'max-fee-exceeded');
    const burn = {
      ...spendAnyone([coin], [0n]),
      outputs: [{ valueSat: coin.valueSat - FEE_SAT, script: opReturnScript(fromHex('aa')) }],
    };
    strictEqual(codeOf(await bench.rpc.try('sendrawtransaction', toHex(encodeTx(burn)))), -25);
    const poor = await bench.rpc.try(
      'sendrawtransaction',
      toHex(encodeTx(spendAnyone([coin], [coin.valueSat]))),
    );
    strictEqual(codeOf(poor), -26);
    ok(!poor.ok && poor.error.message.startsWith('min relay fee not met'));
  },

  standardness: async (bench) => {
    const coin = await bench.coin();
    const to = (script: Uint8Array): Tx =>
      spend(coin, { outputs: [{ valueSat: coin.valueSat - FEE_SAT, script }] });
    strictEqual(await bench.refusal({ ...to(ANYONE_SCRIPT), version: 4 }), 'version');
    strictEqual(await bench.refusal(to(compileScript([OP.NOP]))), 'scriptpubkey');
    strictEqual(await bench.refusal({ ...to(ANYONE_SCRIPT), outputs: [] }), 'bad-txns-vout-empty');
    strictEqual(await bench.refusal(spendAnyone([coin, coin], [1000n])), 'bad-txns-inputs-duplicate');
    const small: Tx = { ...to(ANYONE_SCRIPT), outputs: [{ valueSat: 1000n, script: P2A_SCRIPT }] };
    strictEqual(await bench.refusal(small), 'tx-size-small');
  },

  replacement: async (bench) => {
    const coin = await bench.coin();
    const other = await bench.coin();
    const low = spendAnyone([{ ...coin, sequence: 0xffff_ffff }], [coin.valueSat - 1000n]);
    await bench.send(low);
    const child = spendAnyone([{ txid: txidHex(low), vout: 0 }], [coin.valueSat - 21_000n]);
    await bench.send(child);
    // It must pay for what it throws out, the child included.
    strictEqual(await bench.refusal(spendAnyone([coin], [coin.valueSat - 20_000n])), 'insufficient fee');
    strictEqual(await bench.refusal(spendAnyone([coin], [coin.valueSat - 21_050n])), 'insufficient fee');
    strictEqual(
      await bench.refusal(spendAnyone([coin, { txid: txidHex(child), vout: 0 }], [1000n])),
      'bad-txns-spends-conflicting-tx',
    );
    const elsewhere = spendAnyone([other], [other.valueSat - 1000n]);
    await bench.send(elsewhere);
    const adds = spendAnyone([coin, { txid: txidHex(elsewhere), vout: 0 }], [1000n]);
    strictEqual(await bench.refusal(adds), 'replacement-adds-unconfirmed');
    const high = spendAnyone([coin], [coin.valueSat - 22_000n]);
    await bench.send(high);
    deepStrictEqual(
      (await bench.call<string[]>('getrawmempool')).toSorted(),
      [txidHex(high), txidHex(elsewhere)].toSorted(),
    );
    await bench.mine(1);
  },

  'chains of 25': async (bench) => {
    const coin = await bench.coin();
    let at: Coin = coin;
    for (let i = 0; i < 25; i++) {
      const tx = spendAnyone([at], [at.valueSat - 500n]);
      at = { txid: await bench.send(tx), vout: 0, valueSat: at.valueSat - 500n };
    }
    strictEqual(await bench.refusal(spendAnyone([at], [at.valueSat - 500n])), 'too-long-mempool-chain');
    await bench.mine(1);
    strictEqual(await bench.refusal(spendAnyone([at], [at.valueSat - 500n])), undefined);
  },

  'version 3: one parent, one child': async (bench) => {
    const coin = await bench.coin();
    const parent = spendAnyone([coin], [500_000n, 490_000n], { version: 3 });
    await bench.send(parent);
    const from = (vout: number) => ({ txid: txidHex(parent), vout });
    await rejectedAsTruc(bench, spendAnyone([from(0)], [490_000n], { version: 2 }));
    const plain = await bench.coin();
    const unconfirmed = spendAnyone([plain], [900_000n], { version: 2 });
    await bench.send(unconfirmed);
    await rejectedAsTruc(
      bench,
      spendAnyone([{ txid: txidHex(unconfirmed), vout: 0 }], [800_000n], { version: 3 }),
    );
    const large = spendAnyone(
      [from(0)],
      Array.from({ length: 40 }, () => 1000n),
      { version: 3 },
    );
    await rejectedAsTruc(bench, large);
    const child = spendAnyone([from(0)], [490_000n], { version: 3 });
    await bench.send(child);
    await rejectedAsTruc(bench, spendAnyone([{ txid: txidHex(child), vout: 0 }], [400_000n], { version: 3 }));
    // A sibling takes the child's place only if it pays for that.
    strictEqual(
      await bench.refusal(spendAnyone([from(1)], [489_000n], { version: 3 })),
      'insufficient fee (including sibling eviction)',
    );
    const sibling = spendAnyone([from(1)], [470_000n], { version: 3 });
    await bench.send(sibling);
    const mempool = await bench.call<string[]>('getrawmempool');
    ok(mempool.includes(txidHex(sibling)) && !mempool.includes(txidHex(child)));
    await bench.mine(1);
  },

  'packages: a child pays for its parent': async (bench) => {
    const coin = await bench.coin();
    const parent = spendAnyone([coin], [coin.valueSat], { version: 3 });
    const childOf = (tx: Tx, feeSat: bigint): Tx =>
      spendAnyone([{ txid: txidHex(tx), vout: 0 }], [coin.valueSat - feeSat], { version: 3 });
    strictEqual(await bench.refusal(parent), 'min relay fee not met');
    const poor = await bench.submit(parent, childOf(parent, 10n));
    strictEqual(poor.message, 'transaction failed');
    deepStrictEqual(await bench.call<string[]>('getrawmempool'), []);
    const wrongOrder = [childOf(parent, 5000n), parent].map((tx) => toHex(encodeTx(tx)));
    strictEqual(codeOf(await bench.rpc.try('submitpackage', wrongOrder)), -25);
    const paid = await bench.submit(parent, childOf(parent, 5000n));
    deepStrictEqual([paid.message, paid.errors], ['success', [undefined, undefined]]);
    const results = Object.values(paid.answer['tx-results'] as Record<string, Json>);
    const fees = results.map((result) => result['fees'] as Json);
    const total = txVsize(parent) + txVsize(childOf(parent, 5000n));
    for (const fee of fees) {
      strictEqual(Math.round(Number(fee['effective-feerate']) * 1e8), Math.floor(5_000_000 / total));
      strictEqual((fee['effective-includes'] as string[]).length, 2);
    }
    // Better paid, the whole package replaces the other one.
    const rival = spendAnyone([coin], [coin.valueSat - 1n], { version: 3 });
    const rivalChild = spendAnyone([{ txid: txidHex(rival), vout: 0 }], [coin.valueSat - 20_000n], {
      version: 3,
    });
    const replaced = await bench.submit(rival, rivalChild);
    strictEqual(replaced.message, 'success');
    deepStrictEqual(
      (replaced.answer['replaced-transactions'] as string[]).toSorted(),
      [txidHex(parent), txidHex(childOf(parent, 5000n))].toSorted(),
    );
    await bench.mine(1);
    strictEqual((await bench.call('gettxout', txidHex(rivalChild), 0))['confirmations'], 1);
    const unrelated = [await bench.coin(), await bench.coin()].map((from) =>
      spendAnyone([from], [from.valueSat - FEE_SAT]),
    );
    strictEqual(
      codeOf(
        await bench.rpc.try(
          'submitpackage',
          unrelated.map((tx) => toHex(encodeTx(tx))),
        ),
      ),
      -25,
    );
  },

  'packages: an anchor without value': async (bench) => {
    const coin = await bench.coin();
    const commitment: Tx = {
      ...spendAnyone([coin], [coin.valueSat], { version: 3 }),
      outputs: [
        { valueSat: coin.valueSat, script: ANYONE_SCRIPT },
        { valueSat: 0n, script: P2A_SCRIPT },
      ],
    };
    const feeCoin = await bench.coin();
    const child = spendAnyone([{ txid: txidHex(commitment), vout: 1 }, feeCoin], [feeCoin.valueSat - 3000n], {
      version: 3,
    });
    const anchored = withWitness(child, 0, []);
    strictEqual((await bench.submit(commitment, anchored)).message, 'success');
    await bench.mine(1);
    strictEqual((await bench.call('gettxout', txidHex(anchored), 0))['confirmations'], 1);
  },

  'packages are tested as one': async (bench) => {
    const coin = await bench.coin();
    const parent = spendAnyone([coin], [coin.valueSat - 1000n]);
    const child = spendAnyone([{ txid: txidHex(parent), vout: 0 }], [coin.valueSat - 3000n]);
    strictEqual(await bench.refusal(parent, child), undefined);
    strictEqual(await bench.refusal(child, parent), 'package-not-sorted');
    strictEqual(await bench.refusal(child), 'missing-inputs');
    strictEqual(await bench.refusal(parent, spendAnyone([coin], [1000n])), 'conflict-in-package');
  },
};
