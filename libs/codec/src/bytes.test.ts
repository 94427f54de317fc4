// Byte strings, the bounded reader and the growing writer, CRC32C.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  compareBytes,
  concatBytes,
  copyBytes,
  decodeHex,
  equalBytes,
  fromHex,
  toHex,
  utf8Decode,
  utf8Encode,
} from './bytes.ts';
import { array16, bytes16, fixedArray, fixedBytes, point, restArray, struct, u16, u8 } from './coder.ts';
import { crc32c } from './crc32c.ts';
import { DecodeError, EncodeError } from './errors.ts';
import { Reader, decodeWith } from './reader.ts';
import { Writer } from './writer.ts';

describe('bytes', () => {
  test('hexadecimal round-trips, in either case', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        expect(toHex(bytes)).toBe(Buffer.from(bytes).toString('hex'));
        expect(fromHex(toHex(bytes).toUpperCase())).toEqual(bytes);
      }),
    );
  });

  test('what is not hexadecimal is refused', () => {
    for (const text of ['0', 'zz', '0g', ' 0', '0\u0130', '@0', 'é0']) expect(decodeHex(text).ok).toBe(false);
    expect(() => fromHex('0x')).toThrow(DecodeError);
  });

  test('order is that of Buffer.compare, equality its zero', () => {
    const bytes = fc.uint8Array({ maxLength: 4, max: 3 });
    fc.assert(
      fc.property(bytes, bytes, (a, b) => {
        expect(compareBytes(a, b)).toBe(Buffer.compare(a, b));
        expect(equalBytes(a, b)).toBe(compareBytes(a, b) === 0);
        expect(concatBytes(a, b)).toEqual(new Uint8Array([...a, ...b]));
      }),
    );
  });

  test('a copy of a Buffer is a plain array with memory of its own', () => {
    const buffer = Buffer.from([1, 2]);
    const copy = copyBytes(buffer);
    buffer[0] = 9;
    expect(copy).toEqual(new Uint8Array([1, 2]));
    expect(Buffer.isBuffer(new Reader(buffer).bytes(2))).toBe(false);
  });

  test('UTF-8 is strict', () => {
    expect(utf8Decode(utf8Encode('\ufeffλ⚡'))).toEqual({ ok: true, value: '\ufeffλ⚡' });
    expect(utf8Decode(fromHex('c0af')).ok).toBe(false);
  });
});

describe('reader and writer', () => {
  test('integers come back, across growth', () => {
    const written = new Writer(1)
      .u8(1)
      .u16(2)
      .u32(0xffff_ffff)
      .u64(2n ** 64n - 1n)
      .s64(-5n)
      .bigsize(300)
      .bytes(fromHex('aabb'));
    const reader = new Reader(written.finish());
    expect([reader.u8(), reader.u16(), reader.u32(), reader.u64(), reader.s64(), reader.bigsize()]).toEqual([
      1,
      2,
      0xffff_ffff,
      2n ** 64n - 1n,
      -5n,
      300n,
    ]);
    expect(toHex(reader.rest())).toBe('aabb');
    expect(() => reader.expectEnd()).not.toThrow();
  });

  test('a reader over a part of a larger buffer stays within it', () => {
    const reader = new Reader(fromHex('00010203').subarray(1, 3));
    expect(reader.u16()).toBe(0x0102);
    expect(() => reader.u8()).toThrow(DecodeError);
  });

  test('values out of range are never truncated', () => {
    const writer = new Writer();
    for (const value of [-1, 256, 0.5, NaN]) expect(() => writer.u8(value)).toThrow(EncodeError);
    expect(() => writer.u16(65_536)).toThrow(EncodeError);
    expect(() => writer.u32(2 ** 32)).toThrow(EncodeError);
    expect(() => writer.u64(-1n)).toThrow(EncodeError);
    expect(() => writer.u64(2n ** 64n)).toThrow(EncodeError);
    expect(() => writer.s64(2n ** 63n)).toThrow(EncodeError);
  });
});

describe('coders', () => {
  test('lengths and counts beyond the input are refused', () => {
    for (const coder of [
      bytes16,
      array16(u8),
      array16(fixedBytes(64)),
      fixedArray(u16, 3),
      fixedBytes(4),
      point,
    ]) {
      expect(decodeWith(fromHex('ffff'), (reader) => coder.read(reader))).toMatchObject({
        error: { code: 'truncated' },
      });
    }
  });

  test('elements that take no bytes end in an error, not in a hang', () => {
    const endless = restArray(fixedBytes(0));
    expect(decodeWith(fromHex('00'), (reader) => endless.read(reader))).toMatchObject({
      error: { code: 'invalid_value' },
    });
  });

  test('values of a wrong length are refused', () => {
    const writer = new Writer();
    expect(() => fixedBytes(2).write(writer, fromHex('00'))).toThrow(EncodeError);
    expect(() => point.write(writer, fromHex('02'))).toThrow(EncodeError);
    expect(() => fixedArray(u8, 2).write(writer, [1])).toThrow(EncodeError);
    expect(() => bytes16.write(writer, new Uint8Array(65_536))).toThrow(EncodeError);
    const incomplete = { a: 1 } as unknown as { a: number; b: number };
    expect(() => struct({ a: u8, b: u8 }).write(writer, incomplete)).toThrow(EncodeError);
  });
});

test('CRC32C of RFC 3720 appendix B.4', () => {
  const ascending = Uint8Array.from({ length: 32 }, (_, i) => i);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
  expect(crc32c(ascending)).toBe(0x46dd794e);
  expect(crc32c(ascending.toReversed())).toBe(0x113fdb5c);
  expect(crc32c(ascending.subarray(0, 7), ascending.subarray(7))).toBe(0x46dd794e);
});
