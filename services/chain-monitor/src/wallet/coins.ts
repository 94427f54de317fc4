/** Which outputs a payment spends, and the unsigned transaction that does. */
import {
  SEQUENCE_FINAL,
  type TxOutput,
  dustThresholdSat,
  encodeAddress,
  feeForWeightRoundedUpSat,
  type Network,
  scriptKind,
  txWeight,
  txid as txidOf,
} from '@fulmen/bitcoin';
import { type PsbtFundingInput, type PsbtTemplate, createPsbt, psbtUnsignedTx } from '@fulmen/bitcoin/psbt';
import { toHex } from '@fulmen/codec';
import type { AddressRecord, UtxoRecord } from '@fulmen/store/chain/chain-store';
import { selectUTXO } from '@scure/btc-signer';
import { Psbt } from 'bitcoinjs-lib';
import type { AddressBook, KeyOrigin } from './address-book.ts';

/** The wallet cannot pay this. */
export class CoinSelectionError extends Error {
  override readonly name = 'CoinSelectionError';
  readonly code: 'insufficient_funds' | 'dust' | 'fee_too_high';
  constructor(code: CoinSelectionError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

/** Signals replaceability (BIP 125) and leaves locktime usable. */
const SEQUENCE_RBF = SEQUENCE_FINAL - 2;
/** The signer takes no more inputs. */
const MAX_CANDIDATES = 500;
/** Witness weight of one input beyond its stripped size: marker share, count, signature and key. */
const WITNESS_WEIGHT = { p2wpkh: 1 + 1 + 72 + 1 + 33, p2tr: 1 + 1 + 64 } as const;
const SEGWIT_MARKER_WEIGHT = 2;

export interface PaymentPlan {
  readonly psbt: Uint8Array;
  /** Final, for all inputs are segwit. */
  readonly txid: Uint8Array;
  readonly outputIndex: number;
  readonly feeSat: bigint;
  readonly inputs: readonly UtxoRecord[];
  /** Absent: no change was worth an output. */
  readonly changeScript: Uint8Array | undefined;
}

export interface PaymentRequest {
  readonly output: TxOutput;
  readonly candidates: readonly UtxoRecord[];
  readonly change: AddressRecord;
  readonly feerateSatPerKw: number;
  /** Beyond it the signer refuses; absent: it did not tell. */
  readonly maximumFeeSat: bigint | undefined;
  readonly network: Network;
  readonly book: AddressBook;
  readonly addressOf: (script: Uint8Array) => AddressRecord | undefined;
}

/** @throws CoinSelectionError */
export function planPayment(request: PaymentRequest): PaymentPlan {
  const { output, change, feerateSatPerKw, maximumFeeSat } = request;
  if (output.valueSat < dustThresholdSat(output.script))
    throw new CoinSelectionError('dust', `${output.valueSat} sat are too few to be relayed`);
  const chosen = selectInputs(request);
  const totalSat = chosen.reduce((sum, { valueSat }) => sum + valueSat, 0n);
  const bare = feeForWeightRoundedUpSat(weightOf(chosen, [output]), feerateSatPerKw);
  if (totalSat < output.valueSat + bare)
    throw new CoinSelectionError(
      'insufficient_funds',
      `${totalSat} sat do not pay ${output.valueSat} sat and a fee of ${bare} sat`,
    );
  const changeOutput = { script: change.script, valueSat: 0n };
  const withChange = feeForWeightRoundedUpSat(weightOf(chosen, [output, changeOutput]), feerateSatPerKw);
  const changeSat = totalSat - output.valueSat - withChange;
  const hasChange = changeSat >= dustThresholdSat(change.script);
  const feeSat = hasChange ? withChange : totalSat - output.valueSat;
  if (maximumFeeSat !== undefined && feeSat > maximumFeeSat)
    throw new CoinSelectionError(
      'fee_too_high',
      `it would cost a fee of ${feeSat} sat, and the signer signs for ${maximumFeeSat} sat at most`,
    );
  const outputs = hasChange ? [output, { ...changeOutput, valueSat: changeSat }] : [output];
  const psbt = describe(request, chosen, outputs);
  const unsigned = psbtUnsignedTx(psbt);
  if (!unsigned.ok) throw unsigned.error;
  return {
    psbt,
    txid: txidOf(unsigned.value),
    outputIndex: 0,
    feeSat,
    inputs: chosen,
    changeScript: hasChange ? change.script : undefined,
  };
}

function selectInputs({
  output,
  candidates,
  change,
  feerateSatPerKw,
  network,
  book,
  addressOf,
}: PaymentRequest): readonly UtxoRecord[] {
  const byValue = [...candidates]
    .sort((a, b) => (a.valueSat > b.valueSat ? -1 : a.valueSat < b.valueSat ? 1 : 0))
    .slice(0, MAX_CANDIDATES);
  const changeAddress = encodeAddress(change.script, network);
  const inputs = byValue.map(({ txid, outputIndex, valueSat, script }) => {
    const address = addressOf(script);
    return {
      // Display order here.
      txid: Uint8Array.from(txid).reverse(),
      index: outputIndex,
      witnessUtxo: { script: Uint8Array.from(script), amount: valueSat },
      ...(address?.kind === 'p2tr' && {
        tapInternalKey: Uint8Array.from(book.origin(address).publicKey.subarray(1)),
      }),
    };
  });
  const selected = selectUTXO(
    inputs,
    [{ script: Uint8Array.from(output.script), amount: output.valueSat }],
    'default',
    {
      changeAddress: changeAddress ?? '',
      // Whole satoshis a vbyte, rounded up: what is chosen suffices for the exact fee, computed afterwards.
      feePerByte: BigInt(Math.max(1, Math.ceil(feerateSatPerKw / 250))),
      network: {
        bech32: network.bech32Hrp,
        pubKeyHash: network.pubkeyHashVersion,
        scriptHash: network.scriptHashVersion,
        wif: 0,
      },
      bip69: false,
      createTx: false,
      allowUnknownOutputs: true,
    },
  );
  if (selected === undefined) {
    const totalSat = byValue.reduce((sum, { valueSat }) => sum + valueSat, 0n);
    throw new CoinSelectionError(
      'insufficient_funds',
      `the spendable outputs hold ${totalSat} sat, which do not pay ${output.valueSat} sat and the fee`,
    );
  }
  const wanted = new Set(
    selected.inputs.map(({ txid, index }) => `${toHex(Uint8Array.from(txid ?? []).reverse())}:${index}`),
  );
  return byValue.filter(({ txid, outputIndex }) => wanted.has(`${toHex(txid)}:${outputIndex}`));
}

function weightOf(inputs: readonly UtxoRecord[], outputs: readonly TxOutput[]): number {
  const stripped = txWeight({
    version: 2,
    locktime: 0,
    inputs: inputs.map(({ txid, outputIndex }) => ({
      txid,
      vout: outputIndex,
      scriptSig: new Uint8Array(0),
      sequence: SEQUENCE_RBF,
      witness: [],
    })),
    outputs,
  });
  const witnesses = inputs.reduce(
    (sum, { script }) => sum + (scriptKind(script) === 'p2tr' ? WITNESS_WEIGHT.p2tr : WITNESS_WEIGHT.p2wpkh),
    0,
  );
  return stripped + SEGWIT_MARKER_WEIGHT + witnesses;
}

function describe(
  { book, addressOf }: PaymentRequest,
  chosen: readonly UtxoRecord[],
  outputs: readonly TxOutput[],
): Uint8Array {
  const inputs = chosen.map(({ txid, outputIndex, valueSat, script }): PsbtFundingInput => ({
    txid,
    vout: outputIndex,
    spent: { valueSat, script },
    sequence: SEQUENCE_RBF,
  }));
  return psbtWithOrigins({ version: 2, locktime: 0, inputs, outputs }, book, addressOf);
}

/** A PSBT with the origin of every key of ours, from which the signer derives what it signs and what is change. */
export function psbtWithOrigins(
  template: PsbtTemplate,
  book: AddressBook,
  addressOf: (script: Uint8Array) => AddressRecord | undefined,
): Uint8Array {
  const psbt = Psbt.fromBuffer(createPsbt(template).slice());
  for (const [index, { spent }] of template.inputs.entries()) {
    const address = addressOf(spent.script);
    if (address !== undefined) psbt.updateInput(index, originFields(address, book.origin(address)));
  }
  for (const [index, { script }] of template.outputs.entries()) {
    const address = addressOf(script);
    if (address !== undefined) psbt.updateOutput(index, originFields(address, book.origin(address)));
  }
  return Uint8Array.from(psbt.toBuffer());
}

function originFields({ kind }: AddressRecord, { fingerprint, path, publicKey }: KeyOrigin) {
  if (kind === 'p2wpkh')
    return { bip32Derivation: [{ masterFingerprint: fingerprint, path, pubkey: publicKey }] };
  const internalKey = publicKey.slice(1);
  return {
    tapInternalKey: internalKey,
    tapBip32Derivation: [{ masterFingerprint: fingerprint, path, pubkey: internalKey, leafHashes: [] }],
  };
}
