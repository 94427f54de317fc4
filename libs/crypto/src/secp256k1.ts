/**
 * The one interface to the curve that every library and service uses.
 *
 * Two implementations pass one compliance suite: `nobleSecp256k1` (the
 * reference, pure TypeScript) and `nativeSecp256k1` (libsecp256k1). The curve
 * is always passed as an argument, never imported as a global, so that a
 * simulation may run thousands of histories on a cheap fake.
 *
 * Shapes: secret keys and message hashes are 32 bytes, public keys are 33
 * bytes (compressed), ECDSA signatures are 64 bytes compact (r ‖ s), x-only
 * keys are 32 bytes. Functions throw `CryptoError` on inputs that are not a
 * valid scalar or point; `verify*` and `is*` return false instead.
 */
export interface Secp256k1 {
  readonly name: string;
  /** True if these 32 bytes are a scalar in [1, n-1]. */
  isSecretKey(secretKey: Uint8Array): boolean;
  /** True if these 33 bytes are a compressed point of the curve. */
  isPublicKey(publicKey: Uint8Array): boolean;
  /** Public key of a secret key. */
  publicKeyOf(secretKey: Uint8Array): Uint8Array;
  /** Deterministic (RFC 6979) low-S ECDSA signature over a 32-byte hash. */
  sign(hash: Uint8Array, secretKey: Uint8Array): Uint8Array;
  /** Verifies; a high-S signature is refused, for it could not be relayed. */
  verify(hash: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): boolean;
  /** Recoverable signature: 64 bytes and the recovery id (0..3). */
  signRecoverable(hash: Uint8Array, secretKey: Uint8Array): { signature: Uint8Array; recoveryId: number };
  /** Recovers the signer's public key; accepts high-S (BOLT 11 does). Undefined when there is none. */
  recover(hash: Uint8Array, signature: Uint8Array, recoveryId: number): Uint8Array | undefined;
  /** SHA-256 of the compressed shared point (BOLT 4 and BOLT 8 "ECDH"). */
  ecdh(publicKey: Uint8Array, secretKey: Uint8Array): Uint8Array;
  /** point · scalar. */
  publicKeyTweakMul(publicKey: Uint8Array, scalar: Uint8Array): Uint8Array;
  /** point + scalar · G. */
  publicKeyTweakAdd(publicKey: Uint8Array, scalar: Uint8Array): Uint8Array;
  /** Sum of two or more points. */
  publicKeyCombine(publicKeys: readonly Uint8Array[]): Uint8Array;
  /** (a + b) mod n. */
  secretKeyTweakAdd(secretKey: Uint8Array, scalar: Uint8Array): Uint8Array;
  /** (a · b) mod n. */
  secretKeyTweakMul(secretKey: Uint8Array, scalar: Uint8Array): Uint8Array;
  /** BIP 340 signature over a 32-byte message; auxRand is 32 bytes of caller's randomness. */
  schnorrSign(message: Uint8Array, secretKey: Uint8Array, auxRand: Uint8Array): Uint8Array;
  /** BIP 340 verification with a 32-byte x-only key. */
  schnorrVerify(message: Uint8Array, signature: Uint8Array, xOnlyPublicKey: Uint8Array): boolean;
}
