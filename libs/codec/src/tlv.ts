// TLV streams (BOLT 1, "Type-Length-Value Format"): raw records, and streams declared as a table of
// known types. Unknown odd records are kept and encoded again in their place, since signatures and
// merkle roots cover them.
import { DecodeError, EncodeError } from './errors.ts';
import type { Coder, Shape } from './coder.ts';
import { Reader, decodeWith } from './reader.ts';
import type { Result } from './result.ts';
import { Writer } from './writer.ts';

/** One record as it stands on the wire. */
export interface TlvRecord {
  readonly type: bigint;
  readonly value: Uint8Array;
}

/** A known record: its type number and the coder of its value. */
export interface TlvField<T> {
  readonly type: bigint;
  readonly coder: Coder<T>;
}

/** The known records of a stream, by name. */
export type TlvFields = Readonly<Record<string, TlvField<unknown>>>;

/** The values of a stream's known records, each present or absent; of a stream that knows none, nothing. */
export type TlvsOf<T extends TlvFields> = [keyof T] extends [never]
  ? Readonly<Record<string, never>>
  : { readonly [K in keyof T]?: T[K] extends TlvField<infer V> ? V : never };

/** A decoded stream. */
export interface TlvStreamValue<T extends TlvFields> {
  readonly tlvs: TlvsOf<T>;
  readonly unknownTlvs: readonly TlvRecord[];
}

/** Declares a known record of a stream. */
export function tlv<T>(type: number | bigint, coder: Coder<T>): TlvField<T> {
  return { type: BigInt(type), coder };
}

/**
 * Reads raw records to the end of the reader. BOLT 1: "if decoded types are not strictly-increasing
 * (including situations when two or more occurrences of the same type are met): MUST fail to parse the
 * tlv_stream".
 */
export function readTlvRecords(reader: Reader): TlvRecord[] {
  const records: TlvRecord[] = [];
  let previous = -1n;
  while (reader.remaining > 0) {
    const type = reader.bigsize();
    if (type <= previous) throw new DecodeError('tlv_order', `record ${type} after ${previous}`);
    previous = type;
    records.push({ type, value: reader.bytes(reader.bigsizeLength()) });
  }
  return records;
}

/** Writes raw records, which must already be in strictly increasing order of type. */
export function writeTlvRecords(writer: Writer, records: readonly TlvRecord[]): void {
  let previous = -1n;
  for (const { type, value } of records) {
    if (type <= previous) throw new EncodeError('duplicate_tlv', `record ${type} after ${previous}`);
    previous = type;
    writer.bigsize(type).bigsize(value.length).bytes(value);
  }
}

/** Decodes a whole stream into raw records, without judging their types. */
export function decodeTlvRecords(bytes: Uint8Array): Result<TlvRecord[], DecodeError> {
  return decodeWith(bytes, readTlvRecords);
}

/** Encodes raw records in order of type; EncodeError if a type occurs twice. */
export function encodeTlvRecords(records: readonly TlvRecord[]): Uint8Array {
  const writer = new Writer();
  writeTlvRecords(writer, sorted(records));
  return writer.finish();
}

/** A declared stream: decodes and encodes known records by name and keeps the unknown odd ones. */
export interface TlvStream<T extends TlvFields> {
  readonly fields: T;
  /** The shapes of the known records, for generators. */
  readonly shapes: Readonly<Record<string, Shape>>;
  /** Reads to the end of the reader; throws DecodeError. */
  read(reader: Reader): TlvStreamValue<T>;
  write(writer: Writer, tlvs: TlvsOf<T>, unknownTlvs: readonly TlvRecord[]): void;
  decode(bytes: Uint8Array): Result<TlvStreamValue<T>, DecodeError>;
  encode(tlvs: TlvsOf<T>, unknownTlvs?: readonly TlvRecord[]): Uint8Array;
}

/** Declares a TLV stream by the table of its known records. */
export function defineTlvStream<const T extends TlvFields>(fields: T): TlvStream<T> {
  const nameOfType = new Map<bigint, string>(
    Object.entries(fields).map(([name, field]) => [field.type, name]),
  );

  function read(reader: Reader): TlvStreamValue<T> {
    const tlvs: Record<string, unknown> = {};
    const unknownTlvs: TlvRecord[] = [];
    for (const record of readTlvRecords(reader)) {
      const name = nameOfType.get(record.type);
      const field = name === undefined ? undefined : fields[name];
      if (name === undefined || field === undefined) {
        // BOLT 1: "otherwise, if type is unknown: if type is even: MUST fail to parse the tlv_stream"
        if (record.type % 2n === 0n) throw new DecodeError('tlv_unknown_even', `record ${record.type}`);
        unknownTlvs.push(record);
        continue;
      }
      const valueReader = new Reader(record.value);
      tlvs[name] = field.coder.read(valueReader);
      // BOLT 1: "if length is not exactly equal to that required for the known encoding for type: MUST fail to
      // parse the tlv_stream"
      valueReader.expectEnd();
    }
    // Every key comes from `fields`, with the value of that field's coder.
    return { tlvs: tlvs as TlvsOf<T>, unknownTlvs };
  }

  function write(writer: Writer, tlvs: TlvsOf<T>, unknownTlvs: readonly TlvRecord[]): void {
    const records: TlvRecord[] = [...unknownTlvs];
    for (const name in fields) {
      const value = (tlvs as Readonly<Record<string, unknown>>)[name];
      const field = fields[name];
      if (value === undefined || field === undefined) continue;
      const valueWriter = new Writer(64);
      field.coder.write(valueWriter, value);
      records.push({ type: field.type, value: valueWriter.finish() });
    }
    if (records.length > 0) writeTlvRecords(writer, sorted(records));
  }

  return {
    fields,
    shapes: Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.coder.shape])),
    read,
    write,
    decode: (bytes) => decodeWith(bytes, read),
    encode: (tlvs, unknownTlvs = []) => {
      const writer = new Writer();
      write(writer, tlvs, unknownTlvs);
      return writer.finish();
    },
  };
}

/** The values of a declared stream. */
export type TlvStreamOf<S> = S extends TlvStream<infer T> ? TlvsOf<T> : never;

function sorted(records: readonly TlvRecord[]): TlvRecord[] {
  return [...records].sort((a, b) => (a.type < b.type ? -1 : a.type > b.type ? 1 : 0));
}
