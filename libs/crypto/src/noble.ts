/**
 * The reference implementation of the curve: @noble/secp256k1, in TypeScript.
 * It runs wherever JavaScript runs; `nativeSecp256k1` is some ten times faster.
 */
import * as noble from '@noble/secp256k1';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 as nobleSha256 } from '@noble/hashes/sha2.js';
import { CryptoError, assertLength, orCryptoError } from './errors.ts';
import { sha256 } from './hash.ts';
import { nobleSchnorrSign, nobleSchnorrVerify } from './schnorr.ts';
import type { Secp256k1 } from './secp256k1.ts';

noble.hashes.sha256 = (message) => nobleSha256(message);
noble.hashes.hmacSha256 = (key, message) => hmac(nobleSha256, key, message);

const N = noble.Point.CURVE().n;

function scalarOf(bytes: Uint8Array): bigint {
  assertLength('scalar', bytes, 32);
  return orCryptoError('not a scalar in [1, n-1]', () => noble.etc.secretKeyToScalar(bytes));
}

function pointOf(bytes: Uint8Array): noble.Point {
  assertLength('public key', bytes, 33);
  return orCryptoError('not a point of the curve', () => noble.Point.fromBytes(bytes));
}

function bytesOf(point: noble.Point): Uint8Array {
  if (point.is0()) throw new CryptoError('the result is the point at infinity');
  return point.toBytes(true);
}

function secretOf(scalar: bigint): Uint8Array {
  if (scalar === 0n) throw new CryptoError('the result is zero');
  return noble.etc.numberToBytesBE(scalar);
}

export const nobleSecp256k1: Secp256k1 = {
  name: 'noble',
  isSecretKey: (secretKey) => secretKey.length === 32 && noble.utils.isValidSecretKey(secretKey),
  isPublicKey: (publicKey) => publicKey.length === 33 && noble.utils.isValidPublicKey(publicKey, true),
  publicKeyOf(secretKey) {
    return bytesOf(noble.Point.BASE.multiply(scalarOf(secretKey)));
  },
  sign(hash, secretKey) {
    assertLength('hash', hash, 32);
    scalarOf(secretKey);
    return noble.sign(hash, secretKey, { prehash: false });
  },
  verify(hash, signature, publicKey) {
    if (hash.length !== 32 || signature.length !== 64 || publicKey.length !== 33) return false;
    try {
      return noble.verify(signature, hash, publicKey, { prehash: false });
    } catch {
      return false;
    }
  },
  signRecoverable(hash, secretKey) {
    assertLength('hash', hash, 32);
    scalarOf(secretKey);
    const recovered = noble.sign(hash, secretKey, { prehash: false, format: 'recovered' });
    return { recoveryId: recovered[0] ?? 0, signature: recovered.slice(1) };
  },
  recover(hash, signature, recoveryId) {
    if (hash.length !== 32 || signature.length !== 64) return undefined;
    if (recoveryId !== 0 && recoveryId !== 1 && recoveryId !== 2 && recoveryId !== 3) return undefined;
    const recovered = new Uint8Array(65);
    recovered[0] = recoveryId;
    recovered.set(signature, 1);
    try {
      return noble.recoverPublicKey(recovered, hash, { prehash: false });
    } catch {
      return undefined;
    }
  },
  ecdh(publicKey, secretKey) {
    return sha256(bytesOf(pointOf(publicKey).multiply(scalarOf(secretKey))));
  },
  publicKeyTweakMul(publicKey, scalar) {
    return bytesOf(pointOf(publicKey).multiply(scalarOf(scalar)));
  },
  publicKeyTweakAdd(publicKey, scalar) {
    return bytesOf(pointOf(publicKey).add(noble.Point.BASE.multiply(scalarOf(scalar))));
  },
  publicKeyCombine(publicKeys) {
    return bytesOf(publicKeys.reduce((sum, key) => sum.add(pointOf(key)), noble.Point.ZERO));
  },
  secretKeyTweakAdd(secretKey, scalar) {
    return secretOf((scalarOf(secretKey) + scalarOf(scalar)) % N);
  },
  secretKeyTweakMul(secretKey, scalar) {
    return secretOf((scalarOf(secretKey) * scalarOf(scalar)) % N);
  },
  schnorrSign: nobleSchnorrSign,
  schnorrVerify: nobleSchnorrVerify,
};
