/**
 * What was signed for each claim transaction lately. A claim with several
 * inputs is signed input by input; only together they tell the fee. In memory:
 * whoever makes the signer forget it still loses no more than the highest fee
 * with each input.
 */
import { type Tx, txid } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/codec';

/** Transactions remembered; the oldest is forgotten first. */
const MAX_TRANSACTIONS = 4_096;

export class ClaimSums {
  readonly #byTxid = new Map<string, Map<number, bigint>>();

  /** What the other inputs of the transaction spend, as far as they were signed for. */
  otherInputsSat(transaction: Tx, inputIndex: number): bigint {
    let sum = 0n;
    for (const [index, valueSat] of this.#byTxid.get(toHex(txid(transaction))) ?? [])
      if (index !== inputIndex) sum += valueSat;
    return sum;
  }

  /** An input was signed for, with this value. */
  add(transaction: Tx, inputIndex: number, valueSat: bigint): void {
    const key = toHex(txid(transaction));
    const inputs = this.#byTxid.get(key) ?? new Map<number, bigint>();
    // An untrue value gives a signature that is worth nothing; the largest one told counts.
    const known = inputs.get(inputIndex) ?? 0n;
    inputs.set(inputIndex, known > valueSat ? known : valueSat);
    this.#byTxid.delete(key);
    this.#byTxid.set(key, inputs);
    const oldest = this.#byTxid.keys().next();
    if (this.#byTxid.size > MAX_TRANSACTIONS && oldest.done !== true) this.#byTxid.delete(oldest.value);
  }
}
