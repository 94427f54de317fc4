/** GraphService: the public network as the routers know it. */
import type { GraphServiceService } from '@fulmen/proto/node/v1/node';
import type { Handlers } from '@fulmen/rpc';
import { listLimit, requireNodeId } from '../validate.ts';
import { type ConsoleContext, query } from './context.ts';

export function graphService({ guard, routers }: ConsoleContext): Handlers<typeof GraphServiceService> {
  return {
    getGraphInfo: guard.unary({ name: 'GraphService.GetGraphInfo', scope: 'read' }, (request, call) =>
      routers.run((client, options) => client.getGraphInfo(request, options), query(call)),
    ),
    getNode: guard.unary({ name: 'GraphService.GetNode', scope: 'read' }, (request, call) => {
      requireNodeId(request.nodeId);
      return routers.run((client, options) => client.getNode(request, options), query(call));
    }),
    lookupChannel: guard.unary({ name: 'GraphService.LookupChannel', scope: 'read' }, (request, call) =>
      routers.run((client, options) => client.lookupChannel(request, options), query(call)),
    ),
    listChannels: guard.unary({ name: 'GraphService.ListChannels', scope: 'read' }, (request, call) => {
      if (request.nodeId.length > 0) requireNodeId(request.nodeId);
      const asked = { ...request, limit: listLimit(request.limit) };
      return routers.run((client, options) => client.listChannels(asked, options), query(call));
    }),
  };
}
