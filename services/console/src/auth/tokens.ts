/**
 * Bearer tokens. A token is 32 random bytes in hex; the node keeps only its
 * SHA-256, so a copy of the tokens file opens nothing. Tokens are compared as
 * hashes, in constant time, against every entry.
 */
import { fromHex, toHex, utf8Encode } from '@fulmen/codec';
import { constantTimeEqual, sha256 } from '@fulmen/crypto';

export const SCOPES = ['read', 'invoices', 'pay', 'channels', 'wallet', 'admin'] as const;
export type Scope = (typeof SCOPES)[number];

/** One line of the tokens file. */
export interface TokenEntry {
  readonly name: string;
  readonly scopes: ReadonlySet<Scope>;
  /** SHA-256 of the token's text (64 hex digits in lower case). */
  readonly sha256: Uint8Array;
}

/** Where the entries come from; asked again now and then, so that a token can be revoked while the node runs. */
export interface TokenSource {
  /** Rejects with TokenFileError when the entries cannot be read. */
  load(): Promise<readonly TokenEntry[]>;
}

/** The tokens file is not usable; the message says where and why, never a token. */
export class TokenFileError extends Error {
  override readonly name = 'TokenFileError';
}

/** Every call compares with every entry, so their number is bounded. */
export const MAX_TOKENS = 1_000;
const TOKEN_PATTERN = /^[0-9a-f]{64}$/;
const NAME_PATTERN = /^[\w.@-]{1,64}$/;

/** The text of a token and its entry in the file. `random` is 32 bytes. */
export function makeToken(
  name: string,
  scopes: readonly Scope[],
  random: Uint8Array,
): { token: string; line: string } {
  if (!NAME_PATTERN.test(name))
    throw new TokenFileError(`"${name}" is no name for a token: use letters, digits and . @ _ -`);
  const token = toHex(random);
  return { token, line: JSON.stringify({ name, scopes, sha256: toHex(hashToken(token)) }) };
}

/** Parses JSON lines; empty lines and lines that begin with # are skipped. Throws TokenFileError. */
export function parseTokens(text: string): TokenEntry[] {
  const entries: TokenEntry[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    entries.push(parseLine(trimmed, index + 1));
    if (entries.length > MAX_TOKENS)
      throw new TokenFileError(`the tokens file has more than ${MAX_TOKENS} entries`);
  }
  return entries;
}

function parseLine(line: string, number: number): TokenEntry {
  const wrong = (why: string): TokenFileError =>
    new TokenFileError(`line ${number} of the tokens file: ${why}`);
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw wrong('is not JSON');
  }
  if (typeof value !== 'object' || value === null) throw wrong('is not an object');
  const { name, scopes, sha256: hash } = value as Record<string, unknown>;
  if (typeof name !== 'string' || !NAME_PATTERN.test(name))
    throw wrong('"name" must be 1 to 64 letters, digits or . @ _ -');
  if (typeof hash !== 'string' || !TOKEN_PATTERN.test(hash))
    throw wrong('"sha256" must be 64 hex digits in lower case');
  if (!Array.isArray(scopes)) throw wrong('"scopes" must be a list');
  const known = scopes.filter(isScope);
  if (known.length !== scopes.length) throw wrong(`"scopes" may hold ${SCOPES.join(', ')}`);
  return { name, scopes: new Set(known), sha256: fromHex(hash) };
}

export function isScope(value: unknown): value is Scope {
  return (SCOPES as readonly unknown[]).includes(value);
}

/** The entry of a token, or undefined. */
export function findToken(entries: readonly TokenEntry[], token: string): TokenEntry | undefined {
  if (!TOKEN_PATTERN.test(token)) return undefined;
  const hash = hashToken(token);
  let found: TokenEntry | undefined;
  // Every entry is compared, so that the time tells nothing about which one matched.
  for (const entry of entries) if (constantTimeEqual(entry.sha256, hash)) found = entry;
  return found;
}

/** The token in "Bearer <token>", or undefined. */
export function bearerOf(header: string | undefined): string | undefined {
  return /^bearer ([0-9a-f]{64})$/i.exec(header ?? '')?.[1]?.toLowerCase();
}

function hashToken(token: string): Uint8Array {
  return sha256(utf8Encode(token));
}
