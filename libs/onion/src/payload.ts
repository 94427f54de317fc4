/**
 * The TLV stream that a hop of a payment reads (BOLT 4, "payload format"), and
 * keysend's preimage, which is not of BOLT 4 but widely understood.
 */
import { defineTlvStream, fixedBytes, point, restBytes, struct, tlv, tu32, tu64, u64 } from '@fulmen/codec';
import type { DecodeError, Result, TlvRecord, TlvStreamOf } from '@fulmen/codec';

/** The stream's declaration; unknown odd records are kept, unknown even ones refused. */
export const hopPayloadTlvs = defineTlvStream({
  amtToForwardMsat: tlv(2, tu64),
  outgoingCltvHeight: tlv(4, tu32),
  shortChannelId: tlv(6, u64),
  paymentData: tlv(8, struct({ paymentSecret: fixedBytes(32), totalMsat: tu64 })),
  encryptedRecipientData: tlv(10, restBytes),
  currentPathKey: tlv(12, point),
  paymentMetadata: tlv(16, restBytes),
  totalAmountMsat: tlv(18, tu64),
  keysendPreimage: tlv(5482373484n, fixedBytes(32)),
});

/** A payment hop's payload. */
export interface HopPayload {
  readonly tlvs: TlvStreamOf<typeof hopPayloadTlvs>;
  /** Odd types not known here, custom records among them. */
  readonly unknownTlvs: readonly TlvRecord[];
}

/** Decodes a payload as `peelOnion` returned it. */
export function decodeHopPayload(payload: Uint8Array): Result<HopPayload, DecodeError> {
  return hopPayloadTlvs.decode(payload);
}

/** Encodes a payload for `buildOnion`. @throws EncodeError for values out of range. */
export function encodeHopPayload(
  tlvs: TlvStreamOf<typeof hopPayloadTlvs>,
  unknownTlvs: readonly TlvRecord[] = [],
): Uint8Array {
  return hopPayloadTlvs.encode(tlvs, unknownTlvs);
}
