/** The messages that signatures commit to: segwit version 0 (BIP 143) and taproot's key path (BIP 341). */
import { sha256, sha256d, taggedHasher } from '@fulmen/crypto';
import { ByteWriter, compactSizeLength } from './bytes.ts';
import { BitcoinError } from './errors.ts';
import type { Tx, TxOutput } from './transaction.ts';

/** Signature hash types. `default` exists in taproot only. */
export const SIGHASH = {
  DEFAULT: 0,
  ALL: 1,
  NONE: 2,
  SINGLE: 3,
  ANYONECANPAY: 0x80,
  SINGLE_ANYONECANPAY: 0x83,
} as const;

const ZERO_HASH = new Uint8Array(32);
const OUTPUT_MASK = 0x1f;
const tapSighash = taggedHasher('TapSighash');

function prevoutsOf(tx: Tx): Uint8Array {
  const writer = new ByteWriter(36 * tx.inputs.length);
  for (const input of tx.inputs) writer.raw(input.txid).u32(input.vout);
  return writer.bytes;
}

function sequencesOf(tx: Tx): Uint8Array {
  const writer = new ByteWriter(4 * tx.inputs.length);
  for (const input of tx.inputs) writer.u32(input.sequence);
  return writer.bytes;
}

function serializeOutputs(outputs: readonly TxOutput[]): Uint8Array {
  let length = 0;
  for (const { script } of outputs) length += 8 + compactSizeLength(script.length) + script.length;
  const writer = new ByteWriter(length);
  for (const output of outputs) writer.u64(output.valueSat).varBytes(output.script);
  return writer.bytes;
}

/**
 * Segwit version 0 signature hash (BIP 143), 32 bytes.
 *
 * @param scriptCode the witness script (P2WSH), or the P2PKH script of the key's hash (P2WPKH).
 * @param valueSat the spent output's amount.
 * @throws BitcoinError `value-out-of-range` for an index that is no input.
 */
export function segwitV0Sighash(
  tx: Tx,
  inputIndex: number,
  scriptCode: Uint8Array,
  valueSat: bigint,
  sighashType: number,
): Uint8Array {
  const input = tx.inputs[inputIndex];
  if (input === undefined) throw new BitcoinError('value-out-of-range', `there is no input ${inputIndex}`);
  const anyoneCanPay = (sighashType & SIGHASH.ANYONECANPAY) !== 0;
  const outputType = sighashType & OUTPUT_MASK;
  const all = outputType !== SIGHASH.SINGLE && outputType !== SIGHASH.NONE;
  const hashPrevouts = anyoneCanPay ? ZERO_HASH : sha256d(prevoutsOf(tx));
  const hashSequence = !anyoneCanPay && all ? sha256d(sequencesOf(tx)) : ZERO_HASH;
  let hashOutputs: Uint8Array = ZERO_HASH;
  const single = tx.outputs[inputIndex];
  if (all) hashOutputs = sha256d(serializeOutputs(tx.outputs));
  else if (outputType === SIGHASH.SINGLE && single !== undefined)
    hashOutputs = sha256d(serializeOutputs([single]));

  const writer = new ByteWriter(156 + compactSizeLength(scriptCode.length) + scriptCode.length);
  writer
    .u32(tx.version)
    .raw(hashPrevouts)
    .raw(hashSequence)
    .raw(input.txid)
    .u32(input.vout)
    .varBytes(scriptCode);
  writer.u64(valueSat).u32(input.sequence).raw(hashOutputs).u32(tx.locktime).u32(sighashType);
  return sha256d(writer.bytes);
}

/**
 * Taproot key-path signature hash (BIP 341), 32 bytes, without annex.
 *
 * @param spentOutputs the output that each input spends, in the inputs' order.
 * @throws BitcoinError `value-out-of-range` for a wrong index, number of
 * spent outputs or hash type, or SINGLE without a matching output.
 */
export function taprootKeyPathSighash(
  tx: Tx,
  inputIndex: number,
  spentOutputs: readonly TxOutput[],
  sighashType: number,
): Uint8Array {
  const input = tx.inputs[inputIndex];
  const spent = spentOutputs[inputIndex];
  if (input === undefined || spent === undefined || spentOutputs.length !== tx.inputs.length) {
    throw new BitcoinError('value-out-of-range', 'needs the spent output of every input');
  }
  const outputType = sighashType === SIGHASH.DEFAULT ? SIGHASH.ALL : sighashType & 3;
  if ((sighashType & ~0x83) !== 0 || (outputType === 0 && sighashType !== SIGHASH.DEFAULT)) {
    throw new BitcoinError('value-out-of-range', `unknown signature hash type ${sighashType}`);
  }
  const anyoneCanPay = (sighashType & SIGHASH.ANYONECANPAY) !== 0;
  const single = tx.outputs[inputIndex];
  if (outputType === SIGHASH.SINGLE && single === undefined)
    throw new BitcoinError('value-out-of-range', 'SINGLE needs an output of the same index');

  const scriptLength = compactSizeLength(spent.script.length) + spent.script.length;
  const inputLength = anyoneCanPay ? 48 + scriptLength : 4;
  const commonLength = 1 + 1 + 8 + (anyoneCanPay ? 0 : 128) + (outputType === SIGHASH.ALL ? 32 : 0) + 1;
  const writer = new ByteWriter(commonLength + inputLength + (outputType === SIGHASH.SINGLE ? 32 : 0));
  // The first byte is the epoch; spend type 0 means key path, no annex.
  writer.u8(0).u8(sighashType).u32(tx.version).u32(tx.locktime);
  if (!anyoneCanPay) {
    const amounts = new ByteWriter(8 * spentOutputs.length);
    for (const output of spentOutputs) amounts.u64(output.valueSat);
    const scripts = new ByteWriter(
      spentOutputs.reduce((sum, { script }) => sum + compactSizeLength(script.length) + script.length, 0),
    );
    for (const output of spentOutputs) scripts.varBytes(output.script);
    writer
      .raw(sha256(prevoutsOf(tx)))
      .raw(sha256(amounts.bytes))
      .raw(sha256(scripts.bytes))
      .raw(sha256(sequencesOf(tx)));
  }
  if (outputType === SIGHASH.ALL) writer.raw(sha256(serializeOutputs(tx.outputs)));
  writer.u8(0);
  if (anyoneCanPay)
    writer.raw(input.txid).u32(input.vout).u64(spent.valueSat).varBytes(spent.script).u32(input.sequence);
  else writer.u32(inputIndex);
  if (outputType === SIGHASH.SINGLE && single !== undefined) writer.raw(sha256(serializeOutputs([single])));
  return tapSighash(writer.bytes);
}
