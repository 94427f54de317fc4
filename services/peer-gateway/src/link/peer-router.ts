/**
 * Brings each peer to the channel-manager that owns its shard, and keeps the
 * two together: a connection belongs to one generation of one owner in one
 * epoch, on one stream, on which both sides number its frames. Whenever that
 * cannot be kept up, the TCP connection is reset, and channel_reestablish
 * repairs what was in flight.
 */
import { assertNever, toHex } from '@fulmen/codec';
import type { InboundAck, ManagerHello, OutboundFrame, PeerAccepted } from '@fulmen/proto/link/v1/link';
import type { Logger, Runtime } from '@fulmen/service';
import { ACCEPT_WAIT_MS, OWNER_WAIT_MS } from '../limits.ts';
import type { GatewayMetrics } from '../metrics.ts';
import type { DisconnectCause, PeerConnection } from '../peer/connection.ts';
import type { InboundWindow } from '../peer/inbound-window.ts';
import type { TokenBucket } from '../peer/token-bucket.ts';
import type { LinkHandler, LinkInput, ManagerLink } from './manager-link.ts';
import { RoutingTable, type ShardOwner } from './routing-table.ts';

/** How far a peer is with its manager. */
export type Route =
  /** Nobody owns its shard. */
  | { readonly type: 'awaiting_owner'; readonly sinceMs: number }
  /** The owner was told of the connection. */
  | {
      readonly type: 'awaiting_accept';
      readonly link: ManagerLink;
      readonly epoch: bigint;
      readonly sinceMs: number;
    }
  /** Traffic flows. */
  | {
      readonly type: 'accepted';
      readonly link: ManagerLink;
      readonly generation: bigint;
      readonly epoch: bigint;
    }
  /** Was accepted; its shard was given up, or the stream broke, and the shard has no owner since. */
  | { readonly type: 'orphaned'; readonly sinceMs: number };

/** A peer's current connection. */
export interface RoutedPeer {
  readonly key: string;
  readonly nodeId: Uint8Array;
  readonly shard: number;
  readonly connectionId: bigint;
  readonly inbound: boolean;
  readonly remoteAddress: string;
  readonly connection: PeerConnection;
  readonly window: InboundWindow;
  /** Of the router, about its gossip, that it may be sent. */
  readonly warnings: TokenBucket;
  route: Route;
  /** The manager's last number that was queued. */
  queuedThrough: bigint;
  /**
   * Scids of its channels with this node, once its manager told: its channel_updates about them are for the manager too,
   * and a peer without any is one that would be missed least.
   */
  ownScids: ReadonlySet<bigint> | undefined;
  /** Its last gossip_timestamp_filter, for a router that starts anew. */
  timestampFilter: Uint8Array | undefined;
}

export interface PeerRouterHandler {
  /** A manager accepted the connection. */
  accepted(peer: RoutedPeer): void;
  /** Messages that are about peers' addresses, not their connections. */
  command(link: ManagerLink, body: Extract<LinkInput, { $case: 'connect' | 'forget' }>): void;
}

export class PeerRouter implements LinkHandler {
  readonly #runtime: Runtime;
  readonly #logger: Logger;
  readonly #metrics: GatewayMetrics;
  readonly #handler: PeerRouterHandler;
  readonly #table = new RoutingTable<ManagerLink>();
  readonly #peers = new Map<string, RoutedPeer>();
  /** By the link, once it said hello. */
  readonly #replicas = new Map<ManagerLink, string>();

  constructor(
    ports: { readonly runtime: Runtime; readonly logger: Logger; readonly metrics: GatewayMetrics },
    handler: PeerRouterHandler,
  ) {
    this.#runtime = ports.runtime;
    this.#logger = ports.logger;
    this.#metrics = ports.metrics;
    this.#handler = handler;
  }

  get peers(): IterableIterator<RoutedPeer> {
    return this.#peers.values();
  }

  get size(): number {
    return this.#peers.size;
  }

  get(key: string): RoutedPeer | undefined {
    return this.#peers.get(key);
  }

  /** A new connection of a peer that has no other. */
  add(peer: RoutedPeer): void {
    this.#peers.set(peer.key, peer);
    this.#reroute(peer);
  }

  /** The connection is over. */
  remove(peer: RoutedPeer): void {
    if (this.#peers.get(peer.key) !== peer) return;
    this.#peers.delete(peer.key);
    const { route } = peer;
    if (route.type === 'awaiting_owner' || route.type === 'orphaned') return;
    const generation = route.type === 'awaiting_accept' ? 0n : route.generation;
    const value = { peerNodeId: peer.nodeId, connectionId: peer.connectionId, generation };
    route.link.send({ $case: 'peerDisconnected', value });
  }

  /** Queues a message for the peer's manager; it waits until the manager accepted the peer. */
  channelMessage(peer: RoutedPeer, message: Uint8Array): void {
    peer.window.push(message);
    this.#flush(peer);
  }

  pauseReason(peer: RoutedPeer): 'credit' | 'link' | undefined {
    if (peer.window.isExhausted) return 'credit';
    return peer.route.type === 'accepted' && peer.route.link.isFull ? 'link' : undefined;
  }

  /** Everything through this number of the manager's was handed to the socket. */
  sent(peer: RoutedPeer, through: bigint): void {
    if (peer.route.type !== 'accepted') return;
    const { link, generation } = peer.route;
    link.send({ $case: 'outboundAck', value: { peerNodeId: peer.nodeId, generation, through } });
  }

  message(link: ManagerLink, body: LinkInput): void {
    switch (body.$case) {
      case 'hello':
        return this.#onHello(link, body.value);
      case 'peerAccepted':
        return this.#onAccepted(link, body.value);
      case 'outbound':
        return this.#onOutbound(link, body.value);
      case 'inboundAck':
        return this.#onInboundAck(link, body.value);
      case 'disconnect': {
        const peer = this.#ofLink(link, body.value.peerNodeId);
        if (peer === undefined) return;
        const generation = peer.route.type === 'accepted' ? peer.route.generation : 0n;
        if (body.value.generation !== generation) return;
        return peer.connection.close('manager', body.value.reason);
      }
      case 'ownScids': {
        const peer = this.#ofLink(link, body.value.peerNodeId);
        if (peer?.route.type === 'accepted' && peer.route.generation === body.value.generation)
          peer.ownScids = new Set(body.value.shortChannelIds);
        return;
      }
      case 'connect':
      case 'forget':
        return this.#handler.command(link, body);
      case 'shardReleased':
        return this.#rerouteAll(this.#table.release(link, body.value.shard, body.value.epoch));
      default:
        return assertNever(body);
    }
  }

  /** What was accepted on the stream ends with it: who accepts a connection again numbers from the beginning. */
  broken(link: ManagerLink, reason: string): void {
    if (this.#replicas.delete(link))
      this.#logger.warn({ manager: link.address, reason }, 'the link to a manager broke');
    this.#rerouteAll(this.#table.drop(link));
    this.#publish();
  }

  drained(link: ManagerLink): void {
    for (const peer of this.#peers.values()) {
      if (peer.route.type === 'accepted' && peer.route.link === link) peer.connection.resumeReading();
    }
  }

  /** Ends what waited too long; called every TICK_MS. */
  tick(nowMs: number): void {
    for (const peer of [...this.#peers.values()]) {
      peer.connection.tick(nowMs);
      const { route } = peer;
      switch (route.type) {
        case 'accepted':
          break;
        case 'awaiting_owner':
          if (nowMs - route.sinceMs >= OWNER_WAIT_MS) {
            peer.connection.close('no_owner', 'no channel-manager owns this peer');
          }
          break;
        case 'orphaned':
          if (nowMs - route.sinceMs >= OWNER_WAIT_MS)
            this.#reset(peer, 'no_owner', 'its shard has no owner any more');
          break;
        case 'awaiting_accept':
          if (nowMs - route.sinceMs >= ACCEPT_WAIT_MS) {
            peer.connection.close('no_owner', 'the manager did not accept the connection');
          }
          break;
        default:
          assertNever(route);
      }
    }
    this.#publish();
  }

  #onHello(link: ManagerLink, hello: ManagerHello): void {
    if (this.#replicas.get(link) !== hello.replicaId) {
      this.#logger.info({ manager: link.address, replica: hello.replicaId }, 'linked to a manager');
      this.#replicas.set(link, hello.replicaId);
    }
    this.#rerouteAll(this.#table.announce(link, hello.shards));
    this.#publish();
  }

  #onAccepted(link: ManagerLink, accepted: PeerAccepted): void {
    const peer = this.#ofLink(link, accepted.peerNodeId);
    if (peer === undefined || peer.connectionId !== accepted.connectionId) return;
    const { route } = peer;
    const { generation, epoch } = accepted;
    switch (route.type) {
      case 'awaiting_accept':
        // An answer from before the shard was lost and won again.
        if (epoch < route.epoch) return;
        peer.route = { type: 'accepted', link, generation, epoch };
        this.#handler.accepted(peer);
        break;
      case 'accepted':
        if (route.generation !== generation || route.epoch !== epoch)
          this.#reset(peer, 'ownership', 'the manager began a new generation');
        return;
      case 'awaiting_owner':
      case 'orphaned':
        return;
      default:
        assertNever(route);
    }
    this.#flush(peer);
    peer.connection.resumeReading();
  }

  #onOutbound(link: ManagerLink, frame: OutboundFrame): void {
    const peer = this.#ofLink(link, frame.peerNodeId);
    const route = peer?.route;
    // An owner that was replaced may still be talking: its words are for a connection that is gone.
    if (
      peer === undefined ||
      route?.type !== 'accepted' ||
      route.generation !== frame.generation ||
      route.epoch !== frame.epoch
    ) {
      this.#metrics.dropped.inc({ reason: 'stale_outbound' });
      return;
    }
    if (frame.number !== peer.queuedThrough + 1n) {
      return this.#reset(peer, 'ownership', 'a frame of the manager is not the next');
    }
    peer.queuedThrough = frame.number;
    this.#metrics.outboundMessages.inc({ origin: 'manager' });
    peer.connection.send(frame.message, frame.number);
  }

  #onInboundAck(link: ManagerLink, ack: InboundAck): void {
    const peer = this.#ofLink(link, ack.peerNodeId);
    if (peer?.route.type !== 'accepted' || peer.route.generation !== ack.generation) return;
    peer.window.acknowledge(ack.through, ack.creditBytes);
    peer.connection.resumeReading();
  }

  /** The peer, if this link is the one it is with. */
  #ofLink(link: ManagerLink, nodeId: Uint8Array): RoutedPeer | undefined {
    const peer = this.#peers.get(toHex(nodeId));
    return peer !== undefined && 'link' in peer.route && peer.route.link === link ? peer : undefined;
  }

  #rerouteAll(shards: readonly number[]): void {
    if (shards.length === 0) return;
    const changed = new Set(shards);
    for (const peer of [...this.#peers.values()]) if (changed.has(peer.shard)) this.#reroute(peer);
  }

  /** Fits a peer's route to the table. */
  #reroute(peer: RoutedPeer): void {
    const owner = this.#table.owner(peer.shard);
    const { route } = peer;
    const nowMs = this.#runtime.monotonicMs();
    switch (route.type) {
      case 'awaiting_owner':
        if (owner !== undefined) this.#assign(peer, owner);
        return;
      case 'awaiting_accept':
        if (owner === undefined) peer.route = { type: 'awaiting_owner', sinceMs: nowMs };
        else if (owner.link !== route.link || owner.epoch !== route.epoch) this.#assign(peer, owner);
        return;
      case 'accepted':
        if (owner === undefined) peer.route = { type: 'orphaned', sinceMs: nowMs };
        else if (owner.link !== route.link || owner.epoch !== route.epoch) {
          this.#reset(peer, 'ownership', 'its shard has a new owner');
        }
        return;
      case 'orphaned':
        if (owner !== undefined) this.#reset(peer, 'ownership', 'its shard has an owner again');
        return;
      default:
        assertNever(route);
    }
  }

  #assign(peer: RoutedPeer, owner: ShardOwner<ManagerLink>): void {
    const sinceMs = this.#runtime.monotonicMs();
    peer.route = { type: 'awaiting_accept', link: owner.link, epoch: owner.epoch, sinceMs };
    owner.link.send({
      $case: 'peerConnected',
      value: {
        peerNodeId: peer.nodeId,
        connectionId: peer.connectionId,
        theirFeatures: peer.connection.features.encode(),
        remoteAddress: peer.remoteAddress,
        inbound: peer.inbound,
      },
    });
  }

  #flush(peer: RoutedPeer): void {
    if (peer.route.type !== 'accepted') return;
    const { link, generation } = peer.route;
    for (const { number, message } of peer.window.takeUnsent()) {
      link.send({ $case: 'inbound', value: { peerNodeId: peer.nodeId, generation, number, message } });
    }
  }

  #reset(peer: RoutedPeer, cause: DisconnectCause, detail: string): void {
    peer.connection.reset(cause, detail);
  }

  #publish(): void {
    let accepted = 0;
    let inbound = 0;
    for (const peer of this.#peers.values()) {
      if (peer.route.type === 'accepted') accepted += 1;
      if (peer.inbound) inbound += 1;
    }
    this.#metrics.acceptedPeers.set(accepted);
    this.#metrics.peers.set({ direction: 'inbound' }, inbound);
    this.#metrics.peers.set({ direction: 'outbound' }, this.#peers.size - inbound);
    this.#metrics.linksUp.set(this.#replicas.size);
    this.#metrics.ownedShards.set(this.#table.ownedShards);
  }
}
