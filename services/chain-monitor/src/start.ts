/** Composes the service; a test, the all-in-one node and a container do it the same way. */
import {
  ChainServiceService,
  SettlementServiceService,
  WalletServiceService,
} from '@fulmen/proto/chain/v1/chain';
import { equalBytes } from '@fulmen/codec';
import { essentialTasks, type RunningService } from '@fulmen/service';
import { DEFAULT_SWEEP_POLICY } from '@fulmen/settlement/sweep/index';
import { heedDamage } from '@fulmen/store/heed-damage';
import { Broadcaster } from './broadcast/broadcaster.ts';
import { FeeEstimator } from './fees/estimator.ts';
import { BlockIndex } from './follower/block-index.ts';
import { BlockScanner } from './follower/block-scanner.ts';
import { ChainHealth } from './follower/health.ts';
import { tellHalt } from './follower/halt-events.ts';
import { Follower } from './follower/follower.ts';
import { registerFundings, registerOrders, registerWallet } from './follower/registered.ts';
import { Rescan } from './follower/rescan.ts';
import { UtxoLookup } from './gossip/utxo-lookup.ts';
import { chainMetrics } from './metrics.ts';
import { Closer } from './monitors/closer.ts';
import { MonitorDrain } from './monitors/drain.ts';
import type { ChainMonitorConfig, ChainMonitorPorts } from './ports.ts';
import { chainHandlers } from './rpc/chain-service.ts';
import { settlementHandlers } from './rpc/settlement-service.ts';
import { walletHandlers } from './rpc/wallet-service.ts';
import { DeadlineKeeper } from './settlement/deadline-keeper.ts';
import { limboOf } from './settlement/limbo.ts';
import { MissingFacts } from './settlement/missing-facts.ts';
import { HolderPoints } from './settlement/holder-points.ts';
import { Settler } from './settlement/settler.ts';
import { Writer } from './state/writer.ts';
import { Sweeper } from './sweeper/sweeper.ts';
import { serveTowers } from './towers/serve.ts';
import type { AddressBook } from './wallet/address-book.ts';
import { AnchorReserve } from './wallet/anchor-reserve.ts';
import { FundingSignatures } from './wallet/funding-signatures.ts';
import { Housekeeping } from './wallet/housekeeping.ts';
import { Wallet } from './wallet/wallet.ts';
import { Worker } from './worker.ts';

/** Time for calls in flight at the end. */
const STOP_GRACE_MS = 3_000;

export type { ChainMonitorConfig, ChainMonitorPorts } from './ports.ts';

/** A running chain-monitor. `wake` makes it look at once, as a hint does. */
export interface RunningChainMonitor extends RunningService {
  wake(): void;
}

export async function start(
  config: ChainMonitorConfig,
  given: ChainMonitorPorts,
): Promise<RunningChainMonitor> {
  const failed = Promise.withResolvers<Error>();
  const ports: ChainMonitorPorts = {
    ...given,
    store: heedDamage(given.store, failed.resolve),
    runtime: essentialTasks(given.runtime, failed.resolve),
    ...(given.towers !== undefined && {
      towers: { ...given.towers, store: heedDamage(given.towers.store, failed.resolve) },
    }),
  };
  const { runtime, logger, source, bus, signer } = ports;
  const metrics = chainMetrics(ports.metrics);
  let book: AddressBook | undefined;
  const bookOf = (): AddressBook | undefined => book;
  const writer: Writer = new Writer(ports.store, () => worker.stepDown());
  const index = new BlockIndex(source, config.network);
  const lookup = new UtxoLookup(source);
  const fees = new FeeEstimator({
    source,
    runtime,
    logger,
    metrics,
    fallbackFeerateSatPerKw: config.fallbackFeerateSatPerKw,
    maximumFeerateSatPerKw: config.maximumFeerateSatPerKw,
    cacheMs: config.feeCacheMs,
  });
  const settler = new Settler({
    source,
    writer,
    secp: ports.secp,
    runtime,
    logger,
    metrics,
    fees,
    holderPoints: new HolderPoints(signer, logger),
  });
  const deadlines = new DeadlineKeeper({ writer, fees, runtime, logger, metrics });
  const drain = new MonitorDrain({
    writer,
    logger,
    metrics,
    onMoved: (channelId, monitor, closeState) => {
      settler.monitorMoved(channelId, monitor);
      deadlines.monitorMoved(channelId, monitor, closeState);
    },
  });
  const health = new ChainHealth({
    runtime,
    logger,
    metrics,
    behindGraceMs: config.behindGraceMs,
    maximumBlockAgeMs: config.maximumBlockAgeMs,
    onChange: (halt) => void tellHalt(writer, runtime, logger, halt),
  });
  const scanner = new BlockScanner({
    source,
    writer,
    network: config.network,
    book: bookOf,
    registrars: [registerFundings, registerOrders, registerWallet, settler.register],
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
    rescanHeight: config.rescanHeight,
    scanner,
    facts: settler,
    drainMonitors: async () => void (await drain.run()),
    onBlock: () => {
      lookup.forget();
      bus.publish('fulmen.block');
    },
  });
  const sweeper = new Sweeper({
    source,
    writer,
    signer,
    fees,
    runtime,
    logger,
    metrics,
    book: bookOf,
    policy: {
      ...DEFAULT_SWEEP_POLICY,
      maximumFeerateSatPerKw: config.maximumFeerateSatPerKw,
      maximumFeeSat: config.maximumSweepFeeSat,
    },
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
    sweeper,
    ownDuties: {
      signer,
      deadlines,
      broadcaster: new Broadcaster({
        source,
        writer,
        runtime,
        logger,
        metrics,
        index,
        rebroadcastMs: config.rebroadcastMs,
        book: bookOf,
      }),
      fundingSignatures: new FundingSignatures({ writer, signer, runtime, logger, metrics }),
      rescan: new Rescan({
        runtime,
        source,
        writer,
        logger,
        metrics,
        health,
        scanner,
        rescanHeight: config.rescanHeight,
        behindGraceMs: config.behindGraceMs,
        book: bookOf,
      }),
      closer: new Closer({ writer, signer, runtime, logger, metrics }),
      housekeeping: new Housekeeping({
        source,
        writer,
        logger,
        book: bookOf,
        mempoolScanLimit: config.mempoolScanLimit,
        reservationExpiryBlocks: config.reservationExpiryBlocks,
      }),
      book: bookOf,
      setBook: (made) => (book = made),
    },
  });
  const wallet = new Wallet({
    writer,
    signer,
    fees,
    network: config.network,
    book: bookOf,
    reserve: new AnchorReserve(ports.store, config.anchorReserve),
    wake: () => worker.wake(),
  });
  const leaderAddress = (): string | undefined => worker.leader?.address;
  ports.server.add(
    ChainServiceService,
    chainHandlers({
      network: config.network.name,
      source,
      writer,
      health,
      fees,
      lookup,
      metrics,
      leader: () => worker.leader,
    }),
  );
  ports.server.add(
    WalletServiceService,
    walletHandlers(wallet, leaderAddress, config.maximumFeerateSatPerKw, () =>
      writer.exclusive((view) =>
        Promise.resolve(
          limboOf({
            settlements: view.settlements.values(),
            claims: view.claims.values(),
            sweeps: view.sweeps.values(),
            isInWallet: (txid) =>
              [...view.utxos.values()].some(
                (utxo) => utxo.spentBy === undefined && equalBytes(utxo.txid, txid),
              ),
          }),
        ),
      ),
    ),
  );
  ports.server.add(
    SettlementServiceService,
    settlementHandlers({
      store: ports.store,
      underWay: () => writer.exclusive((view) => Promise.resolve(view)),
      sweeper,
      leaderAddress,
      maximumFeerateSatPerKw: config.maximumFeerateSatPerKw,
    }),
  );
  const stopTowers = ports.towers === undefined ? undefined : await serveTowers(ports.towers, ports);
  const address = await ports.server.listen();
  const unsubscribe = bus.subscribe('fulmen.monitor', () => worker.wake());
  // Standbys keep their lookups fresh too.
  const unsubscribeBlocks = bus.subscribe('fulmen.block', () => lookup.forget());
  worker.start(address);
  const hints = await ports.blockHints?.(() => worker.wake());
  return {
    address,
    failed: failed.promise,
    wake: () => worker.wake(),
    stop: async () => {
      unsubscribe();
      unsubscribeBlocks();
      await hints?.close();
      await stopTowers?.();
      await ports.server.stop(STOP_GRACE_MS);
      await worker.stop();
    },
  };
}
