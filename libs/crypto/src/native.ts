/**
 * The curve over libsecp256k1, through the npm package `secp256k1`.
 *
 * Its bindings are loaded directly: the package's own entry falls back to a
 * slow implementation without saying so, and we have a better one. Where
 * there is no binary for the platform, `loadNative` gives undefined.
 */
import { createRequire } from 'node:module';
import { CryptoError, assertLength, orCryptoError } from './errors.ts';
import { nobleSchnorrSign, nobleSchnorrVerify } from './schnorr.ts';
import type { Secp256k1 } from './secp256k1.ts';

/** What we use of the package's bindings. Outputs are fresh arrays; `privateKeyTweak*` writes into its argument. */
interface Bindings {
  privateKeyVerify(secretKey: Uint8Array): boolean;
  privateKeyTweakAdd(secretKey: Uint8Array, tweak: Uint8Array): Uint8Array;
  privateKeyTweakMul(secretKey: Uint8Array, tweak: Uint8Array): Uint8Array;
  publicKeyVerify(publicKey: Uint8Array): boolean;
  publicKeyCreate(secretKey: Uint8Array, compressed: true): Uint8Array;
  publicKeyCombine(publicKeys: readonly Uint8Array[], compressed: true): Uint8Array;
  publicKeyTweakAdd(publicKey: Uint8Array, tweak: Uint8Array, compressed: true): Uint8Array;
  publicKeyTweakMul(publicKey: Uint8Array, tweak: Uint8Array, compressed: true): Uint8Array;
  ecdsaSign(hash: Uint8Array, secretKey: Uint8Array): { signature: Uint8Array; recid: number };
  ecdsaVerify(signature: Uint8Array, hash: Uint8Array, publicKey: Uint8Array): boolean;
  ecdsaRecover(signature: Uint8Array, recid: number, hash: Uint8Array, compressed: true): Uint8Array;
  ecdh(publicKey: Uint8Array, secretKey: Uint8Array): Uint8Array;
}

function isBindings(value: unknown): value is Bindings {
  return typeof value === 'object' && value !== null && 'ecdsaRecover' in value && 'ecdh' in value;
}

function over(bindings: Bindings): Secp256k1 {
  const isSecretKey = (bytes: Uint8Array): boolean => bytes.length === 32 && bindings.privateKeyVerify(bytes);
  const assertScalar = (bytes: Uint8Array): void => {
    assertLength('scalar', bytes, 32);
    if (!bindings.privateKeyVerify(bytes)) throw new CryptoError('not a scalar in [1, n-1]');
  };
  const assertPoint = (bytes: Uint8Array): void => {
    assertLength('public key', bytes, 33);
  };
  const signRecoverable: Secp256k1['signRecoverable'] = (hash, secretKey) => {
    assertLength('hash', hash, 32);
    assertScalar(secretKey);
    const { signature, recid } = orCryptoError('cannot sign', () => bindings.ecdsaSign(hash, secretKey));
    return { signature, recoveryId: recid };
  };
  return {
    name: 'native',
    isSecretKey,
    isPublicKey: (publicKey) => publicKey.length === 33 && bindings.publicKeyVerify(publicKey),
    publicKeyOf(secretKey) {
      assertScalar(secretKey);
      return orCryptoError('not a scalar in [1, n-1]', () => bindings.publicKeyCreate(secretKey, true));
    },
    sign: (hash, secretKey) => signRecoverable(hash, secretKey).signature,
    verify(hash, signature, publicKey) {
      if (hash.length !== 32 || signature.length !== 64 || publicKey.length !== 33) return false;
      try {
        return bindings.ecdsaVerify(signature, hash, publicKey);
      } catch {
        return false;
      }
    },
    signRecoverable,
    recover(hash, signature, recoveryId) {
      if (hash.length !== 32 || signature.length !== 64) return undefined;
      if (recoveryId !== 0 && recoveryId !== 1 && recoveryId !== 2 && recoveryId !== 3) return undefined;
      try {
        return bindings.ecdsaRecover(signature, recoveryId, hash, true);
      } catch {
        return undefined;
      }
    },
    ecdh(publicKey, secretKey) {
      assertPoint(publicKey);
      assertScalar(secretKey);
      return orCryptoError('not a point of the curve', () => bindings.ecdh(publicKey, secretKey));
    },
    publicKeyTweakMul(publicKey, scalar) {
      assertPoint(publicKey);
      assertScalar(scalar);
      return orCryptoError('not a point of the curve', () =>
        bindings.publicKeyTweakMul(publicKey, scalar, true),
      );
    },
    publicKeyTweakAdd(publicKey, scalar) {
      assertPoint(publicKey);
      assertScalar(scalar);
      return orCryptoError('not a point, or the sum is the point at infinity', () =>
        bindings.publicKeyTweakAdd(publicKey, scalar, true),
      );
    },
    publicKeyCombine(publicKeys) {
      publicKeys.forEach(assertPoint);
      return orCryptoError('not points, or the sum is the point at infinity', () =>
        bindings.publicKeyCombine(publicKeys, true),
      );
    },
    secretKeyTweakAdd(secretKey, scalar) {
      assertScalar(secretKey);
      assertScalar(scalar);
      return orCryptoError('the result is zero', () =>
        bindings.privateKeyTweakAdd(Uint8Array.from(secretKey), scalar),
      );
    },
    secretKeyTweakMul(secretKey, scalar) {
      assertScalar(secretKey);
      assertScalar(scalar);
      return orCryptoError('the result is zero', () =>
        bindings.privateKeyTweakMul(Uint8Array.from(secretKey), scalar),
      );
    },
    schnorrSign: nobleSchnorrSign,
    schnorrVerify: nobleSchnorrVerify,
  };
}

/** The native implementation, or undefined where its binary does not load. */
export function loadNative(): Secp256k1 | undefined {
  try {
    const bindings: unknown = createRequire(import.meta.url)('secp256k1/bindings.js');
    return isBindings(bindings) ? over(bindings) : undefined;
  } catch {
    return undefined;
  }
}

/** The native implementation; undefined where its binary does not load. */
export const nativeSecp256k1: Secp256k1 | undefined = loadNative();
