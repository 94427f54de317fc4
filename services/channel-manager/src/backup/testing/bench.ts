/** Backups of one replica in memory: its stores, a signer, a file, a clock moved by hand. */
import { NETWORKS } from '@fulmen/bitcoin';
import { MemoryBusHub } from '@fulmen/bus';
import {
  channelIdOf,
  defaultChannelConfig,
  type EstablishedChannel,
  type FeerateEstimates,
  type PartyParameters,
  persistDelta,
  type Phase,
  restoreStatically,
  summary,
} from '@fulmen/channel';
import { FeatureBits, toHex, utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { shardOfPeer } from '@fulmen/keys/shard';
import type { RegisterChannelRequest } from '@fulmen/proto/signer/v1/signer';
import { RpcError } from '@fulmen/rpc';
import { Metrics, silentLogger } from '@fulmen/service';
import { type Fence, MemoryManagerDatabase, type MemoryManagerStore } from '@fulmen/store';
import { MemoryBackupStore } from '@fulmen/store/manager/backup/memory';
import { decodeMessage, type Message } from '@fulmen/wire';
import { channelRow } from '../../engine/channel-row.ts';
import { emptyForwarding } from '../../engine/forwarding.ts';
import type { EnginePorts, NodeView } from '../../engine/ports.ts';
import type { RestoredChannel } from '../../engine/shard-loader.ts';
import { Lease } from '../../lease/lease.ts';
import type { GatewayStream } from '../../link/outbound.ts';
import { HandRuntime } from '../../payments/testing/bench.ts';
import { Peer } from '../../peers/peer.ts';
import { Backups } from '../backups.ts';
import type { BackupFile } from '../file.ts';

const secp = secp256k1;

export const keyOf = (name: string): Uint8Array => secp.publicKeyOf(sha256(utf8Encode(name)));
export const NODE_ID = keyOf('this node');

function partyOf(name: string): PartyParameters {
  return {
    fundingPubkey: keyOf(`${name} funding`),
    revocationBasepoint: keyOf(`${name} revocation`),
    paymentBasepoint: keyOf(`${name} payment`),
    delayedPaymentBasepoint: keyOf(`${name} delayed`),
    htlcBasepoint: keyOf(`${name} htlc`),
    dustLimitSat: 354n,
    toSelfDelayBlocks: 144,
    channelReserveSat: 10_000n,
    htlcMinimumMsat: 1n,
    maxHtlcValueInFlightMsat: 900_000_000n,
    maxAcceptedHtlcs: 50,
  };
}

/** An open channel with the peer of this name. */
export function channelWith(peer: string, number: number): EstablishedChannel {
  const fundingTxid = sha256(utf8Encode(`funding ${number}`));
  const { state } = restoreStatically({
    channelId: channelIdOf(fundingTxid, 1),
    parameters: {
      channelKeysId: sha256(utf8Encode(`keys ${number}`)),
      counterpartyNodeId: keyOf(peer),
      funder: 'holder',
      commitmentFormat: 'anchors',
      channelType: Uint8Array.of(0x40, 0x10, 0x00),
      announce: false,
      holder: partyOf(`holder ${number}`),
      counterparty: partyOf(`counterparty ${number}`),
    },
    fundingTxid,
    fundingOutputIndex: 1,
    fundingValueSat: 1_000_000n + BigInt(number),
    shutdownScript: Uint8Array.from([0, 20, ...new Uint8Array(20).fill(number)]),
    reason: '',
  });
  return { ...state, phase: { type: 'open' } };
}

/** A file in memory. */
export class MemoryFile implements BackupFile {
  readonly path = '/backup';
  content: Uint8Array | undefined;
  writes = 0;

  read(): Promise<Uint8Array | undefined> {
    return Promise.resolve(this.content);
  }

  replace(sealed: Uint8Array): Promise<void> {
    this.content = sealed;
    this.writes += 1;
    return Promise.resolve();
  }
}

/** A replica that owns every shard, on a database and with a seed that outlive it. */
export class BackupBench {
  readonly runtime = new HandRuntime();
  readonly database: MemoryManagerDatabase;
  readonly file: MemoryFile;
  readonly metrics = new Metrics('test');
  readonly store: MemoryManagerStore;
  readonly backupStore: MemoryBackupStore;
  readonly backups: Backups;
  readonly node: NodeView & { readonly feerates: FeerateEstimates };
  readonly fences = new Map<number, Fence>();
  readonly owners = new Map<number, string>();
  readonly peers: Peer[] = [];
  readonly adopted: EstablishedChannel[] = [];
  readonly registered: RegisterChannelRequest[] = [];
  signerRefuses = false;
  readonly #lease: Lease;

  constructor(options: { readonly file?: MemoryFile; readonly seed?: string } = {}) {
    this.database = new MemoryManagerDatabase(() => this.runtime.nowMs);
    this.file = options.file ?? new MemoryFile();
    this.store = this.database.connect('a');
    this.backupStore = new MemoryBackupStore(this.database);
    this.#lease = new Lease(this.runtime, 1_000_000_000);
    this.#lease.renewed(this.runtime.monotonicMs());
    const config = defaultChannelConfig(NETWORKS.regtest.chainHash);
    this.node = {
      nodeId: NODE_ID,
      chainHash: NETWORKS.regtest.chainHash,
      channelConfig: config,
      blockHeight: 700,
      feerates: {
        minimumAnchorSatPerKw: 253,
        minimumNonAnchorSatPerKw: 253,
        maximumSatPerKw: 10_000,
        closeMinimumSatPerKw: 253,
        closeTargetSatPerKw: 500,
      },
      keysend: 'refused',
      chainDoubt: () => undefined,
      blocksUnseen: () => 0,
    };
    const secret = sha256(utf8Encode(options.seed ?? 'seed'));
    const ports = {
      store: this.store,
      bus: new MemoryBusHub().connect('a'),
      runtime: this.runtime,
      logger: silentLogger,
      metrics: this.metrics,
      secp,
      signer: {
        getDerivedSecret: () => Promise.resolve({ secret }),
        newChannelKeys: ({ channelKeysId }: { readonly channelKeysId: Uint8Array }) => {
          // The keys of `channelWith`, found again by the key id.
          const number = Array.from({ length: 100 }, (_, n) => n).find(
            (n) => toHex(sha256(utf8Encode(`keys ${n}`))) === toHex(channelKeysId),
          );
          return Promise.resolve({
            ...partyOf(`holder ${number}`),
            perCommitmentPoints: [0, 1, 2].map((n) => keyOf(`point ${n}`)),
            shutdownScript: new Uint8Array(22),
          });
        },
        registerChannel: (request: RegisterChannelRequest) => {
          if (this.signerRefuses)
            return Promise.reject(new RpcError('failed_precondition', 'other parameters'));
          this.registered.push(request);
          return Promise.resolve({});
        },
      },
    } as unknown as EnginePorts;
    this.backups = new Backups(
      {
        ports,
        node: this.node,
        fenceOf: (shard) => this.fences.get(shard),
        ownerAddress: (shard) => this.owners.get(shard),
        peers: () => this.peers,
        adopt: (_fence: Fence, { state }: RestoredChannel) => this.adopted.push(state),
        reload: () => undefined,
      },
      { store: this.backupStore, network: 'regtest', file: this.file },
    );
  }

  /** Takes every shard. */
  async begin(): Promise<this> {
    await this.store.heartbeat('a', 1n, 'a:1', 1_000_000_000);
    for (let shard = 0; shard < 256; shard += 1) {
      const outcome = await this.store.acquireShard(shard, 'a');
      if (outcome.type === 'acquired')
        this.fences.set(shard, { shard, epoch: outcome.epoch, replicaId: 'a' });
    }
    return this;
  }

  /** Stores a channel, or its next phase. */
  async commit(state: EstablishedChannel, version = 0n): Promise<void> {
    const shard = shardOfPeer(state.parameters.counterpartyNodeId);
    const fence = this.fences.get(shard);
    if (fence === undefined) throw new TypeError('no fence');
    const context = {
      secp,
      config: this.node.channelConfig,
      feerates: this.node.feerates,
      holderPoint: () => undefined,
    };
    const [verdict] = await this.store.commitSteps([
      {
        kind: 'channel',
        commit: {
          fence,
          channelId: state.channelId,
          expectedVersion: version,
          delta: persistDelta(undefined, state),
          row: channelRow(state, summary(context, state), shard),
          monitorUpdates: [],
          forwarding: emptyForwarding(),
          broadcasts: [],
          watches: [],
        },
      },
    ]);
    if (verdict?.type !== 'committed') throw new TypeError(`not committed: ${JSON.stringify(verdict)}`);
    this.backups.keeper.due();
  }

  /** Moves a channel of version 1 on. */
  move(state: EstablishedChannel, phase: Phase): Promise<void> {
    return this.commit({ ...state, phase }, 1n);
  }

  /** A connected peer, and what was sent to it. */
  connect(
    name: string,
    options: { readonly storage?: boolean; readonly channels?: number } = {},
  ): { readonly peer: Peer; readonly sent: Message[] } {
    const nodeId = keyOf(name);
    const fence = this.fences.get(shardOfPeer(nodeId));
    if (fence === undefined) throw new TypeError('no fence');
    const peer = new Peer(nodeId, fence, this.#lease);
    const sent: Message[] = [];
    const gateway = {
      send: (body: { readonly $case: string; readonly value: { readonly message: Uint8Array } }) => {
        const message = body.$case === 'outbound' ? decodeMessage(body.value.message) : undefined;
        if (message?.ok === true) sent.push(message.value as Message);
      },
    } as unknown as GatewayStream;
    peer.connection = {
      gateway,
      connectionId: 1n,
      generation: 1n,
      features: {
        largeChannels: false,
        anchors: true,
        upfrontShutdownScript: false,
        shutdownAnySegwit: true,
        scidAlias: false,
        zeroConf: false,
        dualFund: false,
      },
      offersStorage:
        options.storage === true &&
        FeatureBits.of({ provide_storage: 'optional' }).supports('provide_storage'),
      outbound: 0n,
      inbound: 0n,
      batch: undefined,
      open: new Set(),
    };
    for (let n = 0; n < (options.channels ?? 1); n += 1) peer.channels.set(`${n}`, {} as never);
    this.peers.push(peer);
    return { peer, sent };
  }

  async gauge(name: string): Promise<number | undefined> {
    const found = await this.metrics.registry.getSingleMetric(`fulmen_${name}`)?.get();
    return found?.values[0]?.value;
  }
}
