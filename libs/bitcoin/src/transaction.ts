/**
 * The plain, immutable model of a transaction and its serialization.
 *
 * Hashes inside the model are in internal byte order (as serialized and as
 * hashed); `displayHash` and `parseDisplayHash` convert to the reversed hex
 * that people and RPCs use. Lightning's channel ids and `funding_txid` use
 * the internal order too.
 */
import { sha256d } from '@fulmen/crypto';
import { err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { ByteReader, ByteWriter, compactSizeLength, fromHex, toHex } from './bytes.ts';
import { BitcoinError } from './errors.ts';

/** One input. `txid` is 32 bytes in internal order. */
export interface TxInput {
  readonly txid: Uint8Array;
  readonly vout: number;
  readonly scriptSig: Uint8Array;
  readonly sequence: number;
  readonly witness: readonly Uint8Array[];
}

/** One output. */
export interface TxOutput {
  readonly valueSat: bigint;
  readonly script: Uint8Array;
}

/** A transaction; `version` and `locktime` are unsigned 32-bit. */
export interface Tx {
  readonly version: number;
  readonly locktime: number;
  readonly inputs: readonly TxInput[];
  readonly outputs: readonly TxOutput[];
}

/** A reference to an output; `txid` in internal order. */
export interface OutPoint {
  readonly txid: Uint8Array;
  readonly vout: number;
}

/** No block may weigh more, so neither may a transaction. */
export const MAX_BLOCK_WEIGHT = 4_000_000;
/** No amount may exceed this. */
export const MAX_MONEY_SAT = 2_100_000_000_000_000n;
/** Sequence that opts out of locktime, relative lock and (BIP 125) replaceability. */
export const SEQUENCE_FINAL = 0xffff_ffff;

/** Input: txid 32, vout 4, script length ≥ 1, sequence 4. */
const MIN_INPUT_LENGTH = 41;
/** Output: value 8, script length ≥ 1. */
const MIN_OUTPUT_LENGTH = 9;

/** Reversed hex of a 32-byte hash: the form shown to people and spoken by RPCs. */
export function displayHash(hash: Uint8Array): string {
  return toHex(Uint8Array.from(hash).reverse());
}

/** Internal-order bytes of a display-order hash. @throws BitcoinError `bad-hash` unless 64 hexadecimal digits. */
export function parseDisplayHash(hash: string): Uint8Array {
  const bytes = fromHex(hash);
  if (bytes.length !== 32) throw new BitcoinError('bad-hash', `a hash has 32 bytes, not ${bytes.length}`);
  return bytes.reverse();
}

/** True if any input carries a witness. */
export function hasWitness(tx: Tx): boolean {
  return tx.inputs.some((input) => input.witness.length > 0);
}

function strippedLength(tx: Tx): number {
  let length = 8 + compactSizeLength(tx.inputs.length) + compactSizeLength(tx.outputs.length);
  for (const { scriptSig } of tx.inputs)
    length += 40 + compactSizeLength(scriptSig.length) + scriptSig.length;
  for (const { script } of tx.outputs) length += 8 + compactSizeLength(script.length) + script.length;
  return length;
}

/** Marker, flag and witnesses; 0 without any witness. */
function witnessLength(tx: Tx): number {
  if (!hasWitness(tx)) return 0;
  let length = 2;
  for (const { witness } of tx.inputs) length += witnessStackLength(witness);
  return length;
}

/** Serialized bytes of a witness stack, its count included. */
export function witnessStackLength(witness: readonly Uint8Array[]): number {
  let length = compactSizeLength(witness.length);
  for (const item of witness) length += compactSizeLength(item.length) + item.length;
  return length;
}

function encode(tx: Tx, withWitness: boolean): Uint8Array {
  const writer = new ByteWriter(strippedLength(tx) + (withWitness ? witnessLength(tx) : 0));
  writer.u32(tx.version);
  if (withWitness) writer.u8(0).u8(1);
  writer.compactSize(tx.inputs.length);
  for (const input of tx.inputs)
    writer.raw(input.txid).u32(input.vout).varBytes(input.scriptSig).u32(input.sequence);
  writer.compactSize(tx.outputs.length);
  for (const output of tx.outputs) writer.u64(output.valueSat).varBytes(output.script);
  if (withWitness) {
    for (const { witness } of tx.inputs) {
      writer.compactSize(witness.length);
      for (const item of witness) writer.varBytes(item);
    }
  }
  writer.u32(tx.locktime);
  return writer.bytes;
}

/** Network serialization (BIP 144): with witnesses when there are any. */
export function encodeTx(tx: Tx): Uint8Array {
  return encode(tx, hasWitness(tx));
}

/** Serialization without witnesses: what the txid commits to. */
export function encodeTxWithoutWitness(tx: Tx): Uint8Array {
  return encode(tx, false);
}

/** Transaction id, 32 bytes in internal order. */
export function txid(tx: Tx): Uint8Array {
  return sha256d(encodeTxWithoutWitness(tx));
}

/** Witness transaction id, 32 bytes in internal order. */
export function wtxid(tx: Tx): Uint8Array {
  return sha256d(encodeTx(tx));
}

/** Transaction id as display-order hex. */
export function txidHex(tx: Tx): string {
  return displayHash(txid(tx));
}

/** Weight in weight units (BIP 141). */
export function txWeight(tx: Tx): number {
  return strippedLength(tx) * 4 + witnessLength(tx);
}

/** Virtual size in vbytes, rounded up. */
export function txVsize(tx: Tx): number {
  return Math.ceil(txWeight(tx) / 4);
}

/** True for the first transaction of a block: one input that spends nothing. */
export function isCoinbase(tx: Tx): boolean {
  const [input] = tx.inputs;
  return (
    tx.inputs.length === 1 &&
    input !== undefined &&
    input.vout === 0xffff_ffff &&
    input.txid.every((byte) => byte === 0)
  );
}

/** Key of an outpoint for maps: `<display txid>:<vout>`. */
export function outPointKey(outPoint: OutPoint): string {
  return `${displayHash(outPoint.txid)}:${outPoint.vout}`;
}

/** The transaction with another witness for one input. */
export function withWitness(tx: Tx, inputIndex: number, witness: readonly Uint8Array[]): Tx {
  return {
    ...tx,
    inputs: tx.inputs.map((input, index) => (index === inputIndex ? { ...input, witness } : input)),
  };
}

/**
 * Reads one transaction from a longer buffer (a block).
 *
 * @throws BitcoinError for anything malformed, an output above 21 million
 * bitcoin, or no input at all.
 */
export function readTx(reader: ByteReader): Tx {
  const version = reader.u32();
  const segwit = reader.peek(0) === 0 && reader.peek(1) !== 0;
  if (segwit) {
    reader.u8();
    if (reader.u8() !== 1) throw new BitcoinError('unknown-flag', 'unknown serialization flag');
  }
  const inputCount = reader.count(MIN_INPUT_LENGTH);
  if (inputCount === 0) throw new BitcoinError('no-inputs', 'a transaction has at least one input');
  const bare: Omit<TxInput, 'witness'>[] = [];
  for (let i = 0; i < inputCount; i++) {
    bare.push({
      txid: reader.bytes(32),
      vout: reader.u32(),
      scriptSig: reader.varBytes(),
      sequence: reader.u32(),
    });
  }
  const outputCount = reader.count(MIN_OUTPUT_LENGTH);
  const outputs: TxOutput[] = [];
  for (let i = 0; i < outputCount; i++) {
    const valueSat = reader.u64();
    if (valueSat > MAX_MONEY_SAT)
      throw new BitcoinError('value-out-of-range', 'an output is above 21 million bitcoin');
    outputs.push({ valueSat, script: reader.varBytes() });
  }
  let anyWitness = false;
  const inputs = bare.map((input): TxInput => {
    const witness: Uint8Array[] = [];
    if (segwit) {
      const items = reader.count(1);
      for (let i = 0; i < items; i++) witness.push(reader.varBytes());
      anyWitness ||= items > 0;
    }
    return { ...input, witness };
  });
  if (segwit && !anyWitness)
    throw new BitcoinError('superfluous-witness', 'witness serialization without a witness');
  return { version, locktime: reader.u32(), inputs, outputs };
}

/**
 * Decodes exactly one transaction.
 *
 * Bounds: at most 4,000,000 bytes, lengths in shortest form, amounts within
 * 21 million bitcoin, at least one input, no trailing bytes.
 */
export function decodeTx(bytes: Uint8Array): Result<Tx, BitcoinError> {
  return attempt(() => {
    if (bytes.length > MAX_BLOCK_WEIGHT) throw new BitcoinError('too-large', 'larger than a block');
    const reader = new ByteReader(bytes);
    const tx = readTx(reader);
    reader.assertEnd();
    return tx;
  });
}

/** Runs a decoder that throws `BitcoinError`; any other exception is a bug and passes. */
export function attempt<T>(decode: () => T): Result<T, BitcoinError> {
  try {
    return ok(decode());
  } catch (error) {
    if (error instanceof BitcoinError) return err(error);
    throw error;
  }
}
