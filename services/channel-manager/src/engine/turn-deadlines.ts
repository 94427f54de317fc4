/** What a turn does about HTLCs that cannot wait. */
import {
  type ChannelError,
  type EstablishedChannel,
  type FeerateEstimates,
  htlcDeadlines,
  isTooLateToOffer,
  unsignedHtlcs,
  weighClosing,
} from '@fulmen/channel';
import { isClosing } from '@fulmen/channel/close/force';
import type { TurnContext } from './turn-result.ts';

/**
 * An HTLC that the peer has, and no commitment_signed covers, waited too long: for the peer's revoke_and_ack, or for towers.
 * To be asked before each commitment_signed: only the end of the connection takes the HTLC back, and whoever sent it may
 * be paid back upstream once it has expired. Where the chain is in doubt, the greatest height that it may have counts.
 */
export function unsignedTooLong(
  state: EstablishedChannel,
  { greatestHeight }: Pick<TurnContext, 'greatestHeight'>,
): ChannelError | undefined {
  if (isClosing(state)) return undefined;
  const late = unsignedHtlcs(state).find(({ cltvExpiryHeight }) =>
    isTooLateToOffer(cltvExpiryHeight, greatestHeight),
  );
  return (
    late && {
      code: 'expiry_out_of_range',
      reaction: 'warning_disconnect',
      message: `HTLC ${late.id}, which expires at ${late.cltvExpiryHeight}, could not be signed in time`,
    }
  );
}

/**
 * Why the channel is to be closed by force at this height; undefined while nothing demands it that is worth a close.
 *
 * @param fulfilledLateMsat see `weighClosing`
 */
export function reasonToClose(
  state: EstablishedChannel,
  height: number,
  fulfilledLateMsat: bigint,
  feerates: FeerateEstimates,
): string | undefined {
  const due = htlcDeadlines(state, height);
  const [deadline] = due;
  if (deadline === undefined) return undefined;
  const { verdict, summary } = weighClosing(due, fulfilledLateMsat, feerates.closeTargetSatPerKw);
  // chain-monitor gives up what is not worth a channel, and tells whoever it came from.
  if (verdict === 'not_worth_it') return undefined;
  return `${deadline.direction} HTLC ${deadline.id} must be settled on-chain before it is too late: ${summary}`;
}
