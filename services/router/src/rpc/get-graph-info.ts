/** GetGraphInfo: how large the known network is. */
import { EDGE_KNOWN } from '@fulmen/graph';
import type { GetGraphInfoResponse } from '@fulmen/proto/router/v1/router';
import type { RouterContext } from '../ports.ts';

export function getGraphInfoRpc({ state }: RouterContext): GetGraphInfoResponse {
  const { graph } = state;
  let updates = 0;
  for (const channel of graph.channels()) {
    for (const edge of [2 * channel, 2 * channel + 1]) {
      if ((graph.edgeFlags[edge] ?? 0) & EDGE_KNOWN) updates += 1;
    }
  }
  return { nodes: graph.nodeCount, channels: graph.channelCount, updates };
}
