/**
 * What the development chain and Bitcoin Core must answer alike, over RPC:
 * results, refusals and error numbers, with the kinds of scripts that
 * Lightning uses. Any runner can run the cases.
 */
import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import type { Tx } from '@fulmen/bitcoin';
import {
  NETWORKS,
  OP,
  P2A_SCRIPT,
  SIGHASH,
  compileScript,
  decodeTx,
  derFromCompact,
  encodeAddress,
  encodeTx,
  opReturnScript,
  p2pkhScript,
  p2trScript,
  p2wpkhScript,
  p2wshScript,
  scriptNumber,
  segwitV0Sighash,
  taprootKeyPathSighash,
  taprootOutputKey,
  taprootOutputSecretKey,
  txVsize,
  txidHex,
  withWitness,
} from '@fulmen/bitcoin';
import { fromHex, toHex } from '@fulmen/bitcoin/bytes';
import type { BitcoindRpc, RpcOutcome } from '@fulmen/chain';
import { ANYONE_SCRIPT, spendAnyone } from '@fulmen/chain/compliance';
import type { ComplianceCase } from '@fulmen/chain/compliance';
import { hash160 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';

const ADDRESS = encodeAddress(ANYONE_SCRIPT, NETWORKS.regtest) ?? '';
const UNKNOWN = 'ab'.repeat(32);
const secret = (fill: number): Uint8Array => new Uint8Array(32).fill(fill);
const publicKey = (fill: number): Uint8Array => secp256k1.publicKeyOf(secret(fill));
const FEE_SAT = 2000n;

interface Coin {
  readonly txid: string;
  readonly vout: number;
  readonly valueSat: bigint;
}

type Json = Record<string, unknown>;

/** A node under test, with money. */
class Bench {
  readonly rpc: BitcoindRpc;
  readonly #coins: Coin[] = [];

  constructor(rpc: BitcoindRpc) {
    this.rpc = rpc;
  }

  async call<T = Json>(method: string, ...params: readonly unknown[]): Promise<T> {
    return (await this.rpc.call(method, ...params)) as T;
  }

  async mine(count: number): Promise<readonly string[]> {
    return await this.call<string[]>('generatetoaddress', count, ADDRESS);
  }

  async height(): Promise<number> {
    return await this.call<number>('getblockcount');
  }

  /** An output of 1,000,000 sat to ANYONE_SCRIPT, confirmed. */
  async coin(): Promise<Coin> {
    if (this.#coins.length === 0) await this.#split();
    return this.#coins.pop() as Coin;
  }

  /** Splits a mature reward into many coins. */
  async #split(): Promise<void> {
    const [hash] = await this.mine(101);
    const block = await this.call('getblock', hash, 1);
    const [reward] = block['tx'] as string[];
    const raw = decodeTx(fromHex(await this.call<string>('getrawtransaction', reward, false, hash)));
    if (!raw.ok) throw raw.error;
    const valueSat = raw.value.outputs[0]?.valueSat ?? 0n;
    const count = Math.min(40, Number(valueSat / 1_000_000n) - 1);
    const values = Array.from({ length: count }, () => 1_000_000n);
    const tx = spendAnyone([{ txid: reward ?? '', vout: 0 }], [...values, valueSat - BigInt(count) * 1_000_000n - 10_000n]);
    const txid = await this.send(tx);
    await this.mine(1);
    for (let vout = 0; vout < count; vout++) this.#coins.push({ txid, vout, valueSat: 1_000_000n });
  }

  async send(tx: Tx): Promise<string> {
    return await this.call<string>('sendrawtransaction', toHex(encodeTx(tx)), 0);
  }

  /** The reason for which the mempool would refuse, or undefined. */
  async refusal(...transactions: readonly Tx[]): Promise<string | undefined> {
    const verdicts = await this.call<Json[]>('testmempoolaccept', transactions.map((tx) => toHex(encodeTx(tx))), 0);
    const verdict = verdicts.find((item) => item['allowed'] !== true);
    if (verdict === undefined) return undefined;
    return String(verdict['package-error'] ?? verdict['reject-reason']);
  }

  /** Puts 900,000 sat behind a script, confirmed. */
  async fund(script: Uint8Array): Promise<Coin> {
    const coin = await this.coin();
    const tx = spendAnyone([coin], [0n]);
    // The second output keeps the transaction above the smallest size that relays.
    const outputs = [{ valueSat: 900_000n, script }, { valueSat: 90_000n, script: ANYONE_SCRIPT }];
    const txid = await this.send({ ...tx, outputs });
    await this.mine(1);
    return { txid, vout: 0, valueSat: 900_000n };
  }

  async submit(...transactions: readonly Tx[]): Promise<{ message: unknown; errors: (string | undefined)[]; answer: Json }> {
    const answer = await this.call('submitpackage', transactions.map((tx) => toHex(encodeTx(tx))), 0);
    const results = answer['tx-results'] as Record<string, Json>;
    const byTxid = new Map(Object.values(results).map((result) => [result['txid'], result]));
    const errors = transactions.map((tx) => byTxid.get(txidHex(tx))?.['error'] as string | undefined);
    return { message: answer['package_msg'], errors: errors.map((error) => error?.split(',')[0]), answer };
  }
}

function codeOf(outcome: RpcOutcome): number | undefined {
  return outcome.ok ? undefined : outcome.error.code;
}

/** A spend whose one input the caller will give a witness. */
function spend(coin: Coin, options: { sequence?: number; locktime?: number; version?: number; outputs?: Tx['outputs'] } = {}): Tx {
  const base = spendAnyone([{ ...coin, ...(options.sequence === undefined ? {} : { sequence: options.sequence }) }], [coin.valueSat - FEE_SAT], options);
  return options.outputs === undefined ? base : { ...base, outputs: options.outputs };
}

function ecdsa(tx: Tx, coin: Coin, script: Uint8Array, key: Uint8Array, type: number = SIGHASH.ALL): Uint8Array {
  return derFromCompact(secp256k1.sign(segwitV0Sighash(tx, 0, script, coin.valueSat, type), key), type);
}

async function rejectedByScript(bench: Bench, tx: Tx): Promise<void> {
  const reason = await bench.refusal(tx);
  ok(reason?.includes('script-verify-flag') === true, `expected a script failure, got ${reason}`);
}

/** BIP 431 was broken: `TRUC-violation` in Bitcoin Core, finer names in nodes derived from it. */
async function rejectedAsTruc(bench: Bench, tx: Tx): Promise<void> {
  const reason = await bench.refusal(tx);
  ok(/^(TRUC-violation|truc-.*)$/.test(reason ?? ''), `expected a TRUC violation, got ${reason}`);
}

const CASES: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
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
    deepStrictEqual([info['chain'], info['blocks'], info['headers'], info['bestblockhash']], ['regtest', height, height, hash]);
    const one = await bench.call('getblock', hash, 1);
    strictEqual((one['tx'] as string[])[1], txid);
    strictEqual(one['bits'], '207fffff');
    strictEqual(one['nTx'], 2);
    const raw = await bench.call<string>('getblock', hash, 0);
    strictEqual(one['size'], raw.length / 2);
    strictEqual(await bench.call<string>('getblockheader', hash, false), raw.slice(0, 160));
    const header = await bench.call('getblockheader', hash);
    for (const field of ['hash', 'confirmations', 'height', 'version', 'versionHex', 'merkleroot', 'time', 'mediantime', 'nonce', 'bits', 'difficulty', 'chainwork', 'nTx', 'previousblockhash']) {
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
    deepStrictEqual([verbose['blockhash'], verbose['confirmations'], verbose['hex']], [hash, 1, toHex(encodeTx(tx))]);
    deepStrictEqual(verbose['vout'], again['vout']);
    const output = await bench.call('gettxout', txid, 0);
    deepStrictEqual([output['confirmations'], output['value'], output['coinbase'], output['bestblock']], [1, 0.00998, false, hash]);
    deepStrictEqual((output['scriptPubKey'] as Json)['address'], ADDRESS);
    strictEqual((output['scriptPubKey'] as Json)['type'], 'witness_v0_scripthash');
  },

  'the mempool’s view of a family': async (bench) => {
    const coin = await bench.coin();
    const parent = spendAnyone([coin], [coin.valueSat - 1000n]);
    const parentId = await bench.send(parent);
    const child = spendAnyone([{ txid: parentId, vout: 0 }], [coin.valueSat - 4000n]);
    const childId = await bench.send(child);
    strictEqual(await bench.send(child), childId);
    const entry = await bench.call('getmempoolentry', parentId);
    deepStrictEqual([entry['descendantcount'], entry['ancestorcount'], entry['vsize'], entry['spentby']], [2, 1, txVsize(parent), [childId]]);
    deepStrictEqual(entry['fees'], { base: 0.00001, modified: 0.00001, ancestor: 0.00001, descendant: 0.00004 });
    const verbose = await bench.call<Record<string, Json>>('getrawmempool', true);
    deepStrictEqual(verbose[childId]?.['depends'], [parentId]);
    deepStrictEqual(await bench.call('gettxspendingprevout', [{ txid: coin.txid, vout: coin.vout }, { txid: UNKNOWN, vout: 0 }]), [
      { txid: coin.txid, vout: coin.vout, spendingtxid: parentId },
      { txid: UNKNOWN, vout: 0 },
    ]);
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
    const burn = { ...spendAnyone([coin], [0n]), outputs: [{ valueSat: coin.valueSat - FEE_SAT, script: opReturnScript(fromHex('aa')) }] };
    strictEqual(codeOf(await bench.rpc.try('sendrawtransaction', toHex(encodeTx(burn)))), -25);
    const poor = await bench.rpc.try('sendrawtransaction', toHex(encodeTx(spendAnyone([coin], [coin.valueSat]))));
    strictEqual(codeOf(poor), -26);
    ok(!poor.ok && poor.error.message.startsWith('min relay fee not met'));
  },

  'P2WPKH': async (bench) => {
    const coin = await bench.fund(p2wpkhScript(publicKey(5)));
    const code = p2pkhScript(hash160(publicKey(5)));
    const tx = spend(coin);
    await rejectedByScript(bench, withWitness(tx, 0, [ecdsa(tx, coin, code, secret(6)), publicKey(5)]));
    await rejectedByScript(bench, withWitness(tx, 0, [ecdsa(tx, { ...coin, valueSat: 1n }, code, secret(5)), publicKey(5)]));
    await bench.send(withWitness(tx, 0, [ecdsa(tx, coin, code, secret(5)), publicKey(5)]));
    await bench.mine(1);
  },

  'a funding output: 2 of 2': async (bench) => {
    const script = compileScript([OP.N2, publicKey(1), publicKey(2), OP.N2, OP.CHECKMULTISIG]);
    const coin = await bench.fund(p2wshScript(script));
    // The obscured commitment number sits in sequence and locktime.
    const unsigned = spend(coin, { sequence: 0x80ab_cdef, locktime: 0x2012_3456 });
    const first = ecdsa(unsigned, coin, script, secret(1));
    const second = ecdsa(unsigned, coin, script, secret(2));
    const empty = new Uint8Array();
    await rejectedByScript(bench, withWitness(unsigned, 0, [empty, second, first, script]));
    await rejectedByScript(bench, withWitness(unsigned, 0, [empty, first, first, script]));
    await rejectedByScript(bench, withWitness(unsigned, 0, [fromHex('01'), first, second, script]));
    await bench.send(withWitness(unsigned, 0, [empty, first, second, script]));
    await bench.mine(1);
  },

  'a delayed output: CHECKSEQUENCEVERIFY': async (bench) => {
    const delay = 6;
    const script = compileScript([OP.IF, publicKey(3), OP.ELSE, scriptNumber(delay), OP.CHECKSEQUENCEVERIFY, OP.DROP, publicKey(4), OP.ENDIF, OP.CHECKSIG]);
    const coin = await bench.fund(p2wshScript(script));
    const late = spend(coin, { sequence: delay });
    const early = spend(coin, { sequence: delay - 1 });
    const signed = (tx: Tx): Tx => withWitness(tx, 0, [ecdsa(tx, coin, script, secret(4)), new Uint8Array(), script]);
    strictEqual(await bench.refusal(signed(late)), 'non-BIP68-final');
    await bench.mine(delay - 2);
    strictEqual(await bench.refusal(signed(late)), 'non-BIP68-final');
    await bench.mine(1);
    await rejectedByScript(bench, signed(early));
    // The branch selector must be minimal.
    const byOther = withWitness(late, 0, [ecdsa(late, coin, script, secret(3)), fromHex('02'), script]);
    await rejectedByScript(bench, byOther);
    await bench.send(signed(late));
    await bench.mine(1);
  },

  'an HTLC: CHECKLOCKTIMEVERIFY or preimage, SINGLE|ANYONECANPAY': async (bench) => {
    const expiry = (await bench.height()) + 20;
    const paymentHash = hash160(secret(9));
    const script = compileScript([
      ...[OP.SIZE, scriptNumber(32), OP.EQUAL, OP.IF, OP.HASH160, paymentHash, OP.EQUALVERIFY, publicKey(1), OP.CHECKSIG],
      ...[OP.ELSE, OP.DROP, scriptNumber(expiry), OP.CHECKLOCKTIMEVERIFY, OP.DROP, publicKey(2), OP.CHECKSIG, OP.ENDIF],
    ]);
    const coin = await bench.fund(p2wshScript(script));
    const bySecret = spend(coin);
    const type = SIGHASH.SINGLE_ANYONECANPAY;
    const claimed = withWitness(bySecret, 0, [ecdsa(bySecret, coin, script, secret(1), type), secret(9), script]);
    await rejectedByScript(bench, withWitness(bySecret, 0, [ecdsa(bySecret, coin, script, secret(1), type), secret(8), script]));
    // SINGLE|ANYONECANPAY lets others add inputs and outputs: fees for an HTLC transaction.
    const extra = await bench.coin();
    const other = spendAnyone([extra], [extra.valueSat - 5000n]);
    const joined: Tx = { ...claimed, inputs: [...claimed.inputs, ...other.inputs], outputs: [...claimed.outputs, ...other.outputs] };
    strictEqual(await bench.refusal(joined), undefined);
    await rejectedByScript(bench, { ...joined, outputs: joined.outputs.toReversed() });
    const timeout = spend(coin, { locktime: expiry });
    const timedOut = withWitness(timeout, 0, [ecdsa(timeout, coin, script, secret(2)), new Uint8Array(), script]);
    strictEqual(await bench.refusal(timedOut), 'non-final');
    // A final locktime below the script's does not satisfy it.
    const early = spend(coin, { locktime: 1 });
    await rejectedByScript(bench, withWitness(early, 0, [ecdsa(early, coin, script, secret(2)), new Uint8Array(), script]));
    await bench.mine(expiry - (await bench.height()));
    strictEqual(await bench.refusal(timedOut), undefined);
    await bench.send(joined);
    await bench.mine(1);
  },

  'taproot key path': async (bench) => {
    const coin = await bench.fund(p2trScript(taprootOutputKey(secp256k1, publicKey(7))));
    const tx = spend(coin);
    const spent = [{ valueSat: coin.valueSat, script: p2trScript(taprootOutputKey(secp256k1, publicKey(7))) }];
    const key = taprootOutputSecretKey(secp256k1, secret(7));
    const sign = (type: number): Uint8Array => secp256k1.schnorrSign(taprootKeyPathSighash(tx, 0, spent, type), key, secret(1));
    await rejectedByScript(bench, withWitness(tx, 0, [sign(SIGHASH.ALL)]));
    await rejectedByScript(bench, withWitness(tx, 0, [Uint8Array.from([...sign(SIGHASH.ALL), SIGHASH.NONE])]));
    strictEqual(await bench.refusal(withWitness(tx, 0, [Uint8Array.from([...sign(SIGHASH.SINGLE_ANYONECANPAY), SIGHASH.SINGLE_ANYONECANPAY])])), undefined);
    await bench.send(withWitness(tx, 0, [sign(SIGHASH.DEFAULT)]));
    await bench.mine(1);
  },

  'pay to anchor': async (bench) => {
    const coin = await bench.fund(P2A_SCRIPT);
    const tx = withWitness(spend(coin), 0, []);
    // Derived nodes name the rule more closely.
    const refused = await bench.refusal(withWitness(tx, 0, [fromHex('01')]));
    ok(refused?.startsWith('bad-witness-') === true, `got ${refused}`);
    await bench.send(tx);
    await bench.mine(1);
  },

  'standardness': async (bench) => {
    const coin = await bench.coin();
    const to = (script: Uint8Array): Tx => spend(coin, { outputs: [{ valueSat: coin.valueSat - FEE_SAT, script }] });
    strictEqual(await bench.refusal({ ...to(ANYONE_SCRIPT), version: 4 }), 'version');
    strictEqual(await bench.refusal(to(compileScript([OP.NOP]))), 'scriptpubkey');
    strictEqual(await bench.refusal({ ...to(ANYONE_SCRIPT), outputs: [] }), 'bad-txns-vout-empty');
    strictEqual(await bench.refusal(spendAnyone([coin, coin], [1000n])), 'bad-txns-inputs-duplicate');
    const small: Tx = { ...to(ANYONE_SCRIPT), outputs: [{ valueSat: 1000n, script: P2A_SCRIPT }] };
    strictEqual(await bench.refusal(small), 'tx-size-small');
  },

  'replacement': async (bench) => {
    const coin = await bench.coin();
    const other = await bench.coin();
    const low = spendAnyone([{ ...coin, sequence: 0xffff_ffff }], [coin.valueSat - 1000n]);
    await bench.send(low);
    const child = spendAnyone([{ txid: txidHex(low), vout: 0 }], [coin.valueSat - 21_000n]);
    await bench.send(child);
    // It must pay for what it throws out, the child included.
    strictEqual(await bench.refusal(spendAnyone([coin], [coin.valueSat - 20_000n])), 'insufficient fee');
    strictEqual(await bench.refusal(spendAnyone([coin], [coin.valueSat - 21_050n])), 'insufficient fee');
    strictEqual(await bench.refusal(spendAnyone([coin, { txid: txidHex(child), vout: 0 }], [1000n])), 'bad-txns-spends-conflicting-tx');
    const elsewhere = spendAnyone([other], [other.valueSat - 1000n]);
    await bench.send(elsewhere);
    const adds = spendAnyone([coin, { txid: txidHex(elsewhere), vout: 0 }], [1000n]);
    strictEqual(await bench.refusal(adds), 'replacement-adds-unconfirmed');
    const high = spendAnyone([coin], [coin.valueSat - 22_000n]);
    await bench.send(high);
    deepStrictEqual((await bench.call<string[]>('getrawmempool')).toSorted(), [txidHex(high), txidHex(elsewhere)].toSorted());
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
    await rejectedAsTruc(bench, spendAnyone([{ txid: txidHex(unconfirmed), vout: 0 }], [800_000n], { version: 3 }));
    const large = spendAnyone([from(0)], Array.from({ length: 40 }, () => 1000n), { version: 3 });
    await rejectedAsTruc(bench, large);
    const child = spendAnyone([from(0)], [490_000n], { version: 3 });
    await bench.send(child);
    await rejectedAsTruc(bench, spendAnyone([{ txid: txidHex(child), vout: 0 }], [400_000n], { version: 3 }));
    // A sibling takes the child's place only if it pays for that.
    strictEqual(await bench.refusal(spendAnyone([from(1)], [489_000n], { version: 3 })), 'insufficient fee (including sibling eviction)');
    const sibling = spendAnyone([from(1)], [470_000n], { version: 3 });
    await bench.send(sibling);
    const mempool = await bench.call<string[]>('getrawmempool');
    ok(mempool.includes(txidHex(sibling)) && !mempool.includes(txidHex(child)));
    await bench.mine(1);
  },

  'packages: a child pays for its parent': async (bench) => {
    const coin = await bench.coin();
    const parent = spendAnyone([coin], [coin.valueSat], { version: 3 });
    const childOf = (tx: Tx, feeSat: bigint): Tx => spendAnyone([{ txid: txidHex(tx), vout: 0 }], [coin.valueSat - feeSat], { version: 3 });
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
    const rivalChild = spendAnyone([{ txid: txidHex(rival), vout: 0 }], [coin.valueSat - 20_000n], { version: 3 });
    const replaced = await bench.submit(rival, rivalChild);
    strictEqual(replaced.message, 'success');
    deepStrictEqual((replaced.answer['replaced-transactions'] as string[]).toSorted(), [txidHex(parent), txidHex(childOf(parent, 5000n))].toSorted());
    await bench.mine(1);
    strictEqual((await bench.call('gettxout', txidHex(rivalChild), 0))['confirmations'], 1);
    const unrelated = [await bench.coin(), await bench.coin()].map((from) => spendAnyone([from], [from.valueSat - FEE_SAT]));
    strictEqual(codeOf(await bench.rpc.try('submitpackage', unrelated.map((tx) => toHex(encodeTx(tx))))), -25);
  },

  'packages: an anchor without value': async (bench) => {
    const coin = await bench.coin();
    const commitment: Tx = { ...spendAnyone([coin], [coin.valueSat], { version: 3 }), outputs: [{ valueSat: coin.valueSat, script: ANYONE_SCRIPT }, { valueSat: 0n, script: P2A_SCRIPT }] };
    const feeCoin = await bench.coin();
    const child = spendAnyone([{ txid: txidHex(commitment), vout: 1 }, feeCoin], [feeCoin.valueSat - 3000n], { version: 3 });
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
    const tips = (await bench.call<Json[]>('getchaintips')).filter((tip) => tip['hash'] === hash || tip['hash'] === second);
    deepStrictEqual(tips.map((tip) => [tip['hash'] === second, tip['status'], tip['branchlen']]).toSorted(), [[false, 'valid-fork', 1], [true, 'active', 0]]);
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
    deepStrictEqual([found?.['txid'], found?.['vout'], found?.['amount'], found?.['height']], [coin.txid, 0, 0.009, await bench.height()]);
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

/** The cases; they share one node, its chain and the coins that they split. */
export function rpcCompliance(name: string, makeRpc: () => Promise<BitcoindRpc>): readonly ComplianceCase[] {
  let bench: Promise<Bench> | undefined;
  return Object.entries(CASES).map(([title, run]) => ({
    name: `${name}: ${title}`,
    async run() {
      // Cases share the chain and its coins; the runner closes the client it made.
      bench ??= makeRpc().then((rpc) => new Bench(rpc));
      await run(await bench);
    },
  }));
}
