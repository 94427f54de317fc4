/** Checks of requests, before anything is asked of the fleet. Each throws `invalid_argument` with a sentence. */
import { refuse } from './errors.ts';

/** Rows that a list returns when the request names no limit, and at most. */
export const DEFAULT_LIST_LIMIT = 100;
export const MAX_LIST_LIMIT = 1_000;
/** Enough for a UUID or a hash; the fleet keeps these keys for days. */
export const MAX_IDEMPOTENCY_KEY_LENGTH = 128;

export function requireBytes(name: string, value: Uint8Array, length: number): void {
  if (value.length !== length)
    throw refuse('invalid_argument', `${name} must be ${length} bytes, not ${value.length}.`);
}

export function requireNodeId(value: Uint8Array): void {
  requireBytes('node_id', value, 33);
  if (value[0] !== 2 && value[0] !== 3)
    throw refuse('invalid_argument', 'node_id is not a compressed public key: it must begin with 02 or 03.');
}

export function requirePositive(name: string, value: bigint): void {
  if (value <= 0n) throw refuse('invalid_argument', `${name} must be more than 0.`);
}

export function requireLength(name: string, value: string, max: number): void {
  if (value.length > max) throw refuse('invalid_argument', `${name} is longer than ${max} characters.`);
}

/** 0 means the default. */
export function listLimit(limit: number): number {
  if (limit > MAX_LIST_LIMIT) throw refuse('invalid_argument', `limit must be at most ${MAX_LIST_LIMIT}.`);
  return limit === 0 ? DEFAULT_LIST_LIMIT : limit;
}

/** The caller's key, or a new one: retries within the fleet must not do a thing twice. */
export function idempotencyKey(key: string, random: (length: number) => Uint8Array): string {
  requireLength('idempotency_key', key, MAX_IDEMPOTENCY_KEY_LENGTH);
  return key === '' ? `console-${Buffer.from(random(16)).toString('hex')}` : key;
}
