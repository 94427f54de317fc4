/** Routers on a network in memory, with a chain and gateways that a test plays. */
import { MemoryBusHub } from '@fulmen/bus';
import { secp256k1 } from '@fulmen/crypto/default';
import { fundingOutputScript, nodeKey, storedChannel } from '@fulmen/graph';
import type { ChannelAnnouncement, NetworkGraph } from '@fulmen/graph';
import { SYNTHETIC_CHAIN_HASH } from '@fulmen/graph/synthetic';
import { ChainServiceService } from '@fulmen/proto/chain/v1/chain';
import { GossipServiceService, RouterServiceService } from '@fulmen/proto/router/v1/router';
import type { GossipFromPeer, GossipToPeer } from '@fulmen/proto/router/v1/router';
import type { DuplexStream } from '@fulmen/rpc';
import { MemoryNetwork, RpcError } from '@fulmen/rpc';
import { Metrics, type RunningService, silentLogger } from '@fulmen/service';
import { decodeMessage, encodeMessage, make } from '@fulmen/wire';
import type { Message } from '@fulmen/wire';
import type { RouterConfig } from '../config.ts';
import { start } from '../start.ts';
import { MemoryRouterDisk, memoryRouterStore } from '../store/memory.ts';
import type { RouterStore } from '../store/router-store.ts';
import { ManualRuntime } from './manual-runtime.ts';

export const NOW_SECONDS = 1_800_000_000;
export const HEIGHT = 800_000;

/** A chain that knows the outputs it is told of. */
export class FakeChain {
  readonly outputs = new Map<bigint, { valueSat: bigint; scriptPubkey: Uint8Array }>();
  height = HEIGHT;
  asked = 0;
  /** Leaves every question about an output open. */
  isSilent = false;

  fund(announcement: ChannelAnnouncement, valueSat: bigint): void {
    const scriptPubkey = fundingOutputScript(announcement.bitcoinKey1, announcement.bitcoinKey2);
    this.outputs.set(announcement.shortChannelId, { valueSat, scriptPubkey });
  }
}

/** The message for the peer; empty when it is something else. */
export const bytesOf = ({ body }: GossipToPeer): Uint8Array =>
  body?.$case === 'message' ? body.value : new Uint8Array(0);

/** A gateway's end of a gossip stream. */
export class FakeGateway {
  readonly received: GossipToPeer[] = [];
  ended: unknown;
  readonly #stream: DuplexStream<GossipToPeer, GossipFromPeer>;

  constructor(stream: DuplexStream<GossipToPeer, GossipFromPeer>, id: string) {
    this.#stream = stream;
    // A refused stream shows in `ended`.
    this.#send({ $case: 'gatewayId', value: id }).catch(() => undefined);
    void this.#read();
  }

  /** From now on peers that come up are sent to only within grants. */
  sendsGrants(): Promise<void> {
    return this.#send({ $case: 'sendsGrants', value: true });
  }

  grant(peerNodeId: Uint8Array, connectionId: bigint, throughBytes: number): Promise<void> {
    const value = { peerNodeId, connectionId, throughBytes: BigInt(throughBytes) };
    return this.#send({ $case: 'grant', value });
  }

  peerUp(nodeId: Uint8Array): Promise<void> {
    return this.#send({ $case: 'peerUp', value: nodeId });
  }

  peerDown(nodeId: Uint8Array): Promise<void> {
    return this.#send({ $case: 'peerDown', value: nodeId });
  }

  async say(peerNodeId: Uint8Array, ...messages: (Uint8Array | Message)[]): Promise<void> {
    for (const message of messages) {
      const raw = message instanceof Uint8Array ? message : encodeMessage(message);
      await this.#send({ $case: 'message', value: { peerNodeId, message: raw } });
    }
  }

  /** What was sent to a peer, decoded. */
  messagesTo(peerNodeId: Uint8Array): Message[] {
    return this.received
      .filter((item) => nodeKey(item.peerNodeId) === nodeKey(peerNodeId))
      .flatMap((item) => {
        const decoded = decodeMessage(bytesOf(item));
        return decoded.ok && decoded.value.type !== 'unknown' ? [decoded.value] : [];
      });
  }

  typesTo(peerNodeId: Uint8Array): string[] {
    return this.messagesTo(peerNodeId).map((message) => message.type);
  }

  /** What was said of a peer: `warning: …` and `disconnect: …`. */
  verdicts(peerNodeId: Uint8Array): string[] {
    return this.received
      .filter((item) => nodeKey(item.peerNodeId) === nodeKey(peerNodeId))
      .flatMap(({ body }) =>
        body === undefined || body.$case === 'message' ? [] : [`${body.$case}: ${body.value}`],
      );
  }

  close(): void {
    this.#stream.end();
  }

  #send(body: GossipFromPeer['body']): Promise<void> {
    return this.#stream.send({ body });
  }

  async #read(): Promise<void> {
    try {
      for await (const message of this.#stream) this.received.push(message);
    } catch (error) {
      this.ended = error;
    }
  }
}

/** The filter that asks for everything. */
export const EVERYTHING_FILTER: Message = make('gossip_timestamp_filter', {
  chainHash: SYNTHETIC_CHAIN_HASH,
  firstTimestamp: 0,
  timestampRange: 0xffff_ffff,
});

export class Fleet {
  readonly runtime = new ManualRuntime(NOW_SECONDS);
  readonly chain = new FakeChain();
  readonly disk = new MemoryRouterDisk();
  readonly network = new MemoryNetwork();
  readonly hub = new MemoryBusHub();
  readonly secp = secp256k1;
  /** Of each router's latest start. */
  readonly metrics = new Map<string, Metrics>();

  async startChain(): Promise<void> {
    const server = this.network.server('chain');
    const { chain } = this;
    server.add(ChainServiceService, {
      getBestBlock: () =>
        Promise.resolve({
          blockHash: '',
          height: chain.height,
          timeUnixSeconds: NOW_SECONDS,
          network: 'regtest',
          halted: false,
          haltReason: '',
        }),
      getUtxo: ({ shortChannelId }) => {
        chain.asked += 1;
        if (chain.isSilent) return new Promise<never>(() => undefined);
        const output = chain.outputs.get(shortChannelId);
        const confirmations = chain.height - Number(shortChannelId >> 40n) + 1;
        return Promise.resolve(
          output === undefined
            ? { found: false, valueSat: 0n, scriptPubkey: new Uint8Array(0), confirmations: 0 }
            : { found: true, ...output, confirmations },
        );
      },
      estimateFee: () => Promise.reject(new RpcError('unimplemented', 'not asked by a router')),
      broadcast: () => Promise.reject(new RpcError('unimplemented', 'not asked by a router')),
    });
    await server.listen();
  }

  /** What earlier runs of the routers learnt: a made-up network. */
  store(graph: NetworkGraph): void {
    for (const channel of graph.channels()) {
      const { updates, ...row } = storedChannel(graph, channel);
      const shortChannelId = graph.channelScid[channel] ?? 0n;
      this.disk.channels.set(shortChannelId, { value: { ...row, shortChannelId }, revision: 0n });
      for (const [direction, raw] of updates.entries()) {
        if (raw === undefined) continue;
        this.disk.updates.set(shortChannelId * 2n + BigInt(direction), { value: raw, revision: 0n });
      }
    }
  }

  /** @param change what the router has instead of its store. */
  startRouter(
    name: string,
    config: Partial<RouterConfig> = {},
    change: (store: RouterStore) => RouterStore = (store) => store,
  ): Promise<RunningService> {
    const metrics = new Metrics('router');
    this.metrics.set(name, metrics);
    return start(
      {
        replicaId: name,
        chainHash: SYNTHETIC_CHAIN_HASH,
        advertisedAddress: undefined,
        ownNodeId: undefined,
        chainAddress: 'chain',
        leaseMs: 10_000,
        relayMs: 60_000,
        ...config,
      },
      {
        rpcServer: this.network.server(name),
        connector: this.network.connector(name, ['router']),
        store: change(memoryRouterStore(this.disk, this.runtime)),
        bus: this.hub.connect(name),
        runtime: this.runtime,
        logger: silentLogger,
        metrics,
        secp: this.secp,
      },
    );
  }

  /** A metric of the router called `router`, summed over what `labels` leaves open. */
  async value(metric: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const found = await this.metrics
      .get('router')
      ?.registry.getSingleMetric(`fulmen_router_${metric}`)
      ?.get();
    return (found?.values ?? [])
      .filter((entry) =>
        Object.entries(labels).every(
          ([key, value]) => (entry.labels as Record<string, unknown>)[key] === value,
        ),
      )
      .reduce((sum, entry) => sum + entry.value, 0);
  }

  client(address: string) {
    return this.network.connector('test', ['plaintext']).client(RouterServiceService, address);
  }

  gateway(id: string, address: string): FakeGateway {
    return new FakeGateway(
      this.network.connector(id, ['ecdh']).client(GossipServiceService, address).gossip(),
      id,
    );
  }
}
