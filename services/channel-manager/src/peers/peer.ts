/** One peer as this replica sees it: its connection, its channels, its openings. */
import type { NegotiatedFeatures, PeerMessage } from '@fulmen/channel';
import { FeatureBits, toHex, utf8Encode } from '@fulmen/codec';
import type { Fence } from '@fulmen/store';
import { encodeMessage, make } from '@fulmen/wire';
import type { ChannelActor } from '../engine/channel-actor.ts';
import { isBacked, scidsOf } from '../engine/counterparty-terms.ts';
import type { Lease } from '../lease/lease.ts';
import type { GatewayStream } from '../link/outbound.ts';
import type { CommitmentBatch } from './batch.ts';

export interface Connection {
  readonly gateway: GatewayStream;
  readonly connectionId: bigint;
  readonly generation: bigint;
  readonly features: NegotiatedFeatures;
  /** The peer offers to keep a blob for us (BOLT 1, peer storage). */
  readonly offersStorage: boolean;
  /** Number of the last frame sent. */
  outbound: bigint;
  /** Number of the last frame received. */
  inbound: bigint;
  /** The peer announced messages that belong together, and not all are here yet. */
  batch: CommitmentBatch | undefined;
  /** Frames received and not yet processed. */
  readonly open: Set<bigint>;
}

/** Bytes a gateway may have unacknowledged for one peer. */
const CREDIT_BYTES = 256 * 1024;

export class Peer {
  readonly nodeId: Uint8Array;
  readonly key: string;
  readonly fence: Fence;
  /** By channel id, hex. */
  readonly channels = new Map<string, ChannelActor>();
  /** By temporary channel id, hex. */
  readonly openings = new Map<string, ChannelActor>();
  /** Channels whose rows cannot be read here, by id, hex: out of service, and not over. */
  readonly unreadable = new Set<string>();
  /** Openings that the peer asked for and that wait for their keys, by temporary channel id, hex. */
  readonly beginning = new Set<string>();
  connection: Connection | undefined;
  /** Connections being accepted: one after the other. */
  accepting: Promise<void> = Promise.resolve();
  connectionsToAccept = 0;
  /** channel_updates of the peer being looked at: one after the other. */
  learning: Promise<void> = Promise.resolve();
  readonly #lease: Lease;

  constructor(nodeId: Uint8Array, fence: Fence, lease: Lease) {
    this.nodeId = nodeId;
    this.key = toHex(nodeId);
    this.fence = fence;
    this.#lease = lease;
  }

  /** Of its channels, and of those that are being opened. */
  actors(): readonly ChannelActor[] {
    return [...this.channels.values(), ...this.openings.values()];
  }

  /** Whether the id is that of a channel, in service or not. */
  hasChannel(channelId: Uint8Array): boolean {
    const key = toHex(channelId);
    return this.channels.has(key) || this.unreadable.has(key);
  }

  /** Whether nothing here would be missed. */
  isStranger(): boolean {
    const { connection, connectionsToAccept, channels, unreadable, openings, beginning } = this;
    const held = channels.size + unreadable.size + openings.size + beginning.size;
    return connection === undefined && connectionsToAccept + held === 0;
  }

  /** Sends on the connection of that generation, while the lease holds; otherwise the message is dropped, and reestablish repairs. */
  send(message: PeerMessage, generation: bigint): boolean {
    return this.sendBytes(encodeMessage(message), generation);
  }

  sendBytes(message: Uint8Array, generation: bigint): boolean {
    const { connection } = this;
    if (connection === undefined || connection.generation !== generation || !this.#lease.isValid())
      return false;
    connection.outbound += 1n;
    connection.gateway.send({
      $case: 'outbound',
      value: {
        peerNodeId: this.nodeId,
        generation,
        epoch: this.fence.epoch,
        number: connection.outbound,
        message,
      },
    });
    return true;
  }

  /**
   * Tells the gateway which channel_updates of the peer are for this replica; frames queued before are read before. A peer
   * without any makes room for others: what it has only spoken of is none.
   */
  tellScids(): void {
    const { connection } = this;
    if (connection === undefined) return;
    const shortChannelIds = [...this.channels.values()].flatMap(({ state }) =>
      state.type === 'established' && isBacked(state) ? scidsOf(state) : [],
    );
    connection.gateway.send({
      $case: 'ownScids',
      value: { peerNodeId: this.nodeId, generation: connection.generation, shortChannelIds },
    });
  }

  /**
   * An error about something that is no channel: an opening that is refused, an id that is not known. BOLT 1: who sends an
   * error "MUST fail the channel(s) referred to by the error message". An id that is a channel's, one that is out of
   * service among them, or all zeroes, which refer to every channel, gets a warning.
   */
  complain(channelId: Uint8Array, text: string, generation: bigint): void {
    if (isAllChannels(channelId) || this.hasChannel(channelId)) return this.warn(channelId, text, generation);
    this.send(make('error', { channelId, data: utf8Encode(text) }), generation);
  }

  warn(channelId: Uint8Array, text: string, generation: bigint): void {
    this.send(make('warning', { channelId, data: utf8Encode(text) }), generation);
  }

  /** Has the gateway close the current connection. */
  disconnect(reason: string): void {
    const { connection } = this;
    if (connection === undefined) return;
    connection.gateway.send({
      $case: 'disconnect',
      value: { peerNodeId: this.nodeId, generation: connection.generation, reason },
    });
  }

  /** Tells the gateway what it need not keep. */
  processed(generation: bigint, frames: readonly bigint[]): void {
    const { connection } = this;
    if (connection === undefined || connection.generation !== generation || frames.length === 0) return;
    for (const frame of frames) connection.open.delete(frame);
    let through = connection.inbound;
    for (const frame of connection.open) if (frame <= through) through = frame - 1n;
    connection.gateway.send({
      $case: 'inboundAck',
      value: { peerNodeId: this.nodeId, generation, through, creditBytes: CREDIT_BYTES },
    });
  }
}

/** BOLT 1: "unless channel_id is 0 (i.e. all bytes are 0), in which case it refers to all channels". */
export function isAllChannels(channelId: Uint8Array): boolean {
  return channelId.every((byte) => byte === 0);
}

/** Whether a peer's init offers peer storage. */
export function offersStorage(theirFeatures: Uint8Array): boolean {
  return FeatureBits.decode(theirFeatures).supports('provide_storage');
}

/** What both sides support, as far as channels care; `init` at the gateway offered our side. */
export function negotiatedFeatures(theirFeatures: Uint8Array): NegotiatedFeatures {
  const theirs = FeatureBits.decode(theirFeatures);
  return {
    largeChannels: theirs.supports('support_large_channel'),
    anchors: theirs.supports('anchors'),
    upfrontShutdownScript: theirs.supports('upfront_shutdown_script'),
    shutdownAnySegwit: theirs.supports('shutdown_anysegwit'),
    scidAlias: theirs.supports('scid_alias'),
    zeroConf: theirs.supports('zeroconf'),
    // Not among the features that the gateway offers.
    dualFund: false,
  };
}
