/**
 * A backup under lock. The key comes from the seed alone, so that the seed
 * opens it on any machine; whoever keeps it learns the node's id, how often its
 * channels changed, and how long the list is, and nothing else.
 *
 * "FSCB", version (1 byte), node id (33), sequence (u64), salt (32), then
 * ChaCha20-Poly1305 over the content's length (u32), the content and padding of
 * zeros, with everything before it authenticated. Each salt makes a key of its
 * own (HKDF), so that no nonce is ever used twice.
 */
import {
  DecodeError,
  EncodeError,
  Writer,
  concatBytes,
  decodeWith,
  err,
  equalBytes,
  ok,
  utf8Encode,
} from '@fulmen/codec';
import type { Reader, Result } from '@fulmen/codec';
import {
  AEAD_TAG_LENGTH,
  chacha20poly1305Decrypt,
  chacha20poly1305Encrypt,
  hkdfSha256,
} from '@fulmen/crypto';
import type { NodeBackup } from './backup.ts';
import { decodeContent, encodeContent } from './codec.ts';

const MAGIC = utf8Encode('FSCB');
const VERSION = 1;
const NONCE = new Uint8Array(12);
/** Bytes of the random salt. */
export const SALT_LENGTH = 32;
const HEADER_LENGTH = MAGIC.length + 1 + 33 + 8 + SALT_LENGTH;
/** Bytes that a sealed backup has beside its content. */
export const SEAL_OVERHEAD = HEADER_LENGTH + 4 + AEAD_TAG_LENGTH;
/** The largest backup that is made or read: some 12,000 channels, and one message of an RPC. */
export const MAX_BACKUP_BYTES = 4 * 1024 * 1024 - 4096;

/** What anybody can read of a backup; true only once the backup was opened. */
export interface BackupHeader {
  readonly nodeId: Uint8Array;
  readonly sequence: bigint;
}

export type OpenFault =
  /** Not a backup at all. */
  | { readonly type: 'not_a_backup' }
  /** Written by a newer release. */
  | { readonly type: 'unsupported_version'; readonly version: number }
  /** Of another seed, or damaged: nothing in it can be trusted. */
  | { readonly type: 'cannot_decrypt' }
  /** It was sealed with this key, and still its content makes no sense. */
  | { readonly type: 'malformed'; readonly detail: string };

/**
 * `secret` is the signer's "peer-storage" secret, `salt` 32 random bytes that no other backup has. Padded to
 * `paddedLength` bytes in all, when given.
 * @throws EncodeError when a value is out of its bounds, or the content longer than the padded length
 */
export function sealBackup(
  secret: Uint8Array,
  salt: Uint8Array,
  backup: NodeBackup,
  paddedLength = 0,
): Uint8Array {
  const { nodeId, sequence, ...rest } = backup;
  const header = new Writer(HEADER_LENGTH)
    .bytes(MAGIC)
    .u8(VERSION)
    .bytes(nodeId)
    .u64(sequence)
    .bytes(salt)
    .finish();
  const content = encodeContent(rest);
  const length = SEAL_OVERHEAD + content.length;
  if (paddedLength !== 0 && length > paddedLength)
    throw new EncodeError('too_long', `${length} bytes, more than ${paddedLength}`);
  const padding = new Uint8Array(Math.max(0, paddedLength - length));
  const plaintext = new Writer(4 + content.length + padding.length)
    .u32(content.length)
    .bytes(content)
    .bytes(padding)
    .finish();
  return concatBytes(header, chacha20poly1305Encrypt(keyOf(secret, salt), NONCE, plaintext, header));
}

function keyOf(secret: Uint8Array, salt: Uint8Array): Uint8Array {
  return hkdfSha256(secret, salt, utf8Encode('fulmen channel backup 1'), 32);
}

interface Parts extends BackupHeader {
  readonly salt: Uint8Array;
  readonly ciphertext: Uint8Array;
}

function readParts(reader: Reader): Parts {
  if (!equalBytes(reader.bytes(MAGIC.length), MAGIC)) throw new DecodeError('invalid_value', 'no backup');
  const version = reader.u8();
  if (version !== VERSION) throw new UnsupportedVersion(version);
  return {
    nodeId: reader.bytes(33),
    sequence: reader.u64(),
    salt: reader.bytes(SALT_LENGTH),
    ciphertext: reader.rest(),
  };
}

class UnsupportedVersion extends DecodeError {
  readonly version: number;

  constructor(version: number) {
    super('unsupported', `version ${version}`);
    this.version = version;
  }
}

function parse(sealed: Uint8Array): Result<Parts, OpenFault> {
  if (sealed.length > MAX_BACKUP_BYTES) return err({ type: 'not_a_backup' });
  const parts = decodeWith(sealed, readParts);
  if (parts.ok) return parts;
  return parts.error instanceof UnsupportedVersion
    ? err({ type: 'unsupported_version', version: parts.error.version })
    : err({ type: 'not_a_backup' });
}

/** The header, unverified: for telling somebody whose backup it claims to be. */
export function readHeader(sealed: Uint8Array): Result<BackupHeader, OpenFault> {
  const parts = parse(sealed);
  return parts.ok ? ok({ nodeId: parts.value.nodeId, sequence: parts.value.sequence }) : parts;
}

/** Opens a backup that was sealed with this secret. */
export function openBackup(secret: Uint8Array, sealed: Uint8Array): Result<NodeBackup, OpenFault> {
  const parts = parse(sealed);
  if (!parts.ok) return parts;
  const { nodeId, sequence, salt, ciphertext } = parts.value;
  const header = sealed.subarray(0, HEADER_LENGTH);
  const plaintext = chacha20poly1305Decrypt(keyOf(secret, salt), NONCE, ciphertext, header);
  if (plaintext === undefined) return err({ type: 'cannot_decrypt' });
  const bytes = decodeWith(plaintext, readPadded);
  const content = bytes.ok ? decodeContent(bytes.value) : bytes;
  return content.ok
    ? ok({ nodeId, sequence, ...content.value })
    : err({ type: 'malformed', detail: content.error.message });
}

function readPadded(reader: Reader): Uint8Array {
  const content = reader.bytes(reader.u32());
  if (reader.rest().some((byte) => byte !== 0)) throw new DecodeError('invalid_value', 'padding is not zero');
  return content;
}

/** A sentence for people. */
export function describeOpenFault(fault: OpenFault): string {
  switch (fault.type) {
    case 'not_a_backup':
      return 'this is not a channel backup';
    case 'unsupported_version':
      return `this backup has version ${fault.version}: a newer release wrote it`;
    case 'cannot_decrypt':
      return 'this backup is of another seed, or damaged';
    case 'malformed':
      return `this backup opens, but its content makes no sense (${fault.detail})`;
  }
}
