/** Compliance cases about blocks, reorgs and lookups. */
import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { NETWORKS, encodeAddress, encodeTx, p2wpkhScript, txVsize, txidHex } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/bitcoin/bytes';
import { ANYONE_SCRIPT, spendAnyone } from '@fulmen/chain/compliance';
import type { Json, RpcCase } from './rpc-bench.ts';
import { ADDRESS, FEE_SAT, UNKNOWN, codeOf, publicKey } from './rpc-bench.ts';

export const CHAIN_CASES: Readonly<Record<string, RpcCase>> = {
  'error numbers of lookups': async ({ rpc }) => {
    strictEqual(codeOf(await rpc.try('getblock', UNKNOWN)), -5);
    strictEqual(codeOf(await rpc.try('getblockheader', UNKNOWN)), -5);
    strictEqual(codeOf(await rpc.try('getblockhash', 1_000_000)), -8);
    strictEqual(codeOf(await rpc.try('getblockhash', -1)), -8);
    strictEqual(codeOf(await rpc.try('getblockhash', 'x')), -3);
    strictEqual(codeOf(await rpc.try('getblock', 'ab')), -8);
    strictEqual(codeOf(await rpc.try('getblock', 'zz'.repeat(32))), -8);
    strictEqual(codeOf(await rpc.try('getrawtransaction', UNKNOWN)), -5);
    strictEqual(codeOf(await rpc.try('getrawtransaction', UNKNOWN, 0, UNKNOWN)), -5);
    strictEqual(codeOf(await rpc.try('getmempoolentry', UNKNOWN)), -5);
    strictEqual(codeOf(await rpc.try('sendrawtransaction', '00')), -22);
    strictEqual(codeOf(await rpc.try('sendrawtransaction', 'zz')), -22);
    strictEqual(codeOf(await rpc.try('submitpackage', [])), -8);
    strictEqual(codeOf(await rpc.try('testmempoolaccept', ['00'])), -22);
    strictEqual(codeOf(await rpc.try('nosuchmethod')), -32601);
    strictEqual(codeOf(await rpc.try('getblockcount', 1, 2)), -1);
    strictEqual(codeOf(await rpc.try('estimatesmartfee', 0)), -8);
    strictEqual(codeOf(await rpc.try('generatetoaddress', 1, 'nonsense')), -5);
    strictEqual(codeOf(await rpc.try('invalidateblock', UNKNOWN)), -5);
    strictEqual(codeOf(await rpc.try('submitblock', '00')), -22);
    deepStrictEqual(await rpc.try('gettxout', UNKNOWN, 0), { ok: true, value: null });
    const batch = await rpc.batch([
      { method: 'getblockcount', params: [] },
      { method: 'getblock', params: [UNKNOWN] },
      { method: 'nosuchmethod', params: [] },
    ]);
    deepStrictEqual(batch.map(codeOf), [undefined, -5, -32601]);
  },

  'blocks at every verbosity': async (bench) => {
    const coin = await bench.coin();
    const tx = spendAnyone([coin], [coin.valueSat - FEE_SAT]);
    const txid = await bench.send(tx);
    const [hash] = await bench.mine(1);
    const height = await bench.height();
    strictEqual(await bench.call<string>('getbestblockhash'), hash);
    const info = await bench.call('getblockchaininfo');
    deepStrictEqual(
      [info['chain'], info['blocks'], info['headers'], info['bestblockhash']],
      ['regtest', height, height, hash],
    );
    const one = await bench.call('getblock', hash, 1);
    strictEqual((one['tx'] as string[])[1], txid);
    strictEqual(one['bits'], '207fffff');
    strictEqual(one['nTx'], 2);
    const raw = await bench.call<string>('getblock', hash, 0);
    strictEqual(one['size'], raw.length / 2);
    strictEqual(await bench.call<string>('getblockheader', hash, false), raw.slice(0, 160));
    const header = await bench.call('getblockheader', hash);
    for (const field of [
      'hash',
      'confirmations',
      'height',
      'version',
      'versionHex',
      'merkleroot',
      'time',
      'mediantime',
      'nonce',
      'bits',
      'difficulty',
      'chainwork',
      'nTx',
      'previousblockhash',
    ]) {
      deepStrictEqual(one[field], header[field], field);
    }
    strictEqual(header['chainwork'], (2 * (height + 1)).toString(16).padStart(64, '0'));
    const three = await bench.call('getblock', hash, 3);
    const second = (three['tx'] as Json[])[1] as Json;
    const [input] = second['vin'] as Json[];
    const prevout = input?.['prevout'] as Json;
    strictEqual(prevout['value'], 0.01);
    strictEqual(prevout['generated'], false);
    strictEqual((prevout['scriptPubKey'] as Json)['hex'], toHex(ANYONE_SCRIPT));
    strictEqual(second['fee'], 0.00002);
    const two = await bench.call('getblock', hash, 2);
    const again = (two['tx'] as Json[])[1] as Json;
    strictEqual((again['vin'] as Json[])[0]?.['prevout'], undefined);
    strictEqual(again['vsize'], txVsize(tx));
    const verbose = await bench.call('getrawtransaction', txid, 1);
    deepStrictEqual(
      [verbose['blockhash'], verbose['confirmations'], verbose['hex']],
      [hash, 1, toHex(encodeTx(tx))],
    );
    deepStrictEqual(verbose['vout'], again['vout']);
    const output = await bench.call('gettxout', txid, 0);
    deepStrictEqual(
      [output['confirmations'], output['value'], output['coinbase'], output['bestblock']],
      [1, 0.00998, false, hash],
    );
    deepStrictEqual((output['scriptPubKey'] as Json)['address'], ADDRESS);
    strictEqual((output['scriptPubKey'] as Json)['type'], 'witness_v0_scripthash');
  },

  'blocks of chosen transactions, and refused ones': async (bench) => {
    const coin = await bench.coin();
    const free = spendAnyone([coin], [coin.valueSat]);
    const { hash } = await bench.call<{ hash: string }>('generateblock', ADDRESS, [toHex(encodeTx(free))]);
    deepStrictEqual(((await bench.call('getblock', hash, 1))['tx'] as string[])[1], txidHex(free));
    strictEqual(codeOf(await bench.rpc.try('generateblock', ADDRESS, [toHex(encodeTx(free))])), -25);
    strictEqual(codeOf(await bench.rpc.try('generateblock', ADDRESS, [UNKNOWN])), -5);
    strictEqual(await bench.call('submitblock', await bench.call<string>('getblock', hash, 0)), 'duplicate');
  },

  'reorgs: invalidate, build, reconsider': async (bench) => {
    const coin = await bench.coin();
    const tx = spendAnyone([coin], [coin.valueSat - FEE_SAT]);
    const txid = await bench.send(tx);
    const base = await bench.height();
    const [first, second] = await bench.mine(2);
    await bench.call('invalidateblock', first);
    strictEqual(await bench.height(), base);
    deepStrictEqual(await bench.call<string[]>('getrawmempool'), [txid]);
    strictEqual((await bench.call('getblockheader', second))['confirmations'], -1);
    strictEqual((await bench.call('getrawtransaction', txid, 1))['confirmations'], undefined);
    // A double spend confirms on the other branch; then both branches meet.
    const rival = spendAnyone([coin], [coin.valueSat - 50_000n]);
    const { hash } = await bench.call<{ hash: string }>('generateblock', ADDRESS, [toHex(encodeTx(rival))]);
    deepStrictEqual(await bench.call<string[]>('getrawmempool'), []);
    await bench.call('reconsiderblock', first);
    strictEqual(await bench.call<string>('getbestblockhash'), second);
    strictEqual((await bench.call('getblockheader', hash))['confirmations'], -1);
    strictEqual((await bench.call('gettxout', txid, 0))['confirmations'], 2);
    strictEqual(await bench.call('gettxout', txidHex(rival), 0), null);
    const tips = (await bench.call<Json[]>('getchaintips')).filter(
      (tip) => tip['hash'] === hash || tip['hash'] === second,
    );
    const known = new Map(tips.map((tip) => [tip['hash'], [tip['status'], tip['branchlen']]]));
    deepStrictEqual(known.get(hash), ['valid-fork', 1]);
    deepStrictEqual(known.get(second), ['active', 0]);
  },

  'an immature reward after a reorg leaves the mempool': async (bench) => {
    const [hash] = await bench.mine(1);
    const reward = ((await bench.call('getblock', hash, 1))['tx'] as string[])[0] ?? '';
    const valueSat = BigInt(Math.round(Number((await bench.call('gettxout', reward, 0))['value']) * 1e8));
    await bench.mine(98);
    const tx = spendAnyone([{ txid: reward, vout: 0 }], [valueSat - FEE_SAT]);
    strictEqual(await bench.refusal(tx), 'bad-txns-premature-spend-of-coinbase');
    const [last] = await bench.mine(1);
    await bench.send(tx);
    await bench.call('invalidateblock', last);
    deepStrictEqual(await bench.call<string[]>('getrawmempool'), []);
    await bench.call('reconsiderblock', last);
    strictEqual(await bench.call<string>('getbestblockhash'), last);
  },

  'a scan of all coins': async (bench) => {
    const script = p2wpkhScript(publicKey(40));
    const coin = await bench.fund(script);
    const address = encodeAddress(script, NETWORKS.regtest) ?? '';
    const scan = await bench.call('scantxoutset', 'start', [`addr(${address})`]);
    strictEqual(scan['success'], true);
    strictEqual(scan['total_amount'], 0.009);
    const [found] = scan['unspents'] as Json[];
    deepStrictEqual(
      [found?.['txid'], found?.['vout'], found?.['amount'], found?.['height']],
      [coin.txid, 0, 0.009, await bench.height()],
    );
    const byRaw = await bench.call('scantxoutset', 'start', [{ desc: `raw(${toHex(script)})` }]);
    strictEqual((byRaw['unspents'] as Json[]).length, 1);
  },

  'the node itself': async (bench) => {
    ok(Number((await bench.call('getnetworkinfo'))['version']) >= 280_000);
    deepStrictEqual(await bench.call('getzmqnotifications'), []);
    ok((await bench.call<number>('uptime')) >= 0);
    const estimate = await bench.call('estimatesmartfee', 6);
    ok(Array.isArray(estimate['errors']) && estimate['feerate'] === undefined);
  },
};
