/**
 * Processing an onion packet (BOLT 4, "Onion Decryption"). The node key lives
 * in another process, so the ECDH comes from outside:
 *
 * 1. `onionEphemeralKey` checks the version and the key;
 * 2. with a `path_key` in play, `blindedEphemeralKey` tweaks that key;
 * 3. the caller has ECDH(key, node key) computed;
 * 4. `peelOnion` checks the HMAC and splits payload and next packet.
 *
 * Replay protection is the caller's: the shared secret is the packet's
 * identity, to be stored with the HTLC that carried it.
 */
import { DecodeError, Reader, concatBytes, err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { CryptoError, constantTimeEqual, hmacSha256, sha256 } from '@fulmen/crypto';
import type { Secp256k1 } from '@fulmen/crypto';
import { deriveKey, deriveStream, xorInto } from './keys.ts';
import { HMAC_LENGTH, PACKET_OVERHEAD, joinPacket, splitPacket } from './packet.ts';
import type { OnionError } from './packet.ts';

/** An onion with one layer removed. */
export interface PeeledOnion {
  /** This hop's TLV stream, without its length prefix. */
  readonly payload: Uint8Array;
  /** The packet for the next hop; undefined when this is the final node. */
  readonly next: { readonly packet: Uint8Array } | undefined;
  /** Identity for replay protection, and the secret that wraps failures. */
  readonly sharedSecret: Uint8Array;
}

const NO_HMAC = new Uint8Array(HMAC_LENGTH);

/** The ephemeral key of a packet, after the version and the key are checked (before any ECDH). */
export function onionEphemeralKey(secp: Secp256k1, packet: Uint8Array): Result<Uint8Array, OnionError> {
  // BOLT 4: "if version is not 0: MUST abort processing the packet and fail."
  if (packet[0] !== 0) return err({ kind: 'invalid_onion_version', sha256OfOnion: sha256(packet) });
  const key = packet.slice(1, 34);
  // BOLT 4: "if public_key is not a valid pubkey: MUST abort processing the packet and fail."
  if (!secp.isPublicKey(key)) return err({ kind: 'invalid_onion_key', sha256OfOnion: sha256(packet) });
  return ok(key);
}

/**
 * Removes this node's layer.
 *
 * @param packet as received: 1366 bytes for a payment, other sizes in onion messages.
 * @param sharedSecret ECDH of the (possibly tweaked, see `blindedEphemeralKey`) ephemeral key and the node key.
 * @param associatedData the payment hash; empty for onion messages.
 */
export function peelOnion(
  secp: Secp256k1,
  packet: Uint8Array,
  sharedSecret: Uint8Array,
  associatedData: Uint8Array,
): Result<PeeledOnion, OnionError> {
  const key = onionEphemeralKey(secp, packet);
  if (!key.ok) return key;
  if (packet.length < PACKET_OVERHEAD)
    return err({ kind: 'invalid_onion_hmac', sha256OfOnion: sha256(packet) });
  const parts = splitPacket(packet);
  const size = parts.payloads.length;
  const expected = hmacSha256(deriveKey('mu', sharedSecret), concatBytes(parts.payloads, associatedData));
  // BOLT 4: "MUST use a constant time comparison of the computed HMAC and hmac."
  if (!constantTimeEqual(expected, parts.hmac)) {
    return err({ kind: 'invalid_onion_hmac', sha256OfOnion: sha256(packet) });
  }
  // BOLT 4: "Derive bytestream of twice the length of hop_payloads using rho"
  const unwrapped = deriveStream('rho', sharedSecret, 2 * size);
  xorInto(unwrapped, parts.payloads);

  const front = splitFront(unwrapped.subarray(0, size));
  if (front === undefined) return err({ kind: 'invalid_onion_payload', tlvType: 0n, offset: 0 });
  const { payload, nextHmac, consumed } = front;
  const peeled = { payload, sharedSecret };
  if (constantTimeEqual(nextHmac, NO_HMAC)) return ok({ ...peeled, next: undefined });

  const tweak = sha256(concatBytes(key.value, sharedSecret));
  const ephemeralKey = tweakOrUndefined(secp, key.value, tweak);
  if (ephemeralKey === undefined) return err({ kind: 'invalid_onion_key', sha256OfOnion: sha256(packet) });
  const payloads = unwrapped.subarray(consumed, consumed + size);
  return ok({ ...peeled, next: { packet: joinPacket({ ephemeralKey, payloads, hmac: nextHmac }) } });
}

/**
 * Reads length, payload and HMAC from the size of the incoming payloads.
 * BOLT 4: "If unwrapped_payloads is smaller than hop_payloads: MUST abort",
 * that is, all three must lie within the first half.
 */
function splitFront(
  bytes: Uint8Array,
): { payload: Uint8Array; nextHmac: Uint8Array; consumed: number } | undefined {
  try {
    const reader = new Reader(bytes);
    const length = reader.bigsizeLength();
    // BOLT 4: "If the payload_length is less than two: MUST abort processing the packet and fail."
    if (length < 2) return undefined;
    const payload = reader.bytes(length);
    const nextHmac = reader.bytes(HMAC_LENGTH);
    return { payload, nextHmac, consumed: reader.offset };
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}

/** Undefined if the hash is no scalar, which nobody can bring about (probability 2^-127). */
function tweakOrUndefined(secp: Secp256k1, key: Uint8Array, tweak: Uint8Array): Uint8Array | undefined {
  try {
    return secp.publicKeyTweakMul(key, tweak);
  } catch (error) {
    if (error instanceof CryptoError) return undefined;
    throw error;
  }
}
