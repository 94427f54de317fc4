/** How much goes to the signer in one message. */
import type { SignItem } from '@fulmen/proto/signer/v1/signer';

/**
 * Bytes of one message, either way. gRPC ends a stream over a message of more than 4 MiB: a request that is sent again
 * until it is answered would end every stream for ever. One item alone, with 966 HTLCs on either commitment, takes 270 kB.
 */
const MAX_BATCH_BYTES = 1024 * 1024;

// What each takes in protobuf at most, its field's head included.
const HTLC_BYTES = 68;
const SIGNATURE_BYTES = 66;
const ECDH_BYTES = 72;
const REVOCATION_BYTES = 48;
/** Ids, numbers, points and the signatures for the funding; in an answer, the words of a refusal. */
const REST_BYTES = 1_024;

/** No less than what an item takes in a request, and no less than what its answer takes: a signature is shorter than its HTLC, a secret than its ECDH. */
export function bytesBound(item: SignItem): number {
  const { holderCommitment, counterpartyCommitment, revocations, ecdhs } = item;
  const signatures =
    holderCommitment?.signatures.reduce((sum, { htlcSignatures }) => sum + htlcSignatures.length, 0) ?? 0;
  const htlcs =
    (holderCommitment?.spec?.htlcs.length ?? 0) + (counterpartyCommitment?.spec?.htlcs.length ?? 0);
  return (
    REST_BYTES +
    HTLC_BYTES * htlcs +
    SIGNATURE_BYTES * signatures +
    ECDH_BYTES * ecdhs.length +
    REVOCATION_BYTES * revocations.length
  );
}

/** The items in their order, in as few messages as they fit. */
export function batchesOf(items: readonly SignItem[]): readonly SignItem[][] {
  const batches: SignItem[][] = [];
  let roomBytes = 0;
  for (const item of items) {
    const bytes = bytesBound(item);
    const batch = batches.at(-1);
    if (batch !== undefined && bytes <= roomBytes) {
      batch.push(item);
      roomBytes -= bytes;
    } else {
      batches.push([item]);
      roomBytes = MAX_BATCH_BYTES - bytes;
    }
  }
  return batches;
}
