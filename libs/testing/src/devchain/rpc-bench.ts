/** What the compliance cases share: a node over RPC with money in it. */
import { ok } from 'node:assert/strict';
import type { Tx } from '@fulmen/bitcoin';
import {
  NETWORKS,
  SIGHASH,
  decodeTx,
  derFromCompact,
  encodeAddress,
  encodeTx,
  segwitV0Sighash,
  txidHex,
} from '@fulmen/bitcoin';
import { fromHex, toHex } from '@fulmen/bitcoin/bytes';
import type { BitcoindRpc, RpcOutcome } from '@fulmen/chain';
import { ANYONE_SCRIPT, spendAnyone } from '@fulmen/chain/compliance';
import { secp256k1 } from '@fulmen/crypto/default';

export const ADDRESS = encodeAddress(ANYONE_SCRIPT, NETWORKS.regtest) ?? '';
export const UNKNOWN = 'ab'.repeat(32);
export const secret = (fill: number): Uint8Array => new Uint8Array(32).fill(fill);
export const publicKey = (fill: number): Uint8Array => secp256k1.publicKeyOf(secret(fill));
export const FEE_SAT = 2000n;

export interface Coin {
  readonly txid: string;
  readonly vout: number;
  readonly valueSat: bigint;
}

export type Json = Record<string, unknown>;

/** A node under test, with money. */
export class Bench {
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
    const tx = spendAnyone(
      [{ txid: reward ?? '', vout: 0 }],
      [...values, valueSat - BigInt(count) * 1_000_000n - 10_000n],
    );
    const txid = await this.send(tx);
    await this.mine(1);
    for (let vout = 0; vout < count; vout++) this.#coins.push({ txid, vout, valueSat: 1_000_000n });
  }

  async send(tx: Tx): Promise<string> {
    return await this.call<string>('sendrawtransaction', toHex(encodeTx(tx)), 0);
  }

  /** The reason for which the mempool would refuse, or undefined. */
  async refusal(...transactions: readonly Tx[]): Promise<string | undefined> {
    const verdicts = await this.call<Json[]>(
      'testmempoolaccept',
      transactions.map((tx) => toHex(encodeTx(tx))),
      0,
    );
    const verdict = verdicts.find((item) => item['allowed'] !== true);
    if (verdict === undefined) return undefined;
    return String(verdict['package-error'] ?? verdict['reject-reason']);
  }

  /** Puts 900,000 sat behind a script, confirmed. */
  async fund(script: Uint8Array): Promise<Coin> {
    const coin = await this.coin();
    const tx = spendAnyone([coin], [0n]);
    // The second output keeps the transaction above the smallest size that relays.
    const outputs = [
      { valueSat: 900_000n, script },
      { valueSat: 90_000n, script: ANYONE_SCRIPT },
    ];
    const txid = await this.send({ ...tx, outputs });
    await this.mine(1);
    return { txid, vout: 0, valueSat: 900_000n };
  }

  async submit(
    ...transactions: readonly Tx[]
  ): Promise<{ message: unknown; errors: (string | undefined)[]; answer: Json }> {
    const answer = await this.call(
      'submitpackage',
      transactions.map((tx) => toHex(encodeTx(tx))),
      0,
    );
    const results = answer['tx-results'] as Record<string, Json>;
    const byTxid = new Map(Object.values(results).map((result) => [result['txid'], result]));
    const errors = transactions.map((tx) => byTxid.get(txidHex(tx))?.['error'] as string | undefined);
    return { message: answer['package_msg'], errors: errors.map((error) => error?.split(',')[0]), answer };
  }
}

export function codeOf(outcome: RpcOutcome): number | undefined {
  return outcome.ok ? undefined : outcome.error.code;
}

/** A spend whose one input the caller will give a witness. */
export function spend(
  coin: Coin,
  options: { sequence?: number; locktime?: number; version?: number; outputs?: Tx['outputs'] } = {},
): Tx {
  const base = spendAnyone(
    [{ ...coin, ...(options.sequence === undefined ? {} : { sequence: options.sequence }) }],
    [coin.valueSat - FEE_SAT],
    options,
  );
  return options.outputs === undefined ? base : { ...base, outputs: options.outputs };
}

export function ecdsa(
  tx: Tx,
  coin: Coin,
  script: Uint8Array,
  key: Uint8Array,
  type: number = SIGHASH.ALL,
): Uint8Array {
  return derFromCompact(secp256k1.sign(segwitV0Sighash(tx, 0, script, coin.valueSat, type), key), type);
}

export async function rejectedByScript(bench: Bench, tx: Tx): Promise<void> {
  const reason = await bench.refusal(tx);
  ok(reason?.includes('script-verify-flag') === true, `expected a script failure, got ${reason}`);
}

/** BIP 431 was broken: `TRUC-violation` in Bitcoin Core, finer names in nodes derived from it. */
export async function rejectedAsTruc(bench: Bench, tx: Tx): Promise<void> {
  const reason = await bench.refusal(tx);
  ok(/^(TRUC-violation|truc-.*)$/.test(reason ?? ''), `expected a TRUC violation, got ${reason}`);
}

/** One case. */
export type RpcCase = (bench: Bench) => Promise<void>;
