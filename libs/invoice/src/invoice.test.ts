import { readFileSync } from 'node:fs';
import { EncodeError, FeatureBits, fromHex, toHex } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { bech32 } from '@scure/base';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  assembleInvoice,
  decodeInvoice,
  encodeInvoice,
  expiresAtUnixSeconds,
  invoiceSigningHash,
  isExpired,
  minFinalCltvExpiryDelta,
} from './index.ts';
import type { Invoice, UnsignedInvoice } from './index.ts';
import { wordsToPaddedBytes, bytesToWords, wordsToBytes } from './words.ts';

interface Vectors {
  valid: { name: string; invoice: string }[];
  invalid: { name: string; invoice: string }[];
}
const VECTORS = JSON.parse(
  readFileSync(new URL('./vectors/bolt11.json', import.meta.url), 'utf8'),
) as Vectors;
const KEY = fromHex('e126f68f7eafcc8b74f54d269fe206be715000f94dac067d1c04a8ca3b2db734');
const PAYEE = '03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad';
const HIGH_S_PAYEE = '02d0139ce7427d6dfffd26a326c18be754ef1e64672b42694ba5b23ef6e6e7803d';

function decoded(text: string): Invoice {
  const result = decodeInvoice(secp, text);
  if (!result.ok) throw new TypeError(JSON.stringify(result.error));
  return result.value;
}

function errorOf(text: string): string {
  const result = decodeInvoice(secp, text);
  return result.ok ? 'accepted' : result.error.kind;
}

describe('BOLT 11 examples', () => {
  test('there are 16 valid and 10 invalid ones', () => {
    expect(VECTORS.valid.length).toBe(16);
    expect(VECTORS.invalid.length).toBe(10);
  });

  test('each valid one has the payee, the secret, and its own content', () => {
    const invoices = VECTORS.valid.map(({ invoice }) => decoded(invoice));
    for (const [index, invoice] of invoices.entries()) {
      // The high-S example flips s but keeps the recovery id, which makes it another key's signature.
      expect(toHex(invoice.payeeNodeId)).toBe(index === 15 ? HIGH_S_PAYEE : PAYEE);
      expect(toHex(invoice.paymentSecret)).toBe('11'.repeat(32));
    }
    expect(invoices.map((invoice) => invoice.amountMsat)).toEqual([
      undefined,
      250_000_000n,
      250_000_000n,
      ...Array.from({ length: 7 }, () => 2_000_000_000n),
      967_878_534n,
      2_500_000_000n,
      2_500_000_000n,
      2_500_000_000n,
      1_000_000_000n,
      undefined,
    ]);
    expect(invoices.map((invoice) => invoice.currency)).toEqual(
      invoices.map((_, i) => (i === 4 ? 'tb' : 'bc')),
    );
    expect(invoices[0]).toMatchObject({
      timestampUnixSeconds: 1496314658,
      description: { kind: 'text', text: 'Please consider supporting this project' },
    });
    expect(toHex(invoices[0]?.paymentHash ?? KEY)).toBe(
      '0001020304050607080900010203040506070809000102030405060708090102',
    );
    expect(invoices[0]?.features.bits()).toEqual([8, 14]);
    expect(invoices[1]).toMatchObject({ description: { text: '1 cup coffee' }, expirySeconds: 60 });
    expect(invoices[2]).toMatchObject({ description: { text: 'ナンセンス 1杯' }, expirySeconds: 60 });
    const list =
      'One piece of chocolate cake, one icecream cone, one pickle, one slice of swiss cheese, one slice of salami, one lollypop, one piece of cherry pie, one sausage, one cupcake, and one slice of watermelon';
    for (const i of [3, 4, 5, 6, 7, 8, 9]) {
      expect(invoices[i]?.description).toEqual({
        kind: 'hash',
        hash: sha256(new TextEncoder().encode(list)),
      });
    }
    expect(invoices[4]?.fallbacks).toEqual([
      { kind: 'p2pkh', hash: fromHex('3172b5654f6683c8fb146959d347ce303cae4ca7') },
    ]);
    expect(invoices[5]?.fallbacks).toEqual([
      { kind: 'p2pkh', hash: fromHex('04b61f7dc1ea0dc99424464cc4064dc564d91e89') },
    ]);
    expect(invoices[5]?.routeHints).toEqual([
      [
        {
          nodeId: fromHex('029e03a901b85534ff1e92c43c74431f7ce72046060fcf7a95c37e148f78c77255'),
          shortChannelId: 0x0102030405060708n,
          feeBaseMsat: 1,
          feeProportionalMillionths: 20,
          cltvExpiryDelta: 3,
        },
        {
          nodeId: fromHex('039e03a901b85534ff1e92c43c74431f7ce72046060fcf7a95c37e148f78c77255'),
          shortChannelId: 0x030405060708090an,
          feeBaseMsat: 2,
          feeProportionalMillionths: 30,
          cltvExpiryDelta: 4,
        },
      ],
    ]);
    expect(invoices[6]?.fallbacks).toEqual([
      { kind: 'p2sh', hash: fromHex('8f55563b9a19f321c211e9b9f38cdf686ea07845') },
    ]);
    expect(invoices[7]?.fallbacks).toEqual([
      { kind: 'witness', version: 0, program: fromHex('751e76e8199196d454941c45d1b3a323f1433bd6') },
    ]);
    expect(invoices[8]?.fallbacks).toEqual([
      {
        kind: 'witness',
        version: 0,
        program: fromHex('1863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262'),
      },
    ]);
    expect(invoices[9]?.fallbacks).toMatchObject([{ kind: 'witness', version: 1, program: { length: 32 } }]);
    expect(invoices[10]).toMatchObject({
      timestampUnixSeconds: 1572468703,
      expirySeconds: 604800,
      minFinalCltvExpiryDelta: 10,
      routeHints: [[{ feeBaseMsat: 1000, feeProportionalMillionths: 2500, cltvExpiryDelta: 40 }]],
    });
    expect(invoices[11]?.features.bits()).toEqual([8, 14, 99]);
    expect({ ...invoices[12] }).toEqual({ ...invoices[11] });
    // An unknown field, an address of version 19, and p, h, s, n of wrong lengths.
    expect(invoices[13]?.unknownFields.map((field) => field.type)).toEqual([
      10, 9, 1, 1, 23, 23, 16, 16, 19, 19,
    ]);
    expect(invoices[14]?.paymentMetadata).toEqual(fromHex('01fafaf0'));
    expect(invoices[14]?.features.bits()).toEqual([8, 14, 48]);
  });

  test('those whose fields stand in our order are written byte for byte', () => {
    for (const index of [0, 1, 2, 3, 5, 9]) {
      const text = VECTORS.valid[index]?.invoice ?? '';
      expect(encodeInvoice(secp, decoded(text), KEY)).toBe(text);
    }
  });

  test('the first one signs what the specification says', () => {
    const { preimageData, hash } = invoiceSigningHash(decoded(VECTORS.valid[0]?.invoice ?? ''));
    expect(toHex(preimageData)).toBe(
      '6c6e62630b25fe64500d04444444444444444444444444444444444444444444444444444444444444444021a00008101820283038404800081018202830384048000810182028303840480810343f506c6561736520636f6e736964657220737570706f7274696e6720746869732070726f6a6563740500e08000',
    );
    expect(toHex(hash)).toBe('6daf4d488be41ce7cbb487cab1ef2975e5efcea879b20d421f0ef86b07cbb987');
  });

  test('each invalid one is refused for its reason', () => {
    expect(VECTORS.invalid.map(({ invoice }) => errorOf(invoice))).toEqual([
      'unknown_required_features',
      'invalid_bech32',
      'invalid_bech32',
      'invalid_bech32',
      'invalid_signature',
      'too_short',
      'invalid_amount',
      'invalid_amount',
      'missing_field',
      'invalid_signature',
    ]);
  });
});

const MINIMAL: UnsignedInvoice = {
  currency: 'bcrt',
  timestampUnixSeconds: 1_700_000_000,
  paymentHash: new Uint8Array(32).fill(1),
  paymentSecret: new Uint8Array(32).fill(2),
  description: { kind: 'text', text: '' },
  features: FeatureBits.of({ var_onion_optin: 'required', payment_secret: 'required' }),
};

/** A signed invoice of arbitrary data words. */
function signed(prefix: string, words: readonly number[]): string {
  const hash = sha256(
    new Uint8Array([...new TextEncoder().encode(prefix), ...wordsToPaddedBytes(Uint8Array.from(words))]),
  );
  const { signature, recoveryId } = secp.signRecoverable(hash, KEY);
  return bech32.encode(prefix, [...words, ...bytesToWords(Uint8Array.of(...signature, recoveryId))], false);
}

const TIMESTAMP = [1, 0, 0, 0, 0, 0, 0];
const field = (type: number, ...words: number[]): number[] => [
  type,
  words.length >> 5,
  words.length & 31,
  ...words,
];
const P = field(1, ...bytesToWords(MINIMAL.paymentHash));
const S = field(16, ...bytesToWords(MINIMAL.paymentSecret));
const D = field(13);

describe('rules of the reader', () => {
  const build = (...fields: number[][]): string => errorOf(signed('lnbc', [...TIMESTAMP, ...fields.flat()]));

  test('required and exclusive fields', () => {
    expect(build(P, S, D)).toBe('accepted');
    expect(build(S, D)).toBe('missing_field');
    expect(build(P, D)).toBe('missing_field');
    expect(build(P, S)).toBe('ambiguous_description');
    expect(build(P, S, D, field(23, ...bytesToWords(MINIMAL.paymentHash)))).toBe('ambiguous_description');
    expect(build(P, P, S, D)).toBe('duplicate_field');
    expect(build(P, S, S, D)).toBe('duplicate_field');
    expect(build(P, S, field(1, 0), field(16, 0), D)).toBe('accepted');
  });

  test('malformed content', () => {
    expect(build(P, S, [13, 31, 31])).toBe('truncated_field');
    expect(build(P, S, D, [1, 0])).toBe('truncated_field');
    expect(build(P, S, field(13, ...bytesToWords(Uint8Array.of(0xff))))).toBe('malformed_field');
    expect(build(P, S, D, field(6, 0, 1))).toBe('malformed_field');
    expect(build(P, S, D, field(24, 0, 1))).toBe('malformed_field');
    expect(build(P, S, D, field(24, 4, 0, 0, 0, 0, 0, 0))).toBe('malformed_field');
    expect(build(P, S, D, field(6, ...Array.from({ length: 12 }, () => 31)))).toBe('malformed_field');
    expect(build(P, S, D, field(5, 0, 8, 8, 0))).toBe('malformed_field');
    expect(build(P, S, D, field(3))).toBe('malformed_field');
    expect(build(P, S, D, field(3, ...bytesToWords(new Uint8Array(50))))).toBe('malformed_field');
    expect(build(P, S, D, field(3, ...bytesToWords(new Uint8Array(51))))).toBe('malformed_field');
    expect(build(P, S, D, field(19, ...bytesToWords(new Uint8Array(33))))).toBe('malformed_field');
    expect(build(P, S, D, field(19, ...bytesToWords(secp.publicKeyOf(KEY))))).toBe('accepted');
    expect(build(P, S, D, field(19, ...bytesToWords(secp.publicKeyOf(sha256(KEY)))))).toBe(
      'invalid_signature',
    );
  });

  test('features: unknown even bits and missing dependencies', () => {
    const features = (...bits: number[]): string =>
      errorOf(encodeInvoice(secp, { ...MINIMAL, features: FeatureBits.fromBits(bits) }, KEY));
    expect(features(8, 14, 16, 25, 263)).toBe('accepted');
    expect(features(262)).toBe('unknown_required_features');
    // Known elsewhere, but never presented in invoices.
    expect(features(62)).toBe('unknown_required_features');
    expect(features(63, 27)).toBe('accepted');
    expect(features(61)).toBe('missing_feature_dependency');
  });

  test('prefixes and amounts', () => {
    const amount = (prefix: string): string | bigint | undefined => {
      const result = decodeInvoice(secp, signed(prefix, [...TIMESTAMP, ...P, ...S, ...D]));
      return result.ok ? result.value.amountMsat : result.error.kind;
    };
    expect(amount('lntbs')).toBeUndefined();
    expect(amount('lnbcrt1m')).toBe(100_000_000n);
    expect(amount('lnbc1')).toBe(100_000_000_000n);
    expect(amount('lnbc10p')).toBe(1n);
    expect(amount('lnbc1n')).toBe(100n);
    expect(amount('lnbc21000000')).toBe(2_100_000_000_000_000_000n);
    expect(amount('lnbc21000001')).toBe('invalid_amount');
    expect(amount(`lnbc${'9'.repeat(60)}`)).toBe('invalid_amount');
    expect(amount('lnbc0')).toBe('invalid_amount');
    expect(amount('lnbc01m')).toBe('invalid_amount');
    expect(amount('lnbc1mm')).toBe('invalid_amount');
    expect(amount('lnbcm')).toBe('invalid_amount');
    expect(amount('lnbc15p')).toBe('invalid_amount');
    expect(amount('lnxx')).toBe('unknown_prefix');
    expect(amount('bc')).toBe('unknown_prefix');
    expect(errorOf(`lnbc1${'q'.repeat(8000)}`)).toBe('too_long');
  });

  test('defaults, expiry and the two phases', () => {
    const text = assembleInvoice(
      MINIMAL,
      secp.signRecoverable(invoiceSigningHash(MINIMAL).hash, KEY).signature,
      secp.signRecoverable(invoiceSigningHash(MINIMAL).hash, KEY).recoveryId,
    );
    const invoice = decoded(text);
    expect(minFinalCltvExpiryDelta(invoice)).toBe(18);
    expect(expiresAtUnixSeconds(invoice)).toBe(1_700_003_600);
    expect(isExpired(invoice, 1_700_003_600)).toBe(false);
    expect(isExpired(invoice, 1_700_003_601)).toBe(true);
    expect(toHex(invoice.payeeNodeId)).toBe(PAYEE);
  });

  test('what no invoice can hold is a misuse', () => {
    const misuses: Partial<UnsignedInvoice>[] = [
      { amountMsat: 0n },
      { timestampUnixSeconds: 2 ** 35 },
      { paymentHash: new Uint8Array(31) },
      { description: { kind: 'text', text: 'x'.repeat(640) } },
      { fallbacks: [{ kind: 'witness', version: 17, program: new Uint8Array(20) }] },
      { fallbacks: [{ kind: 'witness', version: 0, program: new Uint8Array(21) }] },
      { routeHints: [[]] },
      { expirySeconds: 1.5 },
    ];
    for (const misuse of misuses)
      expect(() => invoiceSigningHash({ ...MINIMAL, ...misuse })).toThrow(EncodeError);
    expect(() => assembleInvoice(MINIMAL, new Uint8Array(63), 0)).toThrow(EncodeError);
    expect(() => assembleInvoice(MINIMAL, new Uint8Array(64), 4)).toThrow(EncodeError);
  });
});

test('words and bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      expect(wordsToBytes(bytesToWords(bytes))).toEqual(bytes);
      expect([...bytesToWords(bytes)]).toEqual(bech32.toWords(bytes));
    }),
  );
});

describe('arbitrary input', () => {
  test('text is refused with a reason', () => {
    const text = fc.oneof(
      fc.string({ maxLength: 300 }),
      fc.string({ maxLength: 300 }).map((rest) => `lnbc1${rest}`),
    );
    fc.assert(
      fc.property(text, (input) => {
        expect(decodeInvoice(secp, input).ok).toBe(false);
      }),
      { numRuns: 500 },
    );
  });

  test('signed words are refused with a reason, or read the same when written again', () => {
    const types = fc.constantFrom(1, 3, 5, 6, 9, 13, 16, 19, 23, 24, 27, 2, 31);
    const word = fc.integer({ min: 0, max: 31 });
    const wordsOf = (length: number) => fc.array(word, { minLength: length, maxLength: length });
    const arbitraryField = fc
      .tuple(types, fc.oneof(fc.array(word, { maxLength: 60 }), wordsOf(52), wordsOf(53)))
      .map(([type, words]) => field(type, ...words));
    let accepted = 0;
    fc.assert(
      fc.property(
        fc.array(arbitraryField, { maxLength: 5 }),
        fc.array(word, { maxLength: 3 }),
        (fields, tail) => {
          const result = decodeInvoice(
            secp,
            signed('lnbc1u', [...TIMESTAMP, ...P, ...S, ...D, ...fields.flat(), ...tail]),
          );
          if (!result.ok) return;
          accepted++;
          const { signature: _s, recoveryId: _r, signedHash: _h, ...content } = result.value;
          expect(decodeInvoice(secp, encodeInvoice(secp, result.value, KEY))).toMatchObject({
            ok: true,
            value: content,
          });
        },
      ),
      { numRuns: 1000 },
    );
    expect(accepted).toBeGreaterThan(50);
  });
});
