/** Every bound of the gateway, with its default. What is not here is not bounded by number. */

export interface GatewayLimits {
  /** TCP connections, inbound handshakes under way apart. At the limit one of the peers below goes for a new one. */
  readonly maxConnections: number;
  /** Inbound peers that no manager asked for, and that have no channel. At the limit one of them, by chance, goes for a new one. */
  readonly maxUnwantedPeers: number;
  /** Connections from one address, which is of IPv6 a network of 64 bits: here and below. */
  readonly maxConnectionsPerAddress: number;
  /** Inbound handshakes and init exchanges in flight, beside the connections. */
  readonly maxPendingHandshakes: number;
  /** New connections a second from one address; ten times that at once. */
  readonly handshakesPerSecondPerAddress: number;
  /** Peers that managers want connected. */
  readonly maxWantedPeers: number;
}

export const DEFAULT_LIMITS: GatewayLimits = {
  maxConnections: 5_000,
  maxUnwantedPeers: 2_500,
  maxConnectionsPerAddress: 256,
  maxPendingHandshakes: 256,
  handshakesPerSecondPerAddress: 20,
  maxWantedPeers: 10_000,
};

/** One address has at most one in so many of the handshakes in flight: a silent stranger leaves room for others. */
export const PENDING_HANDSHAKES_SHARE = 8;
/** The Noise handshake, from the first byte to the last. */
export const HANDSHAKE_DEADLINE_MS = 10_000;
/** The init exchange after it. */
export const INIT_DEADLINE_MS = 10_000;
/** A dial, name resolution included. */
export const DIAL_DEADLINE_MS = 10_000;
/** Dials in flight. */
export const MAX_CONCURRENT_DIALS = 32;

/** ECDH calls to the signer in flight, and waiting for their turn. */
export const MAX_CONCURRENT_ECDH = 16;
export const MAX_WAITING_ECDH = 512;
export const ECDH_DEADLINE_MS = 5_000;
/** Addresses whose rate is remembered. */
export const MAX_RATED_ADDRESSES = 4_096;

/** A connection from which nothing came for this long is pinged. */
export const PING_IDLE_MS = 10_000;
/** A ping must bring traffic within this time. */
export const PONG_DEADLINE_MS = 30_000;
/** Queued bytes of which the counterparty takes none for this long end the connection. */
export const WRITE_STALL_MS = 60_000;
/** Time for the last words of a connection that we close. */
export const LINGER_MS = 5_000;

/** Inbound bytes that a manager has not acknowledged, before reading stops. */
export const DEFAULT_CREDIT_BYTES = 256 * 1024;
export const MAX_CREDIT_BYTES = 1024 * 1024;
/** What a message takes of memory beside its bytes, whichever way it goes: small ones are bounded, too. */
export const FRAME_OVERHEAD_BYTES = 512;

/** Outbound bytes, with what messages take beside them, from which on the counterparty is not read any more. */
export const OUTBOUND_PAUSE_BYTES = 512 * 1024;
/** Outbound channel messages beyond this end the connection. */
export const OUTBOUND_LIMIT_BYTES = 1024 * 1024;
/** Outbound gossip beyond this is dropped (LDK: the same). */
export const OUTBOUND_GOSSIP_LIMIT_BYTES = 128 * 1024;
/** Outbound gossip that the router may send ahead of the peer; with one message more it is within the limit. */
export const GOSSIP_GRANT_BYTES = 64 * 1024;
/** The router is told once the peer has taken so much. */
export const GOSSIP_GRANT_STEP_BYTES = 32 * 1024;
/** Bytes of frames written to the socket at once. */
export const WRITE_BATCH_BYTES = 64 * 1024;

/**
 * What one peer may make a gateway hold by all bounds together: pieces of its stream (256 KiB), what its manager has not
 * acknowledged and what the manager answered (1.25 MiB), gossip for it (448 KiB), what is being written to it (64 KiB), and
 * the kernel's buffers (256 KiB). A gateway's memory must have room for that of every peer that nobody asked for.
 */
export const PEER_MEMORY_BYTES = 2304 * 1024;

/** Pings answered: a burst, and then each second. So many pongs as in a burst wait for a slow reader, too. */
export const PONG_BURST = 20;
export const PONGS_PER_SECOND = 2;
/** Complaints (error, warning) of one peer that are logged: a burst, and then each second. */
export const COMPLAINT_BURST = 5;
export const COMPLAINTS_PER_SECOND = 0.1;
/** Gossip taken from one peer: a whole graph at once, and then bytes each second. */
export const GOSSIP_BURST_BYTES = 64 * 1024 * 1024;
export const GOSSIP_BYTES_PER_SECOND = 2 * 1024 * 1024;
/** Warnings about its gossip that a peer is sent: at once, and then each second. */
export const GOSSIP_WARNING_BURST = 5;
export const GOSSIP_WARNINGS_PER_SECOND = 0.1;
/** Gossip waiting for the router; the oldest is dropped first. */
export const GOSSIP_QUEUE_BYTES = 8 * 1024 * 1024;
/** Peers coming and going that wait for the router; beyond it the stream starts again. */
export const GOSSIP_QUEUE_EVENTS = 20_000;

/** Bytes queued on a link from which on its peers are not read any more. */
export const LINK_PAUSE_BYTES = 8 * 1024 * 1024;
/** Bytes queued on a link that end it. */
export const LINK_LIMIT_BYTES = 64 * 1024 * 1024;
export const LINK_RETRY_MIN_MS = 100;
export const LINK_RETRY_MAX_MS = 1_000;

/** A peer whose shard nobody owns is held this long. */
export const OWNER_WAIT_MS = 5_000;
/** A manager has this long to accept a peer. */
export const ACCEPT_WAIT_MS = 15_000;
/** Deadlines are checked this often. */
export const TICK_MS = 500;

export const REDIAL_MIN_MS = 1_000;
export const REDIAL_MAX_MS = 60_000;
/** Retries at the shortest interval before it doubles. */
export const QUICK_REDIALS = 3;
/** A connection that lived this long makes earlier failures forgotten. */
export const STABLE_CONNECTION_MS = 10_000;
/** Answers owed for one wanted peer. */
export const MAX_PENDING_REQUESTS = 16;
