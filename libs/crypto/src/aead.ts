/**
 * ChaCha20-Poly1305 (RFC 8439) as BOLT 8 and BOLT 4 use it: 32-byte key,
 * 12-byte nonce, 16-byte tag appended to the ciphertext.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { assertLength } from './errors.ts';

/** Bytes of the Poly1305 tag at the end of a ciphertext. */
export const AEAD_TAG_LENGTH = 16;

const EMPTY = new Uint8Array(0);

/**
 * Encrypts; the result is ciphertext ‖ tag, 16 bytes longer than the plaintext.
 *
 * @throws CryptoError for a key or nonce of a wrong length.
 */
export function chacha20poly1305Encrypt(
  key: Uint8Array,
  nonce: Uint8Array,
  plaintext: Uint8Array,
  associatedData: Uint8Array = EMPTY,
): Uint8Array {
  assertLength('key', key, 32);
  assertLength('nonce', nonce, 12);
  const cipher = createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: AEAD_TAG_LENGTH });
  if (associatedData.length > 0) cipher.setAAD(associatedData, { plaintextLength: plaintext.length });
  const out = new Uint8Array(plaintext.length + AEAD_TAG_LENGTH);
  out.set(cipher.update(plaintext), 0);
  cipher.final();
  out.set(cipher.getAuthTag(), plaintext.length);
  return out;
}

/**
 * Decrypts ciphertext ‖ tag. Undefined when the tag does not fit (or there is
 * no room for one); no plaintext leaves before the tag is checked.
 *
 * @throws CryptoError for a key or nonce of a wrong length.
 */
export function chacha20poly1305Decrypt(
  key: Uint8Array,
  nonce: Uint8Array,
  ciphertext: Uint8Array,
  associatedData: Uint8Array = EMPTY,
): Uint8Array | undefined {
  assertLength('key', key, 32);
  assertLength('nonce', nonce, 12);
  const length = ciphertext.length - AEAD_TAG_LENGTH;
  if (length < 0) return undefined;
  const decipher = createDecipheriv('chacha20-poly1305', key, nonce, { authTagLength: AEAD_TAG_LENGTH });
  if (associatedData.length > 0) decipher.setAAD(associatedData, { plaintextLength: length });
  decipher.setAuthTag(ciphertext.subarray(length));
  const plaintext = decipher.update(ciphertext.subarray(0, length));
  try {
    decipher.final();
  } catch {
    return undefined;
  }
  return new Uint8Array(plaintext.buffer, plaintext.byteOffset, plaintext.length);
}
