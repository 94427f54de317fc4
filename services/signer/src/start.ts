/** The signer, composed from its ports: the same for a test, the all-in-one node and a container. */
import { NETWORKS } from '@fulmen/bitcoin';
import type { NetworkName } from '@fulmen/bitcoin';
import { SignerServiceService } from '@fulmen/proto/signer/v1/signer';
import { equalBytes, toHex } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import type { KeyTree } from '@fulmen/keys';
import { type Handlers, RpcError, type RpcServer } from '@fulmen/rpc';
import {
  essentialTasks,
  type Logger,
  type Metrics,
  type RunningService,
  type Runtime,
  type Task,
} from '@fulmen/service';
import { StoreError } from '@fulmen/store/error';
import { heedDamage } from '@fulmen/store/heed-damage';
import { DEFAULT_LIMITS } from './enforcement/limits.ts';
import type { PolicyLimits } from './enforcement/types.ts';
import { InputSums } from './input-sums.ts';
import { OwnershipLostError, SigningLane } from './lane.ts';
import { raiseMarker } from './marker.ts';
import type { GenerationMarker } from './marker.ts';
import { signerMetrics } from './metrics.ts';
import { RefusalLog } from './refusal-log.ts';
import { fenceShard } from './rpc/fence-shard.ts';
import { getChannelStates } from './rpc/get-channel-states.ts';
import { ecdh, getDerivedSecret, getNode, getPerCommitmentPoints, newChannelKeys } from './rpc/keys.ts';
import { register } from './rpc/register-channel.ts';
import { signBatch } from './rpc/sign-batch.ts';
import { claim } from './rpc/sign-claim.ts';
import { closing } from './rpc/sign-closing.ts';
import { signGossip } from './rpc/sign-gossip.ts';
import { holderCommitment } from './rpc/sign-holder-commitment.ts';
import { sealJusticeKey } from './rpc/seal-justice-key.ts';
import { signInvoice } from './rpc/sign-invoice.ts';
import { getWalletDescriptors, signPsbt } from './rpc/wallet.ts';
import { type OnchainLimits, recordDenial, type Signer } from './signer.ts';
import type { SignerStore } from './store/port.ts';
import { TokenBucket } from './token-bucket.ts';

/** What an operator may set; everything but the network has a default. */
export interface SignerOptions {
  readonly network: NetworkName;
  readonly limits?: Partial<PolicyLimits>;
  readonly onchain?: Partial<OnchainLimits>;
  /** Handshakes. Default 200 a second, 400 at once. */
  readonly ecdh?: { readonly perSecond: number; readonly burst: number };
  /** Default 2,000: how long a dead signer's database stays closed to its successor. */
  readonly leaseMs?: number;
  /**
   * What to do with a database that was set back, or has commits and no marker:
   * `freeze` locks every channel in it for good, `accept` takes it as it is.
   * Without it nothing is signed.
   */
  readonly reconcile?: 'freeze' | 'accept';
  /** Public keys of the justice signers that may have channels' revocation secrets. Default none. */
  readonly towerKeys?: readonly Uint8Array[];
}

export interface SignerPorts {
  readonly rpcServer: RpcServer;
  readonly store: SignerStore;
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly secp: Secp256k1;
  readonly keys: KeyTree;
  readonly marker: GenerationMarker;
}

/** The signer must not start, or not go on, with this database. */
export class SignerStartError extends Error {
  override readonly name = 'SignerStartError';
}

const DEFAULT_ONCHAIN: OnchainLimits = {
  maximumFeeSat: 5_000_000n,
  velocitySat: 1_000_000_000n,
  velocityWindowMs: 24 * 60 * 60 * 1000,
};
const DEFAULT_LEASE_MS = 2_000;
const MARKER_INTERVAL_MS = 1_000;

/** Starts the signer. Rejects with SignerStartError when the database is another node's or another process's. */
export async function start(options: SignerOptions, given: SignerPorts): Promise<RunningService> {
  const failed = Promise.withResolvers<Error>();
  const ports: SignerPorts = {
    ...given,
    store: heedDamage(given.store, failed.resolve),
    runtime: essentialTasks(given.runtime, failed.resolve),
  };
  const { store, runtime, logger } = ports;
  const metrics = signerMetrics(ports.metrics);
  const instance = runtime.randomBytes(16);
  const leaseMs = options.leaseMs ?? DEFAULT_LEASE_MS;
  await acquire(ports, instance, leaseMs);
  const { health, head, nextRefusal } = await prepare(options, ports, instance).catch(
    async (error: unknown) => {
      // Whoever is meant to own this database need not wait for a signer that may not.
      await store.releaseLease(instance).catch(() => undefined);
      throw error;
    },
  );
  metrics.unreconciled.set(health === 'unreconciled' ? 1 : 0);
  const refusals = new RefusalLog(nextRefusal, { runtime, logger, metrics });
  const lane = new SigningLane({
    store,
    instance,
    runtime,
    metrics,
    head,
    refusals,
    onFatal: (error) => {
      // Before the process ends: its successor knows by the marker alone how far the database was.
      void keepEvidence().finally(() => failed.resolve(error));
    },
    onCommitted: (generation) => metrics.generation.set(Number(generation)),
  });
  const keepEvidence = async (): Promise<void> => {
    if (health === 'unreconciled') return;
    await raiseMarker(ports.marker, () => lane.leastGeneration).catch((error: unknown) =>
      logger.error({ err: error }, 'the marker could not be written'),
    );
  };
  const signer: Signer = {
    ...ports,
    metrics,
    network: NETWORKS[options.network],
    limits: { ...DEFAULT_LIMITS, ...options.limits },
    onchain: { ...DEFAULT_ONCHAIN, ...options.onchain },
    lane,
    refusals,
    ecdhBucket: new TokenBucket(options.ecdh ?? { perSecond: 200, burst: 400 }, runtime.monotonicMs()),
    health: { state: health },
    towerKeys: options.towerKeys ?? [],
    secretsCache: new Map(),
    inputSums: new InputSums(),
  };
  ports.rpcServer.add(SignerServiceService, handlers(signer), {
    onDenied: (denial) => recordDenial(signer, denial),
  });
  lane.start();
  const tasks: Task[] = [
    runtime.spawn('signer lease', (signal) =>
      keepLease(ports, { instance, leaseMs, onLost: failed.resolve }, signal),
    ),
    runtime.spawn('signer marker', async (signal) => {
      for (;;) {
        await runtime.sleep(MARKER_INTERVAL_MS, signal);
        await keepEvidence();
      }
    }),
  ];
  const address = await ports.rpcServer.listen();
  logger.info({ nodeId: toHex(ports.keys.nodeId), address, health }, 'signer serves');
  return {
    address,
    failed: failed.promise,
    stop: async () => {
      await ports.rpcServer.stop(2_000);
      await lane.stop();
      for (const task of tasks) await task.stop();
      await keepEvidence();
      await store
        .releaseLease(instance)
        .catch((error: unknown) => logger.warn({ err: error }, 'the lease was not released'));
    },
  };
}

async function prepare(options: SignerOptions, ports: SignerPorts, instance: Uint8Array) {
  await checkSeed(options.network, ports);
  const health = await checkGeneration(options, ports, instance);
  const head = await ports.store.loadHead();
  if (health === 'unreconciled') {
    // Nothing is written: each commit would bring the database nearer to the marker, and hide that it was set back.
    return { health, head, nextRefusal: undefined };
  }
  // Before the first commit: from then on a database without a marker is one that lost it.
  await raiseMarker(ports.marker, () => head.generation);
  const [newest] = await ports.store.readRefusals(1);
  return { health, head, nextRefusal: (newest?.number ?? -1n) + 1n };
}

/** A signer that was killed leaves its lease behind; one that lives keeps renewing it. */
async function acquire(
  { store, runtime }: SignerPorts,
  instance: Uint8Array,
  leaseMs: number,
): Promise<void> {
  const deadlineMs = runtime.monotonicMs() + 2 * leaseMs;
  for (;;) {
    if ((await store.acquireLease(instance, leaseMs)) === 'acquired') return;
    if (runtime.monotonicMs() >= deadlineMs)
      throw new SignerStartError('another signer process owns this database');
    await runtime.sleep(Math.max(10, leaseMs / 10));
  }
}

/** One database belongs to one seed for ever. */
async function checkSeed(network: NetworkName, { store, keys }: SignerPorts): Promise<void> {
  const known = await store.readSeedMetadata();
  if (known === undefined) {
    await store.writeSeedMetadata({ nodeId: keys.nodeId, keyScheme: keys.keyScheme, network });
    return;
  }
  if (
    !equalBytes(known.nodeId, keys.nodeId) ||
    known.network !== network ||
    known.keyScheme !== keys.keyScheme
  ) {
    throw new SignerStartError(
      `this database belongs to node ${toHex(known.nodeId)} on ${known.network}; the seed is of ${toHex(keys.nodeId)} on ${network}`,
    );
  }
}

async function checkGeneration(
  options: SignerOptions,
  ports: SignerPorts,
  instance: Uint8Array,
): Promise<'ready' | 'unreconciled'> {
  const marked = await ports.marker.read();
  const { generation } = await ports.store.loadHead();
  if (marked === undefined ? generation === 0n : generation >= marked) return 'ready';
  if (options.reconcile === undefined) {
    ports.logger.error(
      { marked, generation },
      marked === undefined
        ? 'no marker lies beside the seed, and the database may have been set back: nothing is signed before an operator reconciles it'
        : 'the database was set back: nothing is signed before an operator reconciles it',
    );
    return 'unreconciled';
  }
  const outcome = await ports.store.reconcile(instance, marked ?? generation, options.reconcile);
  if (outcome !== 'ok') throw new OwnershipLostError();
  ports.logger.warn(
    { marked, generation, mode: options.reconcile },
    'the database was reconciled by the operator',
  );
  return 'ready';
}

interface Lease {
  readonly instance: Uint8Array;
  readonly leaseMs: number;
  readonly onLost: (error: Error) => void;
}

async function keepLease(
  { store, runtime, logger }: SignerPorts,
  lease: Lease,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    await runtime.sleep(lease.leaseMs / 4, signal);
    try {
      if ((await store.renewLease(lease.instance, lease.leaseMs)) === 'renewed') continue;
      lease.onLost(new OwnershipLostError());
      return;
    } catch (error) {
      // Every commit checks the ownership again, so a late renewal costs nothing but a successor's chance.
      if (!(error instanceof StoreError)) throw error;
      logger.warn({ err: error }, 'the lease could not be renewed');
    }
  }
}

function handlers(signer: Signer): Handlers<typeof SignerServiceService> {
  const unary =
    <Q, R>(rpc: (signer: Signer, request: Q) => Promise<R>) =>
    (request: Q): Promise<R> =>
      rpc(signer, request).catch((error: unknown) => {
        if (!(error instanceof RpcError)) signer.logger.error({ err: error }, 'a request failed by a defect');
        throw error;
      });
  return {
    getNode: unary(getNode),
    ecdh: unary(ecdh),
    newChannelKeys: unary(newChannelKeys),
    registerChannel: unary(register),
    fenceShard: unary(fenceShard),
    getChannelStates: unary(getChannelStates),
    getPerCommitmentPoints: unary(getPerCommitmentPoints),
    signBatch: (stream) => signBatch(signer, stream),
    signClosing: unary(closing),
    signHolderCommitment: unary(holderCommitment),
    signClaim: unary(claim),
    signInvoice: unary(signInvoice),
    signGossip: unary(signGossip),
    getWalletDescriptors: unary(getWalletDescriptors),
    signPsbt: unary(signPsbt),
    getDerivedSecret: unary(getDerivedSecret),
    sealJusticeKey: unary(sealJusticeKey),
  };
}
