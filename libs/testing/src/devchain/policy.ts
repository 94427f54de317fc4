/** Relay policy for a transaction by itself: what Bitcoin Core calls standard, dust, and the knobs. */
import type { Tx, TxOutput } from '@fulmen/bitcoin';
import { OP, decompileScript, dustThresholdSat, scriptKind, witnessProgram } from '@fulmen/bitcoin';
import type { Coin, StoredTx } from './model.ts';
import { Rejection } from './model.ts';

/** Policy settings; feerates in satoshis per 1000 vbytes. */
export interface MempoolPolicy {
  /** Bitcoin Core: 1000 for long, 100 since 29.1. */
  readonly minRelayFeerateSatPerKvb: number;
  readonly incrementalRelayFeerateSatPerKvb: number;
  /** 3000 by default; 0 switches dust limits off. */
  readonly dustRelayFeerateSatPerKvb: number;
  /** Unconfirmed ancestors or descendants, the transaction included. */
  readonly maxRelatives: number;
  readonly maxRelativesVsize: number;
}

export const DEFAULT_POLICY: MempoolPolicy = {
  minRelayFeerateSatPerKvb: 1000,
  incrementalRelayFeerateSatPerKvb: 1000,
  dustRelayFeerateSatPerKvb: 3000,
  maxRelatives: 25,
  maxRelativesVsize: 101_000,
};

export const MAX_STANDARD_TX_WEIGHT = 400_000;
export const MIN_STANDARD_TX_NONWITNESS_SIZE = 65;
/** BIP 431. */
export const TRUC_VERSION = 3;
export const TRUC_MAX_VSIZE = 10_000;
export const TRUC_CHILD_MAX_VSIZE = 1000;
const MAX_STANDARD_SCRIPTSIG_SIZE = 1650;
const MAX_OP_RETURN_RELAY = 83;
const MAX_STANDARD_P2WSH_SCRIPT_SIZE = 3600;
const MAX_STANDARD_P2WSH_STACK_ITEMS = 100;
const MAX_STANDARD_P2WSH_STACK_ITEM_SIZE = 80;
/** The dust table is at this feerate. */
const DUST_TABLE_FEERATE = 3000;

/** Fee for a virtual size at a feerate, rounded up as Bitcoin Core does. */
export function feeAtRateSat(feerateSatPerKvb: number, vsize: number): bigint {
  return (BigInt(feerateSatPerKvb) * BigInt(vsize) + 999n) / 1000n;
}

function isPushOnly(script: Uint8Array): boolean {
  const parts = decompileScript(script);
  return parts.ok && parts.value.every((part) => typeof part !== 'number' || part <= OP.N16);
}

/** True for an output that is not worth spending. */
export function isDust(output: TxOutput, policy: MempoolPolicy): boolean {
  const threshold =
    (dustThresholdSat(output.script) * BigInt(policy.dustRelayFeerateSatPerKvb)) / BigInt(DUST_TABLE_FEERATE);
  return output.valueSat < threshold;
}

/** How many outputs are dust. */
export function dustOutputs(tx: Tx, policy: MempoolPolicy): number[] {
  return [...tx.outputs.entries()].filter(([, output]) => isDust(output, policy)).map(([index]) => index);
}

function isMultisig(script: Uint8Array): boolean {
  return script.at(-1) === OP.CHECKMULTISIG && (script[0] ?? 0) >= OP.N1 && (script[0] ?? 0) <= OP.N3;
}

function isPayToPublicKey(script: Uint8Array): boolean {
  return (
    script.at(-1) === OP.CHECKSIG &&
    (script.length === 35 || script.length === 67) &&
    script[0] === script.length - 2
  );
}

/** `IsStandardTx`. */
export function checkStandard(stored: StoredTx, policy: MempoolPolicy): void {
  const { tx } = stored;
  if (tx.version < 1 || tx.version > TRUC_VERSION) throw new Rejection('version');
  if (stored.weight > MAX_STANDARD_TX_WEIGHT) throw new Rejection('tx-size');
  for (const { scriptSig } of tx.inputs) {
    if (scriptSig.length > MAX_STANDARD_SCRIPTSIG_SIZE) throw new Rejection('scriptsig-size');
    if (!isPushOnly(scriptSig)) throw new Rejection('scriptsig-not-pushonly');
  }
  let opReturns = 0;
  for (const { script } of tx.outputs) {
    const kind = scriptKind(script);
    if (kind === 'op-return') {
      opReturns += 1;
      if (script.length > MAX_OP_RETURN_RELAY) throw new Rejection('datacarrier');
      if (!isPushOnly(script.subarray(1))) throw new Rejection('scriptpubkey');
    } else if (kind === 'nonstandard' && !isMultisig(script) && !isPayToPublicKey(script)) {
      throw new Rejection('scriptpubkey');
    }
  }
  // One output of dust is standard: ephemeral dust, judged with the fee.
  if (dustOutputs(tx, policy).length > 1) throw new Rejection('dust');
  if (opReturns > 1) throw new Rejection('multi-op-return');
  const stripped = (stored.weight - stored.raw.length) / 3;
  if (stripped < MIN_STANDARD_TX_NONWITNESS_SIZE) throw new Rejection('tx-size-small');
}

/** `AreInputsStandard` and `IsWitnessStandard`. */
export function checkStandardInputs(stored: StoredTx, coins: readonly Coin[]): void {
  for (const [index, coin] of coins.entries()) {
    const kind = scriptKind(coin.script);
    const { witness } = stored.tx.inputs[index] as (typeof stored.tx.inputs)[number];
    if (
      kind === 'witness-unknown' ||
      (kind === 'nonstandard' && !isMultisig(coin.script) && !isPayToPublicKey(coin.script))
    ) {
      throw new Rejection('bad-txns-nonstandard-inputs');
    }
    if (witness.length === 0) continue;
    // Pay-to-anchor takes an empty witness only.
    if (kind === 'p2a') throw new Rejection('bad-witness-nonstandard');
    if (kind === 'p2wsh') {
      const stack = witness.slice(0, -1);
      const tooLarge = (witness.at(-1)?.length ?? 0) > MAX_STANDARD_P2WSH_SCRIPT_SIZE;
      if (
        tooLarge ||
        stack.length > MAX_STANDARD_P2WSH_STACK_ITEMS ||
        stack.some((item) => item.length > MAX_STANDARD_P2WSH_STACK_ITEM_SIZE)
      ) {
        throw new Rejection('bad-witness-nonstandard');
      }
    }
    if (witnessProgram(coin.script) === undefined && kind !== 'p2sh')
      throw new Rejection('bad-witness-nonstandard');
    if (kind === 'p2tr' && witness.length > 1 && witness.at(-1)?.[0] === 0x50)
      throw new Rejection('bad-witness-nonstandard');
  }
}
