/** The graph of LDK's newest release and its own gossip, as its program tells (peers/ldk-node). */
import {
  featureBitsOf,
  type GraphChannel,
  type GraphNode,
  type GraphPolicy,
  type NewPolicy,
  type PeerConnectionInfo,
  type PeerGraph,
} from './peer-graph.ts';
import { NotApplicable } from './peer.ts';

type Json = Readonly<Record<string, unknown>>;
type Call = (method: string, parameters: Json) => Promise<unknown>;

interface NodeAnswer {
  readonly alias: string;
  readonly addresses: readonly string[];
  readonly features: string;
}

export class LdkNodeGraph implements PeerGraph {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  async channel(shortChannelId: bigint): Promise<GraphChannel | undefined> {
    const found = (await this.#call('graphChannel', {
      shortChannelId: String(shortChannelId),
    })) as Json | null;
    if (found === null) return undefined;
    return {
      shortChannelId,
      nodeId1: String(found['nodeId1']),
      nodeId2: String(found['nodeId2']),
      policy1: policyOf(found['policy1']),
      policy2: policyOf(found['policy2']),
    };
  }

  async node(nodeId: string): Promise<GraphNode | undefined> {
    const found = (await this.#call('graphNode', { nodeId })) as NodeAnswer | null;
    if (found === null) return undefined;
    return {
      alias: found.alias,
      addresses: found.addresses,
      featureBits: featureBitsOf(found.features),
    };
  }

  connection(): Promise<PeerConnectionInfo> {
    return Promise.reject(new NotApplicable('ldk-node does not tell the features of its peers'));
  }

  /** It announces itself once it has a public channel; the alias is its name. */
  announce(): Promise<void> {
    return Promise.resolve();
  }

  async setPolicy(channelId: string, policy: NewPolicy): Promise<void> {
    await this.#call('setPolicy', {
      channelId,
      baseMsat: Number(policy.feeBaseMsat),
      proportionalMillionths: policy.feeProportionalMillionths,
      cltvDelta: policy.cltvExpiryDelta,
    });
  }

  disable(): Promise<void> {
    return Promise.reject(
      new NotApplicable('ldk-node disables a channel after ten minutes, by its own clock'),
    );
  }
}

function policyOf(value: unknown): GraphPolicy | undefined {
  if (value === null || value === undefined) return undefined;
  const policy = value as Json;
  return {
    timestamp: Number(policy['timestamp']),
    feeBaseMsat: BigInt(String(policy['baseMsat'])),
    feeProportionalMillionths: Number(policy['proportionalMillionths']),
    cltvExpiryDelta: Number(policy['cltvDelta']),
    htlcMinimumMsat: BigInt(String(policy['htlcMinimumMsat'])),
    htlcMaximumMsat: BigInt(String(policy['htlcMaximumMsat'])),
    disabled: policy['disabled'] === true,
  };
}
