/** What channel-manager shows on its dashboard. */
import type { Metrics } from '@fulmen/service';
import type { Engine } from './engine/engine.ts';
import type { EnginePorts } from './engine/ports.ts';

/** Registers gauges that read the engine when Prometheus asks. */
export function observe(metrics: Metrics, engine: Engine, ports: EnginePorts): void {
  const read = (name: string, help: string, value: () => number): void => {
    const gauge = metrics.gauge(name, help);
    const collected = gauge as unknown as { collect: () => void };
    collected.collect = () => gauge.set(value());
  };
  read('manager_shards_owned', 'Shards that this replica owns', () => engine.ownedShards().length);
  read('manager_channels', 'Channels with an actor here', () => engine.channels().length);
  read(
    'manager_peers_connected',
    'Peers of this replica that are connected',
    () => engine.peers.peers().filter((peer) => peer.connection !== undefined).length,
  );
  read('manager_store_commits_total', 'Group commits asked of the store', () => ports.committer.commits);
  read(
    'manager_committed_units_total',
    'Channel and payment steps in those commits',
    () => ports.committer.units,
  );
  read('manager_signer_calls_total', 'SignBatch messages sent', () => ports.signLane.calls);
  read('manager_channels_frozen', 'Channels that wait for towers', () => engine.towers?.waiting ?? 0);
  read(
    'manager_longest_freeze_seconds',
    'How long the oldest of those has waited',
    () => (engine.towers?.longestWaitMs ?? 0) / 1000,
  );
  read('manager_chain_in_doubt', '1 while no HTLC is added because the chain is not followed', () =>
    engine.node.chainDoubt() === undefined ? 0 : 1,
  );
  read('manager_lease_valid', '1 while this replica may send', () => (ports.lease.isValid() ? 1 : 0));
}
