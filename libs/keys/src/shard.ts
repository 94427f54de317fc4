/** Which shard a peer's channels belong to: gateways and managers must agree, so there is one function. */
import { sha256 } from '@fulmen/crypto';

/** Shards of the fleet. Part of what is stored: never changed. */
export const SHARD_COUNT = 256;

/** hash(peer node id) mod 256: a peer's channels live together. 33 bytes in; 0 to 255 out. */
export function shardOfPeer(peerNodeId: Uint8Array): number {
  return sha256(peerNodeId)[0] ?? 0;
}
