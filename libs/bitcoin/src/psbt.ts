/**
 * Partially signed transactions (BIP 174, BIP 371) for wallets' inputs:
 * P2WPKH and the key path of P2TR.
 *
 * A PSBT is handled as its bytes; every function returns new ones. bitcoinjs
 * keeps the container's format; signature hashes and witnesses are made here,
 * so that the signer may live in another process: ask `psbtInputsToSign`,
 * let it sign, and give the signatures to `addPsbtSignatures`.
 */
import { err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { base64 } from '@scure/base';
import { Psbt } from 'bitcoinjs-lib';
import { ByteWriter, bytesEqual } from './bytes.ts';
import { BitcoinError } from './errors.ts';
import { p2pkhScript, p2wpkhScript, scriptKind, witnessProgram } from './script.ts';
import { SIGHASH, segwitV0Sighash, taprootKeyPathSighash } from './sighash.ts';
import { compactFromDer, derFromCompact } from './signature.ts';
import type { OutPoint, Tx, TxOutput } from './transaction.ts';
import { MAX_BLOCK_WEIGHT, decodeTx, witnessStackLength } from './transaction.ts';

/** An input to be spent, with the output it spends. */
export interface PsbtFundingInput extends OutPoint {
  readonly spent: TxOutput;
  readonly sequence: number;
}

/** What a funding transaction is made of. */
export interface PsbtTemplate {
  readonly version: number;
  readonly locktime: number;
  readonly inputs: readonly PsbtFundingInput[];
  readonly outputs: readonly TxOutput[];
}

/** One signature that a PSBT needs. */
export interface PsbtInputToSign {
  readonly inputIndex: number;
  readonly outPoint: OutPoint;
  readonly spent: TxOutput;
  readonly kind: 'p2wpkh' | 'p2tr';
  /** 32 bytes: ECDSA signs it for `p2wpkh`, BIP 340 for `p2tr`. */
  readonly sighash: Uint8Array;
}

/** A signer's answer: 64 bytes (compact ECDSA, or BIP 340). */
export type PsbtInputSignature =
  | {
      readonly inputIndex: number;
      readonly kind: 'p2wpkh';
      readonly signature: Uint8Array;
      readonly publicKey: Uint8Array;
    }
  | { readonly inputIndex: number; readonly kind: 'p2tr'; readonly signature: Uint8Array };

/** bitcoinjs throws plain errors for malformed containers; they are the input's fault. */
function guard<T>(run: () => T): Result<T, BitcoinError> {
  try {
    return ok(run());
  } catch (error) {
    if (error instanceof BitcoinError) return err(error);
    return err(new BitcoinError('bad-psbt', error instanceof Error ? error.message : 'malformed PSBT'));
  }
}

function parse(psbt: Uint8Array): Psbt {
  if (psbt.length > MAX_BLOCK_WEIGHT) throw new BitcoinError('too-large', 'larger than a block');
  return Psbt.fromBuffer(psbt.slice());
}

function serialize(psbt: Psbt): Uint8Array {
  return Uint8Array.from(psbt.toBuffer());
}

/** Creates an unsigned PSBT. @throws BitcoinError `bad-psbt` when bitcoinjs refuses the template. */
export function createPsbt(template: PsbtTemplate): Uint8Array {
  const created = guard(() => {
    const psbt = new Psbt();
    psbt.setVersion(template.version);
    psbt.setLocktime(template.locktime);
    for (const { txid, vout, sequence, spent } of template.inputs) {
      psbt.addInput({
        hash: txid.slice(),
        index: vout,
        sequence,
        witnessUtxo: { script: spent.script, value: spent.valueSat },
      });
    }
    for (const { script, valueSat } of template.outputs) psbt.addOutput({ script, value: valueSat });
    return serialize(psbt);
  });
  if (!created.ok) throw created.error;
  return created.value;
}

function unsignedTxOf(psbt: Psbt): Tx {
  return {
    version: psbt.version >>> 0,
    locktime: psbt.locktime,
    inputs: psbt.txInputs.map(({ hash, index, sequence }) => ({
      txid: Uint8Array.from(hash),
      vout: index,
      sequence: sequence ?? 0xffff_ffff,
      scriptSig: new Uint8Array(0),
      witness: [],
    })),
    outputs: psbt.txOutputs.map(({ script, value }) => ({
      script: Uint8Array.from(script),
      valueSat: value,
    })),
  };
}

/** The transaction without any signature; its txid is final when all inputs are segwit. */
export function psbtUnsignedTx(psbt: Uint8Array): Result<Tx, BitcoinError> {
  return guard(() => unsignedTxOf(parse(psbt)));
}

/** The output an input spends, from the witness UTXO or the whole previous transaction. */
function spentOutputOf(psbt: Psbt, tx: Tx, inputIndex: number): TxOutput | undefined {
  const data = psbt.data.inputs[inputIndex];
  if (data?.witnessUtxo !== undefined)
    return { script: data.witnessUtxo.script, valueSat: data.witnessUtxo.value };
  const input = tx.inputs[inputIndex];
  if (data?.nonWitnessUtxo === undefined || input === undefined) return undefined;
  const previous = decodeTx(data.nonWitnessUtxo);
  return previous.ok ? previous.value.outputs[input.vout] : undefined;
}

/** Amounts and scripts that the inputs spend. Fails with `psbt-incomplete` when one is missing. */
export function psbtSpentOutputs(psbt: Uint8Array): Result<TxOutput[], BitcoinError> {
  return guard(() => spentOutputsOf(parse(psbt)));
}

function spentOutputsOf(psbt: Psbt): TxOutput[] {
  const tx = unsignedTxOf(psbt);
  return tx.inputs.map((_, index) => {
    const spent = spentOutputOf(psbt, tx, index);
    if (spent === undefined)
      throw new BitcoinError('psbt-incomplete', `input ${index} does not say what it spends`);
    return spent;
  });
}

/** Inputs of the two forms that are not final yet, with the hash to sign (SIGHASH_ALL, or DEFAULT for taproot). */
export function psbtInputsToSign(psbt: Uint8Array): Result<PsbtInputToSign[], BitcoinError> {
  return guard(() => {
    const parsed = parse(psbt);
    const tx = unsignedTxOf(parsed);
    const spentOutputs = spentOutputsOf(parsed);
    const wanted: PsbtInputToSign[] = [];
    for (const [inputIndex, input] of tx.inputs.entries()) {
      const spent = spentOutputs[inputIndex];
      if (spent === undefined || parsed.data.inputs[inputIndex]?.finalScriptWitness !== undefined) continue;
      const kind = scriptKind(spent.script);
      const outPoint = { txid: input.txid, vout: input.vout };
      if (kind === 'p2wpkh') {
        const scriptCode = p2pkhScript(spent.script.slice(2));
        const sighash = segwitV0Sighash(tx, inputIndex, scriptCode, spent.valueSat, SIGHASH.ALL);
        wanted.push({ inputIndex, outPoint, spent, kind, sighash });
      } else if (kind === 'p2tr') {
        wanted.push({
          inputIndex,
          outPoint,
          spent,
          kind,
          sighash: taprootKeyPathSighash(tx, inputIndex, spentOutputs, SIGHASH.DEFAULT),
        });
      }
    }
    return wanted;
  });
}

/** Adds signatures. Fails with `bad-psbt` when one names no input, or a public key that is not the output's. */
export function addPsbtSignatures(
  psbt: Uint8Array,
  signatures: readonly PsbtInputSignature[],
): Result<Uint8Array, BitcoinError> {
  return guard(() => {
    const parsed = parse(psbt);
    const spentOutputs = spentOutputsOf(parsed);
    for (const signature of signatures) {
      const spent = spentOutputs[signature.inputIndex];
      if (spent === undefined)
        throw new BitcoinError('bad-psbt', `there is no input ${signature.inputIndex}`);
      if (signature.signature.length !== 64)
        throw new BitcoinError('bad-signature', 'a signature has 64 bytes');
      if (signature.kind === 'p2wpkh') {
        if (!bytesEqual(p2wpkhScript(signature.publicKey), spent.script))
          throw new BitcoinError('bad-psbt', 'not the key of this output');
        const partialSig = [
          { pubkey: signature.publicKey, signature: derFromCompact(signature.signature, SIGHASH.ALL) },
        ];
        parsed.updateInput(signature.inputIndex, { partialSig });
      } else {
        if (witnessProgram(spent.script)?.version !== 1)
          throw new BitcoinError('bad-psbt', 'not a taproot output');
        parsed.updateInput(signature.inputIndex, { tapKeySig: signature.signature });
      }
    }
    return serialize(parsed);
  });
}

/** Signs through a callback; undefined leaves the input to somebody else. */
export function signPsbt(
  psbt: Uint8Array,
  signer: (input: PsbtInputToSign) => PsbtInputSignature | undefined,
): Result<Uint8Array, BitcoinError> {
  const wanted = psbtInputsToSign(psbt);
  if (!wanted.ok) return wanted;
  return addPsbtSignatures(
    psbt,
    wanted.value.map(signer).filter((signature) => signature !== undefined),
  );
}

function serializeWitness(witness: readonly Uint8Array[]): Uint8Array {
  const writer = new ByteWriter(witnessStackLength(witness));
  writer.compactSize(witness.length);
  for (const item of witness) writer.varBytes(item);
  return writer.bytes;
}

/** The witness that the signatures of an input make; undefined when it has none. */
function witnessOf(parsed: Psbt, index: number): Uint8Array[] | undefined {
  const input = parsed.data.inputs[index];
  if (input?.tapKeySig !== undefined) return [input.tapKeySig];
  const [partial] = input?.partialSig ?? [];
  if (partial === undefined || !compactFromDer(partial.signature).ok) return undefined;
  const spent = spentOutputsOf(parsed)[index];
  if (spent === undefined || scriptKind(spent.script) !== 'p2wpkh')
    throw new BitcoinError('psbt-incomplete', `input ${index} is of no form known here`);
  return [partial.signature, partial.pubkey];
}

/** Witnesses of the inputs that are signed, for a transaction whose other inputs are signed elsewhere. */
export function psbtWitnesses(psbt: Uint8Array): Result<(Uint8Array[] | undefined)[], BitcoinError> {
  return guard(() => {
    const parsed = parse(psbt);
    return parsed.data.inputs.map((_, index) =>
      witnessOf(parsed, index)?.map((item) => Uint8Array.from(item)),
    );
  });
}

/** Turns signatures into final witnesses. Fails with `psbt-incomplete` when an input has none. */
export function finalizePsbt(psbt: Uint8Array): Result<Uint8Array, BitcoinError> {
  return guard(() => {
    const parsed = parse(psbt);
    for (const [index, input] of parsed.data.inputs.entries()) {
      if (input.finalScriptWitness !== undefined || input.finalScriptSig !== undefined) continue;
      const witness = witnessOf(parsed, index);
      if (witness === undefined) throw new BitcoinError('psbt-incomplete', `input ${index} is not signed`);
      parsed.updateInput(index, { finalScriptWitness: serializeWitness(witness) });
      parsed.data.clearFinalizedInput(index);
    }
    return serialize(parsed);
  });
}

/** The complete transaction of a finalized PSBT. Fails with `psbt-incomplete` when an input is not final. */
export function extractPsbt(psbt: Uint8Array): Result<Tx, BitcoinError> {
  return guard(() => {
    const parsed = parse(psbt);
    const open = parsed.data.inputs.findIndex(
      (input) => input.finalScriptWitness === undefined && input.finalScriptSig === undefined,
    );
    if (open >= 0) throw new BitcoinError('psbt-incomplete', `input ${open} is not final`);
    const extracted = decodeTx(Uint8Array.from(parsed.extractTransaction(true).toBuffer()));
    if (!extracted.ok) throw extracted.error;
    return extracted.value;
  });
}

/** Base64, as wallets exchange PSBTs. */
export function encodePsbtBase64(psbt: Uint8Array): string {
  return base64.encode(psbt);
}

/** Bytes of a base64 PSBT, with the container parsed once as a check. */
export function decodePsbtBase64(text: string): Result<Uint8Array, BitcoinError> {
  return guard(() => serialize(parse(base64.decode(text.trim()))));
}
