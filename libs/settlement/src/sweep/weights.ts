/** Weights of what is not signed yet: upper bounds, so that a feerate is never below what was asked for. */
import { type TxInput, type TxOutput, p2wpkhScript, scriptKind, txWeight } from '@fulmen/bitcoin';
import type { OutPoint } from '../types.ts';
import type { PlannedInput, WalletCoin } from './types.ts';

/** Count, signature with hash type and key. BIP 141, BIP 341. */
const COIN_WITNESS_WEIGHT = { p2wpkh: 1 + 1 + 72 + 1 + 33, p2tr: 1 + 1 + 64 } as const;
const SEGWIT_MARKER_WEIGHT = 2;
/** Any P2WPKH script: all weigh the same. */
const HOME_SCRIPT = p2wpkhScript(new Uint8Array(33));
/** Signals replaceability (BIP 125) and leaves locktime usable. */
export const SEQUENCE_RBF = 0xffff_fffd;

export function inputOf({ txid, outputIndex }: OutPoint, sequence: number): TxInput {
  return { txid, vout: outputIndex, scriptSig: new Uint8Array(0), sequence, witness: [] };
}

function coinWitnessWeight({ script }: WalletCoin): number {
  return scriptKind(script) === 'p2tr' ? COIN_WITNESS_WEIGHT.p2tr : COIN_WITNESS_WEIGHT.p2wpkh;
}

export function plannedTxInput(input: PlannedInput): TxInput {
  return input.type === 'claim'
    ? inputOf(input.claimed.claim.outPoint, input.claimed.claim.sequence)
    : inputOf(input.coin.outPoint, SEQUENCE_RBF);
}

/** Weight of the signed transaction. `home`: with an output of the wallet's at the end. */
export function plannedWeight(
  inputs: readonly PlannedInput[],
  outputs: readonly TxOutput[],
  home: 'home' | 'none',
): number {
  const stripped = txWeight({
    version: 2,
    locktime: 0,
    inputs: inputs.map(plannedTxInput),
    outputs: home === 'home' ? [...outputs, { valueSat: 0n, script: HOME_SCRIPT }] : outputs,
  });
  const witnesses = inputs.reduce(
    (sum, input) =>
      sum + (input.type === 'claim' ? input.claimed.claim.witnessWeight : coinWitnessWeight(input.coin)),
    0,
  );
  return stripped + SEGWIT_MARKER_WEIGHT + witnesses;
}
