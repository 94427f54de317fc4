import type { ListPeersResponse } from '@fulmen/proto/manager/v1/manager';
import type { ManagerDeps } from './deps.ts';

/** Peers with a channel, with an address to keep, or connected now. */
export async function listPeers({ store }: ManagerDeps): Promise<ListPeersResponse> {
  const peers = await store.listPeers();
  return {
    peers: peers.map(({ peerNodeId, host, port, connected, channels, zeroConf }) => ({
      nodeId: peerNodeId,
      address:
        host === undefined || port === undefined
          ? ''
          : host.includes(':')
            ? `[${host}]:${port}`
            : `${host}:${port}`,
      connected: connected !== undefined,
      gatewayId: connected?.gatewayId ?? '',
      generation: connected?.generation ?? 0n,
      channels,
      features: connected?.features ?? new Uint8Array(0),
      zeroConf: zeroConf === 'trusted',
    })),
  };
}
