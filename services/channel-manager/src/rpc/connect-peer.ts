import { equalBytes } from '@fulmen/codec';
import type { ConnectPeerRequest, ConnectPeerResponse } from '@fulmen/proto/manager/v1/manager';
import type { ManagerDeps } from './deps.ts';
import { invalid, requireHost, requireNodeId, requireRange } from './validate.ts';

/** Connects to a peer, and keeps it connected. */
export async function connectPeer(
  { engine, node, secp }: ManagerDeps,
  request: ConnectPeerRequest,
): Promise<ConnectPeerResponse> {
  const nodeId = requireNodeId(secp, request.nodeId);
  if (equalBytes(nodeId, node.nodeId)) throw invalid('node_id is this node’s own; give another node’s');
  await engine.connectPeer(nodeId, requireHost(request.host), requireRange('port', request.port, 1, 65_535));
  return {};
}
