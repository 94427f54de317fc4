/**
 * Hashes, ciphers and the curve's interface. The implementations of the curve
 * are imported by path (`@fulmen/crypto/default`, `/noble`, `/native`,
 * `/fake`) by whoever composes a program, and passed on as an argument.
 */
export type { Secp256k1 } from './secp256k1.ts';
export { CryptoError } from './errors.ts';
export {
  sha256,
  sha256d,
  ripemd160,
  hash160,
  hmacSha256,
  hmacSha512,
  hkdfSha256,
  taggedHash,
  taggedHasher,
} from './hash.ts';
export { AEAD_TAG_LENGTH, chacha20poly1305Decrypt, chacha20poly1305Encrypt } from './aead.ts';
export { chacha20, chacha20Stream } from './chacha20.ts';
export { constantTimeEqual } from './equal.ts';
