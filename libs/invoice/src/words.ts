/** Numbers and bytes in 5-bit words, as the data part of an invoice has them. */
import { EncodeError } from '@fulmen/codec';

/** Words of all bytes, the last one padded with zeros. BOLT 11: "MUST pad field data to a multiple of 5 bits, using 0s." */
export function bytesToWords(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(Math.ceil((bytes.length * 8) / 5));
  let buffer = 0;
  let bits = 0;
  let at = 0;
  for (const byte of bytes) {
    buffer = ((buffer << 8) | byte) & 0xfff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      out[at++] = (buffer >> bits) & 31;
    }
  }
  if (bits > 0) out[at] = (buffer << (5 - bits)) & 31;
  return out;
}

/** Whole bytes of the words; undefined if the bits left over are not zero padding of less than one word. */
export function wordsToBytes(words: Uint8Array): Uint8Array | undefined {
  const leftOver = (words.length * 5) % 8;
  if (leftOver >= 5) return undefined;
  const out = wordsToPaddedBytes(words);
  if (leftOver === 0) return out;
  return out[out.length - 1] === 0 ? out.slice(0, -1) : undefined;
}

/** All bits of the words, "with 0 bits appended to pad to a byte boundary" (BOLT 11, signature). */
export function wordsToPaddedBytes(words: Uint8Array): Uint8Array {
  const out = new Uint8Array(Math.ceil((words.length * 5) / 8));
  let buffer = 0;
  let bits = 0;
  let at = 0;
  for (const word of words) {
    buffer = ((buffer << 5) | word) & 0xfff;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      out[at++] = (buffer >> bits) & 255;
    }
  }
  if (bits > 0) out[at] = (buffer << (8 - bits)) & 255;
  return out;
}

/** Big-endian number in exactly `length` words. @throws EncodeError if it does not fit. */
export function numberToWords(value: number, length: number): Uint8Array {
  if (!Number.isSafeInteger(value) || value < 0 || value >= 32 ** length) {
    throw new EncodeError('out_of_range', `integer ${value}`);
  }
  const out = new Uint8Array(length);
  let rest = value;
  for (let i = length - 1; i >= 0; i--) {
    out[i] = rest % 32;
    rest = Math.floor(rest / 32);
  }
  return out;
}

/** Big-endian number in as few words as it takes; none for zero. @throws EncodeError for no safe integer. */
export function numberToMinimalWords(value: number): Uint8Array {
  let length = 0;
  while (length < 11 && 32 ** length <= value) length++;
  return numberToWords(value, length);
}

/** Big-endian number; undefined beyond `max`. */
export function wordsToNumber(words: Uint8Array, max: number): number | undefined {
  let value = 0;
  for (const word of words) {
    value = value * 32 + word;
    if (value > max) return undefined;
  }
  return value;
}
