/** A peer's part in the public network, whatever its implementation: the graph that it has, and its own gossip. */

/** What one end of a channel asks for forwarding. */
export interface GraphPolicy {
  /** Seconds since 1970. */
  readonly timestamp: number;
  readonly feeBaseMsat: bigint;
  readonly feeProportionalMillionths: number;
  readonly cltvExpiryDelta: number;
  readonly htlcMinimumMsat: bigint;
  readonly htlcMaximumMsat: bigint;
  readonly disabled: boolean;
}

export interface GraphChannel {
  readonly shortChannelId: bigint;
  /** The lesser one, in hex. */
  readonly nodeId1: string;
  readonly nodeId2: string;
  /** undefined until its node has sent an update. */
  readonly policy1: GraphPolicy | undefined;
  readonly policy2: GraphPolicy | undefined;
}

/** A node that has announced itself. */
export interface GraphNode {
  readonly alias: string;
  /** host:port */
  readonly addresses: readonly string[];
  /** Bits that are set, ascending. */
  readonly featureBits: readonly number[];
}

/** A connection as the peer describes it. */
export interface PeerConnectionInfo {
  readonly inbound: boolean;
  /** Of the other's init; bits that are set, ascending. */
  readonly featureBits: readonly number[];
  /** How long the last pong took, in microseconds; undefined where the implementation does not tell. */
  readonly pingMicroseconds: bigint | undefined;
}

export interface NewPolicy {
  readonly feeBaseMsat: bigint;
  readonly feeProportionalMillionths: number;
  readonly cltvExpiryDelta: number;
}

export interface PeerGraph {
  channel(shortChannelId: bigint): Promise<GraphChannel | undefined>;
  /** undefined until it has announced itself. */
  node(nodeId: string): Promise<GraphNode | undefined>;
  connection(nodeId: string): Promise<PeerConnectionInfo | undefined>;
  /** Sends a node_announcement; the alias of one that makes it by itself is its name. */
  announce(alias: string): Promise<void>;
  setPolicy(channelId: string, policy: NewPolicy): Promise<void>;
  /** Has it send a channel_update with the disable bit. */
  disable(channelId: string): Promise<void>;
}

/** Bits of a feature vector as it is on the wire. */
export function featureBitsOf(hex: string): readonly number[] {
  const bytes = Buffer.from(hex, 'hex').reverse();
  return [...bytes].flatMap((byte, at) =>
    [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => (byte >> bit) & 1).map((bit) => at * 8 + bit),
  );
}
