/** Which actor a message of a peer is for. */
import { channelIdOf } from '@fulmen/channel';
import { assertNever, toHex } from '@fulmen/codec';
import type { Logger } from '@fulmen/service';
import type { Message, MessageOf } from '@fulmen/wire';
import type { ChannelActor } from '../engine/channel-actor.ts';
import { CommitmentBatch } from './batch.ts';
import { isAllChannels, type Peer } from './peer.ts';

/** Messages that name their channel by its final id. */
type ChannelMessage = MessageOf<
  | 'channel_ready'
  | 'update_add_htlc'
  | 'update_fulfill_htlc'
  | 'update_fail_htlc'
  | 'update_fail_malformed_htlc'
  | 'update_fee'
  | 'commitment_signed'
  | 'revoke_and_ack'
  | 'channel_reestablish'
  | 'shutdown'
  | 'closing_signed'
  | 'announcement_signatures'
  | 'stfu'
>;

interface Inbound {
  readonly message: Message;
  readonly generation: bigint;
  readonly frame: bigint;
}

/** What the dispatcher hands on that is no channel's. */
export interface MessageHandler {
  openChannelReceived(peer: Peer, message: MessageOf<'open_channel'>, generation: bigint): Promise<void>;
  unknownChannel(peer: Peer, channelId: Uint8Array, generation: bigint): void;
  storageReceived(peer: Peer, message: MessageOf<'peer_storage' | 'peer_storage_retrieval'>): void;
}

export class Dispatcher {
  readonly #logger: Logger;
  readonly #handler: MessageHandler;

  constructor(logger: Logger, handler: MessageHandler) {
    this.#logger = logger;
    this.#handler = handler;
  }

  /** False when no actor will report the frame as processed. */
  dispatch(peer: Peer, message: Message, generation: bigint, frame: bigint): boolean {
    const batch = peer.connection?.batch;
    if (batch !== undefined && message.type !== 'error' && message.type !== 'warning')
      return this.#batched(peer, batch, { message, generation, frame });
    switch (message.type) {
      case 'start_batch':
        this.#startBatch(peer, message, generation);
        return false;
      case 'open_channel':
        void this.#handler.openChannelReceived(peer, message, generation).catch((error: unknown) => {
          this.#logger.error({ err: error, peer: peer.key }, 'open_channel could not be handled');
          peer.complain(
            message.temporaryChannelId,
            'this node cannot open a channel now: try again later',
            generation,
          );
        });
        return false;
      case 'accept_channel':
      case 'funding_created': {
        const actor = peer.openings.get(toHex(message.temporaryChannelId));
        if (actor === undefined) return this.#unknown(peer, message.temporaryChannelId, generation);
        return actor.post({ kind: 'message', input: { type: 'message', message }, generation, frame });
      }
      case 'funding_signed': {
        const actor = awaitingFundingSigned(peer, message.channelId);
        if (actor === undefined) return this.#unknown(peer, message.channelId, generation);
        return actor.post({ kind: 'message', input: { type: 'message', message }, generation, frame });
      }
      case 'error':
      case 'warning':
        return this.#toAll(peer, message, generation, frame);
      case 'channel_ready':
      case 'update_add_htlc':
      case 'update_fulfill_htlc':
      case 'update_fail_htlc':
      case 'update_fail_malformed_htlc':
      case 'update_fee':
      case 'commitment_signed':
      case 'revoke_and_ack':
      case 'channel_reestablish':
      case 'shutdown':
      case 'closing_signed':
      case 'announcement_signatures':
      case 'stfu':
        return this.#toChannel(peer, message, generation, frame);
      case 'peer_storage':
      case 'peer_storage_retrieval':
        this.#handler.storageReceived(peer, message);
        return false;
      default:
        // Everything else is the gateway's or the router's; what got here anyway is dropped.
        return false;
    }
  }

  #startBatch(peer: Peer, message: MessageOf<'start_batch'>, generation: bigint): void {
    const start = CommitmentBatch.start(message);
    switch (start.type) {
      case 'begun':
        if (peer.connection !== undefined) peer.connection.batch = start.batch;
        return;
      case 'ignored':
        return;
      case 'ignored_with_warning':
        return peer.warn(message.channelId, start.text, generation);
      case 'refused':
        peer.warn(message.channelId, start.text, generation);
        return peer.disconnect(start.text);
    }
    assertNever(start);
  }

  #batched(peer: Peer, batch: CommitmentBatch, inbound: Inbound): boolean {
    const { message, generation, frame } = inbound;
    const { connection } = peer;
    const progress = batch.take(message);
    if (progress.type === 'incomplete' || connection === undefined) return false;
    connection.batch = undefined;
    if (progress.type === 'refused') {
      peer.warn(batch.channelId, progress.text, generation);
      peer.disconnect(progress.text);
      return false;
    }
    const actor = actorOf(peer, batch.channelId);
    if (actor === undefined || actor.stopped) return this.#unknown(peer, batch.channelId, generation);
    const input = { type: 'commitment_signed_batch', messages: progress.messages } as const;
    return actor.post({ kind: 'message', input, generation, frame });
  }

  #toChannel(peer: Peer, message: ChannelMessage, generation: bigint, frame: bigint): boolean {
    const actor = actorOf(peer, message.channelId);
    if (actor === undefined || actor.stopped) return this.#unknown(peer, message.channelId, generation);
    if (actor.post({ kind: 'message', input: { type: 'message', message }, generation, frame })) return true;
    peer.disconnect('too many messages at once');
    return false;
  }

  /** BOLT 1: an all-zero channel_id speaks of all channels with the peer. */
  #toAll(peer: Peer, message: MessageOf<'error' | 'warning'>, generation: bigint, frame: bigint): boolean {
    const actors = isAllChannels(message.channelId)
      ? peer.actors()
      : [actorOf(peer, message.channelId)].filter((actor) => actor !== undefined);
    // One that is out of service takes nothing, and would never report the frame.
    const taken = actors.filter((actor) => {
      const input = { type: 'message', message: { ...message, channelId: actor.channelId } } as const;
      return actor.post({ kind: 'message', input, generation, frame });
    });
    return taken.length > 0;
  }

  #unknown(peer: Peer, channelId: Uint8Array, generation: bigint): false {
    this.#handler.unknownChannel(peer, channelId, generation);
    return false;
  }
}

/** The channel that a peer's message is about, by its id, or, while it is being opened, by either of its two. */
function actorOf(peer: Peer, channelId: Uint8Array): ChannelActor | undefined {
  const key = toHex(channelId);
  return peer.channels.get(key) ?? peer.openings.get(key) ?? awaitingFundingSigned(peer, channelId);
}

function awaitingFundingSigned(peer: Peer, channelId: Uint8Array): ChannelActor | undefined {
  const wanted = toHex(channelId);
  for (const actor of peer.openings.values()) {
    const { state } = actor;
    if (state.type !== 'opening' || state.phase.type !== 'awaiting_funding_signed') continue;
    if (toHex(channelIdOf(state.phase.fundingTxid, state.phase.fundingOutputIndex)) === wanted) return actor;
  }
  return undefined;
}
