// Signed integers. BOLT 1, "Fundamental Types": "Signed integers use standard big-endian two's complement
// representation".
import { DecodeError, EncodeError } from './errors.ts';
import { err, ok } from './result.ts';
import type { Result } from './result.ts';

/** The widths of s8, s16, s32 and s64. */
export type SignedBits = 8 | 16 | 32 | 64;

/** Encodes in exactly `bits` bits; EncodeError if the value does not fit. */
export function encodeSigned(value: bigint, bits: SignedBits): Uint8Array {
  if (BigInt.asIntN(bits, value) !== value) throw new EncodeError('out_of_range', `integer ${value}`);
  const out = new Uint8Array(bits / 8);
  let rest = BigInt.asUintN(bits, value);
  for (let i = out.length - 1; i >= 0; i--) {
    out[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return out;
}

/** Decodes an integer of `bits` bits from exactly that many bytes. */
export function decodeSigned(bytes: Uint8Array, bits: SignedBits): Result<bigint, DecodeError> {
  if (bytes.length * 8 < bits) return err(new DecodeError('truncated', `s${bits}`));
  if (bytes.length * 8 > bits) return err(new DecodeError('trailing_bytes', `s${bits}`));
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return ok(BigInt.asIntN(bits, value));
}
