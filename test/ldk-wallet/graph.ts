// The wallet's part in the public network: the graph that LDK has, and what the wallet says of itself.
import { fromHex, isNull, ldk, must, some, scidToText, toHex, WalletError } from './ldk.ts';
import type { Node } from './node.ts';
import type { GraphChannelInfo, GraphNodeInfo, GraphPolicyInfo, WalletMethods } from './protocol.ts';

const ALIAS_BYTES = 32;
/** LDK's manager is ticked once a minute; it disables a channel after some ticks without its peer. */
const MAX_TICKS = 60;

/** Channels and nodes that LDK knows from gossip; its own private channels are not among them. */
export function graph(node: Node): WalletMethods['graph']['result'] {
  const view = node.network.read_only();
  try {
    return {
      channels: view.list_channels().map((scid) => channelOf(scid, view.channel(scid))),
      nodes: view.list_nodes().map((nodeId) => nodeOf(toHex(nodeId.as_array()), view.node(nodeId))),
    };
  } finally {
    // It holds the graph's lock.
    view.free();
  }
}

function channelOf(scid: bigint, info: ldk.ChannelInfo): GraphChannelInfo {
  return {
    shortChannelId: scidToText(scid),
    nodeId1: toHex(info.get_node_one().as_array()),
    nodeId2: toHex(info.get_node_two().as_array()),
    policy1: policyOf(info.get_one_to_two()),
    policy2: policyOf(info.get_two_to_one()),
  };
}

function policyOf(update: ldk.ChannelUpdateInfo): GraphPolicyInfo | null {
  if (isNull(update)) return null;
  const fees = update.get_fees();
  return {
    timestamp: update.get_last_update() >>> 0,
    baseMsat: BigInt(fees.get_base_msat() >>> 0),
    proportionalMillionths: fees.get_proportional_millionths() >>> 0,
    cltvDelta: update.get_cltv_expiry_delta() & 0xffff,
    htlcMinimumMsat: update.get_htlc_minimum_msat(),
    htlcMaximumMsat: update.get_htlc_maximum_msat(),
    disabled: !update.get_enabled(),
  };
}

function nodeOf(nodeId: string, info: ldk.NodeInfo): GraphNodeInfo {
  const announced = some<ldk.NodeAnnouncementInfo>(info.get_announcement_info());
  if (announced === null) return { nodeId, announcement: null };
  return {
    nodeId,
    announcement: {
      timestamp: announced.last_update() >>> 0,
      alias: Buffer.from(announced.alias().get_a()).toString('utf8').replaceAll('\0', ''),
      addresses: announced.addresses().map((address) => address.to_str()),
      features: toHex(bigEndianFeatures(announced.features().write())),
    },
  };
}

/** Without the length before it. */
function bigEndianFeatures(written: Uint8Array): Uint8Array {
  return written.subarray(2);
}

/** LDK asks its user to do this; only nodes with a public channel are listened to. */
export function announceNode(node: Node, { alias }: WalletMethods['announceNode']['params']): void {
  const bytes = Buffer.from(alias, 'utf8');
  if (bytes.length > ALIAS_BYTES) throw new WalletError(`an alias has at most ${ALIAS_BYTES} bytes`);
  const padded = new Uint8Array(ALIAS_BYTES);
  padded.set(bytes);
  const addresses =
    node.port === null
      ? []
      : [ldk.SocketAddress.constructor_tcp_ip_v4(Uint8Array.of(127, 0, 0, 1), node.port)];
  node.peerManager.broadcast_node_announcement(Uint8Array.of(0x20, 0x40, 0x60), padded, addresses);
}

/** What the wallet asks for forwarding over a channel from now on. */
export function setPolicy(node: Node, params: WalletMethods['setPolicy']['params']): void {
  const { counterpartyNodeId, channelId, baseMsat, proportionalMillionths, cltvDelta } = params;
  const update = ldk.ChannelConfigUpdate.constructor_new(
    ldk.Option_u32Z.constructor_some(proportionalMillionths),
    ldk.Option_u32Z.constructor_some(Number(baseMsat)),
    ldk.Option_u16Z.constructor_some(cltvDelta),
    ldk.Option_MaxDustHTLCExposureZ.constructor_none(),
    ldk.Option_u64Z.constructor_none(),
  );
  must(
    node.manager.update_partial_channel_config(
      fromHex(counterpartyNodeId, 33),
      [ldk.ChannelId.constructor_new(fromHex(channelId, 32))],
      update,
    ),
    'the policy was not changed',
  );
}

/** As many of the manager's minutes at once. */
export function tick(node: Node, { minutes }: WalletMethods['tick']['params']): void {
  if (minutes > MAX_TICKS) throw new WalletError(`at most ${MAX_TICKS} minutes at once`);
  for (let i = 0; i < minutes; i++) node.manager.timer_tick_occurred();
}

/** Who is connected now, with the features of its init. */
export function listPeers(node: Node): WalletMethods['listPeers']['result'] {
  return node.peerManager.list_peers().map((peer) => ({
    nodeId: toHex(peer.get_counterparty_node_id()),
    inbound: Boolean(peer.get_is_inbound_connection()),
    features: toHex(bigEndianFeatures(peer.get_init_features().write())),
  }));
}
