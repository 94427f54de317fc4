/**
 * A cheap stand-in for the curve, FOR SIMULATION ONLY: it hides nothing and
 * anyone can forge its signatures.
 *
 * A "point" is its own discrete logarithm d, so that all the algebra of the
 * protocols (tweaks, sums, ECDH, revocation keys, blinded routes) holds in
 * plain arithmetic mod n. As on the curve, −d differs from d only in the
 * parity byte: the bytes are 02 ‖ d for d ≤ (n−1)/2 and 03 ‖ (n−d) above, and
 * an x-only key is the last 32 bytes. A signature is the public key's x and a
 * hash over key and message, which lets `recover` work; flipping s to n−s
 * flips the recovery id, as with ECDSA.
 *
 * Keys of this scheme and of the curve are not interchangeable.
 */
import { CryptoError, assertLength } from './errors.ts';
import { constantTimeEqual } from './equal.ts';
import { sha256 } from './hash.ts';
import type { Secp256k1 } from './secp256k1.ts';

const N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const HALF_N = N >> 1n;

function toBigInt(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')}`);
}

function writeBigInt(value: bigint, into: Uint8Array, offset: number): void {
  into.set(Buffer.from(value.toString(16).padStart(64, '0'), 'hex'), offset);
}

function scalarOf(bytes: Uint8Array): bigint {
  assertLength('scalar', bytes, 32);
  const scalar = toBigInt(bytes);
  if (scalar === 0n || scalar >= N) throw new CryptoError('not a scalar in [1, n-1]');
  return scalar;
}

function secretOf(scalar: bigint): Uint8Array {
  if (scalar === 0n) throw new CryptoError('the result is zero');
  const out = new Uint8Array(32);
  writeBigInt(scalar, out, 0);
  return out;
}

function isPoint(bytes: Uint8Array): boolean {
  if (bytes.length !== 33 || (bytes[0] !== 2 && bytes[0] !== 3)) return false;
  const x = toBigInt(bytes.subarray(1));
  return x !== 0n && x <= HALF_N;
}

function logOf(publicKey: Uint8Array): bigint {
  if (!isPoint(publicKey)) throw new CryptoError('not a point of the fake curve');
  const x = toBigInt(publicKey.subarray(1));
  return publicKey[0] === 2 ? x : N - x;
}

function pointOf(log: bigint): Uint8Array {
  if (log === 0n) throw new CryptoError('the result is the point at infinity');
  const out = new Uint8Array(33);
  out[0] = log <= HALF_N ? 2 : 3;
  writeBigInt(log <= HALF_N ? log : N - log, out, 1);
  return out;
}

function hashOf(domain: number, a: Uint8Array, b: Uint8Array): Uint8Array {
  const input = new Uint8Array(1 + a.length + b.length);
  input[0] = domain;
  input.set(a, 1);
  input.set(b, 1 + a.length);
  return sha256(input);
}

/** The low s of a key's only signature over a hash: 254 bits, so always in [0, n/2]. */
function lowS(publicKey: Uint8Array, hash: Uint8Array): Uint8Array {
  const s = hashOf(1, publicKey, hash);
  s[0] = (s[0] ?? 0) & 0x3f;
  return s;
}

function signRecoverable(
  hash: Uint8Array,
  secretKey: Uint8Array,
): { signature: Uint8Array; recoveryId: number } {
  assertLength('hash', hash, 32);
  const publicKey = pointOf(scalarOf(secretKey));
  const signature = new Uint8Array(64);
  signature.set(publicKey.subarray(1), 0);
  signature.set(lowS(publicKey, hash), 32);
  return { signature, recoveryId: publicKey[0] === 2 ? 0 : 1 };
}

/** Simulation only; see the head of this module. */
export const fakeSecp256k1: Secp256k1 = {
  name: 'fake',
  isSecretKey(secretKey) {
    if (secretKey.length !== 32) return false;
    const scalar = toBigInt(secretKey);
    return scalar !== 0n && scalar < N;
  },
  isPublicKey: isPoint,
  publicKeyOf: (secretKey) => pointOf(scalarOf(secretKey)),
  sign: (hash, secretKey) => signRecoverable(hash, secretKey).signature,
  verify(hash, signature, publicKey) {
    if (hash.length !== 32 || signature.length !== 64 || !isPoint(publicKey)) return false;
    return (
      constantTimeEqual(signature.subarray(0, 32), publicKey.subarray(1)) &&
      constantTimeEqual(signature.subarray(32), lowS(publicKey, hash))
    );
  },
  signRecoverable,
  recover(hash, signature, recoveryId) {
    if (hash.length !== 32 || signature.length !== 64 || (recoveryId !== 0 && recoveryId !== 1))
      return undefined;
    const s = toBigInt(signature.subarray(32));
    if (s === 0n || s >= N) return undefined;
    const isHighS = s > HALF_N;
    const publicKey = new Uint8Array(33);
    publicKey[0] = 2 + (isHighS ? 1 - recoveryId : recoveryId);
    publicKey.set(signature.subarray(0, 32), 1);
    if (!isPoint(publicKey)) return undefined;
    const low = isHighS ? secretOf(N - s) : signature.subarray(32);
    return constantTimeEqual(low, lowS(publicKey, hash)) ? publicKey : undefined;
  },
  ecdh: (publicKey, secretKey) => sha256(pointOf((logOf(publicKey) * scalarOf(secretKey)) % N)),
  publicKeyTweakMul: (publicKey, scalar) => pointOf((logOf(publicKey) * scalarOf(scalar)) % N),
  publicKeyTweakAdd: (publicKey, scalar) => pointOf((logOf(publicKey) + scalarOf(scalar)) % N),
  publicKeyCombine: (publicKeys) => pointOf(publicKeys.reduce((sum, key) => sum + logOf(key), 0n) % N),
  secretKeyTweakAdd: (secretKey, scalar) => secretOf((scalarOf(secretKey) + scalarOf(scalar)) % N),
  secretKeyTweakMul: (secretKey, scalar) => secretOf((scalarOf(secretKey) * scalarOf(scalar)) % N),
  schnorrSign(message, secretKey, auxRand) {
    assertLength('message', message, 32);
    assertLength('auxiliary randomness', auxRand, 32);
    const r = hashOf(2, auxRand, message);
    const signature = new Uint8Array(64);
    signature.set(r, 0);
    signature.set(hashOf(3, r, hashOf(4, pointOf(scalarOf(secretKey)).subarray(1), message)), 32);
    return signature;
  },
  schnorrVerify(message, signature, xOnlyPublicKey) {
    if (message.length !== 32 || signature.length !== 64 || xOnlyPublicKey.length !== 32) return false;
    const r = signature.subarray(0, 32);
    return constantTimeEqual(signature.subarray(32), hashOf(3, r, hashOf(4, xOnlyPublicKey, message)));
  },
};
