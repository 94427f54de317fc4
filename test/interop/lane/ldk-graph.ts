/** LDK's graph and its own gossip, as its wallet tells. */
import type { LdkWallet } from '../../ldk-wallet/client.ts';
import type { GraphPolicyInfo } from '../../ldk-wallet/protocol.ts';
import {
  featureBitsOf,
  type GraphChannel,
  type GraphNode,
  type GraphPolicy,
  type NewPolicy,
  type PeerConnectionInfo,
  type PeerGraph,
} from './peer-graph.ts';
import { PeerError } from './peer.ts';

/** More than the minutes that LDK waits for a peer before it disables the channel. */
const MINUTES_UNTIL_DISABLED = 12;

export class LdkGraph implements PeerGraph {
  readonly #wallet: () => LdkWallet;

  /** @param wallet its process now: another one after it was set back. */
  constructor(wallet: () => LdkWallet) {
    this.#wallet = wallet;
  }

  async channel(shortChannelId: bigint): Promise<GraphChannel | undefined> {
    const text = `${shortChannelId >> 40n}x${(shortChannelId >> 16n) & 0xffffffn}x${shortChannelId & 0xffffn}`;
    const { channels } = await this.#wallet().call('graph');
    const found = channels.find((channel) => channel.shortChannelId === text);
    return (
      found && {
        shortChannelId,
        nodeId1: found.nodeId1,
        nodeId2: found.nodeId2,
        policy1: policyOf(found.policy1),
        policy2: policyOf(found.policy2),
      }
    );
  }

  async node(nodeId: string): Promise<GraphNode | undefined> {
    const { nodes } = await this.#wallet().call('graph');
    const announcement = nodes.find((node) => node.nodeId === nodeId)?.announcement;
    if (announcement === undefined || announcement === null) return undefined;
    return {
      alias: announcement.alias,
      addresses: announcement.addresses,
      featureBits: featureBitsOf(announcement.features),
    };
  }

  async connection(nodeId: string): Promise<PeerConnectionInfo | undefined> {
    const peer = (await this.#wallet().call('listPeers')).find((one) => one.nodeId === nodeId);
    if (peer === undefined) return undefined;
    return {
      inbound: peer.inbound,
      featureBits: featureBitsOf(peer.features),
      pingMicroseconds: undefined,
    };
  }

  async announce(alias: string): Promise<void> {
    await this.#wallet().call('announceNode', { alias });
  }

  async setPolicy(channelId: string, policy: NewPolicy): Promise<void> {
    await this.#wallet().call('setPolicy', {
      counterpartyNodeId: await this.#counterpartyOf(channelId),
      channelId,
      baseMsat: policy.feeBaseMsat,
      proportionalMillionths: policy.feeProportionalMillionths,
      cltvDelta: policy.cltvExpiryDelta,
    });
  }

  /** LDK has no command for it: it does so by itself when the other end is away for some minutes. */
  async disable(channelId: string): Promise<void> {
    await this.#wallet().call('disconnect', { nodeId: await this.#counterpartyOf(channelId) });
    await this.#wallet().call('tick', { minutes: MINUTES_UNTIL_DISABLED });
  }

  async #counterpartyOf(channelId: string): Promise<string> {
    const channel = (await this.#wallet().call('listChannels')).find((one) => one.channelId === channelId);
    if (channel === undefined) throw new PeerError('no such channel');
    return channel.counterpartyNodeId;
  }
}

function policyOf(policy: GraphPolicyInfo | null): GraphPolicy | undefined {
  if (policy === null) return undefined;
  return {
    timestamp: policy.timestamp,
    feeBaseMsat: policy.baseMsat,
    feeProportionalMillionths: policy.proportionalMillionths,
    cltvExpiryDelta: policy.cltvDelta,
    htlcMinimumMsat: policy.htlcMinimumMsat,
    htlcMaximumMsat: policy.htlcMaximumMsat,
    disabled: policy.disabled,
  };
}
