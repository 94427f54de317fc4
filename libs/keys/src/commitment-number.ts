/** BOLT 3's commitment numbers: their limit, the index of their secret, and how a transaction hides them. */
import { sha256 } from '@fulmen/crypto';
import { KeysError } from './errors.ts';

/** Commitment numbers and indexes of secrets have 48 bits. */
export const MAX_COMMITMENT_NUMBER = (1n << 48n) - 1n;

/**
 * The highest number that a channel's commitment may have: the signer's answer to its step carries the points of the
 * next ones, and they must exist.
 */
export const MAX_USABLE_COMMITMENT_NUMBER = MAX_COMMITMENT_NUMBER - 4n;

/** Throws `bad_argument` unless 0 ≤ number < 2^48. */
export function assert48Bits(what: string, value: bigint): void {
  if (value < 0n || value > MAX_COMMITMENT_NUMBER)
    throw new KeysError('bad_argument', `${what} ${value} is not below 2^48`);
}

/**
 * The index of a commitment's secret in the generation algorithm: "The first
 * secret used MUST be index 281474976710655, and from there, the index is
 * decremented" (BOLT 3). Its own inverse.
 */
export function secretIndexOf(commitmentNumber: bigint): bigint {
  assert48Bits('commitment number', commitmentNumber);
  return MAX_COMMITMENT_NUMBER - commitmentNumber;
}

/**
 * "the lower 48 bits of SHA256(payment_basepoint from open_channel ||
 * payment_basepoint from accept_channel)" (BOLT 3, "Commitment Transaction").
 */
export function commitmentNumberObscuringFactor(
  openerPaymentBasepoint: Uint8Array,
  accepterPaymentBasepoint: Uint8Array,
): bigint {
  const input = new Uint8Array(openerPaymentBasepoint.length + accepterPaymentBasepoint.length);
  input.set(openerPaymentBasepoint, 0);
  input.set(accepterPaymentBasepoint, openerPaymentBasepoint.length);
  const hash = sha256(input);
  return new DataView(hash.buffer, hash.byteOffset).getBigUint64(24) & MAX_COMMITMENT_NUMBER;
}

/** Hides a commitment number, or reveals a hidden one: XOR with the factor. */
export function obscureCommitmentNumber(commitmentNumber: bigint, factor: bigint): bigint {
  assert48Bits('commitment number', commitmentNumber);
  assert48Bits('obscuring factor', factor);
  return commitmentNumber ^ factor;
}
