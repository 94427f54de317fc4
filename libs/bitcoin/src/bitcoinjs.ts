/** Bridge between this library's immutable transactions and bitcoinjs-lib's mutable ones. */
import { Transaction } from 'bitcoinjs-lib';
import type { Result } from '@fulmen/codec';
import type { BitcoinError } from './errors.ts';
import type { Tx } from './transaction.ts';
import { decodeTx } from './transaction.ts';

/** A bitcoinjs transaction with the same content; shares no bytes with the argument. */
export function toBitcoinjs(tx: Tx): Transaction {
  const out = new Transaction();
  out.version = tx.version;
  out.locktime = tx.locktime;
  for (const [index, input] of tx.inputs.entries()) {
    out.addInput(input.txid.slice(), input.vout, input.sequence, input.scriptSig.slice());
    out.setWitness(
      index,
      input.witness.map((item) => item.slice()),
    );
  }
  for (const output of tx.outputs) out.addOutput(output.script.slice(), output.valueSat);
  return out;
}

/** The immutable form of a bitcoinjs transaction; the same bounds as `decodeTx`. */
export function fromBitcoinjs(transaction: Transaction): Result<Tx, BitcoinError> {
  return decodeTx(transaction.toBuffer());
}
