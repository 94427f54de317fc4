/** BOLT 7 "The announcement_signatures Message". */
import type { MessageOf } from '@fulmen/wire';
import { isClosing } from '../close/force.ts';
import { ANNOUNCEMENT_DEPTH } from '../config.ts';
import type { ChannelEffect } from '../effect.ts';
import { fault } from '../errors.ts';
import type { EstablishedChannel, Funding, FundingConfirmation } from '../state.ts';
import { primaryFunding } from '../state.ts';
import type { Step, StepResult } from '../step.ts';
import { stepOf } from '../step.ts';

/**
 * Sends announcement_signatures once the channel is public, usable and six
 * blocks deep. BOLT 7: "After channel_ready has been sent and received AND
 * the funding transaction has enough confirmations to ensure that it won't be
 * reorganized: MUST send announcement_signatures for the funding transaction."
 */
export function announceIfDue(state: EstablishedChannel): Step<EstablishedChannel> {
  const { confirmation, announcement } = primaryFunding(state);
  const isDue =
    isAnnounceable(state) && confirmation.type === 'confirmed' && confirmation.depth >= ANNOUNCEMENT_DEPTH;
  if (!isDue || state.connection.type !== 'connected') return { state, effects: [] };
  const sendHalf = (): Step<EstablishedChannel> => ({
    state: withAnnouncement(state, { type: 'holder_sent' }),
    effects: [signaturesEffect(state, confirmation.shortChannelId)],
  });
  switch (announcement.type) {
    case 'unannounced':
      return sendHalf();
    case 'holder_sent':
      return { state, effects: [] };
    case 'counterparty_signed': {
      // It came before the holder saw the block, or the funding moved to another block since: this half signs something else.
      if (announcement.shortChannelId !== confirmation.shortChannelId) return sendHalf();
      if (announcement.holder !== 'unsent') return { state, effects: [] };
      const next = withAnnouncement(state, { ...announcement, holder: 'sent' });
      return {
        state: next,
        effects: [
          signaturesEffect(state, confirmation.shortChannelId),
          ...announceEffect(primaryFunding(next)),
        ],
      };
    }
  }
}

/** The counterparty's half of the announcement. */
export function receiveAnnouncementSignatures(
  state: EstablishedChannel,
  message: MessageOf<'announcement_signatures'>,
): StepResult<EstablishedChannel> {
  // A half that comes after the end would announce a channel that is none any more.
  if (isClosing(state))
    return fault('unexpected_message', 'ignore', 'announcement_signatures for a closing channel');
  if (!state.parameters.announce)
    return fault('unexpected_message', 'warning', 'announcement_signatures for a private channel');
  const { announcement, confirmation } = primaryFunding(state);
  // BOLT 7: "If the short_channel_id doesn't match one of its funding transactions: SHOULD send a warning." Before the holder
  // sees the block, it cannot tell.
  if (confirmation.type === 'confirmed' && confirmation.shortChannelId !== message.shortChannelId) {
    return fault('unexpected_message', 'warning', 'announcement_signatures: wrong short_channel_id');
  }
  const isStored =
    announcement.type === 'counterparty_signed' && announcement.shortChannelId === message.shortChannelId;
  if (isStored && announcement.holder !== 'unsent') {
    // BOLT 7: "Upon reconnection: If it receives announcement_signatures for the funding transaction: MUST respond with its own
    // announcement_signatures message." Once per connection, or two nodes would answer each other for ever.
    if (confirmation.type !== 'confirmed' || announcement.holder === 'answered') return stepOf(state);
    return stepOf(
      withAnnouncement(state, { ...announcement, holder: 'answered' }),
      signaturesEffect(state, confirmation.shortChannelId),
    );
  }
  const { shortChannelId, nodeSignature, bitcoinSignature } = message;
  const holder = announcement.type === 'holder_sent' && confirmation.type === 'confirmed' ? 'sent' : 'unsent';
  const next = withAnnouncement(state, {
    type: 'counterparty_signed',
    holder,
    shortChannelId,
    nodeSignature,
    bitcoinSignature,
  });
  if (holder === 'sent') return stepOf(next, ...announceEffect(primaryFunding(next)));
  return { ok: true, value: announceIfDue(next) };
}

/** BOLT 7: "upon reconnection: If it has NOT previously received announcement_signatures for the funding transaction: MUST send its own announcement_signatures message." */
export function announcementOnReconnect(state: EstablishedChannel): Step<EstablishedChannel> {
  const { announcement, confirmation } = primaryFunding(state);
  if (announcement.type === 'counterparty_signed' && announcement.holder === 'answered') {
    return announceIfDue(withAnnouncement(state, { ...announcement, holder: 'sent' }));
  }
  if (announcement.type === 'holder_sent' && confirmation.type === 'confirmed' && isAnnounceable(state)) {
    return { state, effects: [signaturesEffect(state, confirmation.shortChannelId)] };
  }
  return announceIfDue(state);
}

/** What the chain says of a funding now. The half that was sent is for the block it was in; in another, it is owed anew. */
export function withConfirmation(funding: Funding, confirmation: FundingConfirmation): Funding {
  const { confirmation: before, announcement } = funding;
  const isMoved = before.type === 'confirmed' && scidOf(before) !== scidOf(confirmation);
  return isMoved && announcement.type === 'holder_sent'
    ? { ...funding, confirmation, announcement: { type: 'unannounced' } }
    : { ...funding, confirmation };
}

function scidOf(confirmation: FundingConfirmation): bigint | undefined {
  return confirmation.type === 'confirmed' ? confirmation.shortChannelId : undefined;
}

function isAnnounceable(state: EstablishedChannel): boolean {
  // BOLT 7: "If the open_channel message has the announce_channel bit set AND a shutdown message has not been sent".
  return state.parameters.announce && state.phase.type === 'open';
}

function signaturesEffect(state: EstablishedChannel, shortChannelId: bigint): ChannelEffect {
  return {
    type: 'send',
    message: { kind: 'announcement_signatures', channelId: state.channelId, shortChannelId },
  };
}

function announceEffect(funding: Funding): readonly ChannelEffect[] {
  const { announcement } = funding;
  if (announcement.type !== 'counterparty_signed') return [];
  const { shortChannelId, nodeSignature, bitcoinSignature } = announcement;
  return [
    {
      type: 'announce_channel',
      shortChannelId,
      counterpartyNodeSignature: nodeSignature,
      counterpartyBitcoinSignature: bitcoinSignature,
    },
  ];
}

function withAnnouncement(
  state: EstablishedChannel,
  announcement: Funding['announcement'],
): EstablishedChannel {
  const [first, ...others] = state.fundings;
  return first === undefined ? state : { ...state, fundings: [{ ...first, announcement }, ...others] };
}
