// The packed arrays of BOLT 7's gossip queries: short channel ids, query flags, timestamps, checksums.
// Encoding type 1 (zlib) is refused: BOLT 7, "this encoding MUST NOT be used".
import { DecodeError, Writer, decodeWith, err } from '@fulmen/codec';
import type { Reader, Result } from '@fulmen/codec';

/** BOLT 7: "uncompressed array of short_channel_id types, in ascending order". */
export const ENCODING_UNCOMPRESSED = 0;

/** query_flags: which messages the sender wants about a channel. */
export const QUERY_FLAG = {
  channelAnnouncement: 1n << 0n,
  channelUpdate1: 1n << 1n,
  channelUpdate2: 1n << 2n,
  nodeAnnouncement1: 1n << 3n,
  nodeAnnouncement2: 1n << 4n,
} as const;

/** query_option: what the sender of query_channel_range wants beside the ids. */
export const QUERY_OPTION = { timestamps: 1n << 0n, checksums: 1n << 1n } as const;

/** The timestamps of a channel's two updates; 0 where there is none. */
export interface ChannelTimestamps {
  readonly timestampNodeId1: number;
  readonly timestampNodeId2: number;
}

/** The field encoded_short_ids for ids that are already in ascending order. */
export function encodeShortIds(shortChannelIds: readonly bigint[]): Uint8Array {
  const writer = new Writer(1 + 8 * shortChannelIds.length).u8(ENCODING_UNCOMPRESSED);
  for (const scid of shortChannelIds) writer.u64(scid);
  return writer.finish();
}

/** The ids of encoded_short_ids. An unknown encoding, zlib included, is `unsupported`; a wrong order is refused. */
export function decodeShortIds(encoded: Uint8Array): Result<readonly bigint[], DecodeError> {
  return decodeWith(encoded, (reader) => {
    // Some nodes reply with an empty field, without even the encoding type, when they have nothing.
    if (reader.remaining === 0) return [];
    wantUncompressed(reader.u8());
    const out: bigint[] = [];
    let previous = -1n;
    while (reader.remaining > 0) {
      const scid = reader.u64();
      if (scid <= previous) throw new DecodeError('invalid_value', 'short channel ids are not ascending');
      previous = scid;
      out.push(scid);
    }
    return out;
  });
}

/** The value of the TLV query_flags. */
export function encodeQueryFlags(flags: readonly bigint[]): {
  encodingType: number;
  encodedQueryFlags: Uint8Array;
} {
  const writer = new Writer(flags.length);
  for (const flag of flags) writer.bigsize(flag);
  return { encodingType: ENCODING_UNCOMPRESSED, encodedQueryFlags: writer.finish() };
}

/** BOLT 7: "an array of bitfields, one bigsize per bitfield, one bitfield for each short_channel_id". */
export function decodeQueryFlags(tlv: {
  readonly encodingType: number;
  readonly encodedQueryFlags: Uint8Array;
}): Result<readonly bigint[], DecodeError> {
  return decodeArray(tlv.encodingType, tlv.encodedQueryFlags, (reader) => reader.bigsize());
}

/** The value of the TLV timestamps. */
export function encodeTimestamps(timestamps: readonly ChannelTimestamps[]): {
  encodingType: number;
  encodedTimestamps: Uint8Array;
} {
  const writer = new Writer(8 * timestamps.length);
  for (const { timestampNodeId1, timestampNodeId2 } of timestamps)
    writer.u32(timestampNodeId1).u32(timestampNodeId2);
  return { encodingType: ENCODING_UNCOMPRESSED, encodedTimestamps: writer.finish() };
}

/** The pairs of timestamps, one for each short channel id of the reply. */
export function decodeTimestamps(tlv: {
  readonly encodingType: number;
  readonly encodedTimestamps: Uint8Array;
}): Result<readonly ChannelTimestamps[], DecodeError> {
  return decodeArray(tlv.encodingType, tlv.encodedTimestamps, (reader) => ({
    timestampNodeId1: reader.u32(),
    timestampNodeId2: reader.u32(),
  }));
}

function decodeArray<T>(
  encodingType: number,
  bytes: Uint8Array,
  element: (reader: Reader) => T,
): Result<readonly T[], DecodeError> {
  if (encodingType !== ENCODING_UNCOMPRESSED) return err(unsupported(encodingType));
  return decodeWith(bytes, (reader) => {
    const out: T[] = [];
    while (reader.remaining > 0) out.push(element(reader));
    return out;
  });
}

function wantUncompressed(encodingType: number): void {
  if (encodingType !== ENCODING_UNCOMPRESSED) throw unsupported(encodingType);
}

function unsupported(encodingType: number): DecodeError {
  return new DecodeError('unsupported', `encoding type ${encodingType}`);
}
