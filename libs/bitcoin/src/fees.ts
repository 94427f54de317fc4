/**
 * Feerates, fees and dust.
 *
 * Lightning counts feerates in satoshis per 1000 weight units
 * (`feerateSatPerKw`), Bitcoin in satoshis per virtual byte (4 weight units).
 */
import { assertNever } from '@fulmen/codec';
import { scriptKind } from './script.ts';

/**
 * The lowest feerate that relays, in sat per 1000 weight: 1 sat/vB is 250,
 * and 253 makes up for the rounding of virtual sizes.
 */
export const FEERATE_FLOOR_SAT_PER_KW = 253;

/** sat/vB → sat per 1000 weight, rounded up, never below the floor. */
export function feerateSatPerKwFromSatPerVb(satPerVb: number): number {
  return Math.max(FEERATE_FLOOR_SAT_PER_KW, Math.ceil(satPerVb * 250));
}

/** sat per 1000 weight → sat/vB. */
export function satPerVbFromFeerateSatPerKw(feerateSatPerKw: number): number {
  return feerateSatPerKw / 250;
}

/** BTC per 1000 vbytes (Bitcoin Core's unit) → sat per 1000 weight, never below the floor. */
export function feerateSatPerKwFromBtcPerKvb(btcPerKvb: number): number {
  return Math.max(FEERATE_FLOOR_SAT_PER_KW, Math.ceil(Math.round(btcPerKvb * 1e8) / 4));
}

/** Fee of a weight, rounded down (BOLT 3, "Fee Calculation"). */
export function feeForWeightSat(weight: number, feerateSatPerKw: number): bigint {
  return (BigInt(weight) * BigInt(feerateSatPerKw)) / 1000n;
}

/** Fee of a weight, rounded up: what a transaction must pay to reach the feerate. */
export function feeForWeightRoundedUpSat(weight: number, feerateSatPerKw: number): bigint {
  return (BigInt(weight) * BigInt(feerateSatPerKw) + 999n) / 1000n;
}

/** BOLT 3, "Dust Limits": the thresholds that Bitcoin Core defines at 3000 sat/kB. */
export const DUST_THRESHOLD_SAT = {
  p2pkh: 546n,
  p2sh: 540n,
  p2wpkh: 294n,
  p2wsh: 330n,
  p2a: 240n,
  unknownSegwit: 354n,
} as const;

/** P2TR is 43 bytes of output and 67 vbytes to spend: 110 · 3. */
const P2TR_DUST_THRESHOLD_SAT = 330n;

/**
 * Smallest amount of an output with this script that relays, in satoshis.
 * A script of no known form gets the generic rule: (its output's size + 148
 * to spend it) · 3.
 */
export function dustThresholdSat(script: Uint8Array): bigint {
  const kind = scriptKind(script);
  switch (kind) {
    case 'p2pkh':
    case 'p2sh':
    case 'p2wpkh':
    case 'p2wsh':
    case 'p2a':
      return DUST_THRESHOLD_SAT[kind];
    case 'p2tr':
      return P2TR_DUST_THRESHOLD_SAT;
    case 'witness-unknown':
      return DUST_THRESHOLD_SAT.unknownSegwit;
    case 'op-return':
      // BOLT 3: "`OP_RETURN` outputs: these are never dust"
      return 0n;
    case 'nonstandard':
      return BigInt((8 + (script.length < 0xfd ? 1 : 3) + script.length + 148) * 3);
    default:
      return assertNever(kind);
  }
}
