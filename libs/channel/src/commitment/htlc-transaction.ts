/** Second-stage transactions: HTLC-timeout and HTLC-success (BOLT 3), unsigned. */
import { SIGHASH, segwitV0Sighash } from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { htlcTransactionFeeSat } from './fees.ts';
import type { CommitmentFormat } from './format.ts';
import type { CommitmentOutput, HtlcTransaction } from './types.ts';

export interface HtlcTransactionInputs {
  readonly format: CommitmentFormat;
  readonly commitmentTxid: Uint8Array;
  readonly output: CommitmentOutput & { readonly type: 'htlc' };
  /** The commitment's. */
  readonly feerateSatPerKw: number;
  readonly delayedScript: Uint8Array;
  readonly delayedScriptPubKey: Uint8Array;
}

/** The transaction by which the commitment's owner takes an untrimmed HTLC to an output that can still be punished. */
export function unsignedHtlcTransaction(inputs: Omit<HtlcTransactionInputs, 'delayedScript'>): Tx {
  const { format, output } = inputs;
  const { htlc, side, valueSat } = output;
  const feeSat = htlcTransactionFeeSat(format.name, side, inputs.feerateSatPerKw);
  return {
    version: 2,
    // BOLT 3: "locktime: `0` for HTLC-success, `cltv_expiry` for HTLC-timeout"
    locktime: side === 'offered' ? htlc.cltvExpiryHeight : 0,
    inputs: [
      {
        txid: inputs.commitmentTxid,
        vout: output.outputIndex,
        scriptSig: new Uint8Array(0),
        sequence: format.htlcInputSequence,
        witness: [],
      },
    ],
    outputs: [{ valueSat: valueSat - feeSat, script: inputs.delayedScriptPubKey }],
  };
}

/** That transaction with the hashes that both sides sign. */
export function buildHtlcTransaction(inputs: HtlcTransactionInputs): HtlcTransaction {
  const { format, output, delayedScript } = inputs;
  const { htlc, side, witnessScript, valueSat } = output;
  const transaction = unsignedHtlcTransaction(inputs);
  const sighashType = format.counterpartyHtlcSighashType;
  const ownSighash = segwitV0Sighash(transaction, 0, witnessScript, valueSat, SIGHASH.ALL);
  return {
    htlc,
    kind: side === 'offered' ? 'timeout' : 'success',
    transaction,
    outputIndex: output.outputIndex,
    amountSat: valueSat,
    witnessScript,
    outputWitnessScript: delayedScript,
    counterpartySighash:
      sighashType === SIGHASH.ALL
        ? ownSighash
        : segwitV0Sighash(transaction, 0, witnessScript, valueSat, sighashType),
    ownSighash,
    sighashType,
  };
}
