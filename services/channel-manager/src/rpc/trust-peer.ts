import type { TrustPeerRequest, TrustPeerResponse } from '@fulmen/proto/manager/v1/manager';
import type { ManagerDeps } from './deps.ts';
import { requireNodeId } from './validate.ts';

/** Whether a peer's channels are used before their funding confirms: from its next opening on. */
export async function trustPeer(
  { engine, secp }: ManagerDeps,
  request: TrustPeerRequest,
): Promise<TrustPeerResponse> {
  await engine.trustPeer(requireNodeId(secp, request.nodeId), request.zeroConf ? 'trusted' : 'refused');
  return {};
}
