/**
 * Onion messages (BOLT 4, "Onion Messages"): the TLV stream inside the packet,
 * and the way from a blinded path and a content to a packet.
 */
import { defineTlvStream, err, restBytes, tlv } from '@fulmen/codec';
import type { DecodeError, Result, TlvRecord, TlvStreamOf } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import { blindedPathCoder } from './blinded-path.ts';
import type { BlindedHop } from './blinded-path.ts';
import { buildOnion, hopPayloadLength } from './build.ts';
import type { BuildError, BuiltOnion } from './build.ts';
import { LARGE_MESSAGE_PAYLOADS_LENGTH, PAYMENT_PAYLOADS_LENGTH } from './packet.ts';

/** The stream's declaration; the BOLT 12 contents are opaque here. */
export const onionMessageTlvs = defineTlvStream({
  replyPath: tlv(2, blindedPathCoder),
  encryptedRecipientData: tlv(4, restBytes),
  invoiceRequest: tlv(64, restBytes),
  invoice: tlv(66, restBytes),
  invoiceError: tlv(68, restBytes),
});

/** A hop's payload of an onion message. */
export interface OnionMessagePayload {
  readonly tlvs: TlvStreamOf<typeof onionMessageTlvs>;
  readonly unknownTlvs: readonly TlvRecord[];
}

/** Decodes a payload as `peelOnion` returned it. Any error means: ignore the message. */
export function decodeOnionMessagePayload(payload: Uint8Array): Result<OnionMessagePayload, DecodeError> {
  return onionMessageTlvs.decode(payload);
}

/** Encodes one hop's payload. @throws EncodeError for values out of range. */
export function encodeOnionMessagePayload(
  tlvs: TlvStreamOf<typeof onionMessageTlvs>,
  unknownTlvs: readonly TlvRecord[] = [],
): Uint8Array {
  return onionMessageTlvs.encode(tlvs, unknownTlvs);
}

/** What the final hop reads, beside its recipient data. */
export interface OnionMessageContent {
  readonly tlvs: Omit<TlvStreamOf<typeof onionMessageTlvs>, 'encryptedRecipientData'>;
  readonly unknownTlvs?: readonly TlvRecord[];
}

/**
 * Builds the packet that carries `content` along blinded hops. BOLT 4: "SHOULD
 * set onion_message_packet len to 1366 or 32834": the smaller one that fits.
 *
 * @param sessionKey 32 random bytes, other than the path's.
 * @throws CryptoError for an invalid key; EncodeError for values out of range.
 */
export function buildOnionMessage(
  secp: Secp256k1,
  sessionKey: Uint8Array,
  hops: readonly BlindedHop[],
  content: OnionMessageContent,
): Result<BuiltOnion, BuildError> {
  if (hops.length === 0) return err({ kind: 'no_hops' });
  const onionHops = hops.map((hop, index) => {
    const { encryptedRecipientData } = hop;
    // BOLT 4: "For the non-final nodes' onionmsg_tlv: MUST NOT set fields other than encrypted_recipient_data."
    const payload =
      index < hops.length - 1
        ? encodeOnionMessagePayload({ encryptedRecipientData })
        : encodeOnionMessagePayload({ ...content.tlvs, encryptedRecipientData }, content.unknownTlvs);
    return { nodeId: hop.blindedNodeId, payload };
  });
  const needed = onionHops.reduce((sum, hop) => sum + hopPayloadLength(hop.payload.length), 0);
  return buildOnion(secp, {
    sessionKey,
    hops: onionHops,
    // BOLT 4: "MUST NOT use any associated_data in the Sphinx construction."
    associatedData: new Uint8Array(0),
    payloadsLength:
      needed <= PAYMENT_PAYLOADS_LENGTH ? PAYMENT_PAYLOADS_LENGTH : LARGE_MESSAGE_PAYLOADS_LENGTH,
  });
}
