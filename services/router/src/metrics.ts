/** The router's metrics; every queue has one. */
import type { Metrics } from '@fulmen/service';

export type RouterMetrics = ReturnType<typeof routerMetrics>;

/** Registers them; once for each registry. */
export function routerMetrics(metrics: Metrics) {
  return {
    messages: metrics.counter('router_gossip_messages_total', 'Gossip messages by type and outcome', [
      'type',
      'outcome',
    ]),
    queue: metrics.gauge('router_gossip_queue', 'Gossip messages waiting to be checked'),
    queueBytes: metrics.gauge('router_gossip_queue_bytes', 'Bytes of gossip waiting to be checked'),
    heldBytes: metrics.gauge(
      'router_gossip_held_bytes',
      'Bytes of gossip held until an announcement is decided',
    ),
    dropped: metrics.counter('router_dropped_total', 'What a bound made us drop', ['what']),
    lookupsWaiting: metrics.gauge('router_utxo_lookups_waiting', 'Funding outputs waiting to be looked up'),
    lookupsPending: metrics.gauge('router_utxo_lookups_pending', 'Funding outputs being looked up'),
    journal: metrics.gauge('router_unsaved_changes', 'Graph changes not yet in the store'),
    peers: metrics.gauge('router_gossip_peers', 'Peers on gossip streams'),
    syncing: metrics.gauge('router_syncing_peers', 'Peers being asked for the graph'),
    sent: metrics.counter('router_gossip_sent_total', 'Messages handed to gateways'),
    answerBytes: metrics.gauge('router_answer_bytes', 'Bytes that answers to peers under way hold'),
    channels: metrics.gauge('router_graph_channels', 'Channels in the graph'),
    nodes: metrics.gauge('router_graph_nodes', 'Nodes in the graph'),
    graphBytes: metrics.gauge('router_graph_bytes', 'Bytes of messages in the graph'),
    isWriter: metrics.gauge('router_is_writer', '1 while this replica holds the lease'),
    routeSeconds: metrics.histogram(
      'router_find_route_seconds',
      'Time to find a route',
      [0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2],
      ['outcome'],
    ),
  };
}
