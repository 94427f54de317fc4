/**
 * Bitcoin's serialization (little-endian, CompactSize lengths), as a bounded
 * reader and a writer into a buffer of known size. The reader never allocates
 * by a length that the remaining bytes could not satisfy.
 */
import { BitcoinError } from './errors.ts';

const HEX: readonly string[] = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));

/** Lower-case hexadecimal. */
export function toHex(bytes: Uint8Array): string {
  let out = '';
  for (const byte of bytes) out += HEX[byte];
  return out;
}

/** Bytes of a hexadecimal string. @throws BitcoinError `bad-hash` for an odd length or a character that is no digit. */
export function fromHex(hex: string): Uint8Array {
  if (hex.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(hex))
    throw new BitcoinError('bad-hash', 'not hexadecimal');
  const out = new Uint8Array(hex.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  return out;
}

/** True if both hold the same bytes. Not for secrets. */
export function bytesEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Lexicographic order as of memcmp, the shorter first when one is a prefix of the other. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const common = Math.min(a.length, b.length);
  for (let i = 0; i < common; i++) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** One array of all parts. */
export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.length;
  }
  return out;
}

/** Bytes that a CompactSize of this value takes. */
export function compactSizeLength(value: number): number {
  if (value < 0xfd) return 1;
  if (value <= 0xffff) return 3;
  return value <= 0xffff_ffff ? 5 : 9;
}

/** Reads a buffer from front to back; every method throws `BitcoinError` past the end. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get offset(): number {
    return this.#offset;
  }

  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  #advance(length: number): number {
    if (length > this.remaining)
      throw new BitcoinError('truncated', `needs ${length} bytes, has ${this.remaining}`);
    const at = this.#offset;
    this.#offset += length;
    return at;
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#advance(8), true);
  }

  /** The byte at `ahead` from here without reading it, or undefined past the end. */
  peek(ahead: number): number | undefined {
    return this.#bytes[this.#offset + ahead];
  }

  /** A copy of the next `length` bytes. */
  bytes(length: number): Uint8Array {
    const at = this.#advance(length);
    return Uint8Array.prototype.slice.call(this.#bytes, at, at + length);
  }

  /** A CompactSize in its shortest form. */
  compactSize(): number {
    const first = this.u8();
    if (first < 0xfd) return first;
    if (first === 0xfd) {
      const value = this.#view.getUint16(this.#advance(2), true);
      if (value < 0xfd) throw new BitcoinError('non-minimal-length', 'length is not in its shortest form');
      return value;
    }
    if (first === 0xfe) {
      const value = this.u32();
      if (value <= 0xffff) throw new BitcoinError('non-minimal-length', 'length is not in its shortest form');
      return value;
    }
    throw new BitcoinError('too-large', 'length does not fit 32 bits');
  }

  /** A count of things of at least `minimumLength` bytes each; refused when the rest cannot hold so many. */
  count(minimumLength: number): number {
    const count = this.compactSize();
    if (count * minimumLength > this.remaining)
      throw new BitcoinError('count-exceeds-data', `${count} items in ${this.remaining} bytes`);
    return count;
  }

  /** Bytes with a CompactSize length in front. */
  varBytes(): Uint8Array {
    return this.bytes(this.count(1));
  }

  /** @throws BitcoinError `trailing-bytes` unless all was read. */
  assertEnd(): void {
    if (this.remaining !== 0) throw new BitcoinError('trailing-bytes', `${this.remaining} bytes too many`);
  }
}

/** Fills a buffer whose exact size is known beforehand. */
export class ByteWriter {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(length: number) {
    this.bytes = new Uint8Array(length);
    this.#view = new DataView(this.bytes.buffer);
  }

  u8(value: number): this {
    this.#view.setUint8(this.#offset, value);
    this.#offset += 1;
    return this;
  }

  u32(value: number): this {
    this.#view.setUint32(this.#offset, value, true);
    this.#offset += 4;
    return this;
  }

  u64(value: bigint): this {
    this.#view.setBigUint64(this.#offset, value, true);
    this.#offset += 8;
    return this;
  }

  raw(bytes: Uint8Array): this {
    this.bytes.set(bytes, this.#offset);
    this.#offset += bytes.length;
    return this;
  }

  compactSize(value: number): this {
    if (value < 0xfd) return this.u8(value);
    if (value <= 0xffff) {
      this.#view.setUint8(this.#offset, 0xfd);
      this.#view.setUint16(this.#offset + 1, value, true);
      this.#offset += 3;
      return this;
    }
    return this.u8(0xfe).u32(value);
  }

  varBytes(bytes: Uint8Array): this {
    return this.compactSize(bytes.length).raw(bytes);
  }
}
