/** LookupChannel and ListChannels: channels of the graph with the terms of both ends. */
import type { NetworkGraph } from '@fulmen/graph';
import type {
  GetGraphChannelRequest,
  GetGraphChannelResponse,
  GraphChannel,
  ListGraphChannelsRequest,
  ListGraphChannelsResponse,
} from '@fulmen/proto/router/v1/router';
import { RpcError } from '@fulmen/rpc';
import type { RouterContext } from '../ports.ts';

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1_000;

export function lookupChannelRpc(
  { state }: RouterContext,
  request: GetGraphChannelRequest,
): GetGraphChannelResponse {
  const channel = state.graph.channelIndex(request.shortChannelId);
  return { channel: channel === undefined ? undefined : shown(state.graph, channel) };
}

/** @throws RpcError `invalid_argument` when the limit is beyond 1000 */
export function listChannelsRpc(
  { state: { graph } }: RouterContext,
  { afterShortChannelId, limit, nodeId }: ListGraphChannelsRequest,
): ListGraphChannelsResponse {
  if (limit > MAX_LIMIT) throw new RpcError('invalid_argument', `limit must be at most ${MAX_LIMIT}`);
  const scids = nodeId.length === 0 ? graph.sortedScids() : scidsOf(graph, nodeId);
  const from = firstAbove(scids, afterShortChannelId);
  const page = scids.subarray(from, from + (limit === 0 ? DEFAULT_LIMIT : limit));
  return {
    channels: [...page].flatMap((scid) => {
      const channel = graph.channelIndex(scid);
      return channel === undefined ? [] : [shown(graph, channel)];
    }),
  };
}

function scidsOf(graph: NetworkGraph, nodeId: Uint8Array): BigUint64Array {
  const node = graph.nodeIndex(nodeId);
  if (node === undefined) return new BigUint64Array(0);
  return BigUint64Array.from(graph.edgesFrom(node), (edge) => graph.channelScid[edge >> 1] ?? 0n).sort();
}

/** Index of the first element above `value`; the array ascends. */
function firstAbove(ascending: BigUint64Array, value: bigint): number {
  let [low, high] = [0, ascending.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ascending[middle] ?? 0n) > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

function shown(graph: NetworkGraph, channel: number): GraphChannel {
  const nodeOf = (edge: number): Uint8Array => graph.nodeId(graph.edgeSource[edge] ?? 0);
  return {
    shortChannelId: graph.channelScid[channel] ?? 0n,
    nodeId1: nodeOf(2 * channel),
    nodeId2: nodeOf(2 * channel + 1),
    capacitySat: BigInt(graph.channelCapacitySat[channel] ?? 0),
    spentHeight: graph.channelSpentHeight[channel] ?? 0,
    policy1: graph.policy(2 * channel),
    policy2: graph.policy(2 * channel + 1),
  };
}
