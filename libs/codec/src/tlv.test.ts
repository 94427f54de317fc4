// TLV streams against BOLT 1's vectors, and by property.
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { concatBytes, fromHex, toHex } from './bytes.ts';
import { point, struct, tu32, tu64, u16, u64 } from './coder.ts';
import { EncodeError } from './errors.ts';
import { decodeTlvRecords, defineTlvStream, encodeTlvRecords, tlv } from './tlv.ts';

interface TlvVector {
  readonly namespace: 'any' | 'n1' | 'n2';
  readonly valid: boolean;
  readonly stream: string;
  readonly note?: string;
}

const vectors = JSON.parse(
  readFileSync(new URL('./vectors/bolt01-tlv.json', import.meta.url), 'utf8'),
) as TlvVector[];

const n1 = defineTlvStream({
  tlv1: tlv(1, tu64),
  tlv2: tlv(2, u64),
  tlv3: tlv(3, struct({ nodeId: point, amountMsat1: u64, amountMsat2: u64 })),
  tlv4: tlv(254, u16),
});
const n2 = defineTlvStream({ tlv1: tlv(0, tu64), tlv2: tlv(11, tu32) });

const streamsOf = { any: [n1, n2], n1: [n1], n2: [n2] } as const;

/** Why each invalid vector is refused, by the words of its reason. */
const CODES: readonly (readonly [RegExp, string])[] = [
  [/truncated|missing|less than encoding length/, 'truncated'],
  [/not minimal/, 'not_minimal'],
  [/unknown even/, 'tlv_unknown_even'],
  [/not a valid point/, 'invalid_point'],
  [/greater than encoding length/, 'trailing_bytes'],
  [/ordering|duplicate/, 'tlv_order'],
];

/** The values that the text gives for namespace n1, in our names. */
function expectedValues(note: string): Record<string, unknown> {
  const value = /amount_msat=(\d+)$/.exec(note)?.[1];
  if (note.startsWith('tlv1')) return { tlv1: BigInt(value ?? -1) };
  if (note.startsWith('tlv2')) return { tlv2: 550n };
  if (note.startsWith('tlv4')) return { tlv4: 550 };
  const nodeId = fromHex(/node_id=([0-9a-f]+)/.exec(note)?.[1] ?? '');
  return { tlv3: { nodeId, amountMsat1: 1n, amountMsat2: 2n } };
}

describe('BOLT 1 appendix B', () => {
  test('all 57 vectors are here', () => {
    expect(vectors.length).toBe(57);
  });

  test.each(vectors)('$namespace valid=$valid $stream', ({ namespace, valid, stream, note }) => {
    const bytes = fromHex(stream);
    for (const tlvStream of streamsOf[namespace]) {
      const decoded = tlvStream.decode(bytes);
      if (!valid) {
        const code = CODES.find(([pattern]) => pattern.test(note ?? ''))?.[1];
        expect(code).toBeDefined();
        expect(decoded).toMatchObject({ ok: false, error: { code } });
        continue;
      }
      if (!decoded.ok) throw decoded.error;
      expect(decoded.value.tlvs).toEqual(namespace === 'any' ? {} : expectedValues(note ?? ''));
      expect(toHex(reencode(tlvStream, decoded.value))).toBe(stream);
    }
  });

  test('an invalid stream after a valid one, and a lower after a higher one, fail; a higher after a lower one does not', () => {
    const first = vectors
      .filter((vector) => vector.valid && vector.namespace !== 'n2')
      .map((vector) => fromHex(vector.stream));
    const bad = vectors
      .filter((vector) => !vector.valid && vector.namespace !== 'n2')
      .map((vector) => fromHex(vector.stream));
    for (const head of first) {
      for (const tail of bad) expect(n1.decode(concatBytes(head, tail)).ok).toBe(false);
      for (const tail of first) {
        const lastOfHead = lastType(head);
        const firstOfTail = firstType(tail);
        const ordered = lastOfHead === undefined || firstOfTail === undefined || lastOfHead < firstOfTail;
        expect(n1.decode(concatBytes(head, tail)).ok).toBe(ordered);
      }
    }
  });
});

describe('streams', () => {
  test('an attacker-chosen length allocates nothing', () => {
    for (const length of ['fdffff', 'feffffffff', 'ffffffffffffffffff']) {
      expect(decodeTlvRecords(fromHex(`01${length}00`))).toMatchObject({ error: { code: 'truncated' } });
    }
  });

  test('unknown odd records keep their place among known ones', () => {
    const stream = '0101010901aafd00fe020226';
    const decoded = n1.decode(fromHex(stream));
    if (!decoded.ok) throw decoded.error;
    expect(decoded.value).toEqual({
      tlvs: { tlv1: 1n, tlv4: 550 },
      unknownTlvs: [{ type: 9n, value: fromHex('aa') }],
    });
    expect(toHex(n1.encode(decoded.value.tlvs, decoded.value.unknownTlvs))).toBe(stream);
  });

  test('a type given twice cannot be encoded', () => {
    const record = { type: 1n, value: fromHex('01') };
    expect(() => encodeTlvRecords([record, record])).toThrow(EncodeError);
    expect(() => n1.encode({ tlv1: 1n }, [record])).toThrow(EncodeError);
  });

  test('arbitrary bytes are refused or encode to themselves', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        for (const stream of [n1, n2]) {
          const decoded = stream.decode(bytes);
          if (decoded.ok) expect(reencode(stream, decoded.value)).toEqual(bytes);
          else expect(decoded.error.name).toBe('DecodeError');
        }
      }),
      { numRuns: 500 },
    );
  });

  test('any set of records round-trips raw', () => {
    const record = fc.record({
      type: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      value: fc.uint8Array({ maxLength: 300 }),
    });
    fc.assert(
      fc.property(fc.uniqueArray(record, { selector: ({ type }) => type, maxLength: 6 }), (records) => {
        const ascending = [...records].sort((a, b) => (a.type < b.type ? -1 : 1));
        expect(decodeTlvRecords(encodeTlvRecords(records))).toEqual({ ok: true, value: ascending });
      }),
    );
  });
});

function reencode(
  stream: typeof n1 | typeof n2,
  value: { readonly tlvs: object; readonly unknownTlvs: readonly { type: bigint; value: Uint8Array }[] },
): Uint8Array {
  return stream.encode(value.tlvs, value.unknownTlvs);
}

function typesOf(bytes: Uint8Array): bigint[] {
  const decoded = decodeTlvRecords(bytes);
  return decoded.ok ? decoded.value.map(({ type }) => type) : [];
}

function firstType(bytes: Uint8Array): bigint | undefined {
  return typesOf(bytes)[0];
}

function lastType(bytes: Uint8Array): bigint | undefined {
  return typesOf(bytes).at(-1);
}
