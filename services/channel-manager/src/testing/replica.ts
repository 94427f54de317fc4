/** A replica from its ports: its rows in memory, a signer that stands where they stand, a chain that does not move. */
import { MemoryBusHub } from '@fulmen/bus';
import { persistDelta, summary } from '@fulmen/channel';
import type { TestNode } from '@fulmen/channel/testing/node';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { shardOfPeer } from '@fulmen/keys/shard';
import { ChainServiceService, type FeeTarget } from '@fulmen/proto/chain/v1/chain';
import { RouterServiceService } from '@fulmen/proto/router/v1/router';
import { SignerServiceService } from '@fulmen/proto/signer/v1/signer';
import { type Handlers, MemoryNetwork, RpcError } from '@fulmen/rpc';
import { Metrics, nodeRuntime, type Runtime, silentLogger } from '@fulmen/service';
import { type ManagerStore, MemoryManagerDatabase } from '@fulmen/store';
import { MemoryBackupStore } from '@fulmen/store/manager/backup/memory';
import { channelRow } from '../engine/channel-row.ts';
import { emptyForwarding } from '../engine/forwarding.ts';
import { start } from '../start.ts';

export const OWN_NODE_ID = fakeSecp256k1.publicKeyOf(new Uint8Array(32).fill(7));
const HEIGHT = 700;

/** Rows as the last replica left them. */
async function databaseWith({ channel, ctx }: TestNode): Promise<MemoryManagerDatabase> {
  const database = new MemoryManagerDatabase(() => 0);
  const store = database.connect('before');
  const shard = shardOfPeer(channel.parameters.counterpartyNodeId);
  await store.heartbeat('before', 1n, 'before', 0);
  const outcome = await store.acquireShard(shard, 'before');
  if (outcome.type !== 'acquired') throw new TypeError(outcome.type);
  const [verdict] = await store.commitSteps([
    {
      kind: 'channel',
      commit: {
        fence: { shard, epoch: outcome.epoch, replicaId: 'before' },
        channelId: channel.channelId,
        expectedVersion: 0n,
        delta: persistDelta(undefined, channel),
        row: channelRow(channel, summary(ctx, channel), shard),
        monitorUpdates: [],
        forwarding: emptyForwarding(),
        broadcasts: [],
        watches: [],
      },
    },
  ]);
  if (verdict?.type !== 'committed') throw new TypeError('not committed');
  return database;
}

/** A signer that stands where the rows stand. */
function signerFor({ channel, ctx }: TestNode): Handlers<typeof SignerServiceService> {
  const { changes, parameters } = channel;
  const first = changes.holderCommitmentNumber;
  const state = {
    channelKeysId: Buffer.from(parameters.channelKeysId),
    registered: true,
    nextHolderCommitment: changes.holderCommitmentNumber + 1n,
    nextHolderRevocation: changes.holderCommitmentNumber,
    nextCounterpartyCommitment: changes.counterpartyCommitmentNumber + 1n,
    nextCounterpartyRevocation: changes.counterpartySecrets.count,
    closing: false,
    firstPointNumber: first,
    perCommitmentPoints: [0n, 1n, 2n].map((after) => ctx.holderPoint(first + after)),
  };
  return {
    getNode: async () => ({ nodeId: OWN_NODE_ID }),
    fenceShard: async () => ({}),
    getChannelStates: async () => ({ states: [state] }),
    signGossip: async () => ({ nodeSignature: Buffer.alloc(64), bitcoinSignature: Buffer.alloc(64) }),
  } as unknown as Handlers<typeof SignerServiceService>;
}

export interface ReplicaOptions {
  readonly connect?: (database: MemoryManagerDatabase) => ManagerStore;
  readonly runtime?: Runtime;
  /** The node has no fee estimates without. */
  readonly estimateFee?: (request: { readonly target: FeeTarget }) => Promise<{ feerateSatPerKw: number }>;
  /** What the router answers; there is none without. */
  readonly router?: Partial<Handlers<typeof RouterServiceService>>;
  readonly disableAfterMs?: number;
}

const noEstimate = () =>
  Promise.reject(
    new RpcError('unavailable', 'the node has no fee estimates yet, and no fallback is configured'),
  );

/** A replica beside a chain-monitor that follows the chain. */
export async function startReplica(alice: TestNode, options: ReplicaOptions = {}) {
  const { connect = (database: MemoryManagerDatabase): ManagerStore => database.connect('a') } = options;
  const network = new MemoryNetwork();
  const signer = network.server('signer');
  signer.add(SignerServiceService, signerFor(alice));
  await signer.listen();
  const chain = network.server('chain');
  chain.add(ChainServiceService, {
    getBestBlock: async () => ({
      blockHash: '',
      height: HEIGHT,
      timeUnixSeconds: 0,
      network: 'regtest',
      halted: false,
      haltReason: '',
    }),
    estimateFee: options.estimateFee ?? noEstimate,
  } as unknown as Handlers<typeof ChainServiceService>);
  await chain.listen();
  if (options.router !== undefined) {
    const router = network.server('router');
    router.add(RouterServiceService, options.router as Handlers<typeof RouterServiceService>);
    await router.listen();
  }
  const database = await databaseWith(alice);
  const replica = await start(
    {
      replicaId: 'a',
      network: 'regtest',
      leaseMs: 10_000,
      chainStaleMs: 120_000,
      minimumDepth: 2,
      minimumFundingSat: 1_000n,
      maxAcceptedHtlcs: 30,
      keysend: 'refused',
      maxPendingPerPeer: 4,
      maxPendingTotal: 100,
      policy: { feeBaseMsat: 1_000, feeProportionalMillionths: 1_000, cltvExpiryDelta: 72 },
      identity: { alias: 'a', rgbColor: new Uint8Array(3), addresses: [] },
      disableAfterMs: options.disableAfterMs ?? 600_000,
      signerAddress: 'signer',
      chainMonitorAddress: 'chain',
      routerAddress: 'router',
    },
    {
      server: network.server('a'),
      signerConnector: network.connector('a', ['channel', 'node']),
      connector: network.connector('a', ['channel', 'node']),
      store: connect(database),
      backupStore: new MemoryBackupStore(database),
      bus: new MemoryBusHub().connect('a'),
      runtime: options.runtime ?? nodeRuntime({ onFailure: () => undefined }),
      logger: silentLogger,
      metrics: new Metrics('channel-manager'),
      secp: fakeSecp256k1,
    },
  );
  return { network, database, replica };
}
