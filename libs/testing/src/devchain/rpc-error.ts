/** Errors of the JSON-RPC interface, with Bitcoin Core's numbers, and the reading of parameters. */
import { NETWORKS, decodeAddress } from '@fulmen/bitcoin';
import { fromHex } from '@fulmen/bitcoin/bytes';
import type { StoredTx } from './model.ts';
import { storeRawTx } from './model.ts';

/** Bitcoin Core's error numbers. */
export const RPC = {
  MISC: -1,
  TYPE: -3,
  NOT_FOUND: -5,
  INVALID_PARAMETER: -8,
  DESERIALIZATION: -22,
  VERIFY_ERROR: -25,
  VERIFY_REJECTED: -26,
  ALREADY_IN_UTXO_SET: -27,
  INVALID_REQUEST: -32600,
  METHOD_NOT_FOUND: -32601,
  PARSE: -32700,
} as const;

/** An error that the caller is told. */
export class RpcError extends Error {
  override readonly name = 'RpcError';
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

const TYPE_NAMES = {
  number: 'number',
  string: 'string',
  boolean: 'bool',
  array: 'array',
  object: 'object',
} as const;
type TypeName = keyof typeof TYPE_NAMES;

function typeOf(value: unknown): string {
  if (value === null || value === undefined) return 'null';
  if (Array.isArray(value)) return 'array';
  return TYPE_NAMES[typeof value as TypeName] ?? 'null';
}

/** The parameters of one call. */
export class Params {
  readonly #values: readonly unknown[];

  constructor(values: readonly unknown[]) {
    this.#values = values;
  }

  get length(): number {
    return this.#values.length;
  }

  /** The raw value, or undefined when missing or null. */
  raw(index: number): unknown {
    return this.#values[index] ?? undefined;
  }

  #typed(index: number, type: TypeName): unknown {
    const value = this.raw(index);
    const actual = typeOf(value);
    if (actual !== TYPE_NAMES[type]) {
      throw new RpcError(
        RPC.TYPE,
        `JSON value of type ${actual} is not of expected type ${TYPE_NAMES[type]}`,
      );
    }
    return value;
  }

  string(index: number): string {
    return this.#typed(index, 'string') as string;
  }

  integer(index: number): number {
    const value = this.#typed(index, 'number') as number;
    if (!Number.isInteger(value)) throw new RpcError(RPC.MISC, 'JSON integer out of range');
    return value;
  }

  integerOr(index: number, fallback: number): number {
    return this.raw(index) === undefined ? fallback : this.integer(index);
  }

  booleanOr(index: number, fallback: boolean): boolean {
    return this.raw(index) === undefined ? fallback : (this.#typed(index, 'boolean') as boolean);
  }

  /** A switch that older callers give as a boolean: true is 1. */
  verbosity(index: number, fallback: number): number {
    const value = this.raw(index);
    return typeof value === 'boolean' ? Number(value) : this.integerOr(index, fallback);
  }

  array(index: number): readonly unknown[] {
    return this.#typed(index, 'array') as unknown[];
  }

  /** A decimal amount, given as a number or a string. */
  amountOr(index: number, fallback: number): number {
    const value = this.raw(index);
    if (value === undefined) return fallback;
    const amount = Number(value);
    if ((typeof value !== 'number' && typeof value !== 'string') || !Number.isFinite(amount))
      throw new RpcError(RPC.TYPE, 'Invalid amount');
    if (amount < 0) throw new RpcError(RPC.TYPE, 'Amount out of range');
    return amount;
  }

  /** A 32-byte hash in display order. */
  hash(index: number, name: string): string {
    const value = this.string(index);
    if (value.length !== 64)
      throw new RpcError(
        RPC.INVALID_PARAMETER,
        `${name} must be of length 64 (not ${value.length}, for '${value}')`,
      );
    if (!/^[0-9a-fA-F]*$/.test(value))
      throw new RpcError(RPC.INVALID_PARAMETER, `${name} must be hexadecimal string (not '${value}')`);
    return value.toLowerCase();
  }
}

/** Decodes a transaction in hex. */
export function txOf(value: unknown, message: string): StoredTx {
  if (typeof value !== 'string')
    throw new RpcError(RPC.TYPE, `JSON value of type ${typeOf(value)} is not of expected type string`);
  const stored = /^([0-9a-fA-F]{2})*$/.test(value) ? storeRawTx(fromHex(value)) : undefined;
  if (stored === undefined) throw new RpcError(RPC.DESERIALIZATION, message);
  return stored;
}

/** Output script of an address, or of a descriptor `addr(…)` or `raw(…)`. */
export function scriptOf(text: string): Uint8Array {
  const [body] = text.split('#');
  const raw = /^raw\(((?:[0-9a-fA-F]{2})*)\)$/.exec(body ?? '');
  if (raw !== null) return fromHex(raw[1] ?? '');
  const inner = /^addr\((.*)\)$/.exec(body ?? '')?.[1] ?? text;
  const script = decodeAddress(inner, NETWORKS.regtest);
  if (!script.ok) throw new RpcError(RPC.NOT_FOUND, 'Error: Invalid address');
  return script.value;
}
