/** A replica with payments alone: the store in memory, a signer and a router that answer from tables, clocks moved by hand. */
import { NETWORKS } from '@fulmen/bitcoin';
import { concatBytes, InternalError, type TlvRecord, utf8Encode, Writer } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { encodeInvoice, type UnsignedInvoice } from '@fulmen/invoice';
import { encodeHopPayload } from '@fulmen/onion';
import {
  type FindRouteRequest,
  type FindRouteResponse,
  type ReportPathRequest,
  RouterServiceService,
} from '@fulmen/proto/router/v1/router';
import { SignerServiceService } from '@fulmen/proto/signer/v1/signer';
import { type Handlers, MemoryNetwork, RpcError } from '@fulmen/rpc';
import { type Runtime, silentLogger } from '@fulmen/service';
import {
  type ChannelRow,
  type Fence,
  type HtlcSource,
  type Intent,
  MemoryManagerDatabase,
  type MemoryManagerStore,
  type Resolution,
} from '@fulmen/store';
import { Committer } from '../../engine/committer.ts';
import type { EnginePorts, NodeView } from '../../engine/ports.ts';
import { emptyForwarding, type GrowingForwarding } from '../../engine/forwarding.ts';
import { shardOfPaymentHash } from '../../lease/placement.ts';
import type { SignLane } from '../../signing/sign-lane.ts';
import { PaymentHub } from '../payment-hub.ts';

const secp = secp256k1;
export const HEIGHT = 800_000;
export const START_MS = 1_700_000_000_000;

export function keyOf(name: string): { secret: Uint8Array; nodeId: Uint8Array } {
  const secret = sha256(utf8Encode(name));
  return { secret, nodeId: secp.publicKeyOf(secret) };
}

export const NODE = keyOf('node');
export const PEER = keyOf('peer');
export const PAYEE = keyOf('payee');
export const SCID = 0x0c3500_000001_0000n;

/** Clocks moved by hand; sleeps of no length end at once, others when their time comes. */
export class HandRuntime implements Runtime {
  nowMs = 0;
  #draws = 0;
  wallClockMs(): number {
    return START_MS + this.nowMs;
  }
  monotonicMs(): number {
    return 1_000_000 + this.nowMs;
  }
  sleep(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }
  randomBytes(length: number): Uint8Array {
    this.#draws += 1;
    return sha256(utf8Encode(`draw ${this.#draws}`)).slice(0, length);
  }
  spawn(): never {
    throw new InternalError('payments spawn no work');
  }
}

export type RouteScript = (request: FindRouteRequest) => FindRouteResponse;

export const NO_ROUTE: FindRouteResponse = {
  hops: [],
  totalFeeMsat: 0n,
  failure: 'no_route',
  failureDetail: '',
  paths: [],
};

/** Straight to the payee, who is our peer over SCID. */
export const direct =
  (nodeId: Uint8Array): RouteScript =>
  (request) => ({
    hops: [
      {
        nodeId,
        shortChannelId: SCID,
        amountMsat: request.amountMsat,
        cltvExpiryHeight: request.currentHeight + request.finalCltvDelta,
        feeMsat: 0n,
      },
    ],
    totalFeeMsat: 0n,
    failure: '',
    failureDetail: '',
    paths: [],
  });

/** Over PEER to the payee. */
export const overPeer =
  (payee: Uint8Array, secondScid: bigint): RouteScript =>
  (request) => ({
    hops: [
      {
        nodeId: PEER.nodeId,
        shortChannelId: SCID,
        amountMsat: request.amountMsat + 1_000n,
        cltvExpiryHeight: request.currentHeight + request.finalCltvDelta + 40,
        feeMsat: 1_000n,
      },
      {
        nodeId: payee,
        shortChannelId: secondScid,
        amountMsat: request.amountMsat,
        cltvExpiryHeight: request.currentHeight + request.finalCltvDelta,
        feeMsat: 0n,
      },
    ],
    totalFeeMsat: 1_000n,
    failure: '',
    failureDetail: '',
    paths: [],
  });

/** One database and one network, and the replicas that come and go on them. */
export class Bench {
  readonly runtime = new HandRuntime();
  readonly database = new MemoryManagerDatabase(() => this.runtime.nowMs);
  readonly network = new MemoryNetwork();
  readonly routeRequests: FindRouteRequest[] = [];
  readonly reports: ReportPathRequest[] = [];
  route: RouteScript = () => NO_ROUTE;
  routerIsAway = false;
  /** Turns of the event loop that the router takes over a report. */
  reportTurns = 0;
  chainDoubt: string | undefined;
  #replicas = 0;
  #rows = 0;

  async begin(): Promise<this> {
    const signer = this.network.server('signer');
    signer.add(SignerServiceService, {
      signInvoice: (request) => {
        const hash = sha256(concatBytes(utf8Encode(request.humanReadablePart), packWords(request.dataWords)));
        return Promise.resolve(secp.signRecoverable(hash, NODE.secret));
      },
    } as Partial<Handlers<SignerServiceService>> as Handlers<SignerServiceService>);
    const router = this.network.server('router');
    router.add(RouterServiceService, {
      findRoute: (request) => {
        if (this.routerIsAway) return Promise.reject(new RpcError('unavailable', 'the router is away'));
        this.routeRequests.push(request);
        return Promise.resolve(this.route(request));
      },
      reportPath: async (request) => {
        for (let turn = 0; turn < this.reportTurns; turn += 1) await new Promise(setImmediate);
        this.reports.push(request);
        return {};
      },
    } as Partial<Handlers<RouterServiceService>> as Handlers<RouterServiceService>);
    await Promise.all([signer.listen(), router.listen()]);
    return this;
  }

  /** A replica that owns every shard; the one before it is lost. */
  async replica(): Promise<Replica> {
    this.#replicas += 1;
    const name = `replica-${this.#replicas}`;
    // Past the lease of the one before.
    this.runtime.nowMs += 20;
    const store = this.database.connect(name);
    await store.heartbeat(name, 1n, `${name}:1`, 10);
    const fences = new Map<number, Fence>();
    for (let shard = 0; shard < 256; shard++) {
      const outcome = await store.acquireShard(shard, name);
      if (outcome.type !== 'acquired') throw new InternalError(`shard ${shard} is ${outcome.type}`);
      fences.set(shard, { shard, epoch: outcome.epoch, replicaId: name });
    }
    const replica = new Replica(this, store, fences, name);
    await replica.load();
    return replica;
  }

  /** A fresh number for rows that only carry others. */
  nextRow(): number {
    this.#rows += 1;
    return this.#rows;
  }
}

export class Replica {
  readonly bench: Bench;
  readonly store: MemoryManagerStore;
  readonly fences: Map<number, Fence>;
  readonly hub: PaymentHub;
  readonly node: NodeView;
  readonly delivered: GrowingForwarding[] = [];
  readonly dropped: { shard: number; reason: string }[] = [];

  constructor(bench: Bench, store: MemoryManagerStore, fences: Map<number, Fence>, name: string) {
    this.bench = bench;
    this.store = store;
    this.fences = fences;
    const { runtime } = bench;
    const connector = bench.network.connector(name, ['channel', 'node']);
    const noSigning = {
      sign: () => Promise.reject(new InternalError('payments sign no channel step')),
    } as unknown as SignLane;
    this.node = {
      nodeId: NODE.nodeId,
      chainHash: NETWORKS.regtest.chainHash,
      blockHeight: HEIGHT,
      keysend: 'accepted',
      chainDoubt: () => this.bench.chainDoubt,
      blocksUnseen: () => 0,
    } as NodeView;
    const ports = {
      store,
      runtime,
      logger: silentLogger,
      secp,
      signer: connector.client(SignerServiceService, 'signer'),
      router: connector.client(RouterServiceService, 'router'),
      committer: new Committer(store, noSigning, runtime, silentLogger),
    } as unknown as EnginePorts;
    this.hub = new PaymentHub({
      ports,
      node: this.node,
      fenceOf: (shard) => this.fences.get(shard),
      deliver: (forwarding) => this.delivered.push(forwarding),
      dropShard: (fence, reason) => {
        this.dropped.push({ shard: fence.shard, reason });
        this.fences.delete(fence.shard);
        this.hub.drop(fence.shard);
      },
    });
  }

  async load(): Promise<void> {
    for (const fence of this.fences.values()) {
      const loaded = await this.store.loadShard(fence);
      if (loaded.type === 'loaded') this.hub.load(fence, loaded.payments);
    }
  }

  /** Lets the hub finish what it is doing for a payment. */
  async settle(paymentHash: Uint8Array): Promise<void> {
    await this.hub.idle(shardOfPaymentHash(paymentHash));
  }

  /** Kill -9. */
  crash(): void {
    this.store.crash();
  }

  /** What the poll does for a payment's shard. */
  async poll(paymentHash: Uint8Array): Promise<void> {
    const shard = shardOfPaymentHash(paymentHash);
    for (const intent of await this.store.pendingIntents([shard], 1_000)) this.hub.onIntent(intent);
    for (const resolution of await this.store.pendingResolutions([shard], 1_000))
      this.hub.onResolution(resolution);
    await this.settle(paymentHash);
  }

  async tick(paymentHash: Uint8Array): Promise<void> {
    this.hub.tick();
    await this.settle(paymentHash);
  }

  /** An open channel of this node's with PEER over SCID. */
  async openChannel(
    counterpartyNodeId: Uint8Array,
    shortChannelId: bigint,
    over: Partial<ChannelRow> = {},
  ): Promise<Uint8Array> {
    const number = this.bench.nextRow();
    const channelId = new Uint8Array(32).fill(number);
    const row: ChannelRow = {
      channelId,
      shard: 7,
      counterpartyNodeId,
      channelKeysId: new Uint8Array(32).fill(number),
      phase: 'open',
      capacitySat: 1_000_000n,
      holderBalanceMsat: 600_000_000n,
      counterpartyBalanceMsat: 400_000_000n,
      outboundCapacityMsat: 590_000_000n,
      inboundCapacityMsat: 390_000_000n,
      htlcsInFlight: 0,
      shortChannelId,
      announce: true,
      holderIsFunder: true,
      channelType: 'anchors',
      ...over,
    };
    const delta = {
      hot: new Uint8Array(1),
      cold: new Uint8Array(1),
      newHtlcs: [],
      newRemovals: [],
      settledHtlcs: [],
      secretBuckets: [],
    };
    const commit = {
      fence: this.#fence(7),
      channelId,
      expectedVersion: 0n,
      delta,
      row,
      monitorUpdates: [],
      forwarding: emptyForwarding(),
      broadcasts: [],
      watches: [],
    };
    this.#must(await this.store.commitSteps([{ kind: 'channel', commit }]));
    return channelId;
  }

  /** The counterparty of an open channel tells its terms. */
  async tellTerms(channelId: Uint8Array, shortChannelId: bigint): Promise<void> {
    await this.store.setCounterpartyPolicy(this.#fence(7), channelId, {
      shortChannelId,
      feeBaseMsat: 1,
      feeProportionalMillionths: 2,
      cltvExpiryDelta: 40,
      state: 'enabled',
      timestampUnixSeconds: 1,
    });
  }

  /** Rows that another owner's step would write. */
  async write(forwarding: Partial<GrowingForwarding>): Promise<void> {
    const paymentHash = sha256(utf8Encode(`row ${this.bench.nextRow()}`));
    const commit = {
      fence: this.#fence(shardOfPaymentHash(paymentHash)),
      paymentHash,
      expectedVersion: 0n,
      state: new Uint8Array(1),
      row: {
        type: 'inbound',
        status: 'expired',
        bolt11: '',
        description: '',
        amountMsat: 0n,
        receivedMsat: 0n,
        createdUnixMs: 1,
        expiresUnixMs: 1,
      } as const,
      forwarding: { ...emptyForwarding(), ...forwarding },
    };
    this.#must(await this.store.commitSteps([{ kind: 'payment', commit }]));
  }

  /** The only intent of a payment of ours that no channel took yet. */
  async attempt(): Promise<Intent> {
    const [intent, ...others] = await this.store.pendingIntents([7], 10);
    if (intent === undefined || others.length > 0)
      throw new InternalError(`${intent === undefined ? 'no' : 'more than one'} attempt is pending`);
    return intent;
  }

  /** A channel takes the attempt. */
  take(intent: Intent): Promise<void> {
    return this.write({ intentClaims: [{ source: intent.source, outcome: 'taken' }] });
  }

  /** Its HTLC ends. */
  async end(intent: Intent, outcome: Resolution['outcome']): Promise<void> {
    await this.write({ resolutions: [{ source: intent.source, sourceShard: intent.sourceShard, outcome }] });
  }

  async resolutionOf(source: HtlcSource): Promise<Resolution['outcome'] | undefined> {
    const all = await this.store.pendingResolutions([3], 1_000);
    return all.find(
      (resolution) =>
        resolution.source.type === 'htlc' &&
        source.type === 'htlc' &&
        resolution.source.htlcId === source.htlcId,
    )?.outcome;
  }

  /** Types of all events so far. */
  async events(): Promise<string[]> {
    await this.store.sequenceEvents('sequencer', 1_000);
    return (await this.store.readEvents(0n, 1_000)).map(({ event }) => event.type);
  }

  #fence(shard: number): Fence {
    const fence = this.fences.get(shard);
    if (fence === undefined) throw new InternalError(`shard ${shard} is not owned`);
    return fence;
  }

  #must(verdicts: readonly { readonly type: string }[]): void {
    for (const verdict of verdicts)
      if (verdict.type !== 'committed')
        throw new InternalError(`the bench could not write: ${JSON.stringify(verdict)}`);
  }
}

export interface PartOptions {
  readonly htlcId: bigint;
  readonly amountMsat: bigint;
  readonly totalMsat: bigint;
  /** undefined: no `payment_data`. */
  readonly paymentSecret: Uint8Array | undefined;
  readonly cltvExpiryHeight?: number;
  readonly paymentMetadata?: Uint8Array;
  readonly keysendPreimage?: Uint8Array | undefined;
  readonly unknownTlvs?: readonly TlvRecord[];
}

/** An HTLC for us, as the incoming channel's step writes it (its shard is 3). */
export function part(paymentHash: Uint8Array, options: PartOptions): Intent {
  const { htlcId, amountMsat, totalMsat, paymentSecret } = options;
  const cltvExpiryHeight = options.cltvExpiryHeight ?? HEIGHT + 60;
  return {
    source: { type: 'htlc', channelId: new Uint8Array(32).fill(3), htlcId },
    sourceShard: 3,
    target: { type: 'local', paymentHash },
    targetShard: shardOfPaymentHash(paymentHash),
    paymentHash,
    incomingAmountMsat: amountMsat,
    incomingCltvExpiryHeight: cltvExpiryHeight,
    outgoingAmountMsat: amountMsat,
    outgoingCltvExpiryHeight: cltvExpiryHeight,
    onion: encodeHopPayload(
      {
        amtToForwardMsat: amountMsat,
        outgoingCltvHeight: cltvExpiryHeight,
        ...(paymentSecret !== undefined && { paymentData: { paymentSecret, totalMsat } }),
        ...(options.paymentMetadata !== undefined && { paymentMetadata: options.paymentMetadata }),
        ...(options.keysendPreimage !== undefined && { keysendPreimage: options.keysendPreimage }),
      },
      options.unknownTlvs,
    ),
    sharedSecret: new Uint8Array(32).fill(9),
    createdUnixMs: START_MS,
  };
}

/** Somebody else's invoice. */
export function foreignInvoice(
  features: UnsignedInvoice['features'],
  amountMsat: bigint | undefined,
  number = 1,
  routeHints: UnsignedInvoice['routeHints'] = [],
): { bolt11: string; preimage: Uint8Array; paymentHash: Uint8Array } {
  const preimage = sha256(utf8Encode(`preimage ${number}`));
  const paymentHash = sha256(preimage);
  const bolt11 = encodeInvoice(
    secp,
    {
      currency: 'bcrt',
      amountMsat,
      timestampUnixSeconds: START_MS / 1000,
      paymentHash,
      paymentSecret: sha256(paymentHash),
      description: { kind: 'text', text: 'tea' },
      features,
      routeHints,
    },
    PAYEE.secret,
  );
  return { bolt11, preimage, paymentHash };
}

/** Five-bit words as bytes, filled with zero bits. */
function packWords(words: Uint8Array): Uint8Array {
  const writer = new Writer(words.length);
  let pending = 0;
  let bits = 0;
  for (const word of words) {
    pending = ((pending << 5) | word) & 0xfff;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      writer.u8((pending >> bits) & 0xff);
    }
  }
  if (bits > 0) writer.u8((pending << (8 - bits)) & 0xff);
  return writer.finish();
}
