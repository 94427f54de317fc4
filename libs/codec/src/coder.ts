// Coders: how one value is read and written, with a description of its shape from which tests generate
// values. A coder used as a TLV value reads within a reader bounded to the record, so "rest" is exact.
import { DecodeError, EncodeError } from './errors.ts';
import type { Reader } from './reader.ts';
import { readTu, writeTu } from './tu.ts';
import type { Writer } from './writer.ts';

/** What values a coder takes: data from which a test derives a generator. */
export type Shape =
  | { readonly kind: 'number'; readonly max: number }
  | { readonly kind: 'bigint'; readonly min: bigint; readonly max: bigint }
  | { readonly kind: 'bytes'; readonly minLength: number; readonly maxLength: number }
  | { readonly kind: 'point' }
  | { readonly kind: 'present' }
  | {
      readonly kind: 'array';
      readonly element: Shape;
      readonly minLength: number;
      readonly maxLength: number;
    }
  | { readonly kind: 'struct'; readonly fields: Readonly<Record<string, Shape>> };

/** Reads and writes values of one type. `read` throws DecodeError, `write` EncodeError. */
export interface Coder<T> {
  readonly shape: Shape;
  read(reader: Reader): T;
  write(writer: Writer, value: T): void;
}

/** The type of a coder's values. */
export type ValueOf<C> = C extends Coder<infer T> ? T : never;

/** A record of coders, in the order of the wire. */
export type Fields = Readonly<Record<string, Coder<unknown>>>;

const U64_MAX = 0xffff_ffff_ffff_ffffn;

/** An 8-bit unsigned integer (`byte`). */
export const u8: Coder<number> = {
  shape: { kind: 'number', max: 0xff },
  read: (reader) => reader.u8(),
  write: (writer, value) => void writer.u8(value),
};

export const u16: Coder<number> = {
  shape: { kind: 'number', max: 0xffff },
  read: (reader) => reader.u16(),
  write: (writer, value) => void writer.u16(value),
};

export const u32: Coder<number> = {
  shape: { kind: 'number', max: 0xffff_ffff },
  read: (reader) => reader.u32(),
  write: (writer, value) => void writer.u32(value),
};

export const u64: Coder<bigint> = {
  shape: { kind: 'bigint', min: 0n, max: U64_MAX },
  read: (reader) => reader.u64(),
  write: (writer, value) => void writer.u64(value),
};

export const s64: Coder<bigint> = {
  shape: { kind: 'bigint', min: -(1n << 63n), max: (1n << 63n) - 1n },
  read: (reader) => reader.s64(),
  write: (writer, value) => void writer.s64(value),
};

export const bigsize: Coder<bigint> = {
  shape: { kind: 'bigint', min: 0n, max: U64_MAX },
  read: (reader) => reader.bigsize(),
  write: (writer, value) => void writer.bigsize(value),
};

/** A truncated u16; takes all that remains of its record. */
export const tu16: Coder<number> = {
  shape: { kind: 'number', max: 0xffff },
  read: (reader) => Number(readTu(reader, 2)),
  write: (writer, value) => writeTu(writer, toBigInt(value), 2),
};

/** A truncated u32; takes all that remains of its record. */
export const tu32: Coder<number> = {
  shape: { kind: 'number', max: 0xffff_ffff },
  read: (reader) => Number(readTu(reader, 4)),
  write: (writer, value) => writeTu(writer, toBigInt(value), 4),
};

/** A truncated u64; takes all that remains of its record. */
export const tu64: Coder<bigint> = {
  shape: { kind: 'bigint', min: 0n, max: U64_MAX },
  read: (reader) => readTu(reader, 8),
  write: (writer, value) => writeTu(writer, value, 8),
};

/** Exactly `length` bytes. */
export function fixedBytes(length: number): Coder<Uint8Array> {
  return {
    shape: { kind: 'bytes', minLength: length, maxLength: length },
    read: (reader) => reader.bytes(length),
    write: (writer, value) => {
      if (value.length !== length)
        throw new EncodeError('wrong_length', `${value.length} bytes instead of ${length}`);
      writer.bytes(value);
    },
  };
}

/**
 * A compressed public key: 33 bytes whose first is 2 or 3. Whether x is on the curve is checked where the
 * key is first used (the crypto library): this library knows no curve.
 */
export const point: Coder<Uint8Array> = {
  shape: { kind: 'point' },
  read: (reader) => {
    const bytes = reader.bytes(33);
    if (bytes[0] !== 2 && bytes[0] !== 3) throw new DecodeError('invalid_point', 'not a compressed point');
    return bytes;
  },
  write: (writer, value) => {
    if (value.length !== 33) throw new EncodeError('wrong_length', `${value.length} bytes instead of 33`);
    writer.bytes(value);
  },
};

/** A u16 length and that many bytes. */
export const bytes16: Coder<Uint8Array> = {
  shape: { kind: 'bytes', minLength: 0, maxLength: 0xffff },
  read: (reader) => reader.bytes(reader.u16()),
  write: (writer, value) => {
    if (value.length > 0xffff) throw new EncodeError('too_long', `${value.length} bytes`);
    writer.u16(value.length).bytes(value);
  },
};

/** All bytes that remain of the record. */
export const restBytes: Coder<Uint8Array> = {
  shape: { kind: 'bytes', minLength: 0, maxLength: 0xffff },
  read: (reader) => reader.rest(),
  write: (writer, value) => void writer.bytes(value),
};

/** An empty record: its presence says all. */
export const present: Coder<true> = {
  shape: { kind: 'present' },
  read: () => true,
  write: () => undefined,
};

/** A u16 count and that many elements. */
export function array16<T>(element: Coder<T>): Coder<readonly T[]> {
  return {
    shape: { kind: 'array', element: element.shape, minLength: 0, maxLength: 0xffff },
    read: (reader) => readMany(reader, element, reader.u16()),
    write: (writer, values) => {
      if (values.length > 0xffff) throw new EncodeError('too_long', `${values.length} elements`);
      writer.u16(values.length);
      for (const value of values) element.write(writer, value);
    },
  };
}

/** Exactly `length` elements. */
export function fixedArray<T>(element: Coder<T>, length: number): Coder<readonly T[]> {
  return {
    shape: { kind: 'array', element: element.shape, minLength: length, maxLength: length },
    read: (reader) => readMany(reader, element, length),
    write: (writer, values) => {
      if (values.length !== length) {
        throw new EncodeError('wrong_length', `${values.length} elements instead of ${length}`);
      }
      for (const value of values) element.write(writer, value);
    },
  };
}

/** Elements until the record ends; `element` must take at least one byte. */
export function restArray<T>(element: Coder<T>): Coder<readonly T[]> {
  return {
    shape: { kind: 'array', element: element.shape, minLength: 0, maxLength: 0xffff },
    read: (reader) => {
      const out: T[] = [];
      while (reader.remaining > 0) {
        const before = reader.remaining;
        out.push(element.read(reader));
        if (reader.remaining === before) throw new DecodeError('invalid_value', 'an element without bytes');
      }
      return out;
    },
    write: (writer, values) => {
      for (const value of values) element.write(writer, value);
    },
  };
}

/** Several fields, one after the other. */
export function struct<const F extends Fields>(fields: F): Coder<{ readonly [K in keyof F]: ValueOf<F[K]> }> {
  const shape: Shape = { kind: 'struct', fields: shapesOf(fields) };
  return {
    shape,
    // The record read has exactly the fields of the declaration.
    read: (reader) => readFields(reader, fields) as { readonly [K in keyof F]: ValueOf<F[K]> },
    write: (writer, value) => writeFields(writer, fields, value),
  };
}

/** Reads the declared fields in order. */
export function readFields(reader: Reader, fields: Fields): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const key in fields) out[key] = fields[key]?.read(reader);
  return out;
}

/** Writes the declared fields in order; a missing one is an EncodeError. */
export function writeFields(writer: Writer, fields: Fields, values: Readonly<Record<string, unknown>>): void {
  for (const key in fields) {
    const value = values[key];
    if (value === undefined) throw new EncodeError('out_of_range', `field ${key} is missing`);
    fields[key]?.write(writer, value);
  }
}

/** The shapes of a record of coders. */
export function shapesOf(fields: Fields): Readonly<Record<string, Shape>> {
  return Object.fromEntries(Object.entries(fields).map(([key, coder]) => [key, coder.shape]));
}

function readMany<T>(reader: Reader, element: Coder<T>, count: number): readonly T[] {
  const out: T[] = [];
  for (let i = 0; i < count; i++) out.push(element.read(reader));
  return out;
}

function toBigInt(value: number): bigint {
  if (!Number.isSafeInteger(value)) throw new EncodeError('out_of_range', `integer ${value}`);
  return BigInt(value);
}
