/**
 * What can go wrong in a channel, and what to do about it. The reaction is
 * decided where the fault is found, beside the sentence of the BOLT that asks
 * for it; a caller never has to interpret a code.
 */

/**
 * What the shell does with a refused input. The state is unchanged in every
 * case; `applyReaction` turns a reaction into messages and a closing state.
 *
 * - `ignore`: nothing; the input has no effect.
 * - `refuse`: the holder's own command is not possible now (typed reason).
 * - `warning`: tell the peer, go on.
 * - `warning_disconnect`: tell the peer, close the connection; the reestablish repairs.
 * - `fail_channel`: send `error` and fail the channel (force close, or forget it while unfunded).
 */
export type Reaction = 'ignore' | 'refuse' | 'warning' | 'warning_disconnect' | 'fail_channel';

export type ChannelErrorCode =
  // The holder's commands.
  | 'peer_disconnected'
  | 'monitor_update_in_progress'
  | 'channel_not_open'
  | 'shutdown_in_progress'
  | 'amount_below_minimum'
  | 'expiry_out_of_range'
  | 'insufficient_balance'
  | 'channel_reserve'
  | 'cannot_afford_commitment_fee'
  | 'counterparty_cannot_afford_fee'
  | 'too_many_htlcs'
  | 'max_htlc_value_in_flight'
  | 'dust_exposure'
  | 'unknown_htlc'
  | 'htlc_not_committed'
  | 'htlc_already_removed'
  | 'wrong_preimage'
  | 'bad_failure'
  | 'not_the_funder'
  | 'pending_updates'
  | 'invalid_command'
  // The peer's messages.
  | 'unexpected_message'
  | 'wrong_channel_id'
  | 'invalid_open'
  | 'invalid_accept'
  | 'channel_type'
  | 'feerate_out_of_range'
  | 'invalid_signature'
  | 'wrong_signature_count'
  | 'missing_funding_txid'
  | 'htlc_id'
  | 'commitment_without_changes'
  | 'invalid_revocation_secret'
  | 'unexpected_revocation'
  | 'invalid_point'
  | 'update_after_shutdown'
  | 'shutdown_script'
  | 'closing_fee'
  | 'reestablish_number'
  | 'reestablish_secret'
  | 'peer_error'
  | 'peer_warning'
  // The chain.
  | 'funding_mismatch'
  | 'funding_unconfirmed'
  // The shell.
  | 'holder_point_missing';

export interface ChannelError {
  readonly code: ChannelErrorCode;
  readonly reaction: Reaction;
  /** Printable ASCII; may be sent to the peer. */
  readonly message: string;
}

/** A fault, as a failed `Result`. */
export function fault(
  code: ChannelErrorCode,
  reaction: Reaction,
  message: string,
): { readonly ok: false; readonly error: ChannelError } {
  return { ok: false, error: { code, reaction, message } };
}

/** The holder's command is not possible now. */
export function refuse(
  code: ChannelErrorCode,
  message: string,
): { readonly ok: false; readonly error: ChannelError } {
  return fault(code, 'refuse', message);
}
