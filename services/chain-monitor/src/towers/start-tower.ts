/**
 * chain-monitor as a tower, composed from its ports: it follows the chain with a
 * database of its own, takes what the node's feed gives, and punishes. It closes
 * nothing, spends no wallet, and needs nothing of the node to do its duty.
 */
import { SettlementServiceService } from '@fulmen/proto/chain/v1/chain';
import { toHex } from '@fulmen/codec';
import type { ChannelMonitor } from '@fulmen/monitor';
import { essentialTasks, type RunningService } from '@fulmen/service';
import { DEFAULT_SWEEP_POLICY } from '@fulmen/settlement/sweep/index';
import { RpcError } from '@fulmen/rpc';
import { heedDamage } from '@fulmen/store/heed-damage';
import type { TowerInbox } from '@fulmen/store/tower/tower-store';
import { FeeEstimator } from '../fees/estimator.ts';
import { BlockIndex } from '../follower/block-index.ts';
import { BlockScanner } from '../follower/block-scanner.ts';
import { Follower } from '../follower/follower.ts';
import { ChainHealth } from '../follower/health.ts';
import { registerFundings } from '../follower/registered.ts';
import { chainMetrics } from '../metrics.ts';
import { MonitorDrain } from '../monitors/drain.ts';
import type { ChainMonitorConfig, ChainMonitorPorts } from '../ports.ts';
import { settlementHandlers } from '../rpc/settlement-service.ts';
import { MissingFacts } from '../settlement/missing-facts.ts';
import { Settler } from '../settlement/settler.ts';
import { Writer } from '../state/writer.ts';
import { Sweeper } from '../sweeper/sweeper.ts';
import { Worker } from '../worker.ts';
import { justiceHome, justiceOnly } from './justice.ts';
import type { FeedClient } from './monitor-fetcher.ts';
import type { JusticeClient } from './origin.ts';
import { TowerPuller } from './puller.ts';

const STOP_GRACE_MS = 3_000;
const START_RETRY_MS = 500;

export interface TowerConfig extends ChainMonitorConfig {
  readonly towerId: string;
}

export interface TowerPorts extends Omit<ChainMonitorPorts, 'signer' | 'towers'> {
  readonly inbox: TowerInbox;
  /** The node's replicas. */
  readonly feeds: readonly FeedClient[];
  readonly justice: JusticeClient;
}

/** A running tower. `wake` makes it look at once, as a hint does. */
export interface RunningTower extends RunningService {
  wake(): void;
}

export async function startTower(config: TowerConfig, given: TowerPorts): Promise<RunningTower> {
  const failed = Promise.withResolvers<Error>();
  const ports: TowerPorts = {
    ...given,
    store: heedDamage(given.store, failed.resolve),
    inbox: heedDamage(given.inbox, failed.resolve),
    runtime: essentialTasks(given.runtime, failed.resolve),
  };
  const { runtime, logger, source, inbox, justice } = ports;
  const metrics = chainMetrics(ports.metrics);
  const destinationScript = await destinationOf(ports);
  const writer: Writer = new Writer(ports.store, () => worker.stepDown());
  const index = new BlockIndex(source, config.network);
  const settler = new Settler({ source, writer, secp: ports.secp, runtime, logger, metrics });
  const oldestHtlcs = new Map<string, { readonly channelId: Uint8Array; readonly htlcId: bigint }>();
  const onMoved = (channelId: Uint8Array, monitor: ChannelMonitor): void => {
    settler.monitorMoved(channelId, monitor);
    const htlcId = oldestInbound(monitor);
    if (htlcId !== undefined) oldestHtlcs.set(toHex(channelId), { channelId, htlcId });
  };
  const drain = new MonitorDrain({ writer, logger, metrics, onMoved });
  const health = new ChainHealth({
    runtime,
    logger,
    metrics,
    behindGraceMs: config.behindGraceMs,
    maximumBlockAgeMs: config.maximumBlockAgeMs,
    onChange: () => undefined,
  });
  const scanner = new BlockScanner({
    source,
    writer,
    network: config.network,
    book: () => undefined,
    registrars: [registerFundings, settler.register],
    facts: settler,
  });
  const follower = new Follower({
    source,
    writer,
    logger,
    metrics,
    index,
    health,
    network: config.network,
    rescanHeight: undefined,
    scanner,
    facts: settler,
    drainMonitors: async () => void (await drain.run()),
    onBlock: () => undefined,
  });
  const sweeper = new Sweeper({
    source,
    writer,
    signer: { signClaim: refuse, signPsbt: refuse },
    fees: new FeeEstimator({
      source,
      runtime,
      logger,
      metrics,
      fallbackFeerateSatPerKw: config.fallbackFeerateSatPerKw,
      maximumFeerateSatPerKw: config.maximumFeerateSatPerKw,
      cacheMs: config.feeCacheMs,
    }),
    runtime,
    logger,
    metrics,
    book: () => undefined,
    home: justiceHome({ justice, inbox, destinationScript, closing: () => settler.closing }),
    policy: { ...DEFAULT_SWEEP_POLICY, maximumFeerateSatPerKw: config.maximumFeerateSatPerKw },
    rebroadcastMs: config.rebroadcastMs,
    wake: () => worker.wake(),
  });
  const worker: Worker = new Worker({
    config,
    ports,
    writer,
    metrics,
    index,
    health,
    follower,
    drain,
    settler,
    missingFacts: new MissingFacts({ source, network: config.network, writer, logger, settler }),
    sweeper: { run: (channels) => sweeper.run(justiceOnly(channels)) },
    // Closing, the wallet and the manager's orders are the node's own.
    ownDuties: undefined,
  });
  const puller = new TowerPuller({
    towerId: config.towerId,
    feeds: ports.feeds,
    inbox,
    justice,
    runtime,
    logger,
    metrics: ports.metrics,
    writer,
    broken: () => drain.broken,
    onMoved,
    onStored: () => worker.wake(),
    oldestHtlcs: () => {
      const oldest = [...oldestHtlcs.values()];
      oldestHtlcs.clear();
      return oldest;
    },
  });
  ports.server.add(
    SettlementServiceService,
    settlementHandlers({
      store: ports.store,
      underWay: () => writer.exclusive((view) => Promise.resolve(view)),
      sweeper,
      leaderAddress: () => worker.leader?.address,
      maximumFeerateSatPerKw: config.maximumFeerateSatPerKw,
    }),
  );
  const address = await ports.server.listen();
  worker.start(address);
  const pulling = puller.start();
  const hints = await ports.blockHints?.(() => worker.wake());
  logger.info({ tower: config.towerId, address }, 'tower watches');
  return {
    address,
    failed: failed.promise,
    wake: () => worker.wake(),
    stop: async () => {
      await hints?.close();
      await pulling.stop();
      await ports.server.stop(STOP_GRACE_MS);
      await worker.stop();
    },
  };
}

/** Ids grow: an inbound HTLC that is older than this one left the channel. */
function oldestInbound({ htlcs }: ChannelMonitor): bigint | undefined {
  let oldest: bigint | undefined;
  for (const { htlc } of htlcs.values())
    if (htlc.direction === 'inbound' && (oldest === undefined || htlc.id < oldest)) oldest = htlc.id;
  return oldest;
}

/** Where the tower's signer lets money go; asked until it answers. */
async function destinationOf({ justice, runtime, logger }: TowerPorts): Promise<Uint8Array> {
  for (;;) {
    try {
      return Uint8Array.from((await justice.getJusticeNode({})).destinationScript);
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      logger.info({ reason: error.message }, 'waiting for the justice signer');
      await runtime.sleep(START_RETRY_MS);
    }
  }
}

function refuse(): Promise<never> {
  return Promise.reject(new RpcError('unimplemented', 'a tower has no wallet'));
}
