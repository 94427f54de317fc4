// A bounded cursor over bytes from outside. Every read checks the remaining length first, so that
// no length in the input leads to an allocation larger than the input. Reads throw DecodeError;
// the public decoders catch it (see decodeWith) and return a Result.
import { DecodeError } from './errors.ts';
import { err, ok } from './result.ts';
import type { Result } from './result.ts';

export class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Bytes read so far. */
  get offset(): number {
    return this.#offset;
  }

  /** Bytes not yet read. */
  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4));
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#advance(8));
  }

  s64(): bigint {
    return this.#view.getBigInt64(this.#advance(8));
  }

  /** BOLT 1, Appendix A: "All values decoded with BigSize should be checked to ensure they are minimally encoded." */
  bigsize(): bigint {
    const first = this.u8();
    if (first < 0xfd) return BigInt(first);
    const [value, least] =
      first === 0xfd
        ? [BigInt(this.u16()), 0xfdn]
        : first === 0xfe
          ? [BigInt(this.u32()), 0x10000n]
          : [this.u64(), 0x100000000n];
    if (value < least) throw new DecodeError('not_minimal', 'bigsize is not canonical');
    return value;
  }

  /** A bigsize used as a length: checked against what remains before it becomes a number. */
  bigsizeLength(): number {
    const length = this.bigsize();
    if (length > BigInt(this.remaining)) throw new DecodeError('truncated', 'a length exceeds the input');
    return Number(length);
  }

  /** A copy of the next `length` bytes. */
  bytes(length: number): Uint8Array {
    const part = this.view(length);
    const out = new Uint8Array(length);
    out.set(part);
    return out;
  }

  /** The next `length` bytes, sharing memory with the input: for immediate parsing only. */
  view(length: number): Uint8Array {
    const start = this.#advance(length);
    return this.#bytes.subarray(start, start + length);
  }

  /** What was read since an earlier `offset`, sharing memory with the input. */
  readSince(offset: number): Uint8Array {
    return this.#bytes.subarray(offset, this.#offset);
  }

  /** A copy of everything not yet read. */
  rest(): Uint8Array {
    return this.bytes(this.remaining);
  }

  /** A reader of exactly the next `length` bytes. */
  sub(length: number): Reader {
    return new Reader(this.view(length));
  }

  /** Throws unless everything was read. */
  expectEnd(): void {
    if (this.remaining > 0) throw new DecodeError('trailing_bytes', `${this.remaining} bytes left`);
  }

  #advance(length: number): number {
    const start = this.#offset;
    if (length > this.#bytes.length - start) {
      throw new DecodeError('truncated', `${length} bytes wanted, ${this.#bytes.length - start} left`);
    }
    this.#offset = start + length;
    return start;
  }
}

/** Runs a reading function over bytes, wants all of them read, and turns DecodeError into a Result. */
export function decodeWith<T>(bytes: Uint8Array, read: (reader: Reader) => T): Result<T, DecodeError> {
  try {
    const reader = new Reader(bytes);
    const value = read(reader);
    reader.expectEnd();
    return ok(value);
  } catch (error) {
    if (error instanceof DecodeError) return err(error);
    throw error;
  }
}
