/** One compliance suite for every implementation of the curve; the fake passes its algebraic part. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { secp256k1 } from './default.ts';
import { CryptoError } from './errors.ts';
import { fakeSecp256k1 } from './fake.ts';
import { sha256 } from './hash.ts';
import { loadNative, nativeSecp256k1 } from './native.ts';
import { nobleSecp256k1 } from './noble.ts';
import type { Secp256k1 } from './secp256k1.ts';

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'));
const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const bytesOf = (value: bigint): Uint8Array => hex(value.toString(16).padStart(64, '0'));
const numberOf = (bytes: Uint8Array): bigint => BigInt(`0x${toHex(bytes)}`);
const negated = (scalar: Uint8Array): Uint8Array => bytesOf(N - numberOf(scalar));
const highS = (signature: Uint8Array): Uint8Array =>
  Uint8Array.from([...signature.subarray(0, 32), ...negated(signature.subarray(32))]);

/** Uniform 32 bytes; a scalar out of range has probability 2^-128. */
const bytes32 = fc.integer().map((n) => sha256(new TextEncoder().encode(String(n))));
/** Scalars, with the ends of the range among them. */
const scalar = fc.oneof(
  { weight: 5, arbitrary: bytes32 },
  fc.constantFrom(bytesOf(1n), bytesOf(2n), bytesOf(N - 1n)),
);

const NOT_SCALARS = [
  new Uint8Array(32),
  bytesOf(N),
  new Uint8Array(32).fill(0xff),
  new Uint8Array(31).fill(1),
  new Uint8Array(33).fill(1),
];

const runs = { numRuns: 15 };

function algebra(curve: Secp256k1): void {
  test('scalars and points are told from other bytes', () => {
    for (const bad of NOT_SCALARS) {
      expect(curve.isSecretKey(bad)).toBe(false);
      expect(() => curve.publicKeyOf(bad)).toThrow(CryptoError);
      expect(() => curve.sign(bytesOf(1n), bad)).toThrow(CryptoError);
      expect(() => curve.signRecoverable(bytesOf(1n), bad)).toThrow(CryptoError);
      expect(() => curve.secretKeyTweakAdd(bytesOf(1n), bad)).toThrow(CryptoError);
      expect(() => curve.secretKeyTweakMul(bad, bytesOf(1n))).toThrow(CryptoError);
      const point = curve.publicKeyOf(bytesOf(5n));
      expect(() => curve.publicKeyTweakAdd(point, bad)).toThrow(CryptoError);
      expect(() => curve.publicKeyTweakMul(point, bad)).toThrow(CryptoError);
      expect(() => curve.ecdh(point, bad)).toThrow(CryptoError);
      expect(() => curve.schnorrSign(bytesOf(1n), bad, bytesOf(1n))).toThrow(CryptoError);
    }
    const good = curve.publicKeyOf(bytesOf(7n));
    expect(curve.isPublicKey(good)).toBe(true);
    const wrongs = [
      new Uint8Array(33),
      Uint8Array.from([4, ...good.subarray(1)]),
      good.subarray(1),
      new Uint8Array(0),
      new Uint8Array(33).fill(0xff),
      new Uint8Array(65).fill(4),
    ];
    for (const bad of wrongs) {
      expect(curve.isPublicKey(bad)).toBe(false);
      expect(curve.verify(bytesOf(1n), new Uint8Array(64).fill(1), bad)).toBe(false);
      expect(() => curve.ecdh(bad, bytesOf(1n))).toThrow(CryptoError);
      expect(() => curve.publicKeyTweakMul(bad, bytesOf(1n))).toThrow(CryptoError);
      expect(() => curve.publicKeyTweakAdd(bad, bytesOf(1n))).toThrow(CryptoError);
      expect(() => curve.publicKeyCombine([good, bad])).toThrow(CryptoError);
    }
    expect(() => curve.publicKeyCombine([])).toThrow(CryptoError);
  });

  test('tweaks of secrets and of points agree', () => {
    fc.assert(
      fc.property(scalar, scalar, (a, b) => {
        const A = curve.publicKeyOf(a);
        const B = curve.publicKeyOf(b);
        expect(A).toHaveLength(33);
        expect(curve.publicKeyTweakMul(A, b)).toEqual(curve.publicKeyOf(curve.secretKeyTweakMul(a, b)));
        if ((numberOf(a) + numberOf(b)) % N === 0n) {
          expect(() => curve.secretKeyTweakAdd(a, b)).toThrow(CryptoError);
          expect(() => curve.publicKeyTweakAdd(A, b)).toThrow(CryptoError);
          expect(() => curve.publicKeyCombine([A, B])).toThrow(CryptoError);
        } else {
          const sum = curve.publicKeyOf(curve.secretKeyTweakAdd(a, b));
          expect(curve.publicKeyTweakAdd(A, b)).toEqual(sum);
          expect(curve.publicKeyCombine([A, B])).toEqual(sum);
        }
        expect(curve.ecdh(A, b)).toEqual(curve.ecdh(B, a));
        expect(curve.ecdh(A, b)).toEqual(sha256(curve.publicKeyTweakMul(A, b)));
      }),
      runs,
    );
  });

  test('a negated key differs in the parity byte alone', () => {
    fc.assert(
      fc.property(scalar, (a) => {
        const A = curve.publicKeyOf(a);
        const minusA = curve.publicKeyOf(negated(a));
        expect(minusA.subarray(1)).toEqual(A.subarray(1));
        expect((minusA[0] ?? 0) ^ (A[0] ?? 0)).toBe(1);
        expect(() => curve.publicKeyCombine([A, minusA])).toThrow(CryptoError);
      }),
      runs,
    );
  });

  test('arguments are left as they were', () => {
    const a = bytesOf(11n);
    const b = bytesOf(13n);
    curve.secretKeyTweakAdd(a, b);
    curve.secretKeyTweakMul(a, b);
    const A = curve.publicKeyOf(a);
    const copy = Uint8Array.from(A);
    curve.publicKeyTweakAdd(A, b);
    curve.publicKeyTweakMul(A, b);
    expect([a, b, A]).toEqual([bytesOf(11n), bytesOf(13n), copy]);
  });

  test('signatures verify for their key and hash alone; high S is refused, yet recovers', () => {
    fc.assert(
      fc.property(scalar, scalar, bytes32, bytes32, (a, b, hash, otherHash) => {
        fc.pre(toHex(hash) !== toHex(otherHash) && toHex(a) !== toHex(b));
        const A = curve.publicKeyOf(a);
        const { signature, recoveryId } = curve.signRecoverable(hash, a);
        expect(signature).toHaveLength(64);
        expect(curve.sign(hash, a)).toEqual(signature);
        expect(curve.verify(hash, signature, A)).toBe(true);
        expect(curve.verify(otherHash, signature, A)).toBe(false);
        expect(curve.verify(hash, signature, curve.publicKeyOf(b))).toBe(false);
        expect(curve.verify(hash, highS(signature), A)).toBe(false);
        expect(curve.recover(hash, signature, recoveryId)).toEqual(A);
        expect(curve.recover(hash, highS(signature), recoveryId ^ 1)).toEqual(A);
        expect(curve.recover(otherHash, signature, recoveryId)).not.toEqual(A);
      }),
      runs,
    );
  });

  test('malformed signatures are false or undefined, never an exception', () => {
    const A = curve.publicKeyOf(bytesOf(3n));
    const signature = curve.sign(bytesOf(9n), bytesOf(3n));
    for (const bad of [
      new Uint8Array(64),
      new Uint8Array(64).fill(0xff),
      signature.subarray(1),
      new Uint8Array(65).fill(1),
      new Uint8Array(0),
    ]) {
      expect(curve.verify(bytesOf(9n), bad, A)).toBe(false);
      expect(curve.schnorrVerify(bytesOf(9n), bad, A.subarray(1))).toBe(false);
      for (const id of [0, 1, 2, 3]) expect(curve.recover(bytesOf(9n), bad, id)).toBeUndefined();
    }
    for (const id of [4, -1, 0.5, Number.NaN])
      expect(curve.recover(bytesOf(9n), signature, id)).toBeUndefined();
    expect(curve.verify(new Uint8Array(31), signature, A)).toBe(false);
    expect(() => curve.sign(new Uint8Array(31), bytesOf(3n))).toThrow(CryptoError);
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 70 }),
        fc.uint8Array({ minLength: 64, maxLength: 64 }),
        (junk, sixtyFour) => {
          expect(curve.verify(bytesOf(9n), junk, A)).toBe(false);
          expect(curve.verify(bytesOf(9n), sixtyFour, A)).toBe(false);
          const recovered = curve.recover(bytesOf(9n), sixtyFour, 1);
          if (recovered !== undefined) expect(curve.isPublicKey(recovered)).toBe(true);
        },
      ),
      runs,
    );
  });

  test('Schnorr signatures verify for their key and message alone', () => {
    fc.assert(
      fc.property(scalar, bytes32, bytes32, (a, message, aux) => {
        const signature = curve.schnorrSign(message, a, aux);
        const key = curve.publicKeyOf(a).slice(1);
        expect(curve.schnorrVerify(message, signature, key)).toBe(true);
        expect(curve.schnorrVerify(sha256(message), signature, key)).toBe(false);
        expect(curve.schnorrVerify(message, signature, curve.publicKeyOf(sha256(a)).slice(1))).toBe(false);
      }),
      { numRuns: 6 },
    );
  });
}

function vectors(curve: Secp256k1): void {
  test('the generator and its double', () => {
    expect(toHex(curve.publicKeyOf(bytesOf(1n)))).toBe(
      '0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798',
    );
    expect(toHex(curve.publicKeyTweakMul(curve.publicKeyOf(bytesOf(1n)), bytesOf(2n)))).toBe(
      '02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5',
    );
  });

  test('x not on the curve is no point', () => {
    expect(curve.isPublicKey(hex(`02${'00'.repeat(31)}05`))).toBe(false);
  });

  test('RFC 6979 nonces', () => {
    // The widely used vector of secp256k1 RFC 6979 (key 1, SHA-256 of "Satoshi Nakamoto").
    const hash = sha256(new TextEncoder().encode('Satoshi Nakamoto'));
    expect(toHex(curve.sign(hash, bytesOf(1n)))).toBe(
      '934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8' +
        '2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5',
    );
  });

  test('BIP 340 vector 1', () => {
    const secretKey = hex('b7e151628aed2a6abf7158809cf4f3c762e7160f38b4da56a784d9045190cfef');
    const message = hex('243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89');
    const signature = curve.schnorrSign(message, secretKey, bytesOf(1n));
    expect(toHex(signature)).toBe(
      '6896bd60eeae296db48a229ff71dfe071bde413e6d43f917dc8dcf8c78de3341' +
        '8906d11ac976abccb20b091292bff4ea897efcb639ea871cfa95f6de339e4b0a',
    );
  });
}

describe('noble', () => {
  algebra(nobleSecp256k1);
  vectors(nobleSecp256k1);
});

describe.runIf(nativeSecp256k1 !== undefined)('native', () => {
  const native = nativeSecp256k1 ?? nobleSecp256k1;
  algebra(native);
  vectors(native);

  test('equals the reference on everything', () => {
    fc.assert(
      fc.property(scalar, scalar, bytes32, (a, b, hash) => {
        const A = nobleSecp256k1.publicKeyOf(a);
        expect(native.publicKeyOf(a)).toEqual(A);
        expect(native.signRecoverable(hash, a)).toEqual(nobleSecp256k1.signRecoverable(hash, a));
        expect(native.ecdh(A, b)).toEqual(nobleSecp256k1.ecdh(A, b));
        expect(native.publicKeyTweakMul(A, b)).toEqual(nobleSecp256k1.publicKeyTweakMul(A, b));
        expect(native.secretKeyTweakMul(a, b)).toEqual(nobleSecp256k1.secretKeyTweakMul(a, b));
        const signature = nobleSecp256k1.sign(hash, a);
        for (const id of [0, 1, 2, 3]) {
          for (const s of [signature, highS(signature)]) {
            expect(native.recover(hash, s, id)).toEqual(nobleSecp256k1.recover(hash, s, id));
          }
        }
      }),
      runs,
    );
  });

  test('judges arbitrary bytes as the reference does', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.constantFrom(1, 2, 3, 4),
        (x, prefix) => {
          const bytes = Uint8Array.from([prefix, ...x]);
          expect(native.isPublicKey(bytes)).toBe(nobleSecp256k1.isPublicKey(bytes));
          expect(native.isSecretKey(x)).toBe(nobleSecp256k1.isSecretKey(x));
        },
      ),
      { numRuns: 50 },
    );
  });
});

describe('fake', () => {
  algebra(fakeSecp256k1);
});

test('the default is the native one where it loads', () => {
  expect(secp256k1.name).toBe(loadNative() === undefined ? 'noble' : 'native');
});
