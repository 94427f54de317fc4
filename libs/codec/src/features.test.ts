// Feature bits: names, vectors, dependencies and negotiation.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fromHex, toHex } from './bytes.ts';
import { EncodeError } from './errors.ts';
import { FEATURE_BITS, FeatureBits, featureOfBit, negotiated } from './features.ts';
import type { FeatureName } from './features.ts';

describe('bit vectors', () => {
  test('bit 0 is the lowest bit of the last byte', () => {
    expect(toHex(FeatureBits.fromBits([0]).encode())).toBe('01');
    expect(toHex(FeatureBits.fromBits([15]).encode())).toBe('8000');
    expect(FeatureBits.decode(fromHex('020000')).bits()).toEqual([17]);
    expect(FeatureBits.fromBits([]).encode().length).toBe(0);
  });

  test('decoding drops leading zeros and nothing else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const set = FeatureBits.decode(bytes);
        const start = bytes.findIndex((byte) => byte !== 0);
        expect(set.encode()).toEqual(start < 0 ? new Uint8Array(0) : bytes.slice(start));
        expect(FeatureBits.fromBits(set.bits()).equals(set)).toBe(true);
        for (const bit of set.bits()) expect(set.hasBit(bit)).toBe(true);
      }),
    );
  });

  test('a set shares no memory with its source or its encoding', () => {
    const source = fromHex('02');
    const set = FeatureBits.decode(source);
    source[0] = 1;
    set.encode()[0] = 4;
    expect(set.bits()).toEqual([1]);
  });

  test('bits without a place are refused', () => {
    for (const bit of [-1, 0.5, 65_535 * 8]) expect(() => FeatureBits.fromBits([bit])).toThrow(EncodeError);
  });
});

describe('names', () => {
  test('every feature is found at both levels, and setting one clears the other', () => {
    for (const name of Object.keys(FEATURE_BITS) as FeatureName[]) {
      const required = FeatureBits.EMPTY.with(name, 'required');
      expect([required.has(name), required.required(name), required.optional(name)]).toEqual([
        true,
        true,
        false,
      ]);
      const optional = required.with(name, 'optional');
      expect([optional.has(name), optional.required(name), optional.optional(name)]).toEqual([
        true,
        false,
        true,
      ]);
      expect(optional.bits()).toEqual([FEATURE_BITS[name] + 1]);
      expect(optional.without(name).bits()).toEqual([]);
      expect(featureOfBit(FEATURE_BITS[name] + 1)).toBe(name);
      expect(required.unknownRequiredBits()).toEqual([]);
    }
  });

  test("LND's required bits 0, 8, 12 and 14 are known; other even bits are not, odd ones do not matter", () => {
    expect(FeatureBits.fromBits([0, 8, 12, 14, 2001]).unknownRequiredBits()).toEqual([]);
    expect(FeatureBits.fromBits([2, 8, 2000, 2003]).unknownRequiredBits()).toEqual([2, 2000]);
  });
});

describe('dependencies', () => {
  test('a missing one is named, an ASSUMED one is never missing', () => {
    expect(FeatureBits.of({ basic_mpp: 'optional' }).missingDependencies()).toEqual([]);
    expect(FeatureBits.of({ zeroconf: 'optional', simple_close: 'required' }).missingDependencies()).toEqual([
      { feature: 'zeroconf', needs: 'scid_alias' },
      { feature: 'simple_close', needs: 'shutdown_anysegwit' },
    ]);
    const complete = FeatureBits.of({ zeroconf: 'optional', scid_alias: 'required' });
    expect(complete.missingDependencies()).toEqual([]);
  });
});

describe('negotiation', () => {
  const optional = FeatureBits.of({ quiesce: 'optional' });
  const required = FeatureBits.of({ quiesce: 'required' });

  test('both offered it, or we require it', () => {
    expect(negotiated(optional, optional, 'quiesce')).toBe(true);
    expect(negotiated(optional, required, 'quiesce')).toBe(true);
    expect(negotiated(required, FeatureBits.EMPTY, 'quiesce')).toBe(true);
    expect(negotiated(optional, FeatureBits.EMPTY, 'quiesce')).toBe(false);
    expect(negotiated(FeatureBits.EMPTY, required, 'quiesce')).toBe(false);
  });

  test('ASSUMED features need no bit', () => {
    expect(negotiated(FeatureBits.EMPTY, FeatureBits.EMPTY, 'static_remotekey')).toBe(true);
    expect(FeatureBits.EMPTY.supports('var_onion_optin')).toBe(true);
    expect(FeatureBits.EMPTY.has('var_onion_optin')).toBe(false);
  });

  test('both feature fields of init count', () => {
    expect(optional.union(FeatureBits.fromBits([2000])).bits()).toEqual([35, 2000]);
  });
});
