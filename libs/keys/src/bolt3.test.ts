/** BOLT 3's vectors of appendices C (obscuring factor), D and E in full, and the algebra on both curves. */
import { nobleSecp256k1 } from '@fulmen/crypto/noble';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { sha256 } from '@fulmen/crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  EMPTY_SECRET_STORE,
  KeysError,
  MAX_COMMITMENT_NUMBER,
  SECRET_STORE_SLOTS,
  commitmentKeys,
  commitmentNumberObscuringFactor,
  commitmentPoint,
  commitmentSecret,
  decodeSecretStore,
  derivePrivateKey,
  derivePublicKey,
  deriveRevocationPrivateKey,
  deriveRevocationPublicKey,
  encodeSecretStore,
  generateFromSeed,
  insertSecret,
  lookupSecret,
  obscureCommitmentNumber,
  secretIndexOf,
} from './index.ts';
import type { SecretStore } from './index.ts';
import vectors from './vectors/bolt03-appendix-d.json' with { type: 'json' };

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'));
const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const scalar = fc.integer().map((n) => sha256(new TextEncoder().encode(String(n))));

describe.each([secp, nobleSecp256k1])('BOLT 3 appendix E with $name', (curve) => {
  const baseSecret = hex('000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f');
  const perCommitmentSecret = hex('1f1e1d1c1b1a191817161514131211100f0e0d0c0b0a09080706050403020100');
  const basePoint = hex('036d6caac248af96f6afa7f904f550253a0f3ef3f5aa2fe6838a95b216691468e2');
  const perCommitmentPoint = hex('025f7117a78150fe2ef97db7cfc83bd57b2e2c0d0dd25eaf467a4a1c2a45ce1486');

  test('the points', () => {
    expect(curve.publicKeyOf(baseSecret)).toEqual(basePoint);
    expect(curve.publicKeyOf(perCommitmentSecret)).toEqual(perCommitmentPoint);
  });

  test('derivation of pubkey from basepoint and per_commitment_point', () => {
    expect(toHex(derivePublicKey(curve, basePoint, perCommitmentPoint))).toBe(
      '0235f2dbfaa89b57ec7b055afe29849ef7ddfeb1cefdb9ebdc43f5494984db29e5',
    );
  });

  test('derivation of private key from basepoint secret and per_commitment_secret', () => {
    expect(toHex(derivePrivateKey(curve, baseSecret, perCommitmentPoint))).toBe(
      'cbced912d3b21bf196a766651e436aff192362621ce317704ea2f75d87e7be0f',
    );
  });

  test('derivation of revocation pubkey from basepoint and per_commitment_point', () => {
    expect(toHex(deriveRevocationPublicKey(curve, basePoint, perCommitmentPoint))).toBe(
      '02916e326636d19c33f13e8c0c3a03dd157f332f3e99c317c141dd865eb01f8ff0',
    );
  });

  test('derivation of revocation secret from basepoint_secret and per_commitment_secret', () => {
    expect(toHex(deriveRevocationPrivateKey(curve, baseSecret, perCommitmentSecret))).toBe(
      'd09ffff62ddb2297ab000cc85bcb4283fdeb6aa052affbc9dddcf33b61078110',
    );
  });
});

describe.each([secp, fakeSecp256k1])('derivation with $name', (curve) => {
  test('secret and public derivations agree, in each role', () => {
    fc.assert(
      fc.property(scalar, scalar, scalar, (holder, counterparty, perCommitmentSecret) => {
        const point = curve.publicKeyOf(perCommitmentSecret);
        const secrets = {
          delayed: holder,
          htlc: sha256(holder),
          revocation: counterparty,
          counterpartyHtlc: sha256(counterparty),
        };
        const keys = commitmentKeys(curve, {
          broadcaster: {
            delayedPaymentBasepoint: curve.publicKeyOf(secrets.delayed),
            htlcBasepoint: curve.publicKeyOf(secrets.htlc),
          },
          countersignatory: {
            revocationBasepoint: curve.publicKeyOf(secrets.revocation),
            htlcBasepoint: curve.publicKeyOf(secrets.counterpartyHtlc),
          },
          perCommitmentPoint: point,
        });
        expect(keys).toEqual({
          revocationPubkey: curve.publicKeyOf(
            deriveRevocationPrivateKey(curve, secrets.revocation, perCommitmentSecret),
          ),
          broadcasterDelayedPubkey: curve.publicKeyOf(derivePrivateKey(curve, secrets.delayed, point)),
          broadcasterHtlcPubkey: curve.publicKeyOf(derivePrivateKey(curve, secrets.htlc, point)),
          countersignatoryHtlcPubkey: curve.publicKeyOf(
            derivePrivateKey(curve, secrets.counterpartyHtlc, point),
          ),
        });
      }),
      { numRuns: 10 },
    );
  });
});

describe('BOLT 3 appendix D', () => {
  test.each(vectors.generation)('$name', ({ seed, index, secret }) => {
    expect(toHex(generateFromSeed(hex(seed), BigInt(index)))).toBe(secret);
    expect(toHex(commitmentSecret(hex(seed), MAX_COMMITMENT_NUMBER - BigInt(index)))).toBe(secret);
  });

  test.each(vectors.storage)('$name', ({ inserts }) => {
    let store = EMPTY_SECRET_STORE;
    for (const insert of inserts) {
      const inserted = insertSecret(store, secretIndexOf(BigInt(insert.index)), hex(insert.secret));
      if (!insert.ok) {
        expect(inserted).toEqual({ ok: false, error: { kind: 'not_from_same_seed' } });
        return;
      }
      if (!inserted.ok) throw new Error(inserted.error.kind);
      store = inserted.value;
    }
    for (const insert of inserts) {
      expect(lookupSecret(store, secretIndexOf(BigInt(insert.index)))).toEqual(hex(insert.secret));
    }
  });

  test('there are 5 and 9 of them', () => {
    expect([vectors.generation.length, vectors.storage.length]).toEqual([5, 9]);
  });
});

/** The store after `count` secrets of a seed, as insertion would leave it, without inserting them all. */
function storeOf(seed: Uint8Array, count: bigint): SecretStore {
  const newest = MAX_COMMITMENT_NUMBER + 1n - count;
  const slots: Uint8Array[] = [];
  for (let slot = 0n; slot < 49n && (slot === 48n ? newest === 0n : 1n << slot <= count); slot++) {
    let index = slot === 48n ? 0n : ((newest + (1n << slot) - 1n) >> slot) << slot;
    if (slot < 48n && ((index >> slot) & 1n) === 0n) index += 1n << slot;
    slots.push(generateFromSeed(seed, index));
  }
  return { count, slots };
}

describe('secret store', () => {
  const seed = new Uint8Array(32).fill(9);

  test('after each of 300 insertions, every secret so far is found and none beyond', () => {
    let store = EMPTY_SECRET_STORE;
    for (let number = 0n; number < 300n; number++) {
      const before = encodeSecretStore(store);
      const inserted = insertSecret(store, number, commitmentSecret(seed, number));
      if (!inserted.ok) throw new Error(inserted.error.kind);
      expect(encodeSecretStore(store)).toEqual(before);
      store = inserted.value;
      expect(store).toEqual(storeOf(seed, number + 1n));
      expect(decodeSecretStore(encodeSecretStore(store))).toEqual({ ok: true, value: store });
      expect(lookupSecret(store, number + 1n)).toBeUndefined();
    }
    for (let number = 0n; number < 300n; number++)
      expect(lookupSecret(store, number)).toEqual(commitmentSecret(seed, number));
    expect(lookupSecret(store, -1n)).toBeUndefined();
  });

  test('anywhere up to the last secret, the next is taken and any earlier one found', () => {
    const counts = fc.oneof(
      fc.bigInt({ min: 1n, max: MAX_COMMITMENT_NUMBER }),
      fc.integer({ min: 0, max: 47 }).map((bit) => (1n << BigInt(bit + 1)) - 1n),
    );
    fc.assert(
      fc.property(counts, fc.bigInt({ min: 0n, max: MAX_COMMITMENT_NUMBER }), (count, pick) => {
        const store = storeOf(seed, count);
        const earlier = pick % count;
        expect(lookupSecret(store, earlier)).toEqual(commitmentSecret(seed, earlier));
        expect(decodeSecretStore(encodeSecretStore(store))).toEqual({ ok: true, value: store });
        const next = insertSecret(store, count, commitmentSecret(seed, count));
        expect(next).toEqual({ ok: true, value: storeOf(seed, count + 1n) });
      }),
      { numRuns: 60 },
    );
  });

  test('it ends full, in 49 slots', () => {
    const last = insertSecret(
      storeOf(seed, MAX_COMMITMENT_NUMBER),
      MAX_COMMITMENT_NUMBER,
      commitmentSecret(seed, MAX_COMMITMENT_NUMBER),
    );
    if (!last.ok) throw new Error(last.error.kind);
    expect(last.value.slots).toHaveLength(SECRET_STORE_SLOTS);
    expect(lookupSecret(last.value, MAX_COMMITMENT_NUMBER)).toEqual(seed);
    expect(insertSecret(last.value, MAX_COMMITMENT_NUMBER + 1n, seed).ok).toBe(false);
    expect(decodeSecretStore(encodeSecretStore(last.value))).toEqual({ ok: true, value: last.value });
  });

  test('secrets come in order, 32 bytes each', () => {
    expect(insertSecret(EMPTY_SECRET_STORE, 1n, seed)).toEqual({
      ok: false,
      error: { kind: 'out_of_order', expectedCommitmentNumber: 0n },
    });
    expect(insertSecret(storeOf(seed, 5n), 4n, seed)).toEqual({
      ok: false,
      error: { kind: 'out_of_order', expectedCommitmentNumber: 5n },
    });
    expect(insertSecret(EMPTY_SECRET_STORE, 0n, new Uint8Array(31))).toEqual({
      ok: false,
      error: { kind: 'bad_length' },
    });
  });

  test('arbitrary bytes decode to what encodes to them, or to a typed error', () => {
    const shaped = fc
      .tuple(fc.integer({ min: 0, max: 8 }), fc.uint8Array({ maxLength: 4 * 32 }))
      .map(([count, rest]) => Uint8Array.from([0, 0, 0, 0, 0, 0, 0, count, ...rest]));
    const fitting = fc
      .integer({ min: 1, max: 4000 })
      .map((count) => encodeSecretStore(storeOf(seed, BigInt(count))));
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 80 }), shaped, fitting), (bytes) => {
        const decoded = decodeSecretStore(bytes);
        if (decoded.ok) expect(encodeSecretStore(decoded.value)).toEqual(bytes);
        else expect(decoded.error).toBeInstanceOf(KeysError);
      }),
      { numRuns: 150 },
    );
    expect(decodeSecretStore(Uint8Array.from([0, 1, 0, 0, 0, 0, 0, 1])).ok).toBe(false);
  });

  test('a secret and a point belong together', () => {
    expect(commitmentPoint(secp, seed, 3n)).toEqual(secp.publicKeyOf(commitmentSecret(seed, 3n)));
    expect(() => commitmentSecret(seed, MAX_COMMITMENT_NUMBER + 1n)).toThrow(KeysError);
    expect(() => commitmentSecret(seed, -1n)).toThrow(KeysError);
    expect(() => generateFromSeed(new Uint8Array(31), 0n)).toThrow(KeysError);
  });
});

test('BOLT 3 appendix C: the obscured commitment number', () => {
  const factor = commitmentNumberObscuringFactor(
    hex('034f355bdcb7cc0af728ef3cceb9615d90684bb5b2ca5f859ab0f0b704075871aa'),
    hex('032c0b7cf95324a07d05398b240174dc0c2be444d96b159aa6c7f7b1e668680991'),
  );
  expect(factor).toBe(0x2bb038521914n);
  expect(obscureCommitmentNumber(42n, factor)).toBe(0x2bb038521914n ^ 42n);
  expect(obscureCommitmentNumber(obscureCommitmentNumber(42n, factor), factor)).toBe(42n);
  expect(() => obscureCommitmentNumber(1n << 48n, factor)).toThrow(KeysError);
});
