/**
 * Extended public keys as text (BIP 32, "Serialization format"): how a signer
 * tells a wallet what to watch. No private key has a text form here.
 */
import { err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { hash160, sha256d } from '@fulmen/crypto';
import type { ExtendedPublic } from './bip32.ts';
import { assertLength } from './errors.ts';

const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
const VERSION = { main: 0x0488_b21e, test: 0x0435_87cf } as const;
const PAYLOAD_LENGTH = 78;
/** 82 bytes in base 58 have 111 or 112 digits. */
const MAX_TEXT_LENGTH = 112;

/** Where a key stands in its tree. */
export interface ExtendedKeyPosition {
  /** 0 is the master. */
  readonly depth: number;
  /** First 4 bytes of the parent's HASH160, as a big-endian number; 0 for the master. */
  readonly parentFingerprint: number;
  /** Hardened indexes from 2^31 on. */
  readonly childIndex: number;
}

export type XpubError = { readonly kind: 'invalid_xpub' };

/** First 4 bytes of HASH160 of a public key, as a big-endian number. */
export function keyFingerprint(publicKey: Uint8Array): number {
  assertLength('public key', publicKey, 33);
  const hash = hash160(publicKey);
  return new DataView(hash.buffer, hash.byteOffset).getUint32(0);
}

/** `xpub…` on mainnet (coin type 0), `tpub…` elsewhere. */
export function encodeExtendedPublic(
  key: ExtendedPublic,
  position: ExtendedKeyPosition,
  coinType: number,
): string {
  assertLength('public key', key.publicKey, 33);
  assertLength('chain code', key.chainCode, 32);
  const bytes = new Uint8Array(PAYLOAD_LENGTH + 4);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, coinType === 0 ? VERSION.main : VERSION.test);
  view.setUint8(4, position.depth);
  view.setUint32(5, position.parentFingerprint);
  view.setUint32(9, position.childIndex);
  bytes.set(key.chainCode, 13);
  bytes.set(key.publicKey, 45);
  bytes.set(sha256d(bytes.subarray(0, PAYLOAD_LENGTH)).subarray(0, 4), PAYLOAD_LENGTH);
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  let text = '';
  for (; value > 0n; value /= 58n) text = `${ALPHABET[Number(value % 58n)] ?? ''}${text}`;
  return text;
}

/** Reads `encodeExtendedPublic`'s text. Whether the key is on the curve is not looked at. */
export function decodeExtendedPublic(
  text: string,
): Result<ExtendedPublic & ExtendedKeyPosition & { readonly network: 'main' | 'test' }, XpubError> {
  const bad = err<XpubError>({ kind: 'invalid_xpub' });
  if (text.length > MAX_TEXT_LENGTH) return bad;
  let value = 0n;
  for (const digit of text) {
    const index = ALPHABET.indexOf(digit);
    if (index < 0) return bad;
    value = value * 58n + BigInt(index);
  }
  if (value >> BigInt(8 * (PAYLOAD_LENGTH + 4)) !== 0n) return bad;
  const bytes = new Uint8Array(PAYLOAD_LENGTH + 4);
  for (let at = bytes.length - 1; at >= 0; at--, value >>= 8n) bytes[at] = Number(value & 0xffn);
  const checksum = sha256d(bytes.subarray(0, PAYLOAD_LENGTH));
  for (let i = 0; i < 4; i++) if (checksum[i] !== bytes[PAYLOAD_LENGTH + i]) return bad;
  const view = new DataView(bytes.buffer);
  const version = view.getUint32(0);
  if (version !== VERSION.main && version !== VERSION.test) return bad;
  return ok({
    network: version === VERSION.main ? 'main' : 'test',
    depth: view.getUint8(4),
    parentFingerprint: view.getUint32(5),
    childIndex: view.getUint32(9),
    chainCode: bytes.slice(13, 45),
    publicKey: bytes.slice(45, 78),
  });
}
