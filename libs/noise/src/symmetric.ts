/**
 * The symmetric half of BOLT 8's handshake: a running hash `h` of everything
 * sent, a chaining key `ck` into which each ECDH is mixed, and the key of the
 * moment. Values, never changed in place.
 */
import { chacha20poly1305Decrypt, chacha20poly1305Encrypt, hkdfSha256, sha256 } from '@fulmen/crypto';

const EMPTY = new Uint8Array(0);

export interface SymmetricState {
  /** `h` */
  readonly handshakeHash: Uint8Array;
  /** `ck` */
  readonly chainingKey: Uint8Array;
}

/** The concatenation of byte strings. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.length;
  }
  return out;
}

/** `HKDF(salt, ikm)`: "All invocations of HKDF implicitly return 64 bytes". */
export function hkdfTwo(salt: Uint8Array, inputKeyMaterial: Uint8Array): readonly [Uint8Array, Uint8Array] {
  const out = hkdfSha256(inputKeyMaterial, salt, EMPTY, 64);
  return [out.slice(0, 32), out.slice(32)];
}

/** The state before Act One: protocol name, prologue, and the responder's static public key. */
export function initialState(responderStaticKey: Uint8Array): SymmetricState {
  const encoder = new TextEncoder();
  const chainingKey = sha256(encoder.encode('Noise_XK_secp256k1_ChaChaPoly_SHA256'));
  const handshakeHash = sha256(concat(chainingKey, encoder.encode('lightning')));
  return mixHash({ chainingKey, handshakeHash }, responderStaticKey);
}

/** `h = SHA-256(h || data)` */
export function mixHash(state: SymmetricState, data: Uint8Array): SymmetricState {
  return { chainingKey: state.chainingKey, handshakeHash: sha256(concat(state.handshakeHash, data)) };
}

/** `ck, temp_k = HKDF(ck, sharedSecret)` */
export function mixKey(
  state: SymmetricState,
  sharedSecret: Uint8Array,
): { readonly state: SymmetricState; readonly key: Uint8Array } {
  const [chainingKey, key] = hkdfTwo(state.chainingKey, sharedSecret);
  return { state: { chainingKey, handshakeHash: state.handshakeHash }, key };
}

/** A handshake nonce: 32 zero bits and a little-endian u64, here below 256. */
function nonceOf(n: number): Uint8Array {
  const nonce = new Uint8Array(12);
  nonce[4] = n;
  return nonce;
}

/** Encrypts with `h` as associated data, and mixes the ciphertext into `h`. */
export function encryptAndHash(
  state: SymmetricState,
  key: Uint8Array,
  nonce: 0 | 1,
  plaintext: Uint8Array = EMPTY,
): { readonly state: SymmetricState; readonly ciphertext: Uint8Array } {
  const ciphertext = chacha20poly1305Encrypt(key, nonceOf(nonce), plaintext, state.handshakeHash);
  return { state: mixHash(state, ciphertext), ciphertext };
}

/** Decrypts with `h` as associated data, and mixes the ciphertext into `h`; undefined for a wrong tag. */
export function decryptAndHash(
  state: SymmetricState,
  key: Uint8Array,
  nonce: 0 | 1,
  ciphertext: Uint8Array,
): { readonly state: SymmetricState; readonly plaintext: Uint8Array } | undefined {
  const plaintext = chacha20poly1305Decrypt(key, nonceOf(nonce), ciphertext, state.handshakeHash);
  return plaintext && { state: mixHash(state, ciphertext), plaintext };
}
