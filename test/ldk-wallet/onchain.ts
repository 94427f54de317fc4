// The wallet's own coins: P2WPKH outputs found by scanning blocks, spent for fundings and fee bumps.
import { createHash } from 'node:crypto';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { address, networks, payments, Psbt, script, Transaction } from 'bitcoinjs-lib';
import { toDisplayHash, toHex, WalletError } from './ldk.ts';

const NETWORK = networks.regtest;
// BIP 141: an input of a P2WPKH coin weighs 272, of which the witness (count, signature, key) is 108
// and the length byte of the empty script 4.
const INPUT_WEIGHT = 272n;
/** What satisfies one coin's script weighs. */
export const SATISFACTION_WEIGHT = 112n;
const DUST_SAT = 294n;
const COINBASE_MATURITY = 100;
const KEPT_UNDO_BLOCKS = 500;
// A funding that was never broadcast gives its coins back after this many blocks.
const RESERVED_BLOCKS = 144;

/** A coin of the wallet. */
export type Coin = {
  readonly txid: string;
  readonly index: number;
  readonly valueSat: string;
  readonly keyIndex: number;
  readonly height: number;
  readonly coinbase: boolean;
};

type Undo = { readonly height: number; readonly created: readonly string[]; readonly spent: readonly Coin[] };

/** What the snapshot keeps of it. */
export type OnchainState = {
  readonly nextKey: number;
  readonly coins: readonly Coin[];
  readonly undo: readonly Undo[];
  readonly reserved: readonly (readonly [string, number])[];
};

/** An output to make. */
export type Payee = { readonly scriptPubkey: Uint8Array; readonly valueSat: bigint };

/** The coins and their keys. */
export class OnchainWallet {
  readonly #seed: Uint8Array;
  readonly #keysByScript = new Map<string, number>();
  readonly #coins = new Map<string, Coin>();
  readonly #reserved: Map<string, number>;
  #undo: Undo[];
  #nextKey: number;
  #height = 0;

  constructor(seed: Uint8Array, state?: OnchainState) {
    this.#seed = seed;
    this.#nextKey = state?.nextKey ?? 1;
    this.#undo = [...(state?.undo ?? [])];
    this.#reserved = new Map(state?.reserved ?? []);
    for (const coin of state?.coins ?? []) this.#coins.set(outpoint(coin), coin);
    for (let index = 0; index < this.#nextKey; index += 1)
      this.#keysByScript.set(toHex(this.#script(index)), index);
  }

  save(): OnchainState {
    return {
      nextKey: this.#nextKey,
      coins: [...this.#coins.values()],
      undo: this.#undo,
      reserved: [...this.#reserved],
    };
  }

  newAddress(): string {
    const index = this.#nextKey;
    this.#nextKey += 1;
    this.#keysByScript.set(toHex(this.#script(index)), index);
    return address.fromOutputScript(this.#script(index), NETWORK);
  }

  /** Where change and swept money goes; always the same, so that it is known before any state is. */
  get changeScript(): Uint8Array {
    return this.#script(0);
  }

  balanceSat(): bigint {
    return [...this.#coins.values()].reduce((sum, coin) => sum + BigInt(coin.valueSat), 0n);
  }

  /** Coins that a new transaction may spend. */
  spendable(): Coin[] {
    return [...this.#coins.values()].filter(
      (coin) =>
        !this.#reserved.has(outpoint(coin)) &&
        (!coin.coinbase || this.#height + 1 - coin.height >= COINBASE_MATURITY),
    );
  }

  scriptOf(coin: Coin): Uint8Array {
    return this.#script(coin.keyIndex);
  }

  connect(transactions: readonly Transaction[], height: number): void {
    this.#height = height;
    const created: string[] = [];
    const spent: Coin[] = [];
    for (const transaction of transactions) {
      const txid = transaction.getId();
      for (const input of transaction.ins) {
        const coin = this.#coins.get(`${toDisplayHash(input.hash)}:${input.index}`);
        if (coin === undefined) continue;
        this.#coins.delete(outpoint(coin));
        this.#reserved.delete(outpoint(coin));
        spent.push(coin);
      }
      for (const [index, output] of transaction.outs.entries()) {
        const keyIndex = this.#keysByScript.get(toHex(output.script));
        if (keyIndex === undefined) continue;
        const coin = {
          txid,
          index,
          valueSat: String(output.value),
          keyIndex,
          height,
          coinbase: transaction.isCoinbase(),
        };
        this.#coins.set(outpoint(coin), coin);
        created.push(outpoint(coin));
      }
    }
    if (created.length > 0 || spent.length > 0) this.#undo.push({ height, created, spent });
    this.#undo = this.#undo.filter((undo) => undo.height > height - KEPT_UNDO_BLOCKS);
    for (const [coin, since] of this.#reserved)
      if (since < height - RESERVED_BLOCKS) this.#reserved.delete(coin);
  }

  disconnect(height: number): void {
    this.#height = height - 1;
    for (const undo of this.#undo.filter((one) => one.height === height)) {
      for (const coin of undo.spent) this.#coins.set(outpoint(coin), coin);
      for (const created of undo.created) this.#coins.delete(created);
    }
    this.#undo = this.#undo.filter((undo) => undo.height < height);
  }

  setHeight(height: number): void {
    this.#height = height;
  }

  /**
   * A signed transaction that pays one output; its coins are reserved until it confirms.
   * @throws WalletError when the coins do not suffice
   */
  pay(payee: Payee, feerateSatPerKw: number): Transaction {
    const coins: Coin[] = [];
    let total = 0n;
    const outputsWeight = 4n * (BigInt(payee.scriptPubkey.length) + 9n) + 4n * 31n;
    const feeSat = () =>
      ((42n + outputsWeight + INPUT_WEIGHT * BigInt(coins.length)) * BigInt(feerateSatPerKw) + 999n) / 1000n;
    const available = this.spendable().sort((a, b) => Number(BigInt(b.valueSat) - BigInt(a.valueSat)));
    for (const coin of available) {
      if (coins.length > 0 && total >= payee.valueSat + feeSat()) break;
      coins.push(coin);
      total += BigInt(coin.valueSat);
    }
    if (total < payee.valueSat + feeSat()) {
      throw new WalletError(`the wallet has ${total} sat to spend, and needs ${payee.valueSat + feeSat()}`);
    }
    const transaction = new Transaction();
    transaction.version = 2;
    for (const coin of coins) {
      transaction.addInput(Uint8Array.from(Buffer.from(coin.txid, 'hex')).reverse(), coin.index, 0xfffffffd);
    }
    transaction.addOutput(payee.scriptPubkey, payee.valueSat);
    const changeSat = total - payee.valueSat - feeSat();
    if (changeSat >= DUST_SAT) transaction.addOutput(this.changeScript, changeSat);
    for (const [index, coin] of coins.entries()) {
      this.#sign(transaction, index, { keyIndex: coin.keyIndex, valueSat: BigInt(coin.valueSat) });
      this.#reserved.set(outpoint(coin), this.#height);
    }
    return transaction;
  }

  /** Gives back the coins of a transaction that will not be broadcast. */
  release(transaction: Transaction): void {
    for (const input of transaction.ins) this.#reserved.delete(`${toDisplayHash(input.hash)}:${input.index}`);
  }

  /** Signs the inputs that spend coins of the wallet, and leaves the others to the caller. */
  signPsbt(bytes: Uint8Array): Transaction {
    const psbt = Psbt.fromBuffer(bytes, { network: NETWORK });
    const transaction = Transaction.fromBuffer(psbt.data.globalMap.unsignedTx.toBuffer());
    for (const [index, input] of psbt.data.inputs.entries()) {
      if (input.witnessUtxo === undefined) continue;
      const keyIndex = this.#keysByScript.get(toHex(input.witnessUtxo.script));
      if (keyIndex === undefined) continue;
      this.#sign(transaction, index, { keyIndex, valueSat: input.witnessUtxo.value });
    }
    return transaction;
  }

  #sign(
    transaction: Transaction,
    index: number,
    coin: { readonly keyIndex: number; readonly valueSat: bigint },
  ): void {
    const secret = this.#secret(coin.keyIndex);
    const publicKey = secp256k1.getPublicKey(secret, true);
    const code = payments.p2pkh({ pubkey: publicKey, network: NETWORK }).output;
    if (code === undefined) throw new WalletError('no script for the key');
    const digest = transaction.hashForWitnessV0(index, code, coin.valueSat, Transaction.SIGHASH_ALL);
    const signature = secp256k1.sign(digest, secret, { prehash: false });
    transaction.setWitness(index, [script.signature.encode(signature, Transaction.SIGHASH_ALL), publicKey]);
  }

  #secret(index: number): Uint8Array {
    return Uint8Array.from(createHash('sha256').update(this.#seed).update(`wallet key ${index}`).digest());
  }

  #script(index: number): Uint8Array {
    const output = payments.p2wpkh({
      pubkey: secp256k1.getPublicKey(this.#secret(index), true),
      network: NETWORK,
    }).output;
    if (output === undefined) throw new WalletError('no script for the key');
    return output;
  }
}

/** The script of an address of the development or test chain. */
export function addressToScript(text: string): Uint8Array {
  try {
    return address.toOutputScript(text, NETWORK);
  } catch {
    throw new WalletError(`this is no address of this chain: ${text}`);
  }
}

function outpoint(coin: { readonly txid: string; readonly index: number }): string {
  return `${coin.txid}:${coin.index}`;
}
