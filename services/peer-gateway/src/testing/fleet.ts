/** A gateway in memory with a signer, managers and a router that do what a test says. */
import { toHex } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { SHARD_COUNT } from '@fulmen/keys/shard';
import {
  type GatewayToManager,
  type ManagerToGateway,
  type PeerAccepted,
  type PeerConnected,
  PeerLinkServiceService,
} from '@fulmen/proto/link/v1/link';
import { type GossipFromPeer, GossipServiceService, type GossipToPeer } from '@fulmen/proto/router/v1/router';
import { SignerServiceService } from '@fulmen/proto/signer/v1/signer';
import { type DuplexStream, type Handlers, MemoryNetwork, RpcError } from '@fulmen/rpc';
import { Metrics, silentLogger } from '@fulmen/service';
import { TestPeer, type TestPeerIdentity, type TestPeerOptions } from '@fulmen/testing/peer';
import { MemorySockets, type SocketAddress, type SocketGate } from '@fulmen/testing/socket';
import { encodeMessage, make } from '@fulmen/wire';
import { DEFAULT_LIMITS, type GatewayLimits } from '../limits.ts';
import { type RunningGateway, start } from '../start.ts';
import type { WireLog } from '../wire-log.ts';
import { ManualRuntime, settle } from './manual-runtime.ts';

export const secp = secp256k1;
export const secretOf = (name: string): Uint8Array => sha256(new TextEncoder().encode(name));
export const nodeIdOf = (name: string): Uint8Array => secp.publicKeyOf(secretOf(name));

type ToGateway = NonNullable<ManagerToGateway['body']>;
type FromGateway = NonNullable<GatewayToManager['body']>;
type ValueOfCase<C extends FromGateway['$case']> = Extract<FromGateway, { $case: C }>['value'];

/** A message with plain arrays for the Buffers of the codec, so that tests compare bytes alone. */
function plain<T>(value: T): T {
  if (value instanceof Uint8Array) return Uint8Array.from(value) as T;
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(plain) as T;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)])) as T;
}

/** A channel-manager replica that owns what it is told to own. */
export class FakeManager {
  readonly address: string;
  readonly received: FromGateway[] = [];
  /** Answer PeerConnected at once. */
  accepts = true;
  /** Acknowledge every inbound frame at once. */
  acknowledges = true;
  shards: { shard: number; epoch: bigint }[] = [];
  /** Of the channels with each peer, by its node id, hex. */
  readonly scids = new Map<string, readonly bigint[]>();
  readonly #network: MemoryNetwork;
  #stream: DuplexStream<GatewayToManager, ManagerToGateway> | undefined;
  #nextGeneration = 1n;

  constructor(network: MemoryNetwork, address: string) {
    this.#network = network;
    this.address = address;
  }

  ownAll(epoch: bigint): this {
    this.shards = Array.from({ length: SHARD_COUNT }, (_, shard) => ({ shard, epoch }));
    return this;
  }

  async listen(): Promise<void> {
    const server = this.#network.server(this.address);
    server.add(PeerLinkServiceService, { link: (stream) => this.#serve(stream) });
    await server.listen();
  }

  hello(): void {
    this.send({ $case: 'hello', value: { replicaId: this.address, shards: this.shards } });
  }

  send(body: ToGateway): void {
    this.#stream?.send({ body }).catch(() => undefined);
  }

  /** Breaks the stream; the gateway dials again. */
  cut(): void {
    this.#stream?.cancel('cut by the test');
    this.#stream = undefined;
  }

  /** Everything of one kind that came. */
  all<C extends FromGateway['$case']>($case: C): ValueOfCase<C>[] {
    // The case selected the variant.
    return this.received.filter((body) => body.$case === $case).map((body) => body.value as ValueOfCase<C>);
  }

  accept(connected: PeerConnected): void {
    const shard = sha256(connected.peerNodeId)[0] ?? 0;
    const value: PeerAccepted = {
      peerNodeId: connected.peerNodeId,
      connectionId: connected.connectionId,
      generation: this.#nextGeneration++,
      epoch: this.shards.find((owned) => owned.shard === shard)?.epoch ?? 0n,
      shard,
    };
    this.send({ $case: 'peerAccepted', value });
    const { peerNodeId, generation } = value;
    const shortChannelIds = [...(this.scids.get(toHex(peerNodeId)) ?? [])];
    this.send({ $case: 'ownScids', value: { peerNodeId, generation, shortChannelIds } });
  }

  async #serve(stream: DuplexStream<GatewayToManager, ManagerToGateway>): Promise<void> {
    this.#stream = stream;
    this.hello();
    for await (const { body } of stream) {
      if (body === undefined) continue;
      this.received.push(plain(body));
      if (body.$case === 'peerConnected' && this.accepts) this.accept(body.value);
      if (body.$case === 'inbound' && this.acknowledges) {
        const { peerNodeId, generation, number: through } = body.value;
        this.send({ $case: 'inboundAck', value: { peerNodeId, generation, through, creditBytes: 0 } });
      }
    }
  }
}

/** A router that records and says what it is told. */
export class FakeRouter {
  readonly received: NonNullable<GossipFromPeer['body']>[] = [];
  #stream: DuplexStream<GossipFromPeer, GossipToPeer> | undefined;

  async listen(network: MemoryNetwork): Promise<void> {
    const server = network.server('router');
    server.add(GossipServiceService, {
      gossip: async (stream) => {
        this.#stream = stream;
        for await (const { body } of stream) if (body !== undefined) this.received.push(plain(body));
      },
    });
    await server.listen();
  }

  send(message: GossipToPeer): void {
    this.#stream?.send(message).catch(() => undefined);
  }
}

/** A channel message that can be told from others by the length of its script. */
export const shutdown = (length = 22) =>
  make('shutdown', { channelId: new Uint8Array(32).fill(7), scriptpubkey: new Uint8Array(length) });

/** Something of the gateway failed that nobody looked at. */
export class FleetError extends Error {
  override readonly name = 'FleetError';
}

export interface FleetOptions {
  readonly managers?: number;
  readonly limits?: Partial<GatewayLimits>;
  readonly socketGate?: SocketGate;
  readonly wireLog?: WireLog;
  /** A network with a router at `router`; by default one of its own, where a router does what the test says. */
  readonly network?: MemoryNetwork;
}

export class Fleet {
  readonly runtime = new ManualRuntime();
  readonly network: MemoryNetwork;
  readonly sockets: MemorySockets;
  readonly metrics = new Metrics('peer-gateway');
  readonly managers: FakeManager[] = [];
  readonly router = new FakeRouter();
  readonly nodeId = nodeIdOf('node');
  readonly address: SocketAddress = { host: 'gateway', port: 9735 };
  gateway: RunningGateway | undefined;
  #ephemerals = 0;

  private constructor(options: FleetOptions) {
    this.sockets = new MemorySockets(options.socketGate);
    this.network = options.network ?? new MemoryNetwork();
    for (let i = 0; i < (options.managers ?? 1); i += 1)
      this.managers.push(new FakeManager(this.network, `manager-${i}`));
  }

  get manager(): FakeManager {
    const [first] = this.managers;
    if (first === undefined) throw new RpcError('not_found', 'a fleet without managers');
    return first;
  }

  /** Everything runs; the first manager owns every shard in epoch 1. */
  static async start(options: FleetOptions = {}): Promise<Fleet> {
    const fleet = new Fleet(options);
    fleet.managers[0]?.ownAll(1n);
    for (const manager of fleet.managers) await manager.listen();
    if (options.network === undefined) await fleet.router.listen(fleet.network);
    const signer = fleet.network.server('signer');
    const handlers = {
      getNode: () => Promise.resolve({ nodeId: fleet.nodeId, network: 'regtest', keyScheme: 'native-v1' }),
      ecdh: ({ publicKey }: { publicKey: Uint8Array }) =>
        Promise.resolve({ sharedSecret: secp.ecdh(publicKey, secretOf('node')) }),
    };
    // The gateway has no capability for anything else.
    signer.add(SignerServiceService, handlers as unknown as Handlers<SignerServiceService>);
    await signer.listen();
    fleet.gateway = await start(
      {
        gatewayId: 'gateway-0',
        network: 'regtest',
        listen: fleet.address,
        healthAddress: 'gateway-health',
        managerAddresses: fleet.managers.map((manager) => manager.address),
        signerAddress: 'signer',
        routerAddress: 'router',
        limits: { ...DEFAULT_LIMITS, ...options.limits },
        wireLog: undefined,
      },
      {
        runtime: fleet.runtime,
        logger: silentLogger,
        metrics: fleet.metrics,
        sockets: fleet.sockets.port('gateway'),
        server: fleet.network.server('gateway-health'),
        connector: fleet.network.connector('gateway', ['ecdh']),
        signerConnector: fleet.network.connector('gateway', ['ecdh']),
        secp,
        ...(options.wireLog !== undefined && { wireLog: options.wireLog }),
      },
    );
    await settle();
    return fleet;
  }

  identity(name: string): TestPeerIdentity {
    return {
      secp,
      staticSecret: secretOf(name),
      ephemeralSecret: secretOf(`ephemeral ${this.#ephemerals++}`),
    };
  }

  connect(name: string, options: TestPeerOptions = {}): Promise<TestPeer> {
    return TestPeer.connect(this.sockets.port(name), this.address, this.nodeId, this.identity(name), options);
  }

  /** A peer after both inits, accepted if the manager accepts. */
  async peer(name: string, options: TestPeerOptions = {}): Promise<TestPeer> {
    const peer = await this.connect(name, options);
    await peer.next('init');
    await settle();
    return peer;
  }

  /** The first manager sends `shutdown(number)` in the name of an accepted connection. */
  outbound(name: string, number: bigint, overrides: { generation?: bigint; epoch?: bigint } = {}): void {
    this.manager.send({
      $case: 'outbound',
      value: {
        peerNodeId: nodeIdOf(name),
        generation: overrides.generation ?? 1n,
        epoch: overrides.epoch ?? 1n,
        number,
        message: encodeMessage(shutdown(Number(number))),
      },
    });
  }

  async value(metric: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const found = await this.metrics.registry.getSingleMetric(`fulmen_gateway_${metric}`)?.get();
    return (found?.values ?? [])
      .filter((entry) =>
        Object.entries(labels).every(
          ([key, value]) => (entry.labels as Record<string, unknown>)[key] === value,
        ),
      )
      .reduce((sum, entry) => sum + entry.value, 0);
  }

  async stop(): Promise<void> {
    const stopping = this.gateway?.stop();
    await this.runtime.advance(10_000);
    await stopping;
    const [failure] = this.runtime.failures;
    if (failure !== undefined) throw new FleetError(`task ${failure.task} failed: ${String(failure.error)}`);
  }
}
