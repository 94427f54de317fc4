/** GetNode: what a node says of itself, and how many channels it has. */
import type { GetGraphNodeRequest, GetGraphNodeResponse } from '@fulmen/proto/router/v1/router';
import { decodeMessage, formatAddress, parseAddresses, sanitizeForLog } from '@fulmen/wire';
import type { RouterContext } from '../ports.ts';

export function getNodeRpc({ state }: RouterContext, request: GetGraphNodeRequest): GetGraphNodeResponse {
  const { graph } = state;
  const node = graph.nodeIndex(request.nodeId);
  if (node === undefined) return { found: false, alias: '', addresses: [], channels: 0 };
  const raw = graph.nodeAnnouncementRaw[node];
  const message = raw === undefined ? undefined : decodeMessage(raw);
  const channels = [...graph.edgesFrom(node)].length;
  if (message?.ok !== true || message.value.type !== 'node_announcement') {
    return { found: true, alias: '', addresses: [], channels };
  }
  const addresses = parseAddresses(message.value.addresses);
  return {
    found: true,
    alias: aliasOf(message.value.alias),
    addresses: addresses.ok ? addresses.value.addresses.map(formatAddress) : [],
    channels,
  };
}

/** BOLT 7: the alias is UTF-8 padded with zeros; whoever shows it is shown nothing but printable text. */
function aliasOf(alias: Uint8Array): string {
  const end = alias.indexOf(0);
  return sanitizeForLog(new TextDecoder().decode(end < 0 ? alias : alias.subarray(0, end)), 32);
}
