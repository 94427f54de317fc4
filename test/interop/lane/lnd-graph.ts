/** LND's graph and its own gossip, through its REST interface. */
import type { Json } from './lnd-rest.ts';
import type {
  GraphChannel,
  GraphNode,
  GraphPolicy,
  NewPolicy,
  PeerConnectionInfo,
  PeerGraph,
} from './peer-graph.ts';
import { PeerError } from './peer.ts';

/** What it needs of LND. */
export interface LndCalls {
  call(method: 'GET' | 'POST', route: string, body?: Json): Promise<Json>;
  fundingOf(channelId: string): Promise<{ readonly txid: string; readonly outputIndex: number }>;
}

export class LndGraph implements PeerGraph {
  readonly #lnd: LndCalls;

  constructor(lnd: LndCalls) {
    this.#lnd = lnd;
  }

  async channel(shortChannelId: bigint): Promise<GraphChannel | undefined> {
    const edge = await this.#found(`/v1/graph/edge/${shortChannelId}`);
    if (edge === undefined) return undefined;
    return {
      shortChannelId,
      nodeId1: String(edge['node1_pub']),
      nodeId2: String(edge['node2_pub']),
      policy1: policyOf(edge['node1_policy']),
      policy2: policyOf(edge['node2_policy']),
    };
  }

  async node(nodeId: string): Promise<GraphNode | undefined> {
    const found = await this.#found(`/v1/graph/node/${nodeId}`);
    const node = found?.['node'] as Json | undefined;
    // A node that is only known from its channels has no time.
    if (node === undefined || Number(node['last_update']) === 0) return undefined;
    const addresses = Array.isArray(node['addresses']) ? (node['addresses'] as Json[]) : [];
    return {
      alias: String(node['alias']),
      addresses: addresses.map(({ addr }) => String(addr)),
      featureBits: bitsOf(node['features']),
    };
  }

  async connection(nodeId: string): Promise<PeerConnectionInfo | undefined> {
    const { peers } = await this.#lnd.call('GET', '/v1/peers');
    const peer = (Array.isArray(peers) ? (peers as Json[]) : []).find((one) => one['pub_key'] === nodeId);
    if (peer === undefined) return undefined;
    return {
      inbound: peer['inbound'] === true,
      featureBits: bitsOf(peer['features']),
      pingMicroseconds: BigInt(String(peer['ping_time'] ?? 0)),
    };
  }

  /** LND announces itself as soon as it has a public channel. */
  announce(): Promise<void> {
    return Promise.resolve();
  }

  async setPolicy(channelId: string, policy: NewPolicy): Promise<void> {
    const answer = await this.#lnd.call('POST', '/v1/chanpolicy', {
      chan_point: await this.#pointOf(channelId),
      base_fee_msat: String(policy.feeBaseMsat),
      fee_rate_ppm: policy.feeProportionalMillionths,
      time_lock_delta: policy.cltvExpiryDelta,
    });
    const failed = answer['failed_updates'];
    if (Array.isArray(failed) && failed.length > 0)
      throw new PeerError(`the policy was not changed: ${JSON.stringify(failed)}`);
  }

  async disable(channelId: string): Promise<void> {
    await this.#lnd.call('POST', '/v2/router/updatechanstatus', {
      chan_point: await this.#pointOf(channelId),
      action: 'DISABLE',
    });
  }

  async #pointOf(channelId: string): Promise<Json> {
    const { txid, outputIndex } = await this.#lnd.fundingOf(channelId);
    return { funding_txid_str: txid, output_index: outputIndex };
  }

  async #found(route: string): Promise<Json | undefined> {
    try {
      return await this.#lnd.call('GET', route);
    } catch (error) {
      if (error instanceof PeerError && /not found|unable to find/.test(error.message)) return undefined;
      throw error;
    }
  }
}

function policyOf(value: unknown): GraphPolicy | undefined {
  if (value === null || value === undefined) return undefined;
  const policy = value as Json;
  return {
    timestamp: Number(policy['last_update']),
    feeBaseMsat: BigInt(String(policy['fee_base_msat'])),
    feeProportionalMillionths: Number(policy['fee_rate_milli_msat']),
    cltvExpiryDelta: Number(policy['time_lock_delta']),
    htlcMinimumMsat: BigInt(String(policy['min_htlc'])),
    htlcMaximumMsat: BigInt(String(policy['max_htlc_msat'])),
    disabled: policy['disabled'] === true,
  };
}

function bitsOf(features: unknown): readonly number[] {
  return Object.keys((features ?? {}) as Json)
    .map(Number)
    .sort((a, b) => a - b);
}
