/**
 * How long settling waits, and until when it must have acted. The relations
 * between these numbers are asserted in the tests: together they fit between
 * the expiry of an outgoing HTLC and that of the incoming one behind it.
 */

/**
 * Depth from which a transaction is final enough to act on: to fail an HTLC upstream, which cannot be undone. LDK's
 * ANTI_REORG_DELAY; BOLT 5 speaks of "reasonable depth".
 */
export const ANTI_REORG_DELAY_BLOCKS = 6;

/**
 * Depth from which nothing of a channel is watched any more. BOLT 5: "Outputs that are *resolved* are considered
 * *irrevocably resolved* once the remote's *resolving* transaction is included in a block at least 100 deep". Waiting
 * costs a few rows; forgetting too early costs the channel, should a reorganisation bring another commitment.
 */
export const IRREVOCABLE_DEPTH = 100;

/** LDK's MAX_BLOCKS_FOR_CONF: a transaction whose fee is raised in time is in a block within so many. */
export const MAX_BLOCKS_FOR_CONFIRMATION = 18;

/** LDK's MIN_CLTV_EXPIRY_DELTA: an incoming HTLC expires at least so many blocks after its outgoing one. */
export const MIN_CLTV_EXPIRY_DELTA_BLOCKS = 48;

/**
 * A time-out must have confirmed so many blocks after the outgoing HTLC's expiry. The incoming edge lives in another
 * channel and its expiry is not known here, but it is MIN_CLTV_EXPIRY_DELTA away at least: before that the failure must
 * have become final (ANTI_REORG_DELAY) and reached the peer upstream (LATENCY_GRACE_PERIOD), or that peer closes.
 */
export const TIMEOUT_CONFIRMED_WITHIN_BLOCKS = 39;

/** The commitment with such an HTLC must have confirmed one transaction earlier. */
export const TIMEOUT_COMMITMENT_WITHIN_BLOCKS = TIMEOUT_CONFIRMED_WITHIN_BLOCKS - MAX_BLOCKS_FOR_CONFIRMATION;

/**
 * HTLC outputs of a revoked commitment: the counterparty can take them with a preimage at once, or when they expire. What
 * it takes can still be punished, one transaction and one fee later, so this is a near deadline and no cliff (BOLT 5
 * recommends 18 blocks as `security_delay`).
 */
export const JUSTICE_WITHIN_BLOCKS = 18;
