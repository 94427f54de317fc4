/** What the service counts. */
import type { Metrics } from '@fulmen/service';

export type ChainMetrics = ReturnType<typeof chainMetrics>;

export function chainMetrics(metrics: Metrics) {
  return {
    height: metrics.gauge('chain_height', 'Height of the last processed block.'),
    lag: metrics.gauge('chain_lag_blocks', 'Blocks of the source that are not processed yet.'),
    rescanBlocks: metrics.gauge('chain_rescan_blocks', 'Old blocks that are still to be scanned.'),
    halted: metrics.gauge('chain_halted', '1 while the chain source is not believed.'),
    lateSightings: metrics.counter(
      'chain_late_sightings_total',
      'Blocks of which the source told something only after a later one.',
    ),
    writer: metrics.gauge('chain_writer', '1 while this replica holds the lease.'),
    disconnected: metrics.counter('chain_blocks_disconnected_total', 'Blocks taken back by reorgs.'),
    drained: metrics.counter('chain_monitor_updates_drained_total', 'Monitor updates applied.'),
    brokenMonitors: metrics.gauge(
      'chain_monitors_broken',
      'Monitors whose log does not apply: their channels need an operator.',
    ),
    broadcasts: metrics.counter('chain_broadcasts_total', 'Broadcast attempts by outcome.', ['outcome']),
    rebroadcasts: metrics.counter('chain_rebroadcasts_total', 'Broadcasts repeated until confirmed.'),
    pendingOrders: metrics.gauge('chain_broadcast_orders', 'Broadcast orders that are not buried.'),
    unsignedFundings: metrics.gauge(
      'chain_unsigned_fundings',
      'Ordered fundings that the signer has not signed.',
    ),
    feeOrigin: metrics.gauge(
      'chain_fee_estimate_origin',
      '0: the node; 1: its last estimates; 2: the configured fallback; 3: none.',
    ),
    utxoLookups: metrics.counter('chain_utxo_lookups_total', 'Gossip lookups by outcome.', ['outcome']),
    turnErrors: metrics.counter(
      'chain_turn_errors_total',
      'Turns of the writer that failed and are repeated.',
    ),
    closes: metrics.counter('chain_channel_closes_total', 'Closes that confirmed, by whose they are.', [
      'type',
    ]),
    closingChannels: metrics.gauge(
      'chain_closing_channels',
      'Closed channels that are not settled for good.',
    ),
    faultySettlements: metrics.gauge(
      'chain_settlements_faulty',
      'Closed channels that cannot be settled: they need an operator.',
    ),
    closesDecided: metrics.counter(
      'chain_closes_decided_total',
      'Channels that were closed without their manager, because an HTLC could not wait.',
    ),
    htlcsAbandoned: metrics.counter(
      'chain_htlcs_abandoned_total',
      'HTLCs past their deadline that are worth less than closing their channel.',
    ),
    closeFailures: metrics.counter(
      'chain_force_close_failures_total',
      'Holder commitments that the signer did not sign.',
    ),
    sweepClaims: metrics.gauge(
      'chain_sweep_claims',
      'Outputs of closed channels that are being brought home.',
    ),
    sweeps: metrics.gauge('chain_sweeps', 'Transactions of the sweeper that are not buried.'),
    sweepFailures: metrics.counter('chain_sweep_failures_total', 'Sweeps that the signer did not sign.'),
  };
}
