/** GetNode: what a node says of itself, and how many channels it has. */
import type { GetGraphNodeRequest, GetGraphNodeResponse } from '@fulmen/proto/router/v1/router';
import { decodeMessage, formatAddress, parseAddresses, sanitizeForLog } from '@fulmen/wire';
import type { RouterContext } from '../ports.ts';

const NONE = new Uint8Array(0);

export function getNodeRpc({ state }: RouterContext, request: GetGraphNodeRequest): GetGraphNodeResponse {
  const { graph } = state;
  const silent: GetGraphNodeResponse = {
    found: false,
    alias: '',
    addresses: [],
    channels: 0,
    features: NONE,
    timestamp: 0,
    rgbColor: NONE,
    capacitySat: 0n,
  };
  const node = graph.nodeIndex(request.nodeId);
  if (node === undefined) return silent;
  const channels = Array.from(graph.edgesFrom(node), (edge) => edge >> 1);
  const capacitySat = channels.reduce(
    (sum, channel) => sum + BigInt(graph.channelCapacitySat[channel] ?? 0),
    0n,
  );
  const known = { ...silent, found: true, channels: channels.length, capacitySat };
  const raw = graph.nodeAnnouncementRaw[node];
  const message = raw === undefined ? undefined : decodeMessage(raw);
  if (message?.ok !== true || message.value.type !== 'node_announcement') return known;
  const { alias, features, timestamp, rgbColor } = message.value;
  const addresses = parseAddresses(message.value.addresses);
  return {
    ...known,
    alias: aliasOf(alias),
    addresses: addresses.ok ? addresses.value.addresses.map(formatAddress) : [],
    features,
    timestamp,
    rgbColor,
  };
}

/** BOLT 7: the alias is UTF-8 padded with zeros; whoever shows it is shown nothing but printable text. */
function aliasOf(alias: Uint8Array): string {
  const end = alias.indexOf(0);
  return sanitizeForLog(new TextDecoder().decode(end < 0 ? alias : alias.subarray(0, end)), 32);
}
