/**
 * BOLT 8's handshake (Noise_XK) in steps that never see the node's static
 * secret: whoever ends the connection is not trusted with the node key, and
 * asks for each ECDH with it elsewhere, between two steps.
 *
 *   initiator                                responder
 *   initiatorMakeActOne       ── act 1 ──▶   responderReadActOne
 *                                              (ECDH of static key and `ecdhPoint`)
 *   initiatorReadActTwo       ◀── act 2 ──   responderMakeActTwo
 *     (ECDH of static key and `ecdhPoint`)
 *   initiatorMakeActThree     ── act 3 ──▶   responderReadActThree
 *   SessionKeys                              SessionKeys
 *
 * The responder's ECDH happens before Act One's tag is checked, since the tag
 * depends on it: whoever serves it should limit its rate per address.
 * `initiator` and `responder` (driver.ts) run the same steps where the static
 * secret is at hand.
 */
import { err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import type { HandshakeError } from './errors.ts';
import {
  concat,
  decryptAndHash,
  encryptAndHash,
  hkdfTwo,
  initialState,
  mixHash,
  mixKey,
} from './symmetric.ts';
import type { SymmetricState } from './symmetric.ts';

/** "Act One: 50 bytes", "Act Two: 50 bytes", "Act Three: 66 bytes". */
export const ACT_ONE_LENGTH = 50;
export const ACT_TWO_LENGTH = 50;
export const ACT_THREE_LENGTH = 66;

const VERSION = Uint8Array.of(0);
const EMPTY = new Uint8Array(0);

/** What a finished handshake leaves: the input of `Transport`. 32 bytes each. */
export interface SessionKeys {
  /** `sk` */
  readonly sendingKey: Uint8Array;
  /** `rk` */
  readonly receivingKey: Uint8Array;
  /** `ck`, from which both directions' keys rotate. */
  readonly chainingKey: Uint8Array;
}

/** The initiator has sent Act One and awaits Act Two. */
export interface InitiatorAwaitsActTwo {
  readonly type: 'initiator_awaits_act_two';
  readonly symmetric: SymmetricState;
  readonly ephemeralSecret: Uint8Array;
}

/** Act Two is good; ECDH(holder's static secret, `ecdhPoint`) is wanted. */
export interface InitiatorNeedsEcdh {
  readonly type: 'initiator_needs_ecdh';
  readonly symmetric: SymmetricState;
  readonly key: Uint8Array;
  /** The responder's ephemeral public key. */
  readonly ecdhPoint: Uint8Array;
}

/** Act One is well-formed; ECDH(holder's static secret, `ecdhPoint`) is wanted. */
export interface ResponderNeedsEcdh {
  readonly type: 'responder_needs_ecdh';
  readonly symmetric: SymmetricState;
  readonly tag: Uint8Array;
  /** The initiator's ephemeral public key. */
  readonly ecdhPoint: Uint8Array;
}

/** The responder has sent Act Two and awaits Act Three. */
export interface ResponderAwaitsActThree {
  readonly type: 'responder_awaits_act_three';
  readonly symmetric: SymmetricState;
  readonly key: Uint8Array;
  readonly ephemeralSecret: Uint8Array;
}

function fail(kind: HandshakeError['kind'], act: HandshakeError['act']): Result<never, HandshakeError> {
  return err({ kind, act });
}

/** Splits an act of 50 bytes into ephemeral key and tag. */
function parseEphemeralAct(
  secp: Secp256k1,
  bytes: Uint8Array,
  act: 1 | 2,
): Result<{ readonly ephemeralKey: Uint8Array; readonly tag: Uint8Array }, HandshakeError> {
  if (bytes.length !== ACT_ONE_LENGTH) return fail('bad_length', act);
  // BOLT 8: "If v is an unrecognized handshake version, then the responder MUST abort the connection attempt."
  if (bytes[0] !== 0) return fail('bad_version', act);
  const ephemeralKey = bytes.slice(1, 34);
  if (!secp.isPublicKey(ephemeralKey)) return fail('bad_public_key', act);
  return ok({ ephemeralKey, tag: bytes.slice(34) });
}

/**
 * Act One of the initiator (BOLT 8, "Act One", sender).
 *
 * @param ephemeralSecret 32 fresh random bytes, a valid scalar, never used twice.
 * @returns `bad_public_key` (act 0) if the responder's node id is not a point.
 * @throws CryptoError if the ephemeral secret is not a scalar.
 */
export function initiatorMakeActOne(
  secp: Secp256k1,
  {
    ephemeralSecret,
    counterpartyStaticKey,
  }: { readonly ephemeralSecret: Uint8Array; readonly counterpartyStaticKey: Uint8Array },
): Result<{ readonly act: Uint8Array; readonly state: InitiatorAwaitsActTwo }, HandshakeError> {
  if (!secp.isPublicKey(counterpartyStaticKey)) return fail('bad_public_key', 0);
  const ephemeralKey = secp.publicKeyOf(ephemeralSecret);
  const hashed = mixHash(initialState(counterpartyStaticKey), ephemeralKey);
  const mixed = mixKey(hashed, secp.ecdh(counterpartyStaticKey, ephemeralSecret));
  const { state: symmetric, ciphertext } = encryptAndHash(mixed.state, mixed.key, 0);
  return ok({
    act: concat(VERSION, ephemeralKey, ciphertext),
    state: { type: 'initiator_awaits_act_two', symmetric, ephemeralSecret },
  });
}

/** Reads Act Two (BOLT 8, "Act Two", receiver); the result names the point for the ECDH of Act Three. */
export function initiatorReadActTwo(
  secp: Secp256k1,
  state: InitiatorAwaitsActTwo,
  actTwo: Uint8Array,
): Result<InitiatorNeedsEcdh, HandshakeError> {
  const parsed = parseEphemeralAct(secp, actTwo, 2);
  if (!parsed.ok) return parsed;
  const { ephemeralKey, tag } = parsed.value;
  const hashed = mixHash(state.symmetric, ephemeralKey);
  const mixed = mixKey(hashed, secp.ecdh(ephemeralKey, state.ephemeralSecret));
  const read = decryptAndHash(mixed.state, mixed.key, 0, tag);
  if (!read) return fail('bad_tag', 2);
  return ok({ type: 'initiator_needs_ecdh', symmetric: read.state, key: mixed.key, ecdhPoint: ephemeralKey });
}

/**
 * Act Three of the initiator (BOLT 8, "Act Three", sender), and the session's keys.
 *
 * @param holderStaticKey the initiator's own node id, 33 bytes.
 * @param ecdhWithStatic ECDH(holder's static secret, `state.ecdhPoint`), 32 bytes.
 */
export function initiatorMakeActThree(
  state: InitiatorNeedsEcdh,
  {
    holderStaticKey,
    ecdhWithStatic,
  }: { readonly holderStaticKey: Uint8Array; readonly ecdhWithStatic: Uint8Array },
): { readonly act: Uint8Array; readonly keys: SessionKeys } {
  const key = encryptAndHash(state.symmetric, state.key, 1, holderStaticKey);
  const mixed = mixKey(key.state, ecdhWithStatic);
  const tag = encryptAndHash(mixed.state, mixed.key, 0);
  const [sendingKey, receivingKey] = hkdfTwo(mixed.state.chainingKey, EMPTY);
  return {
    act: concat(VERSION, key.ciphertext, tag.ciphertext),
    keys: { sendingKey, receivingKey, chainingKey: mixed.state.chainingKey },
  };
}

/**
 * Reads Act One's form (BOLT 8, "Act One", receiver, steps 1 to 4); the tag is
 * checked in `responderMakeActTwo`, when the ECDH is there.
 *
 * @param holderStaticKey the responder's own node id, 33 bytes.
 */
export function responderReadActOne(
  secp: Secp256k1,
  holderStaticKey: Uint8Array,
  actOne: Uint8Array,
): Result<ResponderNeedsEcdh, HandshakeError> {
  const parsed = parseEphemeralAct(secp, actOne, 1);
  if (!parsed.ok) return parsed;
  const { ephemeralKey, tag } = parsed.value;
  const symmetric = mixHash(initialState(holderStaticKey), ephemeralKey);
  return ok({ type: 'responder_needs_ecdh', symmetric, tag, ecdhPoint: ephemeralKey });
}

/**
 * Checks Act One's tag and makes Act Two (BOLT 8, "Act One", receiver, steps 5 to 8; "Act Two", sender).
 *
 * @param ephemeralSecret 32 fresh random bytes, a valid scalar, never used twice.
 * @param ecdhWithStatic ECDH(holder's static secret, `state.ecdhPoint`), 32 bytes.
 * @returns `bad_tag` (act 1): "the initiator does not know the responder's static public key".
 */
export function responderMakeActTwo(
  secp: Secp256k1,
  state: ResponderNeedsEcdh,
  {
    ephemeralSecret,
    ecdhWithStatic,
  }: { readonly ephemeralSecret: Uint8Array; readonly ecdhWithStatic: Uint8Array },
): Result<{ readonly act: Uint8Array; readonly state: ResponderAwaitsActThree }, HandshakeError> {
  const first = mixKey(state.symmetric, ecdhWithStatic);
  const read = decryptAndHash(first.state, first.key, 0, state.tag);
  if (!read) return fail('bad_tag', 1);
  const ephemeralKey = secp.publicKeyOf(ephemeralSecret);
  const hashed = mixHash(read.state, ephemeralKey);
  const second = mixKey(hashed, secp.ecdh(state.ecdhPoint, ephemeralSecret));
  const { state: symmetric, ciphertext } = encryptAndHash(second.state, second.key, 0);
  return ok({
    act: concat(VERSION, ephemeralKey, ciphertext),
    state: { type: 'responder_awaits_act_three', symmetric, key: second.key, ephemeralSecret },
  });
}

/** Reads Act Three (BOLT 8, "Act Three", receiver): the initiator's node id, now proven, and the session's keys. */
export function responderReadActThree(
  secp: Secp256k1,
  state: ResponderAwaitsActThree,
  actThree: Uint8Array,
): Result<{ readonly counterpartyStaticKey: Uint8Array; readonly keys: SessionKeys }, HandshakeError> {
  if (actThree.length !== ACT_THREE_LENGTH) return fail('bad_length', 3);
  if (actThree[0] !== 0) return fail('bad_version', 3);
  const key = decryptAndHash(state.symmetric, state.key, 1, actThree.subarray(1, 50));
  if (!key) return fail('bad_ciphertext', 3);
  const counterpartyStaticKey = key.plaintext;
  if (!secp.isPublicKey(counterpartyStaticKey)) return fail('bad_public_key', 3);
  const mixed = mixKey(key.state, secp.ecdh(counterpartyStaticKey, state.ephemeralSecret));
  if (!decryptAndHash(mixed.state, mixed.key, 0, actThree.subarray(50))) return fail('bad_tag', 3);
  const [receivingKey, sendingKey] = hkdfTwo(mixed.state.chainingKey, EMPTY);
  return ok({
    counterpartyStaticKey,
    keys: { sendingKey, receivingKey, chainingKey: mixed.state.chainingKey },
  });
}
