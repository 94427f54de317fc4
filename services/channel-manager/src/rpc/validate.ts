/** What requests must satisfy before anything is done with them; each refusal says what to send instead. */
import type { Secp256k1 } from '@fulmen/crypto';
import { RpcError } from '@fulmen/rpc';

/** All bitcoin there will ever be. */
const MAX_SAT = 21_000_000n * 100_000_000n;
export const MAX_MSAT = MAX_SAT * 1_000n;
export const MAX_U32 = 0xffff_ffff;
/** BOLT 11: a `d` field of 1023 words. */
const MAX_DESCRIPTION_BYTES = 639;
const MAX_KEY_LENGTH = 128;
/** A label of DNS names and addresses is ASCII; 255 bytes in all. */
const HOST = /^[A-Za-z0-9._:%-]{1,255}$/;
const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1_000;

export function invalid(sentence: string): RpcError {
  return new RpcError('invalid_argument', sentence);
}

/** A compressed point on the curve. */
export function requireNodeId(secp: Secp256k1, nodeId: Uint8Array): Uint8Array {
  if (nodeId.length !== 33 || !secp.isPublicKey(nodeId))
    throw invalid('node_id must be a compressed public key of 33 bytes');
  return nodeId;
}

/** 32 bytes, under the field's own name. */
export function require32(name: string, bytes: Uint8Array): Uint8Array {
  if (bytes.length !== 32) throw invalid(`${name} must have 32 bytes, not ${bytes.length}`);
  return bytes;
}

export function requireRange(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most)
    throw invalid(`${name} must be between ${least} and ${most}, not ${value}`);
  return value;
}

export function requireAmount(name: string, value: bigint, least: bigint, most: bigint): bigint {
  if (value < least || value > most)
    throw invalid(`${name} must be between ${least} and ${most}, not ${value}`);
  return value;
}

export function requireSat(name: string, value: bigint): bigint {
  return requireAmount(name, value, 1n, MAX_SAT);
}

export function requireHost(host: string): string {
  if (!HOST.test(host)) throw invalid('host must be a host name or an IP address of at most 255 characters');
  return host;
}

export function requireDescription(description: string): string {
  const bytes = new TextEncoder().encode(description).length;
  if (bytes > MAX_DESCRIPTION_BYTES)
    throw invalid(`description must have at most ${MAX_DESCRIPTION_BYTES} bytes in UTF-8, not ${bytes}`);
  if (description.includes('\0')) throw invalid('description must not contain NUL characters');
  return description;
}

/** Empty when the caller gave none. */
export function requireIdempotencyKey(key: string): string {
  if (key.length > MAX_KEY_LENGTH)
    throw invalid(`idempotency_key must have at most ${MAX_KEY_LENGTH} characters`);
  if (key.includes('\0')) throw invalid('idempotency_key must not contain NUL characters');
  return key;
}

/** How many rows a list returns: 0 stands for 100. */
export function requireLimit(limit: number): number {
  return limit === 0 ? DEFAULT_LIMIT : requireRange('limit', limit, 1, MAX_LIMIT);
}

/** BOLT 2: from P2WPKH's and older scripts' 22 bytes to OP_RETURN with 80 bytes of data. */
const MIN_SCRIPT_LENGTH = 4;
const MAX_SCRIPT_LENGTH = 83;

/** A script that a shutdown might carry; which ones it may is the channel's to say. */
export function requireScript(name: string, script: Uint8Array, otherwise: string): Uint8Array {
  if (script.length < MIN_SCRIPT_LENGTH || script.length > MAX_SCRIPT_LENGTH)
    throw invalid(
      `${name} must have between ${MIN_SCRIPT_LENGTH} and ${MAX_SCRIPT_LENGTH} bytes; leave it out for ${otherwise}`,
    );
  return script;
}
