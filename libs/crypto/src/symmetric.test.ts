/** Hashes, HKDF, AEAD and the stream cipher against published vectors and an independent implementation. */
import { hkdfSync } from 'node:crypto';
import { chacha20 as nobleChacha20, chacha20poly1305 as nobleAead } from '@noble/ciphers/chacha.js';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  CryptoError,
  chacha20,
  chacha20Stream,
  chacha20poly1305Decrypt,
  chacha20poly1305Encrypt,
  constantTimeEqual,
  hash160,
  hkdfSha256,
  hmacSha256,
  hmacSha512,
  ripemd160,
  sha256,
  sha256d,
  taggedHash,
} from './index.ts';

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'));
const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);
const bytes = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: length, maxLength: length });

describe('hashes', () => {
  test('published values', () => {
    expect(toHex(sha256(ascii('abc')))).toBe(
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    );
    expect(toHex(sha256d(ascii('hello')))).toBe(
      '9595c9df90075148eb06860365df33584b75bff782a510c6cd4883a419833d50',
    );
    expect(toHex(ripemd160(ascii('abc')))).toBe('8eb208f7e05d987a9b044a8e98c6b087f15a0bfc');
    expect(toHex(hash160(hex('0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798')))).toBe(
      '751e76e8199196d454941c45d1b3a323f1433bd6',
    );
    // RFC 4231, case 2.
    expect(toHex(hmacSha256(ascii('Jefe'), ascii('what do ya want for nothing?')))).toBe(
      '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
    );
    expect(toHex(hmacSha512(ascii('Jefe'), ascii('what do ya want for nothing?')))).toBe(
      '164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737',
    );
    expect(taggedHash('BIP0340/aux', ascii('x'))).toEqual(
      sha256(
        Uint8Array.from([...sha256(ascii('BIP0340/aux')), ...sha256(ascii('BIP0340/aux')), ...ascii('x')]),
      ),
    );
  });

  test('results own their memory', () => {
    const a = sha256(ascii('abc'));
    expect(Object.getPrototypeOf(a)).toBe(Uint8Array.prototype);
    a.slice(0, 4).fill(0);
    expect(a).toEqual(sha256(ascii('abc')));
  });

  test('HKDF: RFC 5869 case 1, and any case as OpenSSL computes it', () => {
    const okm = hkdfSha256(
      new Uint8Array(22).fill(0x0b),
      hex('000102030405060708090a0b0c'),
      hex('f0f1f2f3f4f5f6f7f8f9'),
      42,
    );
    expect(toHex(okm)).toBe(
      '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
    );
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 80 }),
        fc.uint8Array({ maxLength: 80 }),
        fc.uint8Array({ maxLength: 40 }),
        fc.integer({ min: 1, max: 200 }),
        (ikm, salt, info, length) => {
          expect(hkdfSha256(ikm, salt, info, length)).toEqual(
            new Uint8Array(hkdfSync('sha256', ikm, salt, info, length)),
          );
        },
      ),
      { numRuns: 30 },
    );
    expect(() => hkdfSha256(ascii('k'), ascii(''), ascii(''), 255 * 32 + 1)).toThrow(CryptoError);
  });
});

describe('ciphers', () => {
  test('AEAD equals an independent implementation and refuses any changed byte', () => {
    fc.assert(
      fc.property(
        bytes(32),
        bytes(12),
        fc.uint8Array({ maxLength: 300 }),
        fc.uint8Array({ maxLength: 40 }),
        fc.nat(),
        (key, nonce, plaintext, ad, at) => {
          const ciphertext = chacha20poly1305Encrypt(key, nonce, plaintext, ad);
          expect(ciphertext).toEqual(nobleAead(key, nonce, ad).encrypt(plaintext));
          expect(chacha20poly1305Decrypt(key, nonce, ciphertext, ad)).toEqual(plaintext);
          const changed = Uint8Array.from(ciphertext);
          const index = at % changed.length;
          changed[index] = (changed[index] ?? 0) ^ 1;
          expect(chacha20poly1305Decrypt(key, nonce, changed, ad)).toBeUndefined();
          expect(
            chacha20poly1305Decrypt(key, nonce, ciphertext, Uint8Array.from([...ad, 0])),
          ).toBeUndefined();
          expect(chacha20poly1305Decrypt(key, nonce, ciphertext.subarray(0, index), ad)).toBeUndefined();
        },
      ),
      { numRuns: 40 },
    );
  });

  test('wrong lengths of key and nonce are refused', () => {
    expect(() => chacha20poly1305Encrypt(new Uint8Array(31), new Uint8Array(12), ascii(''))).toThrow(
      CryptoError,
    );
    expect(() => chacha20poly1305Decrypt(new Uint8Array(32), new Uint8Array(8), new Uint8Array(16))).toThrow(
      CryptoError,
    );
    expect(() => chacha20(new Uint8Array(32), ascii('x'), new Uint8Array(16))).toThrow(CryptoError);
  });

  test('the stream equals an independent implementation', () => {
    fc.assert(
      fc.property(
        bytes(32),
        bytes(12),
        fc.uint8Array({ maxLength: 300 }),
        fc.integer({ min: 0, max: 5 }),
        (key, nonce, data, counter) => {
          expect(chacha20(key, data, nonce, counter)).toEqual(
            nobleChacha20(key, nonce, data, undefined, counter),
          );
          expect(chacha20Stream(key, data.length)).toEqual(
            nobleChacha20(key, new Uint8Array(12), new Uint8Array(data.length)),
          );
        },
      ),
      { numRuns: 30 },
    );
  });

  test('constantTimeEqual', () => {
    expect(constantTimeEqual(ascii('abc'), ascii('abc'))).toBe(true);
    expect(constantTimeEqual(ascii('abc'), ascii('abd'))).toBe(false);
    expect(constantTimeEqual(ascii('abc'), ascii('ab'))).toBe(false);
    expect(constantTimeEqual(ascii(''), ascii(''))).toBe(true);
  });
});
