import type { DisconnectPeerRequest, DisconnectPeerResponse } from '@fulmen/proto/manager/v1/manager';
import type { ManagerDeps } from './deps.ts';
import { requireNodeId } from './validate.ts';

/** Ends the connection to a peer. */
export async function disconnectPeer(
  { engine, secp }: ManagerDeps,
  request: DisconnectPeerRequest,
): Promise<DisconnectPeerResponse> {
  await engine.disconnectPeer(requireNodeId(secp, request.nodeId));
  return {};
}
