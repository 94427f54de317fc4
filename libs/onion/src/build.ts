/**
 * Building an onion packet (BOLT 4, "Packet Construction", "Filler
 * Generation"): Sphinx with payloads of variable length, the same for payments
 * and for onion messages.
 */
import { bigsizeLength, concatBytes, encodeBigsize, err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { hmacSha256, sha256 } from '@fulmen/crypto';
import type { Secp256k1 } from '@fulmen/crypto';
import { deriveKey, deriveStream, xorInto } from './keys.ts';
import { HMAC_LENGTH, PAYMENT_PAYLOADS_LENGTH, joinPacket } from './packet.ts';

/** One hop of an onion: whom it is encrypted to, and the TLV stream it reads. */
export interface OnionHop {
  /** Node id, or blinded node id inside a blinded path: 33 bytes. */
  readonly nodeId: Uint8Array;
  /** TLV stream without its length prefix, at least 2 bytes. */
  readonly payload: Uint8Array;
}

/** What an onion is built from. */
export interface OnionPlan {
  /** 32 bytes, never used twice; persisted with the payment to unwrap its failures. */
  readonly sessionKey: Uint8Array;
  /** From the first peer to the final node. */
  readonly hops: readonly OnionHop[];
  /** The payment hash; empty for onion messages. */
  readonly associatedData: Uint8Array;
  /** Bytes of payloads in the packet; 1300 by default. */
  readonly payloadsLength?: number;
}

/** Why an onion cannot be built. */
export type BuildError =
  | { readonly kind: 'no_hops' }
  | { readonly kind: 'payload_too_short'; readonly hopIndex: number }
  | { readonly kind: 'payloads_too_long'; readonly neededBytes: number; readonly availableBytes: number };

/** A built onion and each hop's secret, in order of the route, which `unwrapFailure` needs. */
export interface BuiltOnion {
  readonly packet: Uint8Array;
  readonly sharedSecrets: readonly Uint8Array[];
}

/** Bytes that a payload takes in a packet: length prefix, payload, HMAC (`shift_size` in BOLT 4). */
export function hopPayloadLength(payloadLength: number): number {
  return bigsizeLength(payloadLength) + payloadLength + HMAC_LENGTH;
}

/**
 * The shared secret of every hop from the session key (BOLT 4, "Shared
 * Secret"), for building an onion and, after a restart, for unwrapping its
 * failures.
 *
 * @throws CryptoError if the session key or a node id is invalid.
 */
export function onionSharedSecrets(
  secp: Secp256k1,
  sessionKey: Uint8Array,
  nodeIds: readonly Uint8Array[],
): Uint8Array[] {
  const secrets: Uint8Array[] = [];
  let ephemeralSecret = sessionKey;
  for (const [index, nodeId] of nodeIds.entries()) {
    const sharedSecret = secp.ecdh(nodeId, ephemeralSecret);
    secrets.push(sharedSecret);
    if (index === nodeIds.length - 1) break;
    const factor = sha256(concatBytes(secp.publicKeyOf(ephemeralSecret), sharedSecret));
    ephemeralSecret = secp.secretKeyTweakMul(ephemeralSecret, factor);
  }
  return secrets;
}

/**
 * Builds a packet. Errors are the caller's to decide: a route whose payloads
 * do not fit needs to be shorter.
 *
 * @throws CryptoError if the session key or a node id is invalid.
 */
export function buildOnion(secp: Secp256k1, plan: OnionPlan): Result<BuiltOnion, BuildError> {
  const size = plan.payloadsLength ?? PAYMENT_PAYLOADS_LENGTH;
  if (plan.hops.length === 0) return err({ kind: 'no_hops' });
  // BOLT 4: "length values of 0 and 1 are reserved"
  const short = plan.hops.findIndex((hop) => hop.payload.length < 2);
  if (short >= 0) return err({ kind: 'payload_too_short', hopIndex: short });
  const lengths = plan.hops.map((hop) => hopPayloadLength(hop.payload.length));
  const neededBytes = lengths.reduce((sum, length) => sum + length, 0);
  if (neededBytes > size) return err({ kind: 'payloads_too_long', neededBytes, availableBytes: size });

  const sharedSecrets = onionSharedSecrets(
    secp,
    plan.sessionKey,
    plan.hops.map((hop) => hop.nodeId),
  );
  const filler = fillerOf(sharedSecrets, lengths, size);
  // BOLT 4: the packet starts as bytes of the pad stream of the session key.
  const payloads = deriveStream('pad', plan.sessionKey, size);
  let hmac: Uint8Array = new Uint8Array(HMAC_LENGTH);
  for (let i = plan.hops.length - 1; i >= 0; i--) {
    const hop = plan.hops[i];
    const secret = sharedSecrets[i];
    const shift = lengths[i];
    if (hop === undefined || secret === undefined || shift === undefined) continue;
    payloads.copyWithin(shift, 0, size - shift);
    payloads.set(encodeBigsize(hop.payload.length), 0);
    payloads.set(hop.payload, shift - HMAC_LENGTH - hop.payload.length);
    payloads.set(hmac, shift - HMAC_LENGTH);
    xorInto(payloads, deriveStream('rho', secret, size));
    if (i === plan.hops.length - 1) payloads.set(filler, size - filler.length);
    hmac = hmacSha256(deriveKey('mu', secret), concatBytes(payloads, plan.associatedData));
  }
  const packet = joinPacket({ ephemeralKey: secp.publicKeyOf(plan.sessionKey), payloads, hmac });
  return ok({ packet, sharedSecrets });
}

/** What the padding added by all hops before the last looks like to the last one. */
function fillerOf(
  sharedSecrets: readonly Uint8Array[],
  lengths: readonly number[],
  size: number,
): Uint8Array {
  const last = sharedSecrets.length - 1;
  const total = lengths.slice(0, last).reduce((sum, length) => sum + length, 0);
  const filler = new Uint8Array(total);
  let used = 0;
  for (let i = 0; i < last; i++) {
    const secret = sharedSecrets[i];
    const shift = lengths[i];
    if (secret === undefined || shift === undefined) continue;
    const stream = deriveStream('rho', secret, size + shift);
    // The hop appends zeros and XORs the whole; what earlier hops added sits before them.
    xorInto(filler.subarray(0, used + shift), stream.subarray(size - used));
    used += shift;
  }
  return filler;
}
