/** Small helpers of the unit tests. */
import { InternalError } from '@fulmen/codec';
import { make } from '@fulmen/wire';
import type { MessageInputOf, MessageOf } from '@fulmen/wire';
import type { ChannelEffect, PeerMessage } from '../effect.ts';
import type { ChannelError } from '../errors.ts';
import type { TestNode } from './node.ts';

/** Hands a message to a node and returns the error, if any. */
export function receive(node: TestNode, message: PeerMessage): ChannelError | undefined {
  return node.input({ type: 'message', message });
}

/** A message for the node's channel, as a dishonest peer might make it. */
export function forged<
  N extends
    | 'update_add_htlc'
    | 'update_fulfill_htlc'
    | 'update_fail_htlc'
    | 'update_fail_malformed_htlc'
    | 'update_fee'
    | 'commitment_signed'
    | 'revoke_and_ack'
    | 'shutdown'
    | 'closing_signed'
    | 'channel_reestablish'
    | 'channel_ready'
    | 'error'
    | 'warning'
    | 'announcement_signatures',
>(node: TestNode, name: N, fields: Omit<MessageInputOf<N>, 'type' | 'channelId'>): MessageOf<N> {
  return make(name, { channelId: node.channel.channelId, ...fields } as unknown as Omit<
    MessageInputOf<N>,
    'type'
  >);
}

/** The next message on its way from a node, which must be of this type. */
export function take<N extends PeerMessage['type']>(
  node: TestNode,
  type: N,
): Extract<PeerMessage, { type: N }> {
  const message = node.outbox.shift();
  if (message?.type !== type)
    throw new InternalError(`${node.name} sent ${message?.type ?? 'nothing'} instead of ${type}`);
  return message as Extract<PeerMessage, { type: N }>;
}

export function typesOf(messages: readonly PeerMessage[]): readonly string[] {
  return messages.map(({ type }) => type);
}

export function effectsOf<T extends ChannelEffect['type']>(
  node: TestNode,
  type: T,
): readonly Extract<ChannelEffect, { type: T }>[] {
  return node.effects.filter((effect): effect is Extract<ChannelEffect, { type: T }> => effect.type === type);
}
