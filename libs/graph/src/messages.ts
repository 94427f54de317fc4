/** Names for the three gossip messages and the bits the graph reads in them. */
import type { MessageOf } from '@fulmen/wire';
import { decodeMessage } from '@fulmen/wire';

/** `raw` beside a decoded message always means the whole message as it travelled, type number included. */
export type ChannelAnnouncement = MessageOf<'channel_announcement'>;
export type ChannelUpdate = MessageOf<'channel_update'>;
export type NodeAnnouncement = MessageOf<'node_announcement'>;

/**
 * The longest announcement or update that is taken, in bytes, type number
 * included. Without extras they have 432, 138 and 142; this leaves some 1,500
 * for features, addresses and records to come (LDK neither keeps nor relays a
 * message with more than 1,024 bytes that it cannot read).
 */
export const MAX_GOSSIP_BYTES = 2_048;

/** channel_update `channel_flags`: which end of the channel speaks. */
export const CHANNEL_FLAG_DIRECTION = 1;
/** channel_update `channel_flags`: no HTLC may be sent while it is set. */
export const CHANNEL_FLAG_DISABLE = 2;
/** channel_update `message_flags`: for the channel's peer alone. */
export const MESSAGE_FLAG_DONT_FORWARD = 2;

/** The channel_update in these bytes, if that is what they are; `raw` begins with the type number. */
export function decodeChannelUpdate(raw: Uint8Array): ChannelUpdate | undefined {
  const message = decodeMessage(raw);
  return message.ok && message.value.type === 'channel_update' ? message.value : undefined;
}
