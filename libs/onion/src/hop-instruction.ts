/**
 * From a hop's payload to what it must do with the HTLC (BOLT 4, "payload
 * format", Requirements of the reader): the checks that need neither the
 * channel's policy nor the block height. A refusal is at once the failure to
 * return; inside a blinded path that is always `invalid_onion_blinding`.
 */
import { err, ok } from '@fulmen/codec';
import type { Result, TlvRecord } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import type { UnblindError, UnblindedHop } from './blinded-path.ts';
import { blindedAmountToForward } from './blinded-fees.ts';
import type { FailureMessage } from './failure-message.ts';
import type { HopPayload } from './payload.ts';

/** The HTLC that brought the onion. */
export interface IncomingHtlc {
  readonly amountMsat: bigint;
  readonly cltvExpiryHeight: number;
  /** `path_key` of its `update_add_htlc`. */
  readonly pathKey: Uint8Array | undefined;
  /** Its onion packet, hashed into BADONION failures. */
  readonly packet: Uint8Array;
}

/** Whom a blinded hop forwards to. */
export type NextHop =
  | { readonly kind: 'channel'; readonly shortChannelId: bigint }
  | { readonly kind: 'node'; readonly nodeId: Uint8Array };

/** What to do with the HTLC. Amount and expiry are those of the outgoing HTLC, or expected by the sender at the end. */
export type HopInstruction =
  | {
      readonly kind: 'forward';
      readonly next: NextHop;
      readonly amountMsat: bigint;
      readonly cltvExpiryHeight: number;
      /** Goes into the outgoing `update_add_htlc`; the fees were checked against the recipient's terms. */
      readonly nextPathKey: Uint8Array | undefined;
    }
  | {
      readonly kind: 'receive';
      readonly amountMsat: bigint;
      readonly cltvExpiryHeight: number;
      readonly totalMsat: bigint;
      readonly paymentSecret: Uint8Array | undefined;
      readonly paymentMetadata: Uint8Array | undefined;
      readonly keysendPreimage: Uint8Array | undefined;
      readonly customTlvs: readonly TlvRecord[];
    }
  | {
      readonly kind: 'receive_blinded';
      readonly amountMsat: bigint;
      readonly cltvExpiryHeight: number;
      readonly totalMsat: bigint;
      /** To be compared with what the recipient put into its path. */
      readonly pathId: Uint8Array | undefined;
    };

const FINAL_BLINDED_FIELDS: ReadonlySet<string> = new Set([
  'encryptedRecipientData',
  'currentPathKey',
  'amtToForwardMsat',
  'outgoingCltvHeight',
  'totalAmountMsat',
]);
const FORWARD_BLINDED_FIELDS: ReadonlySet<string> = new Set(['encryptedRecipientData', 'currentPathKey']);

/** The failure for anything wrong on a blinded hop. */
export function blindingFailure(packet: Uint8Array): FailureMessage {
  return { kind: 'invalid_onion_blinding', sha256OfOnion: sha256(packet) };
}

/**
 * The `path_key` that decrypts this hop's recipient data; undefined for a hop
 * outside of blinded paths. The caller has ECDH(path_key, node key) computed
 * and passes the outcome of `unblindHop` to `hopInstruction`.
 */
export function pathKeyOfHop(
  payload: HopPayload,
  htlc: IncomingHtlc,
): Result<Uint8Array | undefined, FailureMessage> {
  const { encryptedRecipientData, currentPathKey } = payload.tlvs;
  if (encryptedRecipientData === undefined) {
    // BOLT 4: "MUST return an error if path_key is set in the incoming update_add_htlc or current_path_key is present."
    if (htlc.pathKey !== undefined || currentPathKey !== undefined) return err(blindingFailure(htlc.packet));
    return ok(undefined);
  }
  // BOLT 4: "If path_key is set in the incoming update_add_htlc: MUST return an error if current_path_key is present."
  if (htlc.pathKey !== undefined && currentPathKey !== undefined) return err(blindingFailure(htlc.packet));
  const pathKey = htlc.pathKey ?? currentPathKey;
  // BOLT 4: "Otherwise: MUST return an error if current_path_key is not present."
  return pathKey === undefined ? err(blindingFailure(htlc.packet)) : ok(pathKey);
}

/**
 * Reads a hop's payload.
 *
 * @param role what the onion's HMAC said.
 * @param unblinded outcome of `unblindHop`; undefined outside of blinded paths (see `pathKeyOfHop`).
 */
export function hopInstruction(
  payload: HopPayload,
  role: 'intermediate' | 'final',
  htlc: IncomingHtlc,
  unblinded: Result<UnblindedHop, UnblindError> | undefined,
): Result<HopInstruction, FailureMessage> {
  const pathKey = pathKeyOfHop(payload, htlc);
  if (!pathKey.ok) return pathKey;
  if (pathKey.value === undefined) return role === 'final' ? receive(payload, htlc) : forward(payload);
  // BOLT 4: "MUST return an error if encrypted_recipient_data does not decrypt"
  if (unblinded === undefined || !unblinded.ok) return err(blindingFailure(htlc.packet));
  const instruction =
    role === 'final'
      ? receiveBlinded(payload, htlc, unblinded.value)
      : forwardBlinded(payload, htlc, unblinded.value);
  return instruction === undefined ? err(blindingFailure(htlc.packet)) : ok(instruction);
}

function missing(tlvType: bigint): Result<never, FailureMessage> {
  return err({ kind: 'invalid_onion_payload', tlvType, offset: 0 });
}

function forward(payload: HopPayload): Result<HopInstruction, FailureMessage> {
  const { amtToForwardMsat, outgoingCltvHeight, shortChannelId } = payload.tlvs;
  // BOLT 4: "MUST return an error if amt_to_forward or outgoing_cltv_value are not present."
  if (amtToForwardMsat === undefined) return missing(2n);
  if (outgoingCltvHeight === undefined) return missing(4n);
  if (shortChannelId === undefined) return missing(6n);
  return ok({
    kind: 'forward',
    next: { kind: 'channel', shortChannelId },
    amountMsat: amtToForwardMsat,
    cltvExpiryHeight: outgoingCltvHeight,
    nextPathKey: undefined,
  });
}

function receive(payload: HopPayload, htlc: IncomingHtlc): Result<HopInstruction, FailureMessage> {
  const { amtToForwardMsat, outgoingCltvHeight, paymentData, paymentMetadata, keysendPreimage } =
    payload.tlvs;
  if (amtToForwardMsat === undefined) return missing(2n);
  if (outgoingCltvHeight === undefined) return missing(4n);
  // BOLT 4: "MUST return an error if: incoming amount_msat < amt_to_forward; incoming cltv_expiry < outgoing_cltv_value"
  if (htlc.cltvExpiryHeight < outgoingCltvHeight) {
    return err({ kind: 'final_incorrect_cltv_expiry', cltvExpiryHeight: htlc.cltvExpiryHeight });
  }
  if (htlc.amountMsat < amtToForwardMsat) {
    return err({ kind: 'final_incorrect_htlc_amount', incomingHtlcMsat: htlc.amountMsat });
  }
  return ok({
    kind: 'receive',
    amountMsat: amtToForwardMsat,
    cltvExpiryHeight: outgoingCltvHeight,
    // BOLT 4: "MUST treat total_msat as if it were equal to amt_to_forward if it is not present."
    totalMsat: paymentData?.totalMsat ?? amtToForwardMsat,
    paymentSecret: paymentData?.paymentSecret,
    paymentMetadata,
    keysendPreimage,
    customTlvs: payload.unknownTlvs,
  });
}

/** True if the payload has no other records than those named. */
function hasOnly(payload: HopPayload, fields: ReadonlySet<string>): boolean {
  return payload.unknownTlvs.length === 0 && Object.keys(payload.tlvs).every((name) => fields.has(name));
}

/** The conditions that the recipient put into each hop's data. */
function constraintsHold(htlc: IncomingHtlc, hop: UnblindedHop): boolean {
  const { paymentConstraints, allowedFeatures, shortChannelId, nextNodeId } = hop.data.tlvs;
  if (paymentConstraints !== undefined) {
    if (htlc.cltvExpiryHeight > paymentConstraints.maxCltvExpiryHeight) return false;
    if (htlc.amountMsat < paymentConstraints.htlcMinimumMsat) return false;
  }
  // BOLT 4: "contains an unknown feature bit (even if it is odd)"; BOLT 9 defines none for blinded paths.
  if (allowedFeatures?.some((byte) => byte !== 0) === true) return false;
  return shortChannelId === undefined || nextNodeId === undefined;
}

function forwardBlinded(
  payload: HopPayload,
  htlc: IncomingHtlc,
  hop: UnblindedHop,
): HopInstruction | undefined {
  if (!hasOnly(payload, FORWARD_BLINDED_FIELDS) || !constraintsHold(htlc, hop)) return undefined;
  const { shortChannelId, nextNodeId, paymentRelay } = hop.data.tlvs;
  if (paymentRelay === undefined) return undefined;
  const next: NextHop | undefined =
    shortChannelId !== undefined
      ? { kind: 'channel', shortChannelId }
      : nextNodeId !== undefined
        ? { kind: 'node', nodeId: nextNodeId }
        : undefined;
  const amountMsat = blindedAmountToForward(htlc.amountMsat, paymentRelay);
  const cltvExpiryHeight = htlc.cltvExpiryHeight - paymentRelay.cltvExpiryDelta;
  if (next === undefined || amountMsat === undefined || cltvExpiryHeight < 0) return undefined;
  return { kind: 'forward', next, amountMsat, cltvExpiryHeight, nextPathKey: hop.nextPathKey };
}

function receiveBlinded(
  payload: HopPayload,
  htlc: IncomingHtlc,
  hop: UnblindedHop,
): HopInstruction | undefined {
  if (!hasOnly(payload, FINAL_BLINDED_FIELDS) || !constraintsHold(htlc, hop)) return undefined;
  const { amtToForwardMsat, outgoingCltvHeight, totalAmountMsat } = payload.tlvs;
  if (amtToForwardMsat === undefined || outgoingCltvHeight === undefined || totalAmountMsat === undefined) {
    return undefined;
  }
  if (htlc.amountMsat < amtToForwardMsat || htlc.cltvExpiryHeight < outgoingCltvHeight) return undefined;
  return {
    kind: 'receive_blinded',
    amountMsat: amtToForwardMsat,
    cltvExpiryHeight: outgoingCltvHeight,
    totalMsat: totalAmountMsat,
    pathId: hop.data.tlvs.pathId,
  };
}
