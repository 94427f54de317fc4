/**
 * BIP 32 over the injected curve (so that a simulation's keys agree with its
 * fake curve). Secrets and public halves as plain values; no serialization.
 */
import { hmacSha512 } from '@fulmen/crypto';
import type { Secp256k1 } from '@fulmen/crypto';
import { KeysError, assertLength } from './errors.ts';

/** Indexes from here on are hardened, written i'. */
export const HARDENED_OFFSET = 0x8000_0000;

/** A secret key with its chain code, 32 bytes each. */
export interface ExtendedSecret {
  readonly secretKey: Uint8Array;
  readonly chainCode: Uint8Array;
}

/** A public key (33 bytes) with its chain code (32): enough to derive all unhardened children's public keys. */
export interface ExtendedPublic {
  readonly publicKey: Uint8Array;
  readonly chainCode: Uint8Array;
}

/** The hardened index i'. */
export function hardened(index: number): number {
  if (!Number.isInteger(index) || index < 0 || index >= HARDENED_OFFSET)
    throw new KeysError('bad_argument', 'index is not in [0, 2^31)');
  return index + HARDENED_OFFSET;
}

function assertIndex(index: number, limit: number): void {
  if (!Number.isInteger(index) || index < 0 || index >= limit)
    throw new KeysError('bad_argument', 'child index out of range');
}

/** key ‖ big-endian u32 */
function childInput(key: Uint8Array, index: number): Uint8Array {
  const input = new Uint8Array(37);
  input.set(key, 33 - key.length);
  new DataView(input.buffer).setUint32(33, index);
  return input;
}

/** BIP 32's master key. `seed` has 16 to 64 bytes. */
export function masterKey(secp: Secp256k1, seed: Uint8Array): ExtendedSecret {
  if (seed.length < 16 || seed.length > 64) throw new KeysError('bad_argument', 'a seed has 16 to 64 bytes');
  const hash = hmacSha512(new TextEncoder().encode('Bitcoin seed'), seed);
  const secretKey = hash.slice(0, 32);
  if (!secp.isSecretKey(secretKey)) throw new KeysError('invalid_child', 'this seed has no master key');
  return { secretKey, chainCode: hash.slice(32) };
}

function tweakedSecret(secp: Secp256k1, parent: ExtendedSecret, input: Uint8Array): ExtendedSecret {
  const hash = hmacSha512(parent.chainCode, input);
  const tweak = hash.slice(0, 32);
  // BIP 32: "In case parse256(IL) ≥ n or ki = 0, the resulting key is invalid". The curve throws for a zero sum.
  if (!secp.isSecretKey(tweak)) throw new KeysError('invalid_child', 'this child does not exist');
  return { secretKey: secp.secretKeyTweakAdd(parent.secretKey, tweak), chainCode: hash.slice(32) };
}

/** CKDpriv: the child at `index`, hardened from 2^31 on. */
export function deriveChild(secp: Secp256k1, parent: ExtendedSecret, index: number): ExtendedSecret {
  assertIndex(index, 2 * HARDENED_OFFSET);
  const key = index >= HARDENED_OFFSET ? parent.secretKey : secp.publicKeyOf(parent.secretKey);
  return tweakedSecret(secp, parent, childInput(key, index));
}

/**
 * A hardened child named by 32 bytes in place of a number: HMAC-SHA-512 over
 * 0x00 ‖ secret ‖ name. The input's length (65, not 37) keeps these children
 * apart from BIP 32's.
 */
export function deriveNamedChild(secp: Secp256k1, parent: ExtendedSecret, name: Uint8Array): ExtendedSecret {
  assertLength('child name', name, 32);
  const input = new Uint8Array(65);
  input.set(parent.secretKey, 1);
  input.set(name, 33);
  return tweakedSecret(secp, parent, input);
}

/** The descendant at a path, e.g. `[hardened(84), hardened(0), hardened(0)]`. */
export function derivePath(secp: Secp256k1, root: ExtendedSecret, path: readonly number[]): ExtendedSecret {
  return path.reduce((parent, index) => deriveChild(secp, parent, index), root);
}

/** The public half. */
export function neuter(secp: Secp256k1, extended: ExtendedSecret): ExtendedPublic {
  return { publicKey: secp.publicKeyOf(extended.secretKey), chainCode: extended.chainCode };
}

/** CKDpub: the child at an unhardened `index`. */
export function derivePublicChild(secp: Secp256k1, parent: ExtendedPublic, index: number): ExtendedPublic {
  assertIndex(index, HARDENED_OFFSET);
  const hash = hmacSha512(parent.chainCode, childInput(parent.publicKey, index));
  const tweak = hash.slice(0, 32);
  if (!secp.isSecretKey(tweak)) throw new KeysError('invalid_child', 'this child does not exist');
  return { publicKey: secp.publicKeyTweakAdd(parent.publicKey, tweak), chainCode: hash.slice(32) };
}
