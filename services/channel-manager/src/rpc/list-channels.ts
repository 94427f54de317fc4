import { toHex } from '@fulmen/codec';
import type { Channel, ListChannelsRequest, ListChannelsResponse } from '@fulmen/proto/manager/v1/manager';
import type { ManagerDeps } from './deps.ts';
import { channelMessage } from './messages.ts';

/** Policies read at a time: leaves connections of the pool to the hot path. */
const CONCURRENT_READS = 4;

/** Every channel of the node, as last committed. */
export async function listChannels(
  { store, engine }: ManagerDeps,
  request: ListChannelsRequest,
): Promise<ListChannelsResponse> {
  const [rows, peers] = await Promise.all([
    store.listChannels({ closed: request.includeClosed ? 'include' : 'exclude' }),
    store.listPeers(),
  ]);
  const connected = new Set(
    peers.filter((peer) => peer.connected !== undefined).map((peer) => toHex(peer.peerNodeId)),
  );
  const channels: Channel[] = [];
  for (let start = 0; start < rows.length; start += CONCURRENT_READS) {
    const part = rows.slice(start, start + CONCURRENT_READS);
    const policies = await Promise.all(part.map((row) => store.getPolicy(row.channelId)));
    part.forEach((row, index) => {
      const peerConnected =
        connected.has(toHex(row.counterpartyNodeId)) || engine.isConnected(row.counterpartyNodeId);
      channels.push(
        channelMessage(row, {
          policy: policies[index],
          peerConnected,
          ownerReplicaId: engine.ownerOf(row.shard) ?? '',
        }),
      );
    });
  }
  return { channels };
}
