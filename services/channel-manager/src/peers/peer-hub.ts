/**
 * Gateways and peers: who is connected where, in which generation, and which
 * actor a message is for. The newest connection of a peer wins everywhere, by a
 * fenced CAS in the store; only after it does a channel hear of a connection.
 */
import { toHex } from '@fulmen/codec';
import { shardOfPeer } from '@fulmen/keys/shard';
import type {
  ConnectResult,
  GatewayToManager,
  InboundFrame,
  ManagerToGateway,
  PeerConnected,
  PeerDisconnected,
} from '@fulmen/proto/link/v1/link';
import { type DuplexStream, RpcError } from '@fulmen/rpc';
import type { Fence } from '@fulmen/store';
import { decodeMessage, encodeMessage, make, type Message } from '@fulmen/wire';
import type { EnginePorts } from '../engine/ports.ts';
import { GatewayStream } from '../link/outbound.ts';
import { Dispatcher, type MessageHandler } from './dispatch.ts';
import { type Connection, negotiatedFeatures, offersStorage, Peer } from './peer.ts';

export interface PeerHubHandler extends MessageHandler {
  /** A peer's connection was accepted. */
  connected(peer: Peer): void;
  /** The blob that this node keeps for a peer, to be returned before any channel is reestablished. */
  keptFor(nodeId: Uint8Array): Promise<Uint8Array | undefined>;
  /** About a channel with the peer, if it is of the peer; resolves when nothing more is to be done for it. */
  channelUpdateReceived(peer: Peer, message: Uint8Array): Promise<void>;
}

/** Longest wait for a peer that the operator wants connected. */
const CONNECT_TIMEOUT_MS = 20_000;

export class PeerHub {
  readonly #ports: EnginePorts;
  readonly #replicaId: string;
  readonly #handler: PeerHubHandler;
  readonly #dispatcher: Dispatcher;
  readonly #gateways = new Map<string, GatewayStream>();
  readonly #peers = new Map<string, Peer>();
  readonly #connecting = new Map<
    bigint,
    { readonly peerKey: string; readonly resolve: () => void; readonly reject: (error: Error) => void }
  >();
  readonly #fences: () => readonly Fence[];
  readonly #fenceOf: (shard: number) => Fence | undefined;
  #nextRequest = 1n;
  #helloScheduled = false;

  constructor(
    ports: EnginePorts,
    replicaId: string,
    fences: () => readonly Fence[],
    fenceOf: (shard: number) => Fence | undefined,
    handler: PeerHubHandler,
  ) {
    this.#ports = ports;
    this.#replicaId = replicaId;
    this.#fences = fences;
    this.#fenceOf = fenceOf;
    this.#handler = handler;
    this.#dispatcher = new Dispatcher(ports.logger, handler);
  }

  // ---------------------------------------------------------------- peers

  /** The peer, if this replica owns its shard; made when it is not known yet. */
  peerOf(nodeId: Uint8Array): Peer | undefined {
    const fence = this.#fenceOf(shardOfPeer(nodeId));
    if (fence === undefined) return undefined;
    const key = toHex(nodeId);
    let peer = this.#peers.get(key);
    if (peer === undefined || peer.fence.epoch !== fence.epoch) {
      peer = new Peer(nodeId, fence, this.#ports.lease);
      this.#peers.set(key, peer);
    }
    return peer;
  }

  find(nodeId: Uint8Array): Peer | undefined {
    return this.#peers.get(toHex(nodeId));
  }

  peers(): readonly Peer[] {
    return [...this.#peers.values()];
  }

  /** Every actor of a shard leaves with it. */
  dropShard(shard: number): readonly Peer[] {
    const dropped = [...this.#peers.values()].filter((peer) => peer.fence.shard === shard);
    for (const peer of dropped) {
      this.#peers.delete(peer.key);
      // Whoever waited with this peer in hand must not begin something on a connection that is not its any more.
      peer.connection = undefined;
    }
    return dropped;
  }

  // ---------------------------------------------------------------- gateways

  /** The handler of PeerLinkService.Link: lives as long as the gateway's stream. */
  async serve(stream: DuplexStream<GatewayToManager, ManagerToGateway>): Promise<void> {
    let gateway: GatewayStream | undefined;
    try {
      for await (const { body } of stream) {
        if (body === undefined) continue;
        if (gateway === undefined) {
          if (body.$case !== 'hello')
            throw new RpcError('invalid_argument', 'the first message of a link is hello');
          gateway = this.#register(new GatewayStream(body.value.gatewayId, body.value.incarnation, stream));
          continue;
        }
        this.#receive(gateway, body);
      }
    } finally {
      if (gateway !== undefined) this.#gone(gateway);
    }
  }

  #register(gateway: GatewayStream): GatewayStream {
    this.#gateways.get(gateway.gatewayId)?.cut('a newer link of this gateway');
    this.#gateways.set(gateway.gatewayId, gateway);
    this.#hello(gateway);
    void this.reconnectWanted();
    return gateway;
  }

  #gone(gateway: GatewayStream): void {
    gateway.cut('the link ended');
    if (this.#gateways.get(gateway.gatewayId) === gateway) this.#gateways.delete(gateway.gatewayId);
    for (const peer of this.#peers.values())
      if (peer.connection?.gateway === gateway) this.#disconnected(peer);
  }

  /** Tells every gateway what this replica owns; calls within one turn of the event loop are one message. */
  announceOwnership(): void {
    if (this.#helloScheduled) return;
    this.#helloScheduled = true;
    void this.#ports.runtime.sleep(0).then(() => {
      this.#helloScheduled = false;
      for (const gateway of this.#gateways.values()) this.#hello(gateway);
    });
  }

  #hello(gateway: GatewayStream): void {
    const shards = this.#fences().map(({ shard, epoch }) => ({ shard, epoch }));
    gateway.send({ $case: 'hello', value: { replicaId: this.#replicaId, shards } });
  }

  #receive(gateway: GatewayStream, body: NonNullable<GatewayToManager['body']>): void {
    switch (body.$case) {
      case 'hello':
        gateway.cut('hello twice');
        return;
      case 'peerConnected':
        this.#peerConnected(gateway, body.value);
        return;
      case 'peerDisconnected':
        this.#peerDisconnected(gateway, body.value);
        return;
      case 'inbound':
        this.#inbound(gateway, body.value);
        return;
      case 'outboundAck':
        return;
      case 'connectResult':
        this.#connectResult(body.value);
        return;
    }
  }

  // ---------------------------------------------------------------- connections

  #peerConnected(gateway: GatewayStream, message: PeerConnected): void {
    const peer = this.peerOf(message.peerNodeId);
    // Not ours: the gateway learns from the next hello whose it is.
    if (peer === undefined) return;
    peer.connectionsToAccept += 1;
    peer.accepting = peer.accepting
      .then(() => this.#accept(peer, gateway, message))
      .catch((error: unknown) => {
        this.#ports.logger.warn({ err: error, peer: peer.key }, 'a connection could not be accepted');
        gateway.send({
          $case: 'disconnect',
          value: { peerNodeId: message.peerNodeId, generation: 0n, reason: 'not accepted: try again' },
        });
      })
      .finally(() => (peer.connectionsToAccept -= 1));
  }

  async #accept(peer: Peer, gateway: GatewayStream, message: PeerConnected): Promise<void> {
    // Announced again where it was accepted: nothing of it is new, and its frames go on being counted.
    if (isOf(peer.connection, gateway, message)) return this.#tellAccepted(peer, peer.connection);
    const [outcome, kept] = await Promise.all([
      this.#ports.store.acceptConnection(peer.fence, peer.nodeId, {
        gatewayId: gateway.gatewayId,
        connectionId: message.connectionId,
        features: message.theirFeatures,
      }),
      this.#handler.keptFor(peer.nodeId),
    ]);
    if (outcome.type === 'fence_lost') return;
    const { generation } = outcome;
    if (this.#peers.get(peer.key) !== peer || gateway.broken) return this.#dropPresence(peer, generation);
    this.#leaveTo(gateway, peer);
    const before = peer.connection;
    if (before !== undefined) {
      peer.disconnect('a newer connection of this peer');
      this.#disconnected(peer);
    }
    const features = negotiatedFeatures(message.theirFeatures);
    peer.connection = {
      gateway,
      connectionId: message.connectionId,
      generation,
      features,
      offersStorage: offersStorage(message.theirFeatures),
      outbound: 0n,
      inbound: 0n,
      batch: undefined,
      open: new Set(),
    };
    this.#tellAccepted(peer, peer.connection);
    peer.tellScids();
    if (kept !== undefined)
      peer.sendBytes(encodeMessage(make('peer_storage_retrieval', { blob: kept })), generation);
    for (const actor of peer.channels.values()) actor.post({ kind: 'connected', generation, features });
    this.#handler.connected(peer);
  }

  /**
   * Has no gateway but this one dial the peer, and that before the other's connection is closed: two that keep a peer
   * connected would take it from each other for ever. If it is away again, `reconnectWanted` asks one of them.
   */
  #leaveTo(gateway: GatewayStream, peer: Peer): void {
    for (const { peerKey, resolve } of this.#connecting.values()) if (peerKey === peer.key) resolve();
    for (const other of this.#gateways.values())
      if (other !== gateway) other.send({ $case: 'forget', value: { peerNodeId: peer.nodeId } });
  }

  #tellAccepted(peer: Peer, { gateway, connectionId, generation }: Connection): void {
    const { epoch, shard } = peer.fence;
    const value = { peerNodeId: peer.nodeId, connectionId, generation, epoch, shard };
    gateway.send({ $case: 'peerAccepted', value });
  }

  #peerDisconnected(gateway: GatewayStream, message: PeerDisconnected): void {
    const peer = this.find(message.peerNodeId);
    if (peer === undefined) return;
    // In the order of what the gateway said: the connection may still be on its way into the store.
    peer.accepting = peer.accepting.then(() => {
      if (isOf(peer.connection, gateway, message)) this.#disconnected(peer);
    });
  }

  #disconnected(peer: Peer): void {
    const { connection } = peer;
    if (connection === undefined) return;
    peer.connection = undefined;
    for (const actor of peer.actors())
      actor.post({ kind: 'disconnected', generation: connection.generation });
    this.#dropPresence(peer, connection.generation);
  }

  /** For whoever looks; a connection accepted since is of another generation, and stays. */
  #dropPresence(peer: Peer, generation: bigint): void {
    void this.#ports.store.dropConnection(peer.fence, peer.nodeId, generation).catch(() => undefined);
  }

  // ---------------------------------------------------------------- frames

  #inbound(gateway: GatewayStream, frame: InboundFrame): void {
    const peer = this.find(frame.peerNodeId);
    const connection = peer?.connection;
    if (
      peer === undefined ||
      connection === undefined ||
      connection.gateway !== gateway ||
      connection.generation !== frame.generation
    )
      return;
    if (frame.number !== connection.inbound + 1n) {
      this.#ports.logger.error(
        { peer: peer.key, expected: connection.inbound + 1n, got: frame.number },
        'frames are missing on a link',
      );
      peer.disconnect('frames are missing');
      return;
    }
    connection.inbound = frame.number;
    connection.open.add(frame.number);
    const decoded = decodeMessage(frame.message);
    if (!decoded.ok) {
      // The gateway refuses what cannot be decoded before it comes here.
      peer.disconnect(`undecodable message: ${decoded.error.message}`);
      return;
    }
    if (decoded.value.type === 'channel_update') return this.#learn(peer, frame);
    if (!this.#dispatcher.dispatch(peer, decoded.value as Message, connection.generation, frame.number))
      peer.processed(connection.generation, [frame.number]);
  }

  /**
   * A channel_update costs the check of a signature and a write, and gossip may come in megabytes: one of a peer's is
   * looked at at a time, and until then it takes up the peer's credit.
   */
  #learn(peer: Peer, { generation, number, message }: InboundFrame): void {
    peer.learning = peer.learning
      .then(async () => {
        if (peer.connection?.generation === generation)
          await this.#handler.channelUpdateReceived(peer, message);
      })
      .catch((error: unknown) =>
        this.#ports.logger.warn({ err: error, peer: peer.key }, 'a channel_update could not be looked at'),
      )
      .then(() => peer.processed(generation, [number]));
  }

  // ---------------------------------------------------------------- dialling

  /** Has a gateway dial a peer; resolves when the peer is accepted here. */
  async connect(nodeId: Uint8Array, host: string, port: number): Promise<void> {
    if (this.find(nodeId)?.connection !== undefined) return;
    const gateway = this.#gatewayFor(nodeId);
    if (gateway === undefined)
      throw new RpcError('unavailable', 'no peer-gateway is linked to this replica: wait for one to start');
    const requestId = this.#nextRequest;
    this.#nextRequest += 1n;
    const result = new Promise<void>((resolve, reject) =>
      this.#connecting.set(requestId, { peerKey: toHex(nodeId), resolve, reject }),
    );
    gateway.send({ $case: 'connect', value: { peerNodeId: nodeId, host, port, requestId } });
    const timeout = new AbortController();
    const timer = this.#ports.runtime.sleep(CONNECT_TIMEOUT_MS, timeout.signal).then(
      () =>
        this.#connecting
          .get(requestId)
          ?.reject(new RpcError('deadline_exceeded', `the peer did not answer at ${host}:${port}`)),
      () => undefined,
    );
    try {
      await result;
    } finally {
      this.#connecting.delete(requestId);
      timeout.abort();
      await timer;
    }
  }

  forget(nodeId: Uint8Array): void {
    for (const gateway of this.#gateways.values())
      gateway.send({ $case: 'forget', value: { peerNodeId: nodeId } });
    this.find(nodeId)?.disconnect('the operator asked for it');
  }

  /** Has the gateways keep dialling every wanted peer of our shards that is away. */
  async reconnectWanted(): Promise<void> {
    this.#forgetStrangers();
    try {
      for (const presence of await this.#ports.store.listPeers()) {
        if (!presence.wanted || presence.host === undefined || presence.port === undefined) continue;
        const peer = this.peerOf(presence.peerNodeId);
        if (peer === undefined || peer.connection !== undefined) continue;
        const gateway = this.#gatewayFor(presence.peerNodeId);
        gateway?.send({
          $case: 'connect',
          value: { peerNodeId: presence.peerNodeId, host: presence.host, port: presence.port, requestId: 0n },
        });
      }
    } catch (error) {
      this.#ports.logger.warn({ err: error }, 'could not look for peers to connect');
    }
  }

  /** Node ids cost nothing: who comes under ever new ones must not fill the memory. */
  #forgetStrangers(): void {
    for (const [key, peer] of this.#peers) if (peer.isStranger()) this.#peers.delete(key);
  }

  #gatewayFor(nodeId: Uint8Array): GatewayStream | undefined {
    const live = [...this.#gateways.values()]
      .filter((gateway) => !gateway.broken)
      .sort((a, b) => (a.gatewayId < b.gatewayId ? -1 : 1));
    return live[(nodeId.at(-1) ?? 0) % Math.max(live.length, 1)];
  }

  #connectResult(result: ConnectResult): void {
    const waiting = this.#connecting.get(result.requestId);
    if (result.error === '') waiting?.resolve();
    else waiting?.reject(new RpcError('unavailable', result.error));
  }

  close(): void {
    for (const gateway of this.#gateways.values()) gateway.cut('the replica stops');
    for (const waiting of this.#connecting.values())
      waiting.reject(new RpcError('unavailable', 'the replica stops'));
  }
}

/** Whether it is the connection that the gateway names, on this very stream: after a restart it gives the same ids again. */
function isOf(
  connection: Connection | undefined,
  gateway: GatewayStream,
  named: { readonly connectionId: bigint },
): connection is Connection {
  return connection?.gateway === gateway && connection.connectionId === named.connectionId;
}
