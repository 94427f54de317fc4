/** The shapes that the parts of the development chain share. */
import type { BlockHeader, Tx, TxOutput } from '@fulmen/bitcoin';
import { decodeTx, displayHash, encodeTx, encodeTxWithoutWitness, txWeight } from '@fulmen/bitcoin';
import { sha256d } from '@fulmen/crypto';

/** A transaction with what is derived from it; ids in display order. */
export interface StoredTx {
  readonly tx: Tx;
  readonly raw: Uint8Array;
  readonly txid: string;
  readonly wtxid: string;
  readonly weight: number;
  readonly vsize: number;
}

/** An unspent output; `height` is undefined while it waits in the mempool. */
export interface Coin extends TxOutput {
  readonly height: number | undefined;
  readonly coinbase: boolean;
}

/** A block in the tree of all blocks known. */
export interface BlockNode {
  readonly hash: string;
  readonly header: BlockHeader;
  readonly raw: Uint8Array;
  readonly transactions: readonly StoredTx[];
  readonly height: number;
  readonly prev: BlockNode | undefined;
  readonly medianTime: number;
  /** Order of arrival: of two tips of equal work the first seen wins. */
  readonly sequence: number;
  /** Taken out by invalidateblock. */
  invalidated: boolean;
  /** Broke a consensus rule when it was connected. */
  failed: boolean;
}

/** A node's refusal, with the reason string of Bitcoin Core. */
export class Rejection extends Error {
  override readonly name = 'Rejection';
  readonly reason: string;
  readonly details: string;

  constructor(reason: string, details = '') {
    super(details === '' ? reason : `${reason}, ${details}`);
    this.reason = reason;
    this.details = details;
  }
}

/** Checks one transaction's scripts against the outputs it spends; a string is the interpreter's error. */
export type ScriptVerifier = (
  stored: StoredTx,
  spent: readonly TxOutput[],
  mode: 'consensus' | 'policy',
) => { input: number; error: string } | undefined;

/** Derives ids and sizes. */
export function storeTx(tx: Tx): StoredTx {
  const raw = encodeTx(tx);
  const weight = txWeight(tx);
  const txid = displayHash(sha256d(encodeTxWithoutWitness(tx)));
  return { tx, raw, txid, wtxid: displayHash(sha256d(raw)), weight, vsize: Math.ceil(weight / 4) };
}

/** Decodes and derives; undefined when the bytes are no transaction. */
export function storeRawTx(raw: Uint8Array): StoredTx | undefined {
  const decoded = decodeTx(raw);
  return decoded.ok ? storeTx(decoded.value) : undefined;
}

/** Key of an outpoint. */
export function coinKey(txid: string, vout: number): string {
  return `${txid}:${vout}`;
}
