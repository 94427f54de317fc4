/** Every number the gateway publishes, in one place. */
import type { Metrics } from '@fulmen/service';

export type GatewayMetrics = ReturnType<typeof gatewayMetrics>;

export function gatewayMetrics(metrics: Metrics) {
  return {
    connections: metrics.gauge('gateway_connections', 'TCP connections in any state'),
    peers: metrics.gauge('gateway_peers', 'Peers after init, by direction', ['direction']),
    acceptedPeers: metrics.gauge('gateway_accepted_peers', 'Peers that a channel-manager accepted'),
    wantedPeers: metrics.gauge('gateway_wanted_peers', 'Peers that managers want connected'),
    pendingHandshakes: metrics.gauge('gateway_pending_handshakes', 'Handshakes and init exchanges in flight'),
    handshakes: metrics.counter('gateway_handshakes_total', 'Finished handshakes with init, by outcome', [
      'direction',
      'outcome',
    ]),
    refused: metrics.counter('gateway_refused_connections_total', 'Connections refused at a limit', [
      'limit',
    ]),
    disconnects: metrics.counter('gateway_disconnects_total', 'Ended peer connections, by cause', ['cause']),
    dials: metrics.counter('gateway_dials_total', 'Outbound dials, by outcome', ['outcome']),
    inboundMessages: metrics.counter(
      'gateway_inbound_messages_total',
      'Messages from peers, by where they go',
      ['route'],
    ),
    dropped: metrics.counter('gateway_dropped_messages_total', 'Messages dropped, by reason', ['reason']),
    outboundMessages: metrics.counter('gateway_outbound_messages_total', 'Messages to peers, by origin', [
      'origin',
    ]),
    linksUp: metrics.gauge('gateway_manager_links', 'Links to channel-managers that said hello'),
    ownedShards: metrics.gauge('gateway_owned_shards', 'Shards with a known owner'),
    linkQueueBytes: metrics.gauge('gateway_link_queue_bytes', 'Bytes queued towards channel-managers', [
      'manager',
    ]),
    gossipQueueBytes: metrics.gauge('gateway_gossip_queue_bytes', 'Bytes queued towards the router'),
    gossipUp: metrics.gauge('gateway_gossip_link', 'Whether the stream to the router stands'),
    ecdhWaiting: metrics.gauge('gateway_ecdh_waiting', 'Handshakes that wait for the signer'),
    pauses: metrics.counter('gateway_read_pauses_total', 'Times a peer was not read, by reason', ['reason']),
  };
}
