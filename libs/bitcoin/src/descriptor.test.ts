import { describe, expect, test } from 'vitest';
import { BitcoinError } from './errors.ts';
import { descriptorChecksum, withChecksum } from './descriptor.ts';

describe('descriptor checksums (BIP 380)', () => {
  test('the vector of the BIP', () => {
    expect(withChecksum('raw(deadbeef)')).toBe('raw(deadbeef)#89f8spxm');
  });

  test("an example of Bitcoin Core's documentation", () => {
    const key = '0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798';
    expect(withChecksum(`pk(${key})`)).toBe(`pk(${key})#gn28ywm7`);
  });

  test('one slip changes it', () => {
    const text = 'wpkh([d34db33f/84h/1h/0h]tpubDC/0/*)';
    const right = descriptorChecksum(text);
    for (let at = 0; at < text.length; at++) {
      const slipped = `${text.slice(0, at)}${text[at] === 'q' ? 'p' : 'q'}${text.slice(at + 1)}`;
      expect(descriptorChecksum(slipped)).not.toBe(right);
    }
  });

  test('a character that no descriptor has', () => {
    expect(() => descriptorChecksum('wpkh(é)')).toThrow(BitcoinError);
  });
});
