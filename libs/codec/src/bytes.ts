// Small operations on byte strings. None of them is constant-time: secrets are compared in the crypto library.
import { DecodeError } from './errors.ts';
import { err, ok } from './result.ts';
import type { Result } from './result.ts';

const HEX_DIGITS = '0123456789abcdef';
const HEX_OF_BYTE: readonly string[] = Array.from(
  { length: 256 },
  (_, byte) => `${HEX_DIGITS[byte >> 4]}${HEX_DIGITS[byte & 15]}`,
);
const UTF8_ENCODER = new TextEncoder();
const UTF8_DECODER = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A new array with all parts, one after the other. */
export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.length;
  }
  return out;
}

/** A copy that shares no memory with its source (and is never a Buffer). */
export function copyBytes(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(bytes.length);
  out.set(bytes);
  return out;
}

/** Same length and content. Leaks timing: not for secrets. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Lexicographic order (-1, 0, 1); a prefix comes before what it is a prefix of. Leaks timing: not for secrets. */
export function compareBytes(a: Uint8Array, b: Uint8Array): -1 | 0 | 1 {
  const common = Math.min(a.length, b.length);
  for (let i = 0; i < common; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference < 0 ? -1 : 1;
  }
  return a.length === b.length ? 0 : a.length < b.length ? -1 : 1;
}

/** Lower-case hexadecimal. */
export function toHex(bytes: Uint8Array): string {
  let out = '';
  for (const byte of bytes) out += HEX_OF_BYTE[byte] ?? '';
  return out;
}

/** Decodes hexadecimal of either case; odd length or another character is an error. */
export function decodeHex(text: string): Result<Uint8Array, DecodeError> {
  if (text.length % 2 !== 0) return err(new DecodeError('invalid_value', 'hexadecimal of odd length'));
  const out = new Uint8Array(text.length / 2);
  for (let i = 0; i < out.length; i++) {
    const high = hexDigit(text.charCodeAt(2 * i));
    const low = hexDigit(text.charCodeAt(2 * i + 1));
    if (high < 0 || low < 0)
      return err(new DecodeError('invalid_value', 'a character that is not hexadecimal'));
    out[i] = (high << 4) | low;
  }
  return ok(out);
}

/** As decodeHex, for constants and trusted text: throws DecodeError. */
export function fromHex(text: string): Uint8Array {
  const decoded = decodeHex(text);
  if (!decoded.ok) throw decoded.error;
  return decoded.value;
}

function hexDigit(charCode: number): number {
  if (charCode >= 48 && charCode <= 57) return charCode - 48;
  const lower = charCode | 32;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}

/** UTF-8 bytes of a string. */
export function utf8Encode(text: string): Uint8Array {
  return UTF8_ENCODER.encode(text);
}

/** Decodes strict UTF-8. */
export function utf8Decode(bytes: Uint8Array): Result<string, DecodeError> {
  try {
    return ok(UTF8_DECODER.decode(bytes));
  } catch {
    return err(new DecodeError('invalid_value', 'not valid UTF-8'));
  }
}
