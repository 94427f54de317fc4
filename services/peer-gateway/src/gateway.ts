/**
 * The gateway: accepts and dials connections, makes peers of them, and keeps
 * one connection for each peer. Where messages go is PeerRouter's business.
 */
import { assertNever, toHex } from '@fulmen/codec';
import { shardOfPeer } from '@fulmen/keys/shard';
import type { Client } from '@fulmen/rpc';
import type { GossipServiceService, GossipToPeer } from '@fulmen/proto/router/v1/router';
import type { PeerLinkServiceService } from '@fulmen/proto/link/v1/link';
import { essentialTasks, type Logger, type Runtime, type Task } from '@fulmen/service';
import { sanitizeForLog } from '@fulmen/wire';
import { Dialer, type DialTarget } from './dial/dialer.ts';
import { GossipLink } from './gossip/gossip-link.ts';
import {
  DIAL_DEADLINE_MS,
  type GatewayLimits,
  GOSSIP_WARNING_BURST,
  GOSSIP_WARNINGS_PER_SECOND,
  TICK_MS,
} from './limits.ts';
import { type LinkInput, ManagerLink } from './link/manager-link.ts';
import { PeerRouter, type RoutedPeer } from './link/peer-router.ts';
import type { GatewayMetrics } from './metrics.ts';
import { Admission } from './peer/admission.ts';
import { type DisconnectCause, PeerConnection } from './peer/connection.ts';
import { isTimestampFilter, updatedScid } from './peer/classify.ts';
import {
  EstablishError,
  type EstablishedPeer,
  establishInbound,
  establishOutbound,
  type EstablishPorts,
  warningMessage,
} from './peer/establish.ts';
import { InboundWindow } from './peer/inbound-window.ts';
import { TokenBucket } from './peer/token-bucket.ts';
import type { Socket, SocketAddress, SocketListener, SocketPort } from './socket/port.ts';
import type { WireLog } from './wire-log.ts';

export interface GatewayPorts {
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: GatewayMetrics;
  readonly sockets: SocketPort;
  readonly managers: readonly { readonly address: string; readonly client: Client<PeerLinkServiceService> }[];
  readonly router: Client<GossipServiceService> | undefined;
  readonly establish: EstablishPorts;
  readonly wireLog?: WireLog;
}

export interface GatewayOptions {
  readonly gatewayId: string;
  /** Grows with each start. */
  readonly incarnation: bigint;
  readonly limits: GatewayLimits;
}

/** A manager that waits for the outcome of a ConnectPeer. */
interface ConnectRequest {
  readonly link: ManagerLink;
  readonly requestId: bigint;
}

/** Ends after which a wanted peer is dialled again at once: the cause was on our side. */
const OUR_CAUSES: ReadonlySet<DisconnectCause> = new Set<DisconnectCause>(['ownership']);

export class Gateway {
  readonly #ports: GatewayPorts;
  readonly #options: GatewayOptions;
  readonly #logger: Logger;
  readonly #admission: Admission;
  readonly #router: PeerRouter;
  readonly #dialer: Dialer<ConnectRequest>;
  readonly #links: readonly ManagerLink[];
  readonly #gossip: GossipLink | undefined;
  /** Connections that are, or still end. */
  readonly #connections = new Set<PeerConnection>();
  /** Sockets that are no peers yet. */
  readonly #unestablished = new Set<Socket>();
  readonly #background = new Set<Task>();
  readonly #services: Task[] = [];
  readonly #failed = Promise.withResolvers<Error>();
  #nextConnectionId = 1n;
  #stopping = false;

  constructor(ports: GatewayPorts, options: GatewayOptions) {
    this.#ports = ports;
    this.#options = options;
    this.#logger = ports.logger;
    this.#admission = new Admission(options.limits);
    this.#router = new PeerRouter(ports, {
      accepted: (peer) => this.#dialer.accepted(peer.key),
      command: (link, body) => this.#onCommand(link, body),
    });
    this.#links = ports.managers.map(
      ({ address, client }) => new ManagerLink(address, client, ports, this.#router),
    );
    this.#gossip =
      ports.router === undefined
        ? undefined
        : new GossipLink(ports.router, ports, {
            peers: () => [...this.#router.peers],
            message: (message) => this.#onGossip(message),
          });
    this.#dialer = new Dialer<ConnectRequest>(
      {
        monotonicMs: () => ports.runtime.monotonicMs(),
        random: () => randomFraction(ports.runtime),
        hasConnection: (key) => this.#stopping || this.#router.get(key) !== undefined,
        attempt: (target) => this.#spawn('dial', (signal) => this.#dial(target, signal)),
        answer: ({ link, requestId }, target, error) =>
          link.send({ $case: 'connectResult', value: { requestId, peerNodeId: target.nodeId, error } }),
      },
      options.limits.maxWantedPeers,
    );
  }

  /** Resolves when a link or the clock ended by an error: without them it is none. Peers' own tasks end with their peer. */
  get failed(): Promise<Error> {
    return this.#failed.promise;
  }

  /** Starts links and clock, then listens. */
  async start(listen: SocketAddress): Promise<SocketListener> {
    const runtime = essentialTasks(this.#ports.runtime, this.#failed.resolve);
    const { gatewayId, incarnation } = this.#options;
    for (const link of this.#links) {
      this.#services.push(
        runtime.spawn('manager-link', (signal) => link.run({ gatewayId, incarnation }, signal)),
      );
    }
    const gossip = this.#gossip;
    if (gossip !== undefined) {
      this.#services.push(runtime.spawn('gossip-link', (signal) => gossip.run(gatewayId, signal)));
    }
    this.#services.push(runtime.spawn('gateway-clock', (signal) => this.#clock(signal)));
    return this.#ports.sockets.listen(listen, (socket) => this.#onSocket(socket));
  }

  /** Closes links, then connections; the listener is closed by its owner before. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#services.map((task) => task.stop()));
    for (const socket of this.#unestablished) socket.reset();
    const connections = [...this.#connections];
    for (const connection of connections) connection.close('stopping', 'stopping');
    await Promise.all([...this.#background].map((task) => task.stop()));
    await Promise.all(connections.map((connection) => connection.ended()));
  }

  #onSocket(socket: Socket): void {
    const { host } = socket.counterpartyAddress;
    if (this.#stopping) return socket.reset();
    const refusal = this.#admission.admit(host, this.#ports.runtime.monotonicMs());
    if (refusal !== undefined) {
      this.#ports.metrics.refused.inc({ limit: refusal });
      socket.reset();
      return;
    }
    this.#track(socket, host);
    this.#spawn('accept', async () => {
      try {
        await this.#establish(socket, 'inbound', () => establishInbound(socket, this.#ports.establish));
      } finally {
        this.#admission.established(host);
      }
    });
  }

  async #dial(target: DialTarget, signal: AbortSignal): Promise<void> {
    const { runtime, sockets, metrics } = this.#ports;
    const deadline = new AbortController();
    const timer = new AbortController();
    const expiry = runtime.sleep(DIAL_DEADLINE_MS, timer.signal).then(
      () => deadline.abort(),
      () => undefined,
    );
    signal.addEventListener('abort', () => deadline.abort(), { once: true });
    let error: string | undefined;
    try {
      const socket = await sockets.connect({ host: target.host, port: target.port }, deadline.signal);
      timer.abort();
      this.#admission.opened(target.host);
      this.#track(socket, target.host);
      if (this.#stopping) socket.reset();
      const establish = () => establishOutbound(socket, target.nodeId, this.#ports.establish);
      error = await this.#establish(socket, 'outbound', establish);
    } catch (failure) {
      error = failure instanceof Error ? failure.message : 'the dial failed';
    }
    timer.abort();
    await expiry;
    metrics.dials.inc({ outcome: error === undefined ? 'connected' : 'failed' });
    if (error !== undefined) {
      this.#logger.debug(
        { peer: target.nodeId, host: target.host, error: sanitizeForLog(error) },
        'dial failed',
      );
    }
    this.#dialer.dialled(target, error);
  }

  /** Makes a peer of a socket; the sentence of the failure if it becomes none. */
  async #establish(
    socket: Socket,
    direction: 'inbound' | 'outbound',
    establish: () => Promise<EstablishedPeer>,
  ): Promise<string | undefined> {
    const { metrics } = this.#ports;
    this.#unestablished.add(socket);
    try {
      const peer = await establish();
      metrics.handshakes.inc({ direction, outcome: 'peer' });
      return this.#onPeer(peer, direction);
    } catch (error) {
      const outcome = error instanceof EstablishError ? error.failure : 'broken';
      const detail = error instanceof Error ? error.message : 'broken';
      metrics.handshakes.inc({ direction, outcome });
      this.#logger.debug({ direction, outcome, detail }, 'a connection became no peer');
      await this.#linger(socket);
      return detail;
    } finally {
      this.#unestablished.delete(socket);
    }
  }

  /** Lets a last warning out, without waiting for a counterparty that does not read it. */
  async #linger(socket: Socket): Promise<void> {
    socket.end();
    const timer = new AbortController();
    const waited = this.#ports.runtime.sleep(TICK_MS, timer.signal).catch(() => undefined);
    await Promise.race([waited, socket.closed]);
    timer.abort();
    socket.reset();
  }

  #onPeer(established: EstablishedPeer, direction: 'inbound' | 'outbound'): string | undefined {
    const key = toHex(established.nodeId);
    const inbound = direction === 'inbound';
    const older = this.#router.get(key);
    if (this.#stopping) {
      this.#ports.wireLog?.ended(established.nodeId, 'stopping');
      established.socket.reset();
      return 'the gateway stops';
    }
    const limit = inbound && older === undefined ? this.#makeRoomFor(key) : undefined;
    if (limit !== undefined) {
      this.#ports.metrics.refused.inc({ limit });
      this.#ports.wireLog?.ended(established.nodeId, limit);
      established.socket.reset();
      return 'no room for this peer';
    }
    // BOLT 1 has one connection for each peer; the newer wins, since the older may be half dead unnoticed.
    older?.connection.reset('replaced', 'the counterparty connected again');
    const { host, port } = established.socket.counterpartyAddress;
    const nowMs = this.#ports.runtime.monotonicMs();
    const connection = new PeerConnection(established, this.#ports, {
      channelMessage: (message) => this.#router.channelMessage(peer, message),
      gossip: (message) => {
        if (isTimestampFilter(message)) peer.timestampFilter = message;
        const scid = updatedScid(message);
        if (scid !== undefined && peer.ownScids?.has(scid) === true)
          this.#router.channelMessage(peer, message);
        this.#gossip?.forward(peer.nodeId, message);
      },
      pauseReason: () => this.#router.pauseReason(peer),
      sent: (through) => this.#router.sent(peer, through),
      gossipTaken: () => this.#gossip?.taken(peer),
      closed: (cause, detail) => this.#onClosed(peer, cause, detail),
    });
    const peer: RoutedPeer = {
      key,
      nodeId: established.nodeId,
      shard: shardOfPeer(established.nodeId),
      connectionId: this.#nextConnectionId++,
      inbound,
      remoteAddress: `${host}:${port}`,
      connection,
      window: new InboundWindow(),
      warnings: new TokenBucket({
        burst: GOSSIP_WARNING_BURST,
        perSecond: GOSSIP_WARNINGS_PER_SECOND,
        nowMs,
      }),
      route: { type: 'awaiting_owner', sinceMs: nowMs },
      queuedThrough: 0n,
      timestampFilter: undefined,
      ownScids: undefined,
    };
    this.#connections.add(connection);
    this.#logger.info({ peer: peer.nodeId, direction, address: peer.remoteAddress }, 'peer connected');
    this.#gossip?.peerUp(peer);
    this.#router.add(peer);
    connection.start();
    void established.socket.closed.then(async () => {
      await connection.ended();
      this.#connections.delete(connection);
    });
    return undefined;
  }

  #onClosed(peer: RoutedPeer, cause: DisconnectCause, detail: string): void {
    this.#ports.metrics.disconnects.inc({ cause });
    this.#ports.wireLog?.ended(peer.nodeId, cause);
    this.#logger.info({ peer: peer.nodeId, cause, detail: sanitizeForLog(detail) }, 'peer disconnected');
    this.#router.remove(peer);
    this.#gossip?.peerDown(peer);
    if (cause === 'replaced') return;
    this.#dialer.disconnected(
      peer.key,
      OUR_CAUSES.has(cause) ? 'at_once' : 'back_off',
      sanitizeForLog(detail),
    );
  }

  #onCommand(link: ManagerLink, body: Extract<LinkInput, { $case: 'connect' | 'forget' }>): void {
    const key = toHex(body.value.peerNodeId);
    if (body.$case === 'forget') return this.#dialer.forget(key);
    const { peerNodeId: nodeId, host, port, requestId } = body.value;
    const request = { link, requestId };
    const target = { key, nodeId, host, port };
    this.#dialer.want(target, request);
    if (this.#router.get(key)?.route.type === 'accepted') this.#dialer.accepted(key);
  }

  #onGossip({ peerNodeId, body, connectionId }: GossipToPeer): void {
    const peer = this.#router.get(toHex(peerNodeId));
    // 0: a router that knows no grants.
    if (peer === undefined || (connectionId !== 0n && connectionId !== peer.connectionId)) return;
    const { metrics, runtime } = this.#ports;
    switch (body?.$case) {
      case undefined:
        return;
      case 'message':
        this.#gossip?.received(peer, body.value.length);
        if (peer.connection.sendGossip(body.value)) metrics.outboundMessages.inc({ origin: 'router' });
        else metrics.dropped.inc({ reason: 'gossip_slow_reader' });
        return;
      case 'warning':
        if (peer.warnings.take(runtime.monotonicMs())) peer.connection.send(warningMessage(body.value));
        else metrics.dropped.inc({ reason: 'gossip_warning' });
        return;
      case 'disconnect':
        return peer.connection.close('gossip', body.value, body.value);
      default:
        assertNever(body);
    }
  }

  /**
   * Peers that nobody asked for and that have no channel are bounded, apart from all connections. Whether a newcomer has
   * one only its manager can say: at either bound one of those that have none goes for it. The bound when no peer is known
   * to have none.
   */
  #makeRoomFor(key: string): 'connections' | 'unwanted_peers' | undefined {
    const { isFull } = this.#admission;
    if (!isFull && this.#dialer.isWanted(key)) return undefined;
    const unwanted = [...this.#router.peers].filter(
      ({ key: other, inbound, ownScids }) =>
        inbound && (ownScids?.size ?? 0) === 0 && !this.#dialer.isWanted(other),
    );
    if (!isFull && unwanted.length < this.#options.limits.maxUnwantedPeers) return undefined;
    const strangers = unwanted.filter(({ ownScids }) => ownScids !== undefined);
    // By chance, so that nobody can choose who goes by when they come.
    const stranger = strangers[Math.floor(randomFraction(this.#ports.runtime) * strangers.length)];
    stranger?.connection.reset('limit', 'another peer needs its place');
    if (stranger !== undefined) return undefined;
    return isFull ? 'connections' : 'unwanted_peers';
  }

  async #clock(signal: AbortSignal): Promise<void> {
    const { runtime, metrics } = this.#ports;
    for (;;) {
      await runtime.sleep(TICK_MS, signal);
      this.#router.tick(runtime.monotonicMs());
      this.#dialer.tick();
      metrics.connections.set(this.#admission.connections);
      metrics.pendingHandshakes.set(this.#admission.pendingHandshakes);
      metrics.wantedPeers.set(this.#dialer.size);
    }
  }

  #track(socket: Socket, host: string): void {
    void socket.closed.then(() => this.#admission.closed(host));
  }

  #spawn(name: string, work: (signal: AbortSignal) => Promise<void>): void {
    const task = this.#ports.runtime.spawn(name, work);
    this.#background.add(task);
    void task.done.catch(() => undefined).then(() => this.#background.delete(task));
  }
}

/** A number in [0, 1). */
function randomFraction(runtime: Runtime): number {
  const [a = 0, b = 0] = runtime.randomBytes(2);
  return ((a << 8) | b) / 65_536;
}
