/**
 * What a blinded hop reads in `encrypted_recipient_data` (BOLT 4,
 * "encrypted_data_tlv"): where to forward, on which terms, or for the recipient
 * the context in which it made the path.
 */
import { defineTlvStream, point, restBytes, struct, tlv, tu32, tu64, u16, u32, u64 } from '@fulmen/codec';
import type { DecodeError, Result, TlvRecord, TlvStreamOf } from '@fulmen/codec';

/** The stream's declaration; unknown odd records are kept, unknown even ones refused. */
export const recipientDataTlvs = defineTlvStream({
  padding: tlv(1, restBytes),
  shortChannelId: tlv(2, u64),
  nextNodeId: tlv(4, point),
  pathId: tlv(6, restBytes),
  nextPathKeyOverride: tlv(8, point),
  paymentRelay: tlv(10, struct({ cltvExpiryDelta: u16, feeProportionalMillionths: u32, feeBaseMsat: tu32 })),
  paymentConstraints: tlv(12, struct({ maxCltvExpiryHeight: u32, htlcMinimumMsat: tu64 })),
  allowedFeatures: tlv(14, restBytes),
});

/** A blinded hop's instructions. */
export interface RecipientData {
  readonly tlvs: TlvStreamOf<typeof recipientDataTlvs>;
  readonly unknownTlvs: readonly TlvRecord[];
}

/** Decodes decrypted recipient data. */
export function decodeRecipientData(bytes: Uint8Array): Result<RecipientData, DecodeError> {
  return recipientDataTlvs.decode(bytes);
}

/** Encodes recipient data, to be encrypted by `blindPath`. @throws EncodeError for values out of range. */
export function encodeRecipientData(
  tlvs: TlvStreamOf<typeof recipientDataTlvs>,
  unknownTlvs: readonly TlvRecord[] = [],
): Uint8Array {
  return recipientDataTlvs.encode(tlvs, unknownTlvs);
}

/**
 * Encodes several hops' data at one length, by padding. BOLT 4: "SHOULD add
 * padding data to ensure all encrypted_data_tlv[i] have the same length".
 */
export function encodeRecipientDataPadded(hops: readonly RecipientData[]): Uint8Array[] {
  const bare = hops.map(({ tlvs, unknownTlvs }) => {
    const { padding: _padding, ...rest } = tlvs;
    return { tlvs: rest, unknownTlvs };
  });
  const longest = bare.reduce(
    (max, hop) => Math.max(max, recipientDataTlvs.encode(hop.tlvs, hop.unknownTlvs).length),
    0,
  );
  // Every hop gets a padding record, of 2 bytes and its content (4 and more once the length takes 3 bytes).
  for (let target = longest + 2; ; target++) {
    const encoded = bare.map((hop) => padTo(hop, target));
    if (encoded.every((bytes) => bytes !== undefined)) return encoded;
  }
}

/** The data at exactly `target` bytes; undefined at the lengths that a record's length prefix jumps over. */
function padTo(hop: RecipientData, target: number): Uint8Array | undefined {
  const withPadding = (length: number): Uint8Array =>
    recipientDataTlvs.encode({ ...hop.tlvs, padding: new Uint8Array(length) }, hop.unknownTlvs);
  const missing = target - withPadding(0).length;
  for (const length of [missing, missing - 2]) {
    if (length < 0) continue;
    const bytes = withPadding(length);
    if (bytes.length === target) return bytes;
  }
  return undefined;
}
