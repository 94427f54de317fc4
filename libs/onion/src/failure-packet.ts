/**
 * Return packets (BOLT 4, "Returning Errors"): wrapped by the erring node,
 * obfuscated again by every hop on the way back, unwrapped by the origin, who
 * alone learns who failed.
 */
import { DecodeError, Reader, Writer } from '@fulmen/codec';
import { constantTimeEqual, hmacSha256 } from '@fulmen/crypto';
import { AttributionReader, addAttribution } from './attribution.ts';
import type { Attribution } from './attribution.ts';
import { decodeFailureMessage, encodeFailureMessage } from './failure-message.ts';
import type { FailureMessage } from './failure-message.ts';
import { deriveKey, deriveStream, xorInto } from './keys.ts';

/** BOLT 4: "SHOULD set pad such that the failure_len plus pad_len is equal to 256." */
export const FAILURE_PADDED_LENGTH = 256;
const HMAC_LENGTH = 32;
/** BOLT 4: "SHOULD continue decrypting, until the loop has been repeated 27 times" */
const UNWRAP_ITERATIONS = 27;

/** What `update_fail_htlc` carries. */
export interface FailurePacket {
  /** The `reason` field. */
  readonly reason: Uint8Array;
  /** 920 bytes, if there is any. */
  readonly attributionData: Uint8Array | undefined;
}

/** What the origin makes of a return packet. */
export type UnwrappedFailure =
  | {
      readonly kind: 'failure';
      /** Index into the shared secrets: which hop failed. */
      readonly hopIndex: number;
      readonly failure: FailureMessage;
      readonly attribution: Attribution | undefined;
    }
  /** No hop's HMAC fits: some node garbled the packet; the attribution tells between which two. */
  | { readonly kind: 'undecodable'; readonly attribution: Attribution | undefined };

/** The packet before any obfuscation: HMAC ‖ failure ‖ pad, both with lengths. */
function rawPacket(sharedSecret: Uint8Array, encoded: Uint8Array, paddedLength: number): Uint8Array {
  const padLength = Math.max(0, paddedLength - encoded.length);
  const body = new Writer(4 + encoded.length + padLength)
    .u16(encoded.length)
    .bytes(encoded)
    .u16(padLength)
    .bytes(new Uint8Array(padLength))
    .finish();
  const out = new Uint8Array(HMAC_LENGTH + body.length);
  out.set(hmacSha256(deriveKey('um', sharedSecret), body), 0);
  out.set(body, HMAC_LENGTH);
  return out;
}

/** Obfuscates at a hop; the same operation removes the hop's layer. */
function obfuscate(sharedSecret: Uint8Array, packet: Uint8Array): Uint8Array {
  const out = packet.slice();
  xorInto(out, deriveStream('ammag', sharedSecret, out.length));
  return out;
}

/** The return packet of the erring node, without attribution. @throws EncodeError for values out of range. */
export function wrapFailure(sharedSecret: Uint8Array, failure: FailureMessage): Uint8Array {
  return obfuscate(
    sharedSecret,
    rawPacket(sharedSecret, encodeFailureMessage(failure), FAILURE_PADDED_LENGTH),
  );
}

/** The return packet at an intermediate node, without attribution. */
export function wrapAgain(sharedSecret: Uint8Array, reason: Uint8Array): Uint8Array {
  return obfuscate(sharedSecret, reason);
}

/**
 * The return packet of the erring node, with attribution data.
 *
 * @param holdTime in units of 100 ms.
 * @param paddedLength of failure and padding together; older nodes may not parse other lengths than 256.
 * @throws EncodeError for values out of range.
 */
export function wrapFailureAttributed(
  sharedSecret: Uint8Array,
  failure: FailureMessage,
  holdTime: number,
  paddedLength = FAILURE_PADDED_LENGTH,
): { reason: Uint8Array; attributionData: Uint8Array } {
  const raw = rawPacket(sharedSecret, encodeFailureMessage(failure), paddedLength);
  return {
    reason: obfuscate(sharedSecret, raw),
    attributionData: addAttribution(sharedSecret, raw, undefined, holdTime),
  };
}

/**
 * The return packet at an intermediate node that supports attribution; the
 * downstream node need not.
 *
 * @param holdTime in units of 100 ms.
 */
export function wrapAgainAttributed(
  sharedSecret: Uint8Array,
  downstream: FailurePacket,
  holdTime: number,
): { reason: Uint8Array; attributionData: Uint8Array } {
  return {
    reason: obfuscate(sharedSecret, downstream.reason),
    attributionData: addAttribution(sharedSecret, downstream.reason, downstream.attributionData, holdTime),
  };
}

/**
 * Finds the hop that failed and what it said. Always takes 27 steps over the
 * whole packet, so that its time does not tell the erring node where in the
 * route it is.
 *
 * @param sharedSecrets of every hop, from the first to the final one, as
 *   `buildOnion` returned them; hops of a blinded path may be left out, since
 *   only its introduction node answers.
 */
export function unwrapFailure(sharedSecrets: readonly Uint8Array[], packet: FailurePacket): UnwrappedFailure {
  const attribution =
    packet.attributionData === undefined
      ? undefined
      : new AttributionReader(packet.attributionData, sharedSecrets.length);
  let reason: Uint8Array = packet.reason;
  let found: { hopIndex: number; plain: Uint8Array } | undefined;
  const steps = Math.max(UNWRAP_ITERATIONS, sharedSecrets.length);
  for (let i = 0; i < steps; i++) {
    // BOLT 4: "SHOULD use constant ammag and um keys to obfuscate the route length."
    const secret = sharedSecrets[i] ?? DUMMY_SECRET;
    reason = obfuscate(secret, reason);
    attribution?.next(secret, reason);
    const hmac = hmacSha256(deriveKey('um', secret), reason.subarray(HMAC_LENGTH));
    const matches = constantTimeEqual(hmac, reason.subarray(0, HMAC_LENGTH));
    if (matches && found === undefined && i < sharedSecrets.length) {
      found = { hopIndex: i, plain: reason };
      attribution?.stop();
    }
  }
  const learnt = attribution?.result();
  const message = found === undefined ? undefined : messageIn(found.plain);
  const failure = message === undefined ? undefined : decodeFailureMessage(message);
  if (found === undefined || failure === undefined) return { kind: 'undecodable', attribution: learnt };
  return { kind: 'failure', hopIndex: found.hopIndex, failure, attribution: learnt };
}

/** Stands in for the hops that a route lacks; what it decrypts is thrown away. */
const DUMMY_SECRET = new Uint8Array(32).fill(0x27);

/** The `failuremsg` field; the padding after it is of no interest. */
function messageIn(packet: Uint8Array): Uint8Array | undefined {
  try {
    const reader = new Reader(packet.subarray(HMAC_LENGTH));
    return reader.bytes(reader.u16());
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}
