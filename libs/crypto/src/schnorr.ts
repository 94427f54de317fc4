/**
 * BIP 340 signatures, shared by both implementations of the curve: the native
 * package predates Schnorr, and messages signed so (BOLT 12) are rare.
 */
import { schnorr } from '@noble/curves/secp256k1.js';
import { assertLength, orCryptoError } from './errors.ts';

/** BIP 340 signature over 32 bytes. @throws CryptoError for wrong lengths or an invalid secret key. */
export function nobleSchnorrSign(
  message: Uint8Array,
  secretKey: Uint8Array,
  auxRand: Uint8Array,
): Uint8Array {
  assertLength('message', message, 32);
  assertLength('secret key', secretKey, 32);
  assertLength('auxiliary randomness', auxRand, 32);
  return orCryptoError('not a scalar in [1, n-1]', () => schnorr.sign(message, secretKey, auxRand));
}

/** BIP 340 verification over 32 bytes; false for anything malformed. */
export function nobleSchnorrVerify(
  message: Uint8Array,
  signature: Uint8Array,
  xOnlyPublicKey: Uint8Array,
): boolean {
  if (message.length !== 32 || signature.length !== 64 || xOnlyPublicKey.length !== 32) return false;
  try {
    return schnorr.verify(signature, message, xOnlyPublicKey);
  } catch {
    return false;
  }
}
