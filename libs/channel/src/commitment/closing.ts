/** Mutual close with closing_signed (BOLT 3, "Legacy Closing Transaction"). */
import {
  SEQUENCE_FINAL,
  SIGHASH,
  dustThresholdSat,
  feeForWeightRoundedUpSat,
  segwitV0Sighash,
  txid as txidOf,
  withWitness,
} from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { compactSizeLength } from '@fulmen/bitcoin/bytes';
import { compareBytes, err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { MAX_FEERATE_SAT_PER_KW } from '../config.ts';
import type { ClosingSpec } from '../effect.ts';
import { fundingSpendWitness, fundingWitnessScript } from './scripts/funding.ts';
import type { FundingScope } from './types.ts';

/**
 * Which outputs a closing transaction has. `above_dust` is what a node
 * proposes; the others serve to recognise what a counterparty signed that sees
 * dust differently or gave up its own output.
 */
export type ClosingOutputs = 'above_dust' | 'both' | 'holder_only' | 'counterparty_only';

export interface BuiltClosing {
  /** Unsigned. */
  readonly transaction: Tx;
  readonly txid: Uint8Array;
  /** What miners get, omitted outputs included. */
  readonly feeSat: bigint;
  readonly fundingWitnessScript: Uint8Array;
  /** What both sign with their funding keys (SIGHASH_ALL). */
  readonly sighash: Uint8Array;
  readonly holderOutputIndex: number | undefined;
  readonly counterpartyOutputIndex: number | undefined;
}

export type ClosingBuildError =
  /** Every output would be dust. */
  | { readonly type: 'no_outputs' }
  /** The amounts and the fee exceed the funding. */
  | { readonly type: 'exceeds_funding' };

/**
 * The amounts of a mutual close: balances rounded down to whole satoshis, the
 * fee taken from the funder (whose output is never below zero).
 */
export function closingSpec(arguments_: {
  readonly funder: 'holder' | 'counterparty';
  readonly holderBalanceMsat: bigint;
  readonly counterpartyBalanceMsat: bigint;
  readonly holderScript: Uint8Array;
  readonly counterpartyScript: Uint8Array;
  readonly feeSat: bigint;
}): ClosingSpec {
  const { funder, holderScript, counterpartyScript, feeSat } = arguments_;
  const after = (balanceMsat: bigint, party: 'holder' | 'counterparty'): bigint => {
    const valueSat = balanceMsat / 1000n - (funder === party ? feeSat : 0n);
    return valueSat < 0n ? 0n : valueSat;
  };
  return {
    toHolderSat: after(arguments_.holderBalanceMsat, 'holder'),
    toCounterpartySat: after(arguments_.counterpartyBalanceMsat, 'counterparty'),
    holderScript,
    counterpartyScript,
    feeSat,
  };
}

/** True if this amount, paid to this script, would not relay or is below the limit (BOLT 3: "MUST remove any output below its own `dust_limit_satoshis`"). */
export function isClosingDust(valueSat: bigint, script: Uint8Array, dustLimitSat: bigint): boolean {
  return valueSat <= 0n || valueSat < dustLimitSat || valueSat < dustThresholdSat(script);
}

/**
 * Builds a mutual close.
 *
 * @param closing amounts that the outputs get, the fee already taken from the funder's (see `closingSpec`).
 * @param dustLimitSat the holder's; with `above_dust`, outputs below it or below their script's threshold are left out.
 */
export function buildClosingTransaction(arguments_: {
  readonly funding: FundingScope;
  readonly closing: ClosingSpec;
  readonly dustLimitSat: bigint;
  readonly outputs?: ClosingOutputs;
}): Result<BuiltClosing, ClosingBuildError> {
  const { funding, closing, dustLimitSat, outputs: wanted = 'above_dust' } = arguments_;
  const { toHolderSat, toCounterpartySat, holderScript, counterpartyScript, feeSat } = closing;
  if (
    toHolderSat < 0n ||
    toCounterpartySat < 0n ||
    feeSat < 0n ||
    toHolderSat + toCounterpartySat > funding.fundingValueSat
  ) {
    return err({ type: 'exceeds_funding' });
  }
  const candidates = [
    { party: 'holder', valueSat: toHolderSat, script: holderScript },
    { party: 'counterparty', valueSat: toCounterpartySat, script: counterpartyScript },
  ] as const;
  const placed = candidates
    .filter(({ party, valueSat, script }) => {
      if (valueSat === 0n) return false;
      if (wanted === 'above_dust') return !isClosingDust(valueSat, script, dustLimitSat);
      return wanted === 'both' || wanted === `${party}_only`;
    })
    .sort((a, b) =>
      a.valueSat === b.valueSat ? compareBytes(a.script, b.script) : a.valueSat < b.valueSat ? -1 : 1,
    );
  if (placed.length === 0) return err({ type: 'no_outputs' });

  const transaction: Tx = {
    version: 2,
    locktime: 0,
    // BOLT 3: "`txin[0]` sequence: 0xFFFFFFFF"
    inputs: [
      {
        txid: funding.fundingTxid,
        vout: funding.fundingOutputIndex,
        scriptSig: new Uint8Array(0),
        sequence: SEQUENCE_FINAL,
        witness: [],
      },
    ],
    outputs: placed.map(({ valueSat, script }) => ({ valueSat, script })),
  };
  const witnessScript = fundingWitnessScript(funding.holderFundingPubkey, funding.counterpartyFundingPubkey);
  const indexOf = (wantedParty: 'holder' | 'counterparty'): number | undefined => {
    const index = placed.findIndex(({ party }) => party === wantedParty);
    return index < 0 ? undefined : index;
  };
  return ok({
    transaction,
    txid: txidOf(transaction),
    feeSat: funding.fundingValueSat - placed.reduce((sum, { valueSat }) => sum + valueSat, 0n),
    fundingWitnessScript: witnessScript,
    sighash: segwitV0Sighash(transaction, 0, witnessScript, funding.fundingValueSat, SIGHASH.ALL),
    holderOutputIndex: indexOf('holder'),
    counterpartyOutputIndex: indexOf('counterparty'),
  });
}

/** The close with both signatures, ready to broadcast. */
export function assembleClosing(
  built: BuiltClosing,
  funding: FundingScope,
  signatures: { readonly holderSignature: Uint8Array; readonly counterpartySignature: Uint8Array },
): Tx {
  return withWitness(
    built.transaction,
    0,
    fundingSpendWitness(
      { fundingPubkey: funding.holderFundingPubkey, signature: signatures.holderSignature },
      { fundingPubkey: funding.counterpartyFundingPubkey, signature: signatures.counterpartySignature },
    ),
  );
}

/**
 * BOLT 3, of a node that offers a signature: it "MAY eliminate its own output", and "MUST remove any output below its own
 * dust_limit_satoshis". An output of as much as the highest dust limit there is, or more, must be there.
 */
export const MAX_OMITTED_OUTPUT_SAT = 10_000n;

/** Whether a close may lack the holder's output of this value, in satoshis after the fee, because the counterparty calls it dust. */
export function mayOmitHolder(toHolderSat: bigint, counterpartyDustLimitSat: bigint): boolean {
  return toHolderSat < counterpartyDustLimitSat && toHolderSat < MAX_OMITTED_OUTPUT_SAT;
}

/** Version 4, counts 1 + 1, outpoint 36, empty script 1, sequence 4, locktime 4. */
const CLOSING_FIXED_LENGTH = 51;
/** Marker and flag 2, item count 1, empty item 1, two signatures of at most 72 bytes (low S, low or high R, hash type) and a script of 71, each with a length. */
const CLOSING_WITNESS_LENGTH = 2 + 1 + 1 + 2 * 73 + 72;

/** Greatest weight of a close with these output scripts. */
export function closingWeight(outputScripts: readonly Uint8Array[]): number {
  let length = CLOSING_FIXED_LENGTH;
  for (const script of outputScripts) length += 8 + compactSizeLength(script.length) + script.length;
  return 4 * length + CLOSING_WITNESS_LENGTH;
}

/** The most that a close with these output scripts may pay, in satoshis: what the signer's default allows. */
export function maximumClosingFeeSat(outputScripts: readonly Uint8Array[]): bigint {
  return closingFeeSat(outputScripts, MAX_FEERATE_SAT_PER_KW);
}

/** Fee that a close with these output scripts needs at this feerate, in satoshis, rounded up. */
export function closingFeeSat(outputScripts: readonly Uint8Array[], feerateSatPerKw: number): bigint {
  return feeForWeightRoundedUpSat(closingWeight(outputScripts), feerateSatPerKw);
}
