/** What the stored form of a payment is made of. */
import { DecodeError, type Reader, utf8Decode, utf8Encode, type Writer } from '@fulmen/codec';

export function writeName<N extends string>(writer: Writer, names: readonly N[], name: N): void {
  writer.u8(names.indexOf(name));
}

export function readName<N extends string>(reader: Reader, names: readonly N[]): N {
  const index = reader.u8();
  const name = names[index];
  if (name === undefined) throw new DecodeError('invalid_value', `variant ${index} of ${names.length}`);
  return name;
}

export function writeOptional<T>(writer: Writer, value: T | undefined, write: (value: T) => unknown): void {
  writer.u8(value === undefined ? 0 : 1);
  if (value !== undefined) write(value);
}

export function readOptional<T>(reader: Reader, read: () => T): T | undefined {
  return readFlag(reader) ? read() : undefined;
}

export function readFlag(reader: Reader): boolean {
  const flag = reader.u8();
  if (flag > 1) throw new DecodeError('invalid_value', `flag ${flag}`);
  return flag === 1;
}

export function readDirection(reader: Reader): 0 | 1 {
  return readFlag(reader) ? 1 : 0;
}

export function writeList<T>(writer: Writer, items: readonly T[], write: (item: T) => unknown): void {
  writer.bigsize(items.length);
  for (const item of items) write(item);
}

/** Every item takes a byte at least, so that the count is bounded by the input. */
export function readList<T>(reader: Reader, read: () => T): T[] {
  const count = reader.bigsizeLength();
  const items: T[] = [];
  for (let i = 0; i < count; i++) items.push(read());
  return items;
}

export function writeBytes(writer: Writer, bytes: Uint8Array): void {
  writer.bigsize(bytes.length).bytes(bytes);
}

export function readBytes(reader: Reader): Uint8Array {
  return reader.bytes(reader.bigsizeLength());
}

export function writeText(writer: Writer, text: string): void {
  writeBytes(writer, utf8Encode(text));
}

export function readText(reader: Reader): string {
  const text = utf8Decode(readBytes(reader));
  if (!text.ok) throw text.error;
  return text.value;
}

/** Times and deadlines: whole numbers below 2^53. */
export function writeTime(writer: Writer, time: number): void {
  writer.u64(BigInt(time));
}

export function readTime(reader: Reader): number {
  const time = reader.u64();
  if (time > BigInt(Number.MAX_SAFE_INTEGER)) throw new DecodeError('invalid_value', `time ${time}`);
  return Number(time);
}
