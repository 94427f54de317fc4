/** BOLT 2 "Updating Fees: update_fee", both ways. */
import type { MessageOf } from '@fulmen/wire';
import { make } from '@fulmen/wire';
import { MAX_FEERATE_SAT_PER_KW, MIN_FEERATE_SAT_PER_KW } from '../config.ts';
import type { ChannelContext } from '../context.ts';
import { fault, refuse } from '../errors.ts';
import type { CommitmentFormatName } from '../parameters.ts';
import type { EstablishedChannel } from '../state.ts';
import type { StepResult } from '../step.ts';
import { sendReady, stepOf } from '../step.ts';
import { checkCounterpartyFee } from './check-counterparty.ts';
import { checkHolderFee } from './check-holder.ts';
import { isFrozen, requireReceivable } from './ready.ts';
import { isQuiet, newestFeerate } from './spec.ts';
import { compactFeerates } from './transitions.ts';

/** A counterparty's feerate this many times above the highest estimate is unreasonable. */
const UNREASONABLE_MULTIPLE = 10;

/** The holder, as funder, changes the feerate. */
export function updateFee(
  ctx: ChannelContext,
  state: EstablishedChannel,
  feerateSatPerKw: number,
): StepResult<EstablishedChannel> {
  // BOLT 2: "The node not responsible for paying the Bitcoin fee: MUST NOT send update_fee."
  if (state.parameters.funder !== 'holder')
    return refuse('not_the_funder', 'only the funder sets the feerate');
  const hasHtlcs = state.changes.htlcs.length > 0;
  // BOLT 2: "if no HTLCs remain in either commitment transaction ...: MUST NOT send any update message after that point."
  if (
    state.phase.type === 'shutting_down'
      ? !hasHtlcs || state.phase.holder.type === 'pending'
      : state.phase.type !== 'open'
  ) {
    return refuse('channel_not_open', 'no feerate can be set now');
  }
  if (state.connection.type !== 'connected') return refuse('peer_disconnected', 'the peer is not connected');
  if (isFrozen(state)) return refuse('monitor_update_in_progress', 'a monitor update is in progress');
  if (
    !Number.isInteger(feerateSatPerKw) ||
    feerateSatPerKw < MIN_FEERATE_SAT_PER_KW ||
    feerateSatPerKw > MAX_FEERATE_SAT_PER_KW
  ) {
    return refuse(
      'feerate_out_of_range',
      `a feerate is between ${MIN_FEERATE_SAT_PER_KW} and ${MAX_FEERATE_SAT_PER_KW} sat/kW`,
    );
  }
  if (feerateSatPerKw === newestFeerate(state.changes)) return stepOf(state);
  const next = withFeerate(state, feerateSatPerKw);
  const allowed = checkHolderFee(ctx, next);
  if (!allowed.ok) return allowed;
  return stepOf(next, sendReady(feeMessage(state.channelId, feerateSatPerKw)));
}

/** The counterparty, as funder, changes the feerate. */
export function receiveFee(
  ctx: ChannelContext,
  state: EstablishedChannel,
  message: MessageOf<'update_fee'>,
): StepResult<EstablishedChannel> {
  const receivable = requireReceivable(state, message.type);
  if (!receivable.ok) return receivable;
  // BOLT 2: "if the sender is not responsible for paying the Bitcoin fee: MUST send a warning and close the connection, or
  // send an error and fail the channel."
  if (state.parameters.funder !== 'counterparty')
    return fault('not_the_funder', 'warning_disconnect', 'update_fee from the fundee');
  if (isFeerateFinal(state))
    return fault('update_after_shutdown', 'warning_disconnect', 'update_fee after the last update');
  if (!isAcceptableFeerate(ctx, state.parameters.commitmentFormat, message.feeratePerKw)) {
    // BOLT 2: "if the update_fee is too low for timely processing, OR is unreasonably large: MUST send a warning and close the
    // connection, or send an error and fail the channel." With anchors a feerate alone never closes a channel.
    const reaction = state.parameters.commitmentFormat === 'anchors' ? 'warning_disconnect' : 'fail_channel';
    return fault(
      'feerate_out_of_range',
      reaction,
      `update_fee: ${message.feeratePerKw} sat/kW is out of range`,
    );
  }
  const next = withFeerate(state, message.feeratePerKw);
  const allowed = checkCounterpartyFee(ctx, state, next);
  return allowed.ok ? stepOf(next) : allowed;
}

/**
 * BOLT 2: "if no HTLCs remain in either commitment transaction (including dust HTLCs) and neither side has a pending
 * revoke_and_ack to send: MUST NOT send any update message after that point." Both shutdowns were exchanged, on an earlier
 * connection perhaps, and a closing transaction may be signed, which holds for the balances as they are.
 */
function isFeerateFinal(state: EstablishedChannel): boolean {
  const { phase } = state;
  return (
    phase.type === 'shutting_down' &&
    phase.holder.type === 'sent' &&
    phase.counterparty.type !== 'awaited' &&
    isQuiet(state)
  );
}

/** Whether a feerate that the counterparty chose is neither too low to confirm nor absurdly high. */
export function isAcceptableFeerate(
  ctx: ChannelContext,
  format: CommitmentFormatName,
  feerateSatPerKw: number,
): boolean {
  const { minimumAnchorSatPerKw, minimumNonAnchorSatPerKw, maximumSatPerKw } = ctx.feerates;
  const minimum = Math.max(
    MIN_FEERATE_SAT_PER_KW,
    format === 'anchors' ? minimumAnchorSatPerKw : minimumNonAnchorSatPerKw,
  );
  const maximum = Math.min(MAX_FEERATE_SAT_PER_KW, UNREASONABLE_MULTIPLE * maximumSatPerKw);
  return feerateSatPerKw >= minimum && feerateSatPerKw <= maximum;
}

export function feeMessage(channelId: Uint8Array, feeratePerKw: number): MessageOf<'update_fee'> {
  return make('update_fee', { channelId, feeratePerKw });
}

function withFeerate(state: EstablishedChannel, feerateSatPerKw: number): EstablishedChannel {
  const feerates = compactFeerates([...state.changes.feerates, { feerateSatPerKw, state: 'add_pending' }]);
  return { ...state, changes: { ...state.changes, feerates } };
}
