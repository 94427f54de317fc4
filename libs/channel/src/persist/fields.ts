/**
 * How the parts of a persisted blob are read and written. The storage format
 * is apart from the wire's: compact integers, tagged unions, and optional
 * fields. A `read` throws DecodeError, a `write` EncodeError.
 */
import { DecodeError, EncodeError } from '@fulmen/codec';
import type { Reader, Writer } from '@fulmen/codec';

export interface Field<T> {
  read(reader: Reader): T;
  write(writer: Writer, value: T): void;
}

/** A field whose key may be absent. */
export interface OptionalField<T> {
  readonly optional: Field<T>;
}

export function optional<T>(field: Field<T>): OptionalField<T> {
  return { optional: field };
}

/** An unsigned integer below 2^64, one to nine bytes. */
export const uint: Field<bigint> = {
  read: (reader) => reader.bigsize(),
  write: (writer, value) => void writer.bigsize(value),
};

/** An unsigned integer below 2^53. */
export const count: Field<number> = {
  read: (reader) => {
    const value = reader.bigsize();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new DecodeError('invalid_value', 'integer above 2^53');
    return Number(value);
  },
  write: (writer, value) => void writer.bigsize(value),
};

export const flag: Field<boolean> = {
  read: (reader) => {
    const value = reader.u8();
    if (value > 1) throw new DecodeError('invalid_value', 'not a flag');
    return value === 1;
  },
  write: (writer, value) => void writer.u8(value ? 1 : 0),
};

export const blob: Field<Uint8Array> = {
  read: (reader) => reader.bytes(reader.bigsizeLength()),
  write: (writer, value) => void writer.bigsize(value.length).bytes(value),
};

export const text: Field<string> = {
  read: (reader) => new TextDecoder().decode(blob.read(reader)),
  write: (writer, value) => blob.write(writer, new TextEncoder().encode(value)),
};

/** Exactly `length` bytes. */
export function bytes(length: number): Field<Uint8Array> {
  return {
    read: (reader) => reader.bytes(length),
    write: (writer, value) => {
      if (value.length !== length)
        throw new EncodeError('wrong_length', `${value.length} bytes instead of ${length}`);
      writer.bytes(value);
    },
  };
}

/** One of these strings, by its place in the list: append only. */
export function oneOf<const S extends string>(...values: readonly S[]): Field<S> {
  return {
    read: (reader) => {
      const value = values[reader.u8()];
      if (value === undefined) throw new DecodeError('invalid_value', 'unknown variant');
      return value;
    },
    write: (writer, value) => {
      const index = values.indexOf(value);
      if (index < 0) throw new EncodeError('unknown_name', value);
      writer.u8(index);
    },
  };
}

export function list<T>(field: Field<T>): Field<readonly T[]> {
  return {
    read: (reader) => {
      // Every element has at least one byte, so that the length is bounded by the input.
      const length = reader.bigsizeLength();
      const values: T[] = [];
      for (let i = 0; i < length; i += 1) values.push(field.read(reader));
      return values;
    },
    write: (writer, values) => {
      writer.bigsize(values.length);
      for (const value of values) field.write(writer, value);
    },
  };
}

type FieldsOf<T> = {
  readonly [K in keyof T]-?: undefined extends T[K] ? OptionalField<Exclude<T[K], undefined>> : Field<T[K]>;
};

/** An object, its fields in the declared order. */
export function record<T extends object>(fields: FieldsOf<T>): Field<T> {
  const entries = Object.entries(fields) as readonly (readonly [
    string,
    Field<unknown> | OptionalField<unknown>,
  ])[];
  return {
    read: (reader) => {
      const out: Record<string, unknown> = {};
      for (const [key, field] of entries) {
        if (!('optional' in field)) out[key] = field.read(reader);
        else if (flag.read(reader)) out[key] = field.optional.read(reader);
      }
      // The declaration has exactly the fields of T.
      return out as T;
    },
    write: (writer, value) => {
      const values = value as Readonly<Record<string, unknown>>;
      for (const [key, field] of entries) {
        const present = values[key];
        if (!('optional' in field)) field.write(writer, present);
        else if (present === undefined) flag.write(writer, false);
        else {
          flag.write(writer, true);
          field.optional.write(writer, present);
        }
      }
    },
  };
}

type Variants<T extends { readonly type: string }> = {
  readonly [K in T['type']]: readonly [tag: number, Field<Omit<Extract<T, { readonly type: K }>, 'type'>>];
};

/** A union discriminated by `type`; each variant has a number of its own for ever. */
export function union<T extends { readonly type: string }>(variants: Variants<T>): Field<T> {
  const entries = Object.entries(variants) as readonly (readonly [
    string,
    readonly [number, Field<object>],
  ])[];
  return {
    read: (reader) => {
      const wanted = reader.u8();
      const found = entries.find(([, [tag]]) => tag === wanted);
      if (found === undefined) throw new DecodeError('invalid_value', `unknown variant ${wanted}`);
      const [type, [, field]] = found;
      // The tag chose the variant's own fields.
      return { type, ...field.read(reader) } as unknown as T;
    },
    write: (writer, value) => {
      const found = entries.find(([type]) => type === value.type);
      if (found === undefined) throw new EncodeError('unknown_name', value.type);
      const [, [tag, field]] = found;
      writer.u8(tag);
      field.write(writer, value);
    },
  };
}

/** A variant without fields. */
export const nothing: Field<object> = {
  read: () => ({}),
  write: () => undefined,
};
