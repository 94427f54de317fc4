// Integers of the wire: BigSize, truncated and signed, against every published vector and by property.
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bigsizeLength, decodeBigsize, encodeBigsize } from './bigsize.ts';
import { fromHex, toHex } from './bytes.ts';
import { EncodeError } from './errors.ts';
import { decodeSigned, encodeSigned } from './signed.ts';
import type { SignedBits } from './signed.ts';
import { decodeTu16, decodeTu32, decodeTu64, encodeTu16, encodeTu32, encodeTu64 } from './tu.ts';

interface BigsizeVector {
  readonly name: string;
  readonly value: string;
  readonly bytes: string;
  readonly exp_error?: string;
}

function load<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`./vectors/${name}`, import.meta.url), 'utf8')) as T;
}

const bigsizeVectors = load<{ decode: BigsizeVector[]; encode: BigsizeVector[] }>('bolt01-bigsize.json');
const signedVectors = load<{ value: string; bytes: string }[]>('bolt01-signed.json');
const ERROR_CODE: Readonly<Record<string, string>> = {
  'decoded bigsize is not canonical': 'not_minimal',
  'unexpected EOF': 'truncated',
  EOF: 'truncated',
};

describe('BOLT 1 appendix A, BigSize', () => {
  test('all 26 vectors are here', () => {
    expect(bigsizeVectors.decode.length + bigsizeVectors.encode.length).toBe(26);
  });

  test.each(bigsizeVectors.decode)('decode: $name', ({ value, bytes, exp_error }) => {
    const decoded = decodeBigsize(fromHex(bytes));
    if (exp_error === undefined) expect(decoded).toEqual({ ok: true, value: BigInt(value) });
    else expect(decoded).toMatchObject({ ok: false, error: { code: ERROR_CODE[exp_error] } });
  });

  test.each(bigsizeVectors.encode)('encode: $name', ({ value, bytes }) => {
    expect(toHex(encodeBigsize(BigInt(value)))).toBe(bytes);
  });

  test('every u64 round-trips in the stated length', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.nat({ max: 60 }), (wide, shift) => {
        const value = wide >> BigInt(shift);
        const encoded = encodeBigsize(value);
        expect(encoded.length).toBe(bigsizeLength(value));
        expect(decodeBigsize(encoded)).toEqual({ ok: true, value });
      }),
    );
  });

  test('values without an encoding are refused', () => {
    for (const value of [-1n, 2n ** 64n]) expect(() => encodeBigsize(value)).toThrow(EncodeError);
    for (const value of [-1, 1.5, NaN, 2 ** 60]) expect(() => encodeBigsize(value)).toThrow(EncodeError);
  });
});

describe('BOLT 1 appendix D, signed integers', () => {
  test('all 23 vectors are here', () => {
    expect(signedVectors.length).toBe(23);
  });

  test.each(signedVectors)('$value is $bytes', ({ value, bytes }) => {
    const bits = (bytes.length * 4) as SignedBits;
    expect(toHex(encodeSigned(BigInt(value), bits))).toBe(bytes);
    expect(decodeSigned(fromHex(bytes), bits)).toEqual({ ok: true, value: BigInt(value) });
  });

  test('a value beyond its width and bytes of another width are refused', () => {
    for (const bits of [8, 16, 32, 64] as const) {
      const limit = 1n << BigInt(bits - 1);
      expect(() => encodeSigned(limit, bits)).toThrow(EncodeError);
      expect(() => encodeSigned(-limit - 1n, bits)).toThrow(EncodeError);
      expect(decodeSigned(new Uint8Array(bits / 8 - 1), bits)).toMatchObject({
        error: { code: 'truncated' },
      });
      expect(decodeSigned(new Uint8Array(bits / 8 + 1), bits)).toMatchObject({
        error: { code: 'trailing_bytes' },
      });
    }
  });
});

describe('truncated integers', () => {
  test('zero is empty, and what round-trips has no leading zero', () => {
    expect(encodeTu64(0n).length).toBe(0);
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.nat({ max: 63 }), (wide, shift) => {
        const value = wide >> BigInt(shift);
        const encoded = encodeTu64(value);
        expect(encoded[0]).not.toBe(0);
        expect(decodeTu64(encoded)).toEqual({ ok: true, value });
      }),
    );
  });

  test('arbitrary bytes are refused or encode to themselves', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 9 }), (bytes) => {
        const tu64 = decodeTu64(bytes);
        if (tu64.ok) expect(encodeTu64(tu64.value)).toEqual(bytes);
        const tu32 = decodeTu32(bytes);
        if (tu32.ok) expect(encodeTu32(tu32.value)).toEqual(bytes);
        else expect(bytes.length > 4 || bytes[0] === 0).toBe(true);
        const tu16 = decodeTu16(bytes);
        if (tu16.ok) expect(encodeTu16(tu16.value)).toEqual(bytes);
        else expect(bytes.length > 2 || bytes[0] === 0).toBe(true);
      }),
    );
  });

  test('values beyond their width are refused', () => {
    expect(() => encodeTu16(0x10000)).toThrow(EncodeError);
    expect(() => encodeTu32(2 ** 32)).toThrow(EncodeError);
    expect(() => encodeTu32(0.5)).toThrow(EncodeError);
    expect(() => encodeTu64(-1n)).toThrow(EncodeError);
    expect(() => encodeTu64(2n ** 64n)).toThrow(EncodeError);
  });
});
