// What gossip signatures and checksums cover. A decoded gossip message keeps every byte, what follows its
// fields included, so its signed bytes can be derived from the message as well as from the raw bytes.
import { InternalError, concatBytes, crc32c } from '@fulmen/codec';
import { encodeMessage, messageName } from './message.ts';
import type { MessageOf } from './message.ts';

/** The messages that nodes sign and relay. */
export type GossipMessage = MessageOf<'channel_announcement' | 'node_announcement' | 'channel_update'>;

const TYPE_LENGTH = 2;
const SIGNATURE_LENGTH = 64;

/**
 * The bytes whose double SHA-256 a gossip message's signatures sign: all that follows the signatures.
 * BOLT 7: "the hash skips the 4 signatures but hashes the rest of the message, including any future fields
 * appended to the end" (one signature in node_announcement and channel_update).
 *
 * Takes a decoded message or raw bytes (type number included) that decodeMessage accepted; other bytes are
 * an InternalError.
 */
export function gossipSignedBytes(message: Uint8Array | GossipMessage): Uint8Array {
  const raw = message instanceof Uint8Array ? message : encodeMessage(message);
  const start = signedOffset(raw);
  if (raw.length < start) throw new InternalError('bytes that are no decoded gossip message');
  return Uint8Array.from(raw.subarray(start));
}

/**
 * BOLT 7: "the CRC32C checksum … of this channel_update without its signature and timestamp fields".
 * Takes a decoded message or raw bytes (type number included) that decodeMessage accepted.
 */
export function channelUpdateChecksum(message: Uint8Array | MessageOf<'channel_update'>): number {
  const raw = message instanceof Uint8Array ? message : encodeMessage(message);
  const chainAndScidStart = TYPE_LENGTH + SIGNATURE_LENGTH;
  const timestampStart = chainAndScidStart + 32 + 8;
  const flagsStart = timestampStart + 4;
  if (raw.length < flagsStart || typeName(raw) !== 'channel_update') {
    throw new InternalError('bytes that are no decoded channel_update');
  }
  return crc32c(raw.subarray(chainAndScidStart, timestampStart), raw.subarray(flagsStart));
}

/** The whole message with other signatures in front: what a signer's result completes. */
export function withGossipSignatures(message: GossipMessage, signatures: readonly Uint8Array[]): Uint8Array {
  const raw = encodeMessage(message);
  const out = concatBytes(raw.subarray(0, TYPE_LENGTH), ...signatures, raw.subarray(signedOffset(raw)));
  if (out.length !== raw.length) throw new InternalError('wrong number or length of gossip signatures');
  return out;
}

function signedOffset(raw: Uint8Array): number {
  const name = typeName(raw);
  if (name === 'channel_announcement') return TYPE_LENGTH + 4 * SIGNATURE_LENGTH;
  if (name === 'node_announcement' || name === 'channel_update') return TYPE_LENGTH + SIGNATURE_LENGTH;
  throw new InternalError('a message without gossip signatures');
}

function typeName(raw: Uint8Array): string | undefined {
  return messageName(((raw[0] ?? 0) << 8) | (raw[1] ?? 0));
}
