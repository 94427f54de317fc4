/**
 * What was said of the inputs of each transaction lately. A signature of segwit
 * version 0 commits to the value of its own input alone (BIP 143), so that only
 * all requests for a transaction together tell its fee: claims are signed input
 * by input, and a PSBT can be asked for again with other values. An untrue value
 * gives a signature that is worth nothing; the largest one counts.
 *
 * In memory: whoever makes the signer forget, by a restart or by as many other
 * transactions, has the fee of a transaction bounded request by request.
 */
import { type Tx, txid } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/codec';

/** Inputs remembered; the transaction that was not asked for longest is forgotten first. */
const MAX_INPUTS = 100_000;

export class InputSums {
  readonly #byTxid = new Map<string, ReadonlyMap<number, bigint>>();
  readonly #maxInputs: number;
  #inputs = 0;

  constructor(maxInputs = MAX_INPUTS) {
    this.#maxInputs = maxInputs;
  }

  /** What all inputs spend, in sat, as far as was said of them before and is said now (by index). */
  totalSat(transaction: Tx, saidSat: ReadonlyMap<number, bigint>): bigint {
    return [...this.#largest(toHex(txid(transaction)), saidSat).values()].reduce((sum, sat) => sum + sat, 0n);
  }

  /** Signatures were given for these values. */
  add(transaction: Tx, saidSat: ReadonlyMap<number, bigint>): void {
    const key = toHex(txid(transaction));
    const largest = this.#largest(key, saidSat);
    this.#forget(key);
    this.#byTxid.set(key, largest);
    this.#inputs += largest.size;
    for (const oldest of this.#byTxid.keys()) {
      if (this.#inputs <= this.#maxInputs || oldest === key) return;
      this.#forget(oldest);
    }
  }

  #largest(key: string, saidSat: ReadonlyMap<number, bigint>): ReadonlyMap<number, bigint> {
    const largest = new Map(this.#byTxid.get(key));
    for (const [index, sat] of saidSat) {
      const known = largest.get(index);
      if (known === undefined || known < sat) largest.set(index, sat);
    }
    return largest;
  }

  #forget(key: string): void {
    this.#inputs -= this.#byTxid.get(key)?.size ?? 0;
    this.#byTxid.delete(key);
  }
}
