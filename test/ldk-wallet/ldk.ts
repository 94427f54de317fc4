// LDK's WebAssembly, and the small differences between its bindings and TypeScript.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import * as ldk from 'lightningdevkit';

export { ldk };

/** A failure that the wallet answers with as a sentence. */
export class WalletError extends Error {
  override readonly name = 'WalletError';
}

/** Loads the WebAssembly; once in a process, before anything else of LDK. */
export async function initializeLdk(): Promise<void> {
  // It greets on stdout, which belongs to the protocol.
  console.log = console.error;
  const entry = fileURLToPath(import.meta.resolve('lightningdevkit'));
  await ldk.initializeWasmFromBinary(fs.readFileSync(path.join(path.dirname(entry), 'liblightningjs.wasm')));
}

/** The value of an LDK Option, whose variants are classes of which one has `some`. */
export function some<T>(option: object): T | null {
  return 'some' in option ? (option.some as T) : null;
}

/**
 * The value of an LDK Result.
 * @throws WalletError that says what failed
 */
export function must<T>(result: object & { is_ok(): boolean }, what: string): T {
  if (result.is_ok()) return (result as { res?: T }).res as T;
  throw new WalletError(`${what}: ${describe((result as { err?: unknown }).err)}`);
}

/** A text for an error value of LDK: an enumeration's number, or an object that has a text somewhere. */
export function describe(error: unknown): string {
  if (error === undefined || error === null) return 'refused';
  if (typeof error !== 'object') return String(error);
  if ('err' in error && typeof error.err === 'string') return error.err;
  if ('get_err' in error && typeof error.get_err === 'function') return String(error.get_err());
  return error.constructor.name;
}

/** True for a getter's result that stands for nothing: LDK's bindings wrap the null pointer too. */
export function isNull(object: object): boolean {
  return Reflect.get(object, 'ptr') === 0n;
}

/** The bindings give a u128 with its bytes in reverse. */
export function u128(read: bigint): bigint {
  let value = 0n;
  for (let rest = read, index = 0; index < 16; index += 1, rest >>= 8n)
    value = (value << 8n) | (rest & 0xffn);
  return value;
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

/** @throws WalletError when the text is no hex, or not of `length` bytes */
export function fromHex(text: string, length?: number): Uint8Array {
  if (!/^([0-9a-f]{2})*$/i.test(text) || (length !== undefined && text.length !== 2 * length)) {
    throw new WalletError(
      `this is not ${length === undefined ? 'hex' : `${length} bytes of hex`}: ${text.slice(0, 80)}`,
    );
  }
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

/** A txid or block hash as people write it: bytes reversed. */
export function toDisplayHash(hash: Uint8Array): string {
  return toHex(Uint8Array.from(hash).reverse());
}

export function fromDisplayHash(text: string): Uint8Array {
  return fromHex(text, 32).reverse();
}

/** A short channel id as `block x transaction x output`. */
export function scidToText(scid: bigint): string {
  return `${scid >> 40n}x${(scid >> 16n) & 0xffffffn}x${scid & 0xffffn}`;
}

export function scidFromText(text: string): bigint {
  if (/^\d+$/.test(text)) return BigInt(text);
  const match = /^(\d+)x(\d+)x(\d+)$/.exec(text);
  if (match === null) throw new WalletError(`this is no short channel id: ${text}`);
  const [, block = '0', transaction = '0', output = '0'] = match;
  return (BigInt(block) << 40n) | (BigInt(transaction) << 16n) | BigInt(output);
}

/**
 * Wraps the methods of a callback object: an exception inside a callback would end the WebAssembly
 * instance, so it is reported and `fallback` answers instead.
 */
export function safely<A extends unknown[], R>(
  report: (error: unknown) => void,
  fallback: () => R,
  body: (...args: A) => R,
): (...args: A) => R {
  return (...args) => {
    try {
      return body(...args);
    } catch (error) {
      report(error);
      return fallback();
    }
  };
}

/** A getter's value, or null where LDK has none. */
export function orNull<T extends object>(value: T): T | null {
  return isNull(value) ? null : value;
}
