/**
 * The onion packet on the wire: version ‖ ephemeral key ‖ hop payloads ‖ HMAC
 * (BOLT 4, "Packet Structure"). Payment onions have 1300 bytes of payloads;
 * in onion messages the size follows from the packet's length.
 */
import type { FailureMessage } from './failure-message.ts';

/** Payload bytes of a payment onion. */
export const PAYMENT_PAYLOADS_LENGTH = 1300;
/** Bytes of a payment onion packet. */
export const PAYMENT_PACKET_LENGTH = 1366;
/** BOLT 4, "Onion Messages": "SHOULD set onion_message_packet len to 1366 or 32834". */
export const LARGE_MESSAGE_PAYLOADS_LENGTH = 32768;
/** Version byte and ephemeral key before the payloads. */
export const PAYLOADS_OFFSET = 34;
/** Bytes of an HMAC. */
export const HMAC_LENGTH = 32;
/** Bytes of a packet that are not payloads. */
export const PACKET_OVERHEAD = PAYLOADS_OFFSET + HMAC_LENGTH;

/**
 * Why an onion cannot be processed: at once the failure to return. The kinds
 * with `sha256OfOnion` have the BADONION bit and go back in
 * `update_fail_malformed_htlc`; `invalid_onion_payload` is wrapped as usual,
 * because the HMAC was right and the origin can be answered.
 */
export type OnionError =
  | {
      readonly kind: 'invalid_onion_version' | 'invalid_onion_hmac' | 'invalid_onion_key';
      readonly sha256OfOnion: Uint8Array;
    }
  | Extract<FailureMessage, { kind: 'invalid_onion_payload' }>;

/** A packet's parts, sharing memory with it. */
export interface PacketParts {
  readonly ephemeralKey: Uint8Array;
  readonly payloads: Uint8Array;
  readonly hmac: Uint8Array;
}

/** Splits a packet of at least PACKET_OVERHEAD bytes. */
export function splitPacket(packet: Uint8Array): PacketParts {
  return {
    ephemeralKey: packet.subarray(1, PAYLOADS_OFFSET),
    payloads: packet.subarray(PAYLOADS_OFFSET, packet.length - HMAC_LENGTH),
    hmac: packet.subarray(packet.length - HMAC_LENGTH),
  };
}

/** Joins the parts of a version 0 packet. */
export function joinPacket(parts: PacketParts): Uint8Array {
  const out = new Uint8Array(PACKET_OVERHEAD + parts.payloads.length);
  out.set(parts.ephemeralKey, 1);
  out.set(parts.payloads, PAYLOADS_OFFSET);
  out.set(parts.hmac, out.length - HMAC_LENGTH);
  return out;
}
