// Truncated integers, the last value of a TLV record.
// BOLT 1, "Fundamental Types": "Leading zeros in truncated integers MUST be omitted".
import { DecodeError, EncodeError } from './errors.ts';
import type { Reader } from './reader.ts';
import { decodeWith } from './reader.ts';
import type { Result } from './result.ts';
import { Writer } from './writer.ts';

/** Reads all that remains as a truncated integer of at most `maxBytes` bytes. */
export function readTu(reader: Reader, maxBytes: 2 | 4 | 8): bigint {
  if (reader.remaining > maxBytes) throw new DecodeError('trailing_bytes', `tu${8 * maxBytes} is too long`);
  let value = 0n;
  for (let first = true; reader.remaining > 0; first = false) {
    const byte = reader.u8();
    if (first && byte === 0) throw new DecodeError('not_minimal', 'truncated integer with a leading zero');
    value = (value << 8n) | BigInt(byte);
  }
  return value;
}

/** Writes a truncated integer; EncodeError beyond `maxBytes`. */
export function writeTu(writer: Writer, value: bigint, maxBytes: 2 | 4 | 8): void {
  if (value < 0n || value >= 1n << BigInt(8 * maxBytes))
    throw new EncodeError('out_of_range', `integer ${value}`);
  for (let shift = BigInt(8 * (maxBytes - 1)); shift >= 0n; shift -= 8n) {
    if (value >> shift > 0n) writer.u8(Number((value >> shift) & 0xffn));
  }
}

/** tu64: 0 to 8 bytes. */
export function encodeTu64(value: bigint): Uint8Array {
  return encodeTu(value, 8);
}

/** tu32: 0 to 4 bytes. */
export function encodeTu32(value: number): Uint8Array {
  return encodeTu(integer(value), 4);
}

/** tu16: 0 to 2 bytes. */
export function encodeTu16(value: number): Uint8Array {
  return encodeTu(integer(value), 2);
}

/** Decodes a whole tu64. */
export function decodeTu64(bytes: Uint8Array): Result<bigint, DecodeError> {
  return decodeWith(bytes, (reader) => readTu(reader, 8));
}

/** Decodes a whole tu32. */
export function decodeTu32(bytes: Uint8Array): Result<number, DecodeError> {
  return decodeWith(bytes, (reader) => Number(readTu(reader, 4)));
}

/** Decodes a whole tu16. */
export function decodeTu16(bytes: Uint8Array): Result<number, DecodeError> {
  return decodeWith(bytes, (reader) => Number(readTu(reader, 2)));
}

function encodeTu(value: bigint, maxBytes: 2 | 4 | 8): Uint8Array {
  const writer = new Writer(8);
  writeTu(writer, value, maxBytes);
  return writer.finish();
}

function integer(value: number): bigint {
  if (!Number.isSafeInteger(value)) throw new EncodeError('out_of_range', `integer ${value}`);
  return BigInt(value);
}
