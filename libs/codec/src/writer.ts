// A growing byte buffer. Values out of range throw EncodeError: silently truncated numbers would be
// signed and sent.
import { EncodeError } from './errors.ts';

const U64_MAX = 0xffff_ffff_ffff_ffffn;
const S64_MIN = -(1n << 63n);
const S64_MAX = (1n << 63n) - 1n;

export class Writer {
  #bytes: Uint8Array;
  #view: DataView;
  #length = 0;

  constructor(capacity = 256) {
    this.#bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#length;
  }

  u8(value: number): this {
    checkUint(value, 0xff);
    const at = this.#grow(1);
    this.#view.setUint8(at, value);
    return this;
  }

  u16(value: number): this {
    checkUint(value, 0xffff);
    const at = this.#grow(2);
    this.#view.setUint16(at, value);
    return this;
  }

  u32(value: number): this {
    checkUint(value, 0xffff_ffff);
    const at = this.#grow(4);
    this.#view.setUint32(at, value);
    return this;
  }

  u64(value: bigint): this {
    checkU64(value);
    const at = this.#grow(8);
    this.#view.setBigUint64(at, value);
    return this;
  }

  s64(value: bigint): this {
    if (typeof value !== 'bigint' || value < S64_MIN || value > S64_MAX) throw outOfRange(value);
    const at = this.#grow(8);
    this.#view.setBigInt64(at, value);
    return this;
  }

  /** Minimal BigSize (BOLT 1, Appendix A). */
  bigsize(value: bigint | number): this {
    const wide = typeof value === 'bigint' ? value : Number.isSafeInteger(value) ? BigInt(value) : -1n;
    checkU64(wide);
    if (wide < 0xfdn) return this.u8(Number(wide));
    if (wide < 0x10000n) return this.u8(0xfd).u16(Number(wide));
    if (wide < 0x100000000n) return this.u8(0xfe).u32(Number(wide));
    return this.u8(0xff).u64(wide);
  }

  bytes(value: Uint8Array): this {
    const start = this.#grow(value.length);
    this.#bytes.set(value, start);
    return this;
  }

  /** A copy of what was written. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  #grow(by: number): number {
    const start = this.#length;
    const needed = start + by;
    if (needed > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(needed, 2 * this.#bytes.length));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    this.#length = needed;
    return start;
  }
}

function checkUint(value: number, max: number): void {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > max)
    throw outOfRange(value);
}

function checkU64(value: bigint): void {
  if (typeof value !== 'bigint' || value < 0n || value > U64_MAX) throw outOfRange(value);
}

function outOfRange(value: unknown): EncodeError {
  return new EncodeError('out_of_range', `integer ${String(value)}`);
}
