/** Rendezvous hashing: each shard prefers one replica; when replicas come or go only their share moves. */
import { sha256 } from '@fulmen/crypto';
import { compareBytes, concatBytes, utf8Encode } from '@fulmen/codec';

/** Shards are numbered from 0; the number of a payment's is a byte of a hash. */
export const SHARD_COUNT = 256;

/** Payments have their own shards' numbering, by payment hash. */
export function shardOfPaymentHash(paymentHash: Uint8Array): number {
  return sha256(paymentHash)[0] ?? 0;
}

/** The replica that should own a shard, of those alive; undefined when none is. */
export function preferredReplica(shard: number, replicaIds: readonly string[]): string | undefined {
  let best: { id: string; score: Uint8Array } | undefined;
  for (const id of replicaIds) {
    const score = sha256(concatBytes(Uint8Array.of(shard), utf8Encode(id)));
    if (best === undefined || compareBytes(score, best.score) > 0) best = { id, score };
  }
  return best?.id;
}
