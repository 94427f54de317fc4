// fast-check generators made from the declarations themselves: a new message is fuzzed as soon as it is
// declared. For tests only; nothing in the library imports it.
import fc from 'fast-check';
import { restBytes } from '@fulmen/codec';
import type { Shape, TlvRecord } from '@fulmen/codec';
import { allMessageCodecs } from './message.ts';
import type { AnyMessageCodec, Message } from './message.ts';

/** Bounds that keep generated messages small; lengths beyond are tested on their own. */
const MAX_BYTES = 80;
const MAX_ELEMENTS = 5;

/** Values of a coder's shape. */
export function arbitraryOf(shape: Shape): fc.Arbitrary<unknown> {
  switch (shape.kind) {
    case 'number':
      return fc.integer({ min: 0, max: shape.max });
    case 'bigint':
      return fc.bigInt({ min: shape.min, max: shape.max });
    case 'bytes':
      return bytesOf(shape.minLength, Math.max(shape.minLength, Math.min(shape.maxLength, MAX_BYTES)));
    case 'point':
      return bytesOf(33, 33).map((bytes) => {
        bytes[0] = 2 + ((bytes[0] ?? 0) & 1);
        return bytes;
      });
    case 'present':
      return fc.constant(true);
    case 'array':
      return fc.array(arbitraryOf(shape.element), {
        minLength: shape.minLength,
        maxLength: Math.max(shape.minLength, Math.min(shape.maxLength, MAX_ELEMENTS)),
      });
    case 'struct':
      return fc.record(
        Object.fromEntries(Object.entries(shape.fields).map(([name, field]) => [name, arbitraryOf(field)])),
        { noNullPrototype: true },
      );
  }
}

/** Decoded messages of one declaration, with any of its TLVs and a few unknown odd ones unless its last field takes them. */
export function arbitraryMessageOf(codec: AnyMessageCodec): fc.Arbitrary<Message> {
  const { fields, tlvs } = codec.shapes;
  const isOpen = Object.values(codec.fields).at(-1) !== restBytes;
  const known = new Set(Object.values(codec.tlvStream.fields).map((field) => field.type));
  const unknownTlvs: fc.Arbitrary<TlvRecord[]> = fc
    .uniqueArray(
      fc.record(
        {
          type: fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }).map((half) => 2n * half + 1n),
          value: bytesOf(0, 20),
        },
        { noNullPrototype: true },
      ),
      { selector: ({ type }) => type, maxLength: isOpen ? 3 : 0 },
    )
    .map((records) =>
      records.filter(({ type }) => !known.has(type)).sort((a, b) => (a.type < b.type ? -1 : 1)),
    );
  const flat = fc.record(
    Object.fromEntries(Object.entries(fields).map(([name, shape]) => [name, arbitraryOf(shape)])),
    { noNullPrototype: true },
  );
  const extension = fc.record(
    Object.fromEntries(Object.entries(tlvs).map(([name, shape]) => [name, arbitraryOf(shape)])),
    { requiredKeys: [], noNullPrototype: true },
  );
  return fc.tuple(flat, extension, unknownTlvs).map(
    // The shapes are those of the declaration, so the result is a value of it.
    ([values, tlvValues, unknown]) =>
      ({ type: codec.name, ...values, tlvs: tlvValues, unknownTlvs: unknown }) as unknown as Message,
  );
}

/** Any decoded message. */
export function arbitraryMessage(): fc.Arbitrary<Message> {
  return fc.oneof(...allMessageCodecs().map(arbitraryMessageOf));
}

// Cheaper than fc.uint8Array for the long fixed fields, whose single bytes mean nothing to the codec.
function bytesOf(minLength: number, maxLength: number): fc.Arbitrary<Uint8Array> {
  return fc
    .tuple(fc.integer({ min: minLength, max: maxLength }), fc.integer({ min: 1 }))
    .map(([length, seed]) => {
      const out = new Uint8Array(length);
      let state = seed >>> 0;
      for (let i = 0; i < length; i++) {
        state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
        out[i] = state >>> 24;
      }
      return out;
    });
}
