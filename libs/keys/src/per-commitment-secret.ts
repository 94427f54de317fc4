/**
 * The per-commitment secrets: made from one seed by their owner, and kept in
 * at most 49 slots by the counterparty, who can derive from them every secret
 * it was ever given (BOLT 3, "Per-commitment Secret Requirements" and
 * "Efficient Per-commitment Secret Storage").
 *
 * A store is an immutable value: an insertion gives a new one, which the
 * caller makes durable together with the state that revokes.
 */
import { err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { constantTimeEqual, sha256 } from '@fulmen/crypto';
import type { Secp256k1 } from '@fulmen/crypto';
import { MAX_COMMITMENT_NUMBER, assert48Bits, secretIndexOf } from './commitment-number.ts';
import { KeysError, assertLength } from './errors.ts';

/** One slot for each number of trailing zeros of an index, 0 to 48. */
export const SECRET_STORE_SLOTS = 49;

/** `derive_secret(base, bits, I)` of BOLT 3: the secret at `index`, from one whose index shares the bits from `bits` up. */
function deriveSecret(base: Uint8Array, bits: number, index: bigint): Uint8Array {
  let secret = Uint8Array.from(base);
  for (let bit = bits - 1; bit >= 0; bit--) {
    if ((index >> BigInt(bit)) & 1n) {
      // "flip(B) alternates the (B mod 8) bit of the (B div 8) byte of the value"
      const at = bit >> 3;
      secret[at] = (secret[at] ?? 0) ^ (1 << (bit & 7));
      secret = Uint8Array.from(sha256(secret));
    }
  }
  return secret;
}

/** `generate_from_seed(seed, I)` of BOLT 3. `index` counts down from 2^48−1; see `commitmentSecret`. */
export function generateFromSeed(seed: Uint8Array, index: bigint): Uint8Array {
  assertLength('seed', seed, 32);
  assert48Bits('index', index);
  return deriveSecret(seed, 48, index);
}

/** The per-commitment secret of a commitment number (which counts up from 0). */
export function commitmentSecret(seed: Uint8Array, commitmentNumber: bigint): Uint8Array {
  return generateFromSeed(seed, secretIndexOf(commitmentNumber));
}

/** `per_commitment_point = per_commitment_secret * G`, of a commitment number. */
export function commitmentPoint(secp: Secp256k1, seed: Uint8Array, commitmentNumber: bigint): Uint8Array {
  return secp.publicKeyOf(commitmentSecret(seed, commitmentNumber));
}

/** Secrets received so far. Its `slots` hold, at b, the newest one whose index has b trailing zeros. */
export interface SecretStore {
  /** How many secrets were inserted; also the commitment number whose secret comes next. */
  readonly count: bigint;
  readonly slots: readonly Uint8Array[];
}

/** Why a secret was refused. */
export type SecretStoreError =
  /** The secrets were not generated from one seed: the counterparty cheats or is broken. */
  | { readonly kind: 'not_from_same_seed' }
  /** Not the next secret in order. */
  | { readonly kind: 'out_of_order'; readonly expectedCommitmentNumber: bigint }
  | { readonly kind: 'bad_length' };

/** No secret was received yet. */
export const EMPTY_SECRET_STORE: SecretStore = { count: 0n, slots: [] };

/** `where_to_put_secret(I)`: the number of trailing zeros; 48 for zero. */
function slotOf(index: bigint): number {
  for (let bit = 0; bit < 48; bit++) {
    if ((index >> BigInt(bit)) & 1n) return bit;
  }
  return 48;
}

/** How many slots are filled after `count` secrets: slot b is first used by index 2^48 − 2^b, the (2^b)-th secret. */
function slotsAfter(count: bigint): number {
  return count === 0n ? 0 : count.toString(2).length;
}

/** The newest index, of those in a store of `count`, that has exactly `slot` trailing zeros. */
function indexInSlot(count: bigint, slot: number): bigint {
  const newest = MAX_COMMITMENT_NUMBER + 1n - count;
  if (slot === 48) return 0n;
  const unit = 1n << BigInt(slot);
  // The smallest odd multiple of 2^slot that is not below the newest index.
  const multiple = (newest + unit - 1n) / unit;
  return (multiple | 1n) * unit;
}

/**
 * Adds the secret of a commitment number, which must be the next in order
 * (they are revealed so, and a gap would hide a wrong one).
 */
export function insertSecret(
  store: SecretStore,
  commitmentNumber: bigint,
  secret: Uint8Array,
): Result<SecretStore, SecretStoreError> {
  if (secret.length !== 32) return err({ kind: 'bad_length' });
  if (commitmentNumber !== store.count || commitmentNumber > MAX_COMMITMENT_NUMBER) {
    return err({ kind: 'out_of_order', expectedCommitmentNumber: store.count });
  }
  const slot = slotOf(secretIndexOf(commitmentNumber));
  // "A double-check, that all previous secrets derive correctly, is needed"
  for (let below = 0; below < slot; below++) {
    const known = store.slots[below];
    const derived = deriveSecret(secret, slot, indexInSlot(store.count, below));
    if (!known || !constantTimeEqual(derived, known)) return err({ kind: 'not_from_same_seed' });
  }
  const slots = [...store.slots];
  slots[slot] = Uint8Array.from(secret);
  return ok({ count: store.count + 1n, slots });
}

/** The secret of a commitment number, or undefined if it was not received yet (`derive_old_secret` of BOLT 3). */
export function lookupSecret(store: SecretStore, commitmentNumber: bigint): Uint8Array | undefined {
  if (commitmentNumber < 0n || commitmentNumber >= store.count) return undefined;
  const index = secretIndexOf(commitmentNumber);
  for (let slot = 0; slot < store.slots.length; slot++) {
    const known = store.slots[slot];
    const shift = BigInt(slot);
    if (known && index >> shift === indexInSlot(store.count, slot) >> shift)
      return deriveSecret(known, slot, index);
  }
  return undefined;
}

/**
 * The store as bytes: count (u64, big-endian), then the filled slots, 32
 * bytes each, from slot 0 on. The count tells how many there are, and which
 * index each holds; at most 8 + 49 · 32 bytes.
 */
export function encodeSecretStore(store: SecretStore): Uint8Array {
  const out = new Uint8Array(8 + store.slots.length * 32);
  new DataView(out.buffer).setBigUint64(0, store.count);
  store.slots.forEach((secret, slot) => out.set(secret, 8 + slot * 32));
  return out;
}

/** Reads `encodeSecretStore`'s bytes. Error `bad_encoding` for a count out of range or a length that does not fit it. */
export function decodeSecretStore(bytes: Uint8Array): Result<SecretStore, KeysError> {
  const bad = (why: string): Result<never, KeysError> => err(new KeysError('bad_encoding', why));
  if (bytes.length < 8) return bad('no count');
  const count = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0);
  if (count > MAX_COMMITMENT_NUMBER + 1n) return bad('count above 2^48');
  const filled = slotsAfter(count);
  if (bytes.length !== 8 + filled * 32) return bad('length does not fit the count');
  const slots = Array.from({ length: filled }, (_, slot) => bytes.slice(8 + slot * 32, 40 + slot * 32));
  return ok({ count, slots });
}
