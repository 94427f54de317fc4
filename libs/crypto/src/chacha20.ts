/**
 * The bare ChaCha20 stream (RFC 8439), without authentication. BOLT 4 draws
 * the onion's padding and obfuscation streams from it, with a zero nonce.
 */
import { createCipheriv } from 'node:crypto';
import { assertLength } from './errors.ts';

/**
 * XORs `data` with the key stream.
 *
 * @param nonce 12 bytes; zero by default, as BOLT 4 has it ("Pseudo Random Byte Stream").
 * @param counter first block, u32.
 * @throws CryptoError for a key or nonce of a wrong length.
 */
export function chacha20(
  key: Uint8Array,
  data: Uint8Array,
  nonce: Uint8Array = new Uint8Array(12),
  counter = 0,
): Uint8Array {
  assertLength('key', key, 32);
  assertLength('nonce', nonce, 12);
  // OpenSSL takes 16 bytes: the block counter, little-endian, before the nonce.
  const iv = new Uint8Array(16);
  new DataView(iv.buffer).setUint32(0, counter, true);
  iv.set(nonce, 4);
  const out = createCipheriv('chacha20', key, iv).update(data);
  return new Uint8Array(out.buffer, out.byteOffset, out.length);
}

/** The first `length` bytes of the key stream with a zero nonce (BOLT 4). */
export function chacha20Stream(key: Uint8Array, length: number): Uint8Array {
  return chacha20(key, new Uint8Array(length));
}
