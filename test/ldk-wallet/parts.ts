// What LDK asks of its host: persistence, feerates, routes, coins, and the blocks that a monitor missed.
import { Block } from 'bitcoinjs-lib';
import type { ChainFollower } from './chain.ts';
import { fromDisplayHash, fromHex, ldk, must, safely, toDisplayHash, toHex } from './ldk.ts';
import { type OnchainWallet, SATISFACTION_WEIGHT } from './onchain.ts';

type Report = (error: unknown) => void;
/** Callbacks are held weakly by the WebAssembly's side: this side must keep them. */
type Keep = <T extends object>(value: T) => T;

/** @param send gets a package, parents first */
export function broadcasterOf(
  send: (transactions: readonly Uint8Array[]) => void,
  report: Report,
): ldk.BroadcasterInterface {
  return ldk.BroadcasterInterface.new_impl({
    broadcast_transactions: safely(
      report,
      () => undefined,
      (transactions: Uint8Array[]) => send(transactions.map((one) => Uint8Array.from(one))),
    ),
  });
}

/** @param feerateSatPerKw what the wallet is given */
export function feeEstimatorOf(feerateSatPerKw: () => number, report: Report): ldk.FeeEstimator {
  return ldk.FeeEstimator.new_impl({
    get_est_sat_per_1000_weight: safely(
      report,
      () => 253,
      (target: ldk.ConfirmationTarget) => feerateFor(target, feerateSatPerKw()),
    ),
  });
}

/** What LDK is told of feerates, from the one that the wallet is given. */
function feerateFor(target: ldk.ConfirmationTarget, base: number): number {
  switch (target) {
    case ldk.ConfirmationTarget.LDKConfirmationTarget_MaximumFeeEstimate:
      return base * 20;
    case ldk.ConfirmationTarget.LDKConfirmationTarget_UrgentOnChainSweep:
      return base * 2;
    case ldk.ConfirmationTarget.LDKConfirmationTarget_MinAllowedAnchorChannelRemoteFee:
    case ldk.ConfirmationTarget.LDKConfirmationTarget_MinAllowedNonAnchorChannelRemoteFee:
    case ldk.ConfirmationTarget.LDKConfirmationTarget_ChannelCloseMinimum:
      return 253;
    case ldk.ConfirmationTarget.LDKConfirmationTarget_AnchorChannelFee:
    case ldk.ConfirmationTarget.LDKConfirmationTarget_NonAnchorChannelFee:
    case ldk.ConfirmationTarget.LDKConfirmationTarget_OutputSpendingFee:
      return base;
  }
}

/** @param changed gets a monitor's bytes, or null where it is archived */
export function persisterOf(
  report: Report,
  changed: (key: string, bytes: Uint8Array | null) => void,
): ldk.Persist {
  const completed = () => ldk.ChannelMonitorUpdateStatus.LDKChannelMonitorUpdateStatus_Completed;
  // The write itself happens at the end of the turn, before anything leaves: see storage.ts.
  const put = (funding: ldk.OutPoint, monitor: ldk.ChannelMonitor) => {
    changed(fundingKey(funding), monitor.write());
    return completed();
  };
  const broken = () => ldk.ChannelMonitorUpdateStatus.LDKChannelMonitorUpdateStatus_UnrecoverableError;
  return ldk.Persist.new_impl({
    persist_new_channel: safely(report, broken, put),
    update_persisted_channel: safely(
      report,
      broken,
      (funding: ldk.OutPoint, _update: ldk.ChannelMonitorUpdate, monitor: ldk.ChannelMonitor) =>
        put(funding, monitor),
    ),
    archive_persisted_channel: safely(
      report,
      () => undefined,
      (funding: ldk.OutPoint) => {
        changed(fundingKey(funding), null);
      },
    ),
  });
}

export function graphOf(bytes: Uint8Array | undefined, logger: ldk.Logger): ldk.NetworkGraph {
  if (bytes !== undefined) {
    const read = ldk.NetworkGraph.constructor_read(bytes, logger);
    if (read instanceof ldk.Result_NetworkGraphDecodeErrorZ_OK) return read.res;
  }
  return ldk.NetworkGraph.constructor_new(ldk.Network.LDKNetwork_Regtest, logger);
}

/** LDK's router, except that a hand-made route is given out when one waits for the payment. */
export function routerOf(
  parts: {
    readonly network: ldk.NetworkGraph;
    readonly logger: ldk.Logger;
    readonly entropy: ldk.EntropySource;
    readonly rawRoutes: ReadonlyMap<string, ldk.Path>;
    readonly report: Report;
  },
  keep: Keep,
): ldk.Router {
  const { network, logger, entropy, rawRoutes, report } = parts;
  const decay = ldk.ProbabilisticScoringDecayParameters.constructor_default();
  const scorer = ldk.ProbabilisticScorer.constructor_new(decay, network, logger);
  const lockable = keep(ldk.MultiThreadedLockableScore.constructor_new(scorer.as_Score()));
  const parameters = ldk.ProbabilisticScoringFeeParameters.constructor_default();
  const own = keep(
    ldk.DefaultRouter.constructor_new(network, logger, entropy, lockable.as_LockableScore(), parameters),
  );
  const found = keep(own.as_Router());
  const none = () =>
    ldk.Result_RouteLightningErrorZ.constructor_err(
      ldk.LightningError.constructor_new('the router failed', ldk.ErrorAction.constructor_ignore_error()),
    );
  return keep(
    ldk.Router.new_impl({
      find_route: safely(report, none, (payer, route, hops, inFlight) =>
        found.find_route(payer, route, hops, inFlight),
      ),
      find_route_with_id: safely(report, none, (payer, route, hops, inFlight, hash, id) => {
        const raw = rawRoutes.get(toHex(hash));
        if (raw === undefined) return found.find_route_with_id(payer, route, hops, inFlight, hash, id);
        return ldk.Result_RouteLightningErrorZ.constructor_ok(ldk.Route.constructor_new([raw], route));
      }),
      create_blinded_payment_paths: safely(
        report,
        () => ldk.Result_CVec_BlindedPaymentPathZNoneZ.constructor_err(),
        (recipient, hops, tlvs, amount) => found.create_blinded_payment_paths(recipient, hops, tlvs, amount),
      ),
    }),
  );
}

export function walletSourceOf(onchain: OnchainWallet, report: Report): ldk.WalletSource {
  return ldk.WalletSource.new_impl({
    list_confirmed_utxos: safely(
      report,
      () => ldk.Result_CVec_UtxoZNoneZ.constructor_err(),
      () =>
        ldk.Result_CVec_UtxoZNoneZ.constructor_ok(
          onchain.spendable().map((coin) => {
            const outpoint = ldk.OutPoint.constructor_new(fromDisplayHash(coin.txid), coin.index);
            const output = ldk.TxOut.constructor_new(BigInt(coin.valueSat), onchain.scriptOf(coin));
            return ldk.Utxo.constructor_new(outpoint, output, SATISFACTION_WEIGHT);
          }),
        ),
    ),
    get_change_script: safely(
      report,
      () => ldk.Result_CVec_u8ZNoneZ.constructor_err(),
      () => ldk.Result_CVec_u8ZNoneZ.constructor_ok(onchain.changeScript),
    ),
    sign_psbt: safely(
      report,
      () => ldk.Result_TransactionNoneZ.constructor_err(),
      (psbt: Uint8Array) =>
        ldk.Result_TransactionNoneZ.constructor_ok(Uint8Array.from(onchain.signPsbt(psbt).toBuffer())),
    ),
  });
}

/** Tells a monitor the blocks that it missed. */
async function catchUp(
  chain: ChainFollower,
  monitor: ldk.ChannelMonitor,
  parts: { broadcaster: ldk.BroadcasterInterface; fees: ldk.FeeEstimator; logger: ldk.Logger },
): Promise<void> {
  const { broadcaster, fees, logger } = parts;
  for (;;) {
    const best = monitor.current_best_block();
    const hash = toDisplayHash(best.get_block_hash());
    const height = best.get_height();
    if (chain.at(height)?.hash !== hash) {
      const stale = chain.stale(hash);
      if (stale === undefined)
        throw new Error(`a monitor is at block ${hash}, which the wallet does not know`);
      monitor.block_disconnected(fromHex(stale.headerHex, 80), height, broadcaster, fees, logger);
      continue;
    }
    const next = chain.at(height + 1);
    if (next === undefined) return;
    const raw = await chain.rpc.block(next.hash);
    const transactions = (Block.fromBuffer(raw).transactions ?? []).map((one, index) =>
      ldk.TwoTuple_usizeTransactionZ.constructor_new(index, Uint8Array.from(one.toBuffer())),
    );
    monitor.block_connected(raw.slice(0, 80), transactions, height + 1, broadcaster, fees, logger);
  }
}

function fundingKey(funding: ldk.OutPoint): string {
  return `${toDisplayHash(funding.get_txid())}:${funding.get_index()}`;
}

/** The manager as it was saved, with its monitors at the chain's tip; or a new one. */
export async function managerOf(
  saved: { readonly manager: Uint8Array; readonly monitors: ReadonlyMap<string, Uint8Array> } | undefined,
  chain: ChainFollower,
  parts: {
    readonly fees: ldk.FeeEstimator;
    readonly watch: ldk.Watch;
    readonly broadcaster: ldk.BroadcasterInterface;
    readonly router: ldk.Router;
    readonly messageRouter: ldk.MessageRouter;
    readonly logger: ldk.Logger;
    readonly entropy: ldk.EntropySource;
    readonly nodeSigner: ldk.NodeSigner;
    readonly signerProvider: ldk.SignerProvider;
    readonly config: ldk.UserConfig;
  },
): Promise<ldk.ChannelManager> {
  const { fees, watch, broadcaster, router, messageRouter, logger, config } = parts;
  const { entropy, nodeSigner, signerProvider } = parts;
  if (saved === undefined) {
    const { tip, tipTime } = chain;
    const best = ldk.BestBlock.constructor_new(fromDisplayHash(tip.hash), tip.height);
    const parameters = ldk.ChainParameters.constructor_new(ldk.Network.LDKNetwork_Regtest, best);
    return ldk.ChannelManager.constructor_new(
      fees,
      watch,
      broadcaster,
      router,
      messageRouter,
      logger,
      entropy,
      nodeSigner,
      signerProvider,
      config,
      parameters,
      tipTime,
    );
  }
  const monitors = [...saved.monitors].map(([key, bytes]) => {
    const read = ldk.UtilMethods.constructor_C2Tuple_ThirtyTwoBytesChannelMonitorZ_read(
      bytes,
      entropy,
      signerProvider,
    );
    return must<ldk.TwoTuple_ThirtyTwoBytesChannelMonitorZ>(read, `monitor ${key}`).get_b();
  });
  const read = ldk.UtilMethods.constructor_C2Tuple_ThirtyTwoBytesChannelManagerZ_read(
    saved.manager,
    entropy,
    nodeSigner,
    signerProvider,
    fees,
    watch,
    broadcaster,
    router,
    messageRouter,
    logger,
    config,
    monitors,
  );
  const manager = must<ldk.TwoTuple_ThirtyTwoBytesChannelManagerZ>(read, 'manager').get_b();
  // The manager was saved with the wallet's tip; a monitor may be some blocks behind.
  for (const monitor of monitors) await catchUp(chain, monitor, { broadcaster, fees, logger });
  for (const monitor of monitors)
    must(watch.watch_channel(monitor.get_funding_txo().get_a(), monitor), 'monitor');
  return manager;
}
