/**
 * What can be said of a gossip message without the graph: is it well-formed
 * and truly signed? Pure and stateless, so that batches run in worker threads.
 * Verification costs four curve operations for an announcement, therefore the
 * cheap questions (`precheck…` in `apply.ts`) are asked first.
 */
import type { Result } from '@fulmen/codec';
import { compareBytes, ok } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import { sha256, sha256d } from '@fulmen/crypto';
import type { ShortChannelIdParts } from '@fulmen/wire';
import { gossipSignedBytes, shortChannelId } from '@fulmen/wire';
import type { ChannelAnnouncement, ChannelUpdate, NodeAnnouncement } from './messages.ts';
import type { Rejection } from './rejection.ts';
import { punished } from './rejection.ts';

/** What the chain must show before a channel may enter the graph. */
export interface UtxoLookup {
  readonly shortChannelId: bigint;
  readonly position: ShortChannelIdParts;
  /** The P2WSH script of the funding output: `OP_0 <sha256 of the 2-of-2>`. */
  readonly expectedScript: Uint8Array;
}

/**
 * The funding output script for two funding keys, which BOLT 3 ("Funding
 * Transaction Output") sorts.
 */
export function fundingOutputScript(bitcoinKey1: Uint8Array, bitcoinKey2: Uint8Array): Uint8Array {
  const [first, second] =
    compareBytes(bitcoinKey1, bitcoinKey2) <= 0 ? [bitcoinKey1, bitcoinKey2] : [bitcoinKey2, bitcoinKey1];
  // OP_2 <33> key <33> key OP_2 OP_CHECKMULTISIG
  const witnessScript = new Uint8Array(71);
  witnessScript.set([0x52, 0x21], 0);
  witnessScript.set(first, 2);
  witnessScript[35] = 0x21;
  witnessScript.set(second, 36);
  witnessScript.set([0x52, 0xae], 69);
  const script = new Uint8Array(34);
  script.set([0x00, 0x20], 0);
  script.set(sha256(witnessScript), 2);
  return script;
}

/** What the shell must find in the chain for this announcement. */
export function utxoLookupOf(message: ChannelAnnouncement): UtxoLookup {
  return {
    shortChannelId: message.shortChannelId,
    position: shortChannelId.parts(message.shortChannelId),
    expectedScript: fundingOutputScript(message.bitcoinKey1, message.bitcoinKey2),
  };
}

/**
 * Checks an announcement's keys and four signatures (BOLT 7, "The
 * `channel_announcement` Message").
 *
 * @param raw the whole message with its type; unknown trailing bytes are signed too.
 */
export function checkChannelAnnouncement(
  secp: Secp256k1,
  message: ChannelAnnouncement,
  raw: Uint8Array,
): Result<void, Rejection> {
  // BOLT 7: "such that `node_id_1` is the lexicographically-lesser of the two compressed keys"
  if (compareBytes(message.nodeId1, message.nodeId2) >= 0) return punished('node_ids_out_of_order', 'warn');
  for (const key of [message.nodeId1, message.nodeId2, message.bitcoinKey1, message.bitcoinKey2]) {
    if (!secp.isPublicKey(key)) return punished('invalid_node_id', 'warn_and_disconnect');
  }
  // BOLT 7: "the hash skips the 4 signatures but hashes the rest of the message,
  // including any future fields appended to the end"
  const hash = sha256d(gossipSignedBytes(raw));
  const valid =
    secp.verify(hash, message.nodeSignature1, message.nodeId1) &&
    secp.verify(hash, message.nodeSignature2, message.nodeId2) &&
    secp.verify(hash, message.bitcoinSignature1, message.bitcoinKey1) &&
    secp.verify(hash, message.bitcoinSignature2, message.bitcoinKey2);
  // BOLT 7: "if [a signature is] NOT correct: SHOULD send a `warning`. MAY close the connection. MUST ignore the message."
  return valid ? ok(undefined) : punished('invalid_signature', 'warn_and_disconnect');
}

/**
 * Checks an update's signature with the key that the channel's announcement
 * gives for its direction (`updateSigner`).
 */
export function checkChannelUpdate(
  secp: Secp256k1,
  message: ChannelUpdate,
  raw: Uint8Array,
  nodeId: Uint8Array,
): Result<void, Rejection> {
  // BOLT 7: "if `signature` is not a valid signature […]: SHOULD send a `warning` and close the connection."
  return secp.verify(sha256d(gossipSignedBytes(raw)), message.signature, nodeId)
    ? ok(undefined)
    : punished('invalid_signature', 'warn_and_disconnect');
}

/** Checks a node's key and signature (BOLT 7, "The `node_announcement` Message"). */
export function checkNodeAnnouncement(
  secp: Secp256k1,
  message: NodeAnnouncement,
  raw: Uint8Array,
): Result<void, Rejection> {
  // BOLT 7: "if `node_id` is NOT a valid compressed public key: SHOULD send a `warning`. MAY close the connection."
  if (!secp.isPublicKey(message.nodeId)) return punished('invalid_node_id', 'warn_and_disconnect');
  return secp.verify(sha256d(gossipSignedBytes(raw)), message.signature, message.nodeId)
    ? ok(undefined)
    : punished('invalid_signature', 'warn_and_disconnect');
}
