/** Reading of a node's answers: whatever has another shape than it should is `malformed`. */
import { fromHex } from '@fulmen/bitcoin/bytes';
import type { BroadcastOutcome } from './source.ts';
import { ChainSourceError } from './source.ts';

export type Json = Record<string, unknown>;

/** Reasons by which a node says that it has the transaction already. */
export const KNOWN_REASONS: ReadonlySet<string> = new Set(['txn-already-in-mempool', 'txn-already-known']);

export function malformed(what: string): ChainSourceError {
  return new ChainSourceError('malformed', `the node's answer has no valid ${what}`);
}

export function record(value: unknown, what: string): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed(what);
  return value as Json;
}

export function listOf(value: unknown, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw malformed(what);
  return value as unknown[];
}

/** 32 bytes in display order. */
export function hashOf(value: unknown, what: string): string {
  if (typeof value !== 'string' || !/^[0-9a-f]{64}$/.test(value)) throw malformed(what);
  return value;
}

export function integer(value: unknown, what: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw malformed(what);
  return value;
}

/** A number from 0 to this; JSON can spell numbers that are infinite here. */
export function upTo(maximum: number, value: unknown, what: string): number {
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 0 || value > maximum)
    throw malformed(what);
  return value;
}

/**
 * The highest feerate that any answer may name, 1 BTC per 1000 vbytes: Bitcoin Core takes nobody's word that more is
 * meant (`maxfeerate`: "Fee rates larger than 1BTC/kvB are rejected").
 */
export const MAX_FEERATE_BTC_PER_KVB = 1;
export const MAX_FEERATE_SAT_PER_VB = 100_000;

/** A block's height. */
export function heightOf(value: unknown): number {
  const height = integer(value, 'height');
  if (height < 0) throw malformed('height');
  return height;
}

export function bytesOf(value: unknown, what: string): Uint8Array {
  if (typeof value !== 'string' || value.length % 2 !== 0 || !/^[0-9a-f]*$/.test(value))
    throw malformed(what);
  return fromHex(value);
}

/** What `submitpackage` answered. */
export function packageOutcome(value: unknown, txids: readonly string[]): BroadcastOutcome {
  const answer = record(value, 'package verdict');
  const rejections: { txid: string; reason: string }[] = [];
  for (const item of Object.values(record(answer['tx-results'], 'package verdict'))) {
    const result = record(item, 'package verdict');
    const reason = result['error'];
    if (typeof reason === 'string' && !KNOWN_REASONS.has(reason))
      rejections.push({ txid: hashOf(result['txid'], 'txid'), reason });
  }
  const message = answer['package_msg'];
  if (rejections.length === 0 && message === 'success') return { kind: 'accepted', txids };
  // The message is generic when single transactions failed; their reasons say more.
  const specific =
    message === 'transaction failed' || message === 'success' ? rejections[0]?.reason : undefined;
  return { kind: 'rejected', reason: specific ?? String(message), rejections };
}
