/**
 * Hashes and key derivation, synchronous, over node:crypto.
 *
 * The one-shot `hash()` saves an object per call, but exists only since
 * Node 21.7; older ones take the streaming interface. Results are plain
 * `Uint8Array`s: a Buffer's `slice` shares memory, which would break callers
 * who rely on a copy.
 */
import * as nodeCrypto from 'node:crypto';
import { CryptoError } from './errors.ts';

function plain(buffer: Buffer): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);
}

type Digest = (algorithm: string, data: Uint8Array) => Uint8Array;

const digest: Digest =
  typeof nodeCrypto.hash === 'function'
    ? (algorithm, data) => plain(nodeCrypto.hash(algorithm, data, 'buffer'))
    : (algorithm, data) => plain(nodeCrypto.createHash(algorithm).update(data).digest());

/** SHA-256 (32 bytes). */
export function sha256(data: Uint8Array): Uint8Array {
  return digest('sha256', data);
}

/** SHA-256 of SHA-256 (32 bytes): Bitcoin's txid, block hash, and the gossip signatures' hash. */
export function sha256d(data: Uint8Array): Uint8Array {
  return digest('sha256', digest('sha256', data));
}

/** RIPEMD-160 (20 bytes). */
export function ripemd160(data: Uint8Array): Uint8Array {
  return digest('ripemd160', data);
}

/** RIPEMD-160 of SHA-256 (20 bytes): public key hashes. */
export function hash160(data: Uint8Array): Uint8Array {
  return digest('ripemd160', digest('sha256', data));
}

/** HMAC-SHA-256 (32 bytes). */
export function hmacSha256(key: Uint8Array, data: Uint8Array): Uint8Array {
  return plain(nodeCrypto.createHmac('sha256', key).update(data).digest());
}

/** HMAC-SHA-512 (64 bytes): BIP 32. */
export function hmacSha512(key: Uint8Array, data: Uint8Array): Uint8Array {
  return plain(nodeCrypto.createHmac('sha512', key).update(data).digest());
}

/**
 * HKDF-SHA-256 (RFC 5869), extract and expand.
 *
 * @param length bytes wanted, at most 255 · 32.
 * @throws CryptoError for a length out of bounds.
 */
export function hkdfSha256(
  inputKeyMaterial: Uint8Array,
  salt: Uint8Array,
  info: Uint8Array,
  length: number,
): Uint8Array {
  if (!Number.isInteger(length) || length < 0 || length > 255 * 32)
    throw new CryptoError('HKDF length out of bounds');
  const pseudoRandomKey = hmacSha256(salt, inputKeyMaterial);
  const out = new Uint8Array(length);
  let block: Uint8Array = new Uint8Array(0);
  for (let offset = 0, counter = 1; offset < length; offset += 32, counter++) {
    const input = new Uint8Array(block.length + info.length + 1);
    input.set(block, 0);
    input.set(info, block.length);
    input[input.length - 1] = counter;
    block = hmacSha256(pseudoRandomKey, input);
    out.set(block.subarray(0, Math.min(32, length - offset)), offset);
  }
  return out;
}

/**
 * BIP 340 tagged hash as a function: SHA-256(SHA-256(tag) ‖ SHA-256(tag) ‖ data).
 * The prefix is computed once, so keep the function as a constant.
 */
export function taggedHasher(tag: string): (data: Uint8Array) => Uint8Array {
  const tagHash = sha256(new TextEncoder().encode(tag));
  return (data) => {
    const input = new Uint8Array(64 + data.length);
    input.set(tagHash, 0);
    input.set(tagHash, 32);
    input.set(data, 64);
    return sha256(input);
  };
}

/** BIP 340 tagged hash, for tags not known beforehand; see `taggedHasher` for hot paths. */
export function taggedHash(tag: string, data: Uint8Array): Uint8Array {
  return taggedHasher(tag)(data);
}
