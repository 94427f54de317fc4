/** PeerService: connections to other nodes. */
import type { PeerServiceService } from '@fulmen/proto/node/v1/node';
import type { Handlers } from '@fulmen/rpc';
import { refuse } from '../errors.ts';
import { requireLength, requireNodeId } from '../validate.ts';
import { type ConsoleContext, negotiation, command, query } from './context.ts';

const MAX_HOST_LENGTH = 255;
const MAX_PORT = 65_535;

export function peerService({ guard, managers }: ConsoleContext): Handlers<typeof PeerServiceService> {
  return {
    connectPeer: guard.unary(
      {
        name: 'PeerService.ConnectPeer',
        scope: 'channels',
        audit: ({ nodeId, host, port }) => ({ nodeId, host, port }),
      },
      (request, call) => {
        requireNodeId(request.nodeId);
        requireLength('host', request.host, MAX_HOST_LENGTH);
        if (request.host === '') throw refuse('invalid_argument', 'host is missing.');
        if (request.port < 1 || request.port > MAX_PORT)
          throw refuse('invalid_argument', `port must be 1 to ${MAX_PORT}.`);
        return managers.run((client, options) => client.connectPeer(request, options), negotiation(call));
      },
    ),
    disconnectPeer: guard.unary(
      { name: 'PeerService.DisconnectPeer', scope: 'channels', audit: ({ nodeId }) => ({ nodeId }) },
      (request, call) => {
        requireNodeId(request.nodeId);
        return managers.run((client, options) => client.disconnectPeer(request, options), command(call));
      },
    ),
    trustPeer: guard.unary(
      {
        name: 'PeerService.TrustPeer',
        scope: 'channels',
        audit: ({ nodeId, zeroConf }) => ({ nodeId, zeroConf }),
      },
      (request, call) => {
        requireNodeId(request.nodeId);
        return managers.run((client, options) => client.trustPeer(request, options), command(call));
      },
    ),
    listPeers: guard.unary({ name: 'PeerService.ListPeers', scope: 'read' }, (request, call) =>
      managers.run((client, options) => client.listPeers(request, options), query(call)),
    ),
  };
}
