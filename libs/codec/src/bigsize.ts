// BigSize on its own (BOLT 1, Appendix A); inside larger structures use Reader.bigsize and Writer.bigsize.
import type { DecodeError } from './errors.ts';
import { decodeWith } from './reader.ts';
import type { Result } from './result.ts';
import { Writer } from './writer.ts';

/** The minimal encoding, 1, 3, 5 or 9 bytes, of an integer below 2^64; EncodeError otherwise. */
export function encodeBigsize(value: bigint | number): Uint8Array {
  return new Writer(9).bigsize(value).finish();
}

/** Decodes exactly one minimally encoded BigSize. */
export function decodeBigsize(bytes: Uint8Array): Result<bigint, DecodeError> {
  return decodeWith(bytes, (reader) => reader.bigsize());
}

/** How many bytes the encoding takes. */
export function bigsizeLength(value: bigint | number): 1 | 3 | 5 | 9 {
  return value < 0xfd ? 1 : value < 0x10000 ? 3 : value < 0x100000000 ? 5 : 9;
}
