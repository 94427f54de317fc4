/**
 * Why a gossip message is not taken, and what its bearer deserves. Decided
 * where the fault is found; the gateway only carries it out.
 */

/** What to do with the peer that brought the message. */
export type PeerAction = 'ignore' | 'warn' | 'warn_and_disconnect';

/** Every reason for which the graph refuses a message. */
export type RejectionCode =
  | 'unknown_chain'
  | 'invalid_signature'
  | 'invalid_node_id'
  | 'node_ids_out_of_order'
  | 'malformed_addresses'
  | 'duplicate'
  | 'conflicting_announcement'
  | 'blacklisted_node'
  | 'not_deep_enough'
  | 'funding_not_found'
  | 'unknown_channel'
  | 'unknown_node'
  | 'stale'
  | 'same_timestamp_different_content'
  | 'too_far_in_the_future'
  | 'too_old'
  | 'channel_spent'
  | 'private_update'
  | 'graph_full';

/** A refusal. `conflicting_announcement` has already banned and forgotten the nodes it names. */
export interface Rejection {
  readonly code: RejectionCode;
  readonly action: PeerAction;
}

/** A refusal that is nobody's fault. */
export function ignored(code: RejectionCode): { readonly ok: false; readonly error: Rejection } {
  return { ok: false, error: { code, action: 'ignore' } };
}

/** A refusal of something that only a broken or hostile peer relays. */
export function punished(
  code: RejectionCode,
  action: Exclude<PeerAction, 'ignore'>,
): { readonly ok: false; readonly error: Rejection } {
  return { ok: false, error: { code, action } };
}
