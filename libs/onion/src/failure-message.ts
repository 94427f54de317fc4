/**
 * Failure messages (BOLT 4, "Failure Messages"): every code with its data, as a
 * union. A code that is unknown, or whose data is too short, is kept as
 * `unknown`, because its flag bits still say what to do.
 */
import { DecodeError, Reader, Writer, assertNever } from '@fulmen/codec';

/** The flags in the top byte of a failure code. */
export const BADONION = 0x8000;
export const PERM = 0x4000;
export const NODE = 0x2000;
export const UPDATE = 0x1000;

/** The codes of BOLT 4, by name. */
export const FAILURE_CODES = {
  temporary_node_failure: NODE | 2,
  permanent_node_failure: PERM | NODE | 2,
  required_node_feature_missing: PERM | NODE | 3,
  invalid_onion_version: BADONION | PERM | 4,
  invalid_onion_hmac: BADONION | PERM | 5,
  invalid_onion_key: BADONION | PERM | 6,
  temporary_channel_failure: UPDATE | 7,
  permanent_channel_failure: PERM | 8,
  required_channel_feature_missing: PERM | 9,
  unknown_next_peer: PERM | 10,
  amount_below_minimum: UPDATE | 11,
  fee_insufficient: UPDATE | 12,
  incorrect_cltv_expiry: UPDATE | 13,
  expiry_too_soon: UPDATE | 14,
  incorrect_or_unknown_payment_details: PERM | 15,
  final_incorrect_cltv_expiry: 18,
  final_incorrect_htlc_amount: 19,
  channel_disabled: UPDATE | 20,
  expiry_too_far: 21,
  invalid_onion_payload: PERM | 22,
  mpp_timeout: 23,
  invalid_onion_blinding: BADONION | PERM | 24,
} as const;

/** A failure code's name. */
export type FailureName = keyof typeof FAILURE_CODES;

interface Trailing {
  /** Bytes after the data that belongs to the code: an optional TLV stream, kept as it came. */
  readonly trailing?: Uint8Array;
}

/**
 * `channelUpdate` is the raw field: usually empty (BOLT 4: nodes "are expected
 * to transition away from including it"), else a `channel_update` message.
 */
export type FailureMessage = Trailing &
  (
    | {
        readonly kind:
          | 'temporary_node_failure'
          | 'permanent_node_failure'
          | 'required_node_feature_missing'
          | 'permanent_channel_failure'
          | 'required_channel_feature_missing'
          | 'unknown_next_peer'
          | 'expiry_too_far'
          | 'mpp_timeout';
      }
    | {
        readonly kind:
          | 'invalid_onion_version'
          | 'invalid_onion_hmac'
          | 'invalid_onion_key'
          | 'invalid_onion_blinding';
        /** SHA-256 of the onion packet that was refused. */
        readonly sha256OfOnion: Uint8Array;
      }
    | { readonly kind: 'temporary_channel_failure' | 'expiry_too_soon'; readonly channelUpdate: Uint8Array }
    | {
        readonly kind: 'amount_below_minimum' | 'fee_insufficient';
        readonly htlcMsat: bigint;
        readonly channelUpdate: Uint8Array;
      }
    | {
        readonly kind: 'incorrect_cltv_expiry';
        readonly cltvExpiryHeight: number;
        readonly channelUpdate: Uint8Array;
      }
    | {
        readonly kind: 'incorrect_or_unknown_payment_details';
        readonly htlcMsat: bigint;
        /** Best height known to the final node when the HTLC came. */
        readonly height: number;
      }
    | { readonly kind: 'final_incorrect_cltv_expiry'; readonly cltvExpiryHeight: number }
    | { readonly kind: 'final_incorrect_htlc_amount'; readonly incomingHtlcMsat: bigint }
    | {
        readonly kind: 'channel_disabled';
        readonly disabledFlags: number;
        readonly channelUpdate: Uint8Array;
      }
    | {
        readonly kind: 'invalid_onion_payload';
        /** The offending TLV type, 0 if it could not be narrowed down. */
        readonly tlvType: bigint;
        /** Its byte offset in the decrypted payload. */
        readonly offset: number;
      }
    | { readonly kind: 'unknown'; readonly failureCode: number; readonly data: Uint8Array }
  );

const NAME_OF_CODE: ReadonlyMap<number, FailureName> = new Map(
  (Object.keys(FAILURE_CODES) as FailureName[]).map((name) => [FAILURE_CODES[name], name]),
);

/** The 16-bit code of a failure. */
export function failureCode(failure: FailureMessage): number {
  return failure.kind === 'unknown' ? failure.failureCode : FAILURE_CODES[failure.kind];
}

/** Encodes code, data and trailing bytes. @throws EncodeError for numbers or lengths out of range. */
export function encodeFailureMessage(failure: FailureMessage): Uint8Array {
  const writer = new Writer(64).u16(failureCode(failure));
  writeData(writer, failure);
  if (failure.trailing !== undefined) writer.bytes(failure.trailing);
  return writer.finish();
}

function writeData(writer: Writer, failure: FailureMessage): void {
  switch (failure.kind) {
    case 'temporary_node_failure':
    case 'permanent_node_failure':
    case 'required_node_feature_missing':
    case 'permanent_channel_failure':
    case 'required_channel_feature_missing':
    case 'unknown_next_peer':
    case 'expiry_too_far':
    case 'mpp_timeout':
      return;
    case 'invalid_onion_version':
    case 'invalid_onion_hmac':
    case 'invalid_onion_key':
    case 'invalid_onion_blinding':
      writer.bytes(failure.sha256OfOnion);
      return;
    case 'temporary_channel_failure':
    case 'expiry_too_soon':
      writeUpdate(writer, failure.channelUpdate);
      return;
    case 'amount_below_minimum':
    case 'fee_insufficient':
      writeUpdate(writer.u64(failure.htlcMsat), failure.channelUpdate);
      return;
    case 'incorrect_cltv_expiry':
      writeUpdate(writer.u32(failure.cltvExpiryHeight), failure.channelUpdate);
      return;
    case 'incorrect_or_unknown_payment_details':
      writer.u64(failure.htlcMsat).u32(failure.height);
      return;
    case 'final_incorrect_cltv_expiry':
      writer.u32(failure.cltvExpiryHeight);
      return;
    case 'final_incorrect_htlc_amount':
      writer.u64(failure.incomingHtlcMsat);
      return;
    case 'channel_disabled':
      writeUpdate(writer.u16(failure.disabledFlags), failure.channelUpdate);
      return;
    case 'invalid_onion_payload':
      writer.bigsize(failure.tlvType).u16(failure.offset);
      return;
    case 'unknown':
      writer.bytes(failure.data);
      return;
  }
  assertNever(failure);
}

function writeUpdate(writer: Writer, channelUpdate: Uint8Array): void {
  writer.u16(channelUpdate.length).bytes(channelUpdate);
}

/**
 * Decodes a failure message; undefined only if there is not even a code.
 * BOLT 4, "Receiving Failure Codes": the origin "MUST ignore any extra bytes".
 */
export function decodeFailureMessage(bytes: Uint8Array): FailureMessage | undefined {
  if (bytes.length < 2) return undefined;
  const code = new Reader(bytes).u16();
  const name = NAME_OF_CODE.get(code);
  if (name !== undefined) {
    try {
      const reader = new Reader(bytes.subarray(2));
      const failure = readData(reader, name);
      return reader.remaining === 0 ? failure : { ...failure, trailing: reader.rest() };
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
    }
  }
  return { kind: 'unknown', failureCode: code, data: bytes.slice(2) };
}

function readData(reader: Reader, kind: FailureName): FailureMessage {
  switch (kind) {
    case 'temporary_node_failure':
    case 'permanent_node_failure':
    case 'required_node_feature_missing':
    case 'permanent_channel_failure':
    case 'required_channel_feature_missing':
    case 'unknown_next_peer':
    case 'expiry_too_far':
    case 'mpp_timeout':
      return { kind };
    case 'invalid_onion_version':
    case 'invalid_onion_hmac':
    case 'invalid_onion_key':
    case 'invalid_onion_blinding':
      return { kind, sha256OfOnion: reader.bytes(32) };
    case 'temporary_channel_failure':
    case 'expiry_too_soon':
      return { kind, channelUpdate: reader.bytes(reader.u16()) };
    case 'amount_below_minimum':
    case 'fee_insufficient':
      return { kind, htlcMsat: reader.u64(), channelUpdate: reader.bytes(reader.u16()) };
    case 'incorrect_cltv_expiry':
      return { kind, cltvExpiryHeight: reader.u32(), channelUpdate: reader.bytes(reader.u16()) };
    case 'incorrect_or_unknown_payment_details':
      return { kind, htlcMsat: reader.u64(), height: reader.u32() };
    case 'final_incorrect_cltv_expiry':
      return { kind, cltvExpiryHeight: reader.u32() };
    case 'final_incorrect_htlc_amount':
      return { kind, incomingHtlcMsat: reader.u64() };
    case 'channel_disabled':
      return { kind, disabledFlags: reader.u16(), channelUpdate: reader.bytes(reader.u16()) };
    case 'invalid_onion_payload':
      return { kind, tlvType: reader.bigsize(), offset: reader.u16() };
  }
  return assertNever(kind);
}

/** What a failure says, without what may be of any length: its sender's channel_update, an unknown code's data, extra bytes. */
export function withoutBulk({ trailing: _, ...failure }: FailureMessage): FailureMessage {
  if (failure.kind === 'unknown') return { ...failure, data: NOTHING };
  return 'channelUpdate' in failure ? { ...failure, channelUpdate: NOTHING } : failure;
}

const NOTHING = new Uint8Array(0);

/**
 * The failure that the node upstream of a refused onion reports in its own
 * name, from `update_fail_malformed_htlc`. BOLT 2 wants the BADONION bit in
 * the code: undefined without it, which is the peer's fault.
 */
export function failureFromMalformed(code: number, sha256OfOnion: Uint8Array): FailureMessage | undefined {
  if ((code & BADONION) === 0) return undefined;
  const name = NAME_OF_CODE.get(code);
  if (
    name === 'invalid_onion_version' ||
    name === 'invalid_onion_hmac' ||
    name === 'invalid_onion_key' ||
    name === 'invalid_onion_blinding'
  ) {
    return { kind: name, sha256OfOnion };
  }
  // Codes of later specifications pass through with the hash as their data.
  return { kind: 'unknown', failureCode: code, data: sha256OfOnion };
}
