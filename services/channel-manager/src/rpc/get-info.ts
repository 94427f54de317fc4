import type { GetInfoResponse } from '@fulmen/proto/manager/v1/manager';
import type { ManagerDeps } from './deps.ts';

/** The node, its channels and the replicas that serve them. */
export async function getInfo({ store, node, network }: ManagerDeps): Promise<GetInfoResponse> {
  const [channels, peers, replicas, shards] = await Promise.all([
    store.listChannels({ closed: 'exclude' }),
    store.listPeers(),
    store.listReplicas(),
    store.listShards(),
  ]);
  const owned = new Map<string, number>();
  for (const { replicaId } of shards)
    if (replicaId !== undefined) owned.set(replicaId, (owned.get(replicaId) ?? 0) + 1);
  const open = channels.filter(({ phase }) => phase === 'open').length;
  const pending = channels.filter(({ phase }) => phase.startsWith('awaiting_') || phase === 'opening').length;
  return {
    nodeId: node.nodeId,
    network,
    blockHeight: node.blockHeight,
    channelsOpen: open,
    channelsPending: pending,
    peersConnected: peers.filter(({ connected }) => connected !== undefined).length,
    replicas: replicas.map(({ replicaId, address }) => ({
      replicaId,
      address,
      shards: owned.get(replicaId) ?? 0,
    })),
  };
}
