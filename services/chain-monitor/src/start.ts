/** Composes the service; a test, the all-in-one node and a container do it the same way. */
import { ChainServiceService, WalletServiceService } from '@fulmen/proto/chain/v1/chain';
import { equalBytes } from '@fulmen/codec';
import type { RunningService } from '@fulmen/service';
import { Broadcaster } from './broadcast/broadcaster.ts';
import { FeeEstimator } from './fees/estimator.ts';
import { BlockIndex } from './follower/block-index.ts';
import { Follower } from './follower/follower.ts';
import { registerFundings, registerOrders, registerWallet } from './follower/registered.ts';
import { UtxoLookup } from './gossip/utxo-lookup.ts';
import { chainMetrics } from './metrics.ts';
import { Closer } from './monitors/closer.ts';
import { MonitorDrain } from './monitors/drain.ts';
import type { ChainMonitorConfig, ChainMonitorPorts } from './ports.ts';
import { chainHandlers } from './rpc/chain-service.ts';
import { walletHandlers } from './rpc/wallet-service.ts';
import { limboOf } from './settlement/limbo.ts';
import { Writer } from './state/writer.ts';
import type { AddressBook } from './wallet/address-book.ts';
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
  ports: ChainMonitorPorts,
): Promise<RunningChainMonitor> {
  const { runtime, logger, source, bus, signer } = ports;
  const metrics = chainMetrics(ports.metrics);
  let book: AddressBook | undefined;
  const bookOf = (): AddressBook | undefined => book;
  const writer: Writer = new Writer(ports.store, () => worker.stepDown());
  const index = new BlockIndex(source, config.network);
  const lookup = new UtxoLookup(source);
  const drain = new MonitorDrain({ writer, logger, metrics });
  const follower = new Follower({
    source,
    writer,
    runtime,
    logger,
    metrics,
    index,
    network: config.network,
    behindGraceMs: config.behindGraceMs,
    rescanHeight: config.rescanHeight,
    book: bookOf,
    registrars: [registerFundings, registerOrders, registerWallet],
    drainMonitors: async () => void (await drain.run()),
    onBlock: () => {
      lookup.forget();
      bus.publish('fulmen.block');
    },
  });
  const fees = new FeeEstimator({
    source,
    runtime,
    fallbackFeerateSatPerKw: config.fallbackFeerateSatPerKw,
    maximumFeerateSatPerKw: config.maximumFeerateSatPerKw,
    cacheMs: config.feeCacheMs,
  });
  const worker: Worker = new Worker({
    config,
    ports,
    writer,
    metrics,
    index,
    follower,
    drain,
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
  });
  const wallet = new Wallet({
    writer,
    signer,
    fees,
    network: config.network,
    book: bookOf,
    wake: () => worker.wake(),
  });
  const leaderAddress = (): string | undefined => worker.leaderAddress;
  ports.server.add(
    ChainServiceService,
    chainHandlers({
      network: config.network.name,
      source,
      writer,
      follower,
      fees,
      lookup,
      metrics,
      leaderAddress,
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
  const address = await ports.server.listen();
  const unsubscribe = bus.subscribe('fulmen.monitor', () => worker.wake());
  // Standbys keep their lookups fresh too.
  const unsubscribeBlocks = bus.subscribe('fulmen.block', () => lookup.forget());
  const failed = worker.start(address);
  const hints = await ports.blockHints?.(() => worker.wake());
  return {
    address,
    failed,
    wake: () => worker.wake(),
    stop: async () => {
      unsubscribe();
      unsubscribeBlocks();
      await hints?.close();
      await ports.server.stop(STOP_GRACE_MS);
      await worker.stop();
    },
  };
}
