/** Publishes our own gossip in the background: to the counterparty itself, to the world through the router. */
import type { PeerHub } from '../peers/peer-hub.ts';
import { patiently } from '../signing/patiently.ts';
import type { ActorHost } from './actor-host.ts';
import type { ChannelActor } from './channel-actor.ts';
import { fullAnnouncement, ownChannelUpdate } from './own-gossip.ts';

/** The counterparty's signatures of an announcement. */
export interface AnnouncementHalf {
  readonly shortChannelId: bigint;
  readonly nodeSignature: Uint8Array;
  readonly bitcoinSignature: Uint8Array;
}

export interface GossipHost extends Pick<ActorHost, 'ports' | 'node' | 'inBackground'> {
  readonly peers: Pick<PeerHub, 'find'>;
}

export class GossipPublisher {
  readonly #host: GossipHost;

  constructor(host: GossipHost) {
    this.#host = host;
  }

  /** The terms of a channel for its counterparty, and for the world if it is announced. */
  publishPolicy(actor: ChannelActor): void {
    const { ports, node } = this.#host;
    this.#host.inBackground('channel update', async () => {
      const generation = actor.generation;
      const forPeer = await ownChannelUpdate(ports, node, actor, 'peer');
      if (forPeer !== undefined && generation !== undefined)
        this.#host.peers.find(actor.counterpartyNodeId)?.sendBytes(forPeer, generation);
      const { state } = actor;
      if (state.type !== 'established' || !state.parameters.announce) return;
      const forWorld = await ownChannelUpdate(ports, node, actor, 'world');
      if (forWorld !== undefined) await this.#publish(actor, [forWorld]);
    });
  }

  /** The announcement of a channel once both halves of its signatures are there, with its terms. */
  publishAnnouncement(actor: ChannelActor, theirs: AnnouncementHalf): void {
    const { ports, node } = this.#host;
    this.#host.inBackground('channel announcement', async () => {
      const announcement = await fullAnnouncement(ports, node, actor, theirs);
      if (announcement === undefined) {
        ports.logger.warn({ channel: actor.channelId }, 'the peer’s announcement_signatures do not verify');
        return;
      }
      const update = await ownChannelUpdate(ports, node, actor, 'world');
      await this.#publish(actor, update === undefined ? [announcement] : [announcement, update]);
    });
  }

  async #publish(actor: ChannelActor, messages: Uint8Array[]): Promise<void> {
    const { runtime, router } = this.#host.ports;
    await patiently(
      runtime,
      () => actor.stopped,
      () => router.publishOwn({ messages }),
    );
  }
}
