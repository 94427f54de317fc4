/**
 * How much gossip the router may send to each peer: as much as fits in the
 * peer's queue. Grants count from the moment the peer was announced on the
 * present stream, so that nothing of an earlier one has to be remembered.
 */
import { GOSSIP_GRANT_BYTES, GOSSIP_GRANT_STEP_BYTES } from '../limits.ts';

/** What of a peer's connection matters for gossip. */
export interface GossipPeer {
  readonly nodeId: Uint8Array;
  readonly connectionId: bigint;
  /** The filter that the peer set last. */
  readonly timestampFilter: Uint8Array | undefined;
  /** `gossipBytes`: gossip that waits to be sent to it. */
  readonly connection: { readonly gossipBytes: number };
}

interface Account {
  readonly peer: GossipPeer;
  /** From the router, since the peer was announced to it. */
  receivedBytes: number;
  grantedThroughBytes: number;
  /** A grant waits to be sent, and will then go as far as it can. */
  isQueued: boolean;
}

export class GossipGrants {
  /** By connection id. */
  readonly #accounts = new Map<bigint, Account>();

  /** A new stream begins. */
  clear(): void {
    this.#accounts.clear();
  }

  /** The peer is being announced, and its first grant queued. */
  open(peer: GossipPeer): void {
    const account = { peer, receivedBytes: 0, grantedThroughBytes: 0, isQueued: true };
    this.#accounts.set(peer.connectionId, account);
  }

  close(peer: GossipPeer): void {
    this.#accounts.delete(peer.connectionId);
  }

  /** A message of the router's came for the peer, whether or not it could be queued. */
  received(peer: GossipPeer, bytes: number): void {
    const account = this.#accounts.get(peer.connectionId);
    if (account !== undefined) account.receivedBytes += bytes;
  }

  /** True when a grant is to be queued now: the peer has taken enough since the last. */
  isDue(peer: GossipPeer): boolean {
    const account = this.#accounts.get(peer.connectionId);
    if (account === undefined || account.isQueued) return false;
    account.isQueued = throughBytes(account) - account.grantedThroughBytes >= GOSSIP_GRANT_STEP_BYTES;
    return account.isQueued;
  }

  /** A grant as it is sent: how far the router may go; 0 when the connection is over. */
  take(connectionId: bigint): number {
    const account = this.#accounts.get(connectionId);
    if (account === undefined) return 0;
    account.isQueued = false;
    account.grantedThroughBytes = Math.max(account.grantedThroughBytes, throughBytes(account));
    return account.grantedThroughBytes;
  }
}

function throughBytes({ peer, receivedBytes }: Account): number {
  return receivedBytes + Math.max(0, GOSSIP_GRANT_BYTES - peer.connection.gossipBytes);
}
