/** Own gossip alone: a router that keeps what it is told, a signer that signs everything, clocks moved by hand. */
import { encodeChannelType, type Funding } from '@fulmen/channel';
import { NETWORKS } from '@fulmen/bitcoin';
import { sha256d } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { compareBytes, InternalError } from '@fulmen/codec';
import type { GetGraphNodeResponse, GraphChannel, GraphPolicy } from '@fulmen/proto/router/v1/router';
import { RpcError } from '@fulmen/rpc';
import { silentLogger } from '@fulmen/service';
import { decodeMessage, encodeMessage, gossipSignedBytes, make, type MessageOf } from '@fulmen/wire';
import { HandRuntime, NODE, PEER, SCID } from '../../payments/testing/bench.ts';
import type { ChannelActor } from '../channel-actor.ts';
import { type GossipHost, GossipPublisher } from '../gossip-publisher.ts';
import type { EnginePorts } from '../ports.ts';

/** How long the peer of a channel may be away before the channel is disabled. */
export const AWAY_MS = 600_000;
export const CAPACITY_SAT = 1_000_000n;

/** What a router says of a node that it does not know. */
export const UNKNOWN_NODE: GetGraphNodeResponse = {
  found: false,
  alias: '',
  addresses: [],
  channels: 0,
  features: new Uint8Array(0),
  timestamp: 0,
  rgbColor: new Uint8Array(0),
  capacitySat: 0n,
};

/** A router that takes what is newer, as the real one does. */
export class FakeRouter {
  channel: GraphChannel | undefined;
  node: GetGraphNodeResponse = UNKNOWN_NODE;
  readonly updates: MessageOf<'channel_update'>[] = [];
  /** Why messages were not taken. */
  readonly refusals: string[] = [];
  /** Whether the chain that it follows has the channel's block yet. */
  chain: 'followed' | 'behind' = 'followed';
  readonly announcements: MessageOf<'channel_announcement'>[] = [];
  readonly nodes: MessageOf<'node_announcement'>[] = [];

  lookupChannel = () => Promise.resolve({ channel: this.channel });
  getNode = () => Promise.resolve(this.node);

  publishOwn = ({ messages }: { readonly messages: readonly Uint8Array[] }) => {
    for (const raw of messages) {
      const decoded = decodeMessage(raw);
      if (!decoded.ok) throw new InternalError('not a message');
      if (decoded.value.type === 'channel_announcement') {
        if (this.chain === 'behind') throw this.#refusal('unconfirmed');
        this.announcements.push(decoded.value as MessageOf<'channel_announcement'>);
        this.channel ??= known();
      }
      if (decoded.value.type === 'channel_update') this.#update(decoded.value as MessageOf<'channel_update'>);
      if (decoded.value.type === 'node_announcement')
        this.nodes.push(decoded.value as MessageOf<'node_announcement'>);
    }
    return Promise.resolve({});
  };

  #update(update: MessageOf<'channel_update'>): void {
    if (this.channel === undefined) throw this.#refusal('unknown channel');
    const side = (update.channelFlags & 1) === 0 ? 'policy1' : 'policy2';
    const known = this.channel[side];
    if (known !== undefined && update.timestamp <= known.timestamp) throw this.#refusal('stale');
    this.updates.push(update);
    this.channel = { ...this.channel, [side]: { ...update, disabled: (update.channelFlags & 2) !== 0 } };
  }

  #refusal(reason: string): RpcError {
    this.refusals.push(reason);
    return new RpcError('failed_precondition', reason);
  }
}

/** The publisher of one node, and what it has told. */
export class GossipBench {
  readonly router = new FakeRouter();
  readonly runtime = new HandRuntime();
  /** What the counterparty was told. */
  readonly toPeer: Uint8Array[] = [];
  readonly publisher: GossipPublisher;
  readonly ports: EnginePorts;
  readonly #background: Promise<void>[] = [];

  constructor() {
    const { router, runtime } = this;
    this.ports = {
      runtime,
      secp: secp256k1,
      logger: silentLogger,
      router,
      signer: {
        signGossip: ({ message }: { readonly message: { readonly value: Uint8Array } }) =>
          Promise.resolve({
            nodeSignature: secp256k1.sign(sha256d(message.value), NODE.secret),
            bitcoinSignature: new Uint8Array(64),
          }),
      },
    } as unknown as EnginePorts;
    const host = {
      ports: this.ports,
      node: { nodeId: NODE.nodeId, chainHash: NETWORKS.regtest.chainHash },
      inBackground: (_name: string, work: () => Promise<void>) => void this.#background.push(work()),
      peers: { find: () => ({ sendBytes: (bytes: Uint8Array) => this.toPeer.push(bytes) }) },
    } as unknown as GossipHost;
    this.publisher = new GossipPublisher(host, AWAY_MS);
  }

  /** Resolves when everything that was begun is done. */
  async settled(): Promise<void> {
    await Promise.all(this.#background.splice(0));
  }

  /** The updates that the counterparty got. */
  updatesToPeer(): MessageOf<'channel_update'>[] {
    return this.toPeer.map((raw) => {
      const decoded = decodeMessage(raw);
      if (!decoded.ok || decoded.value.type !== 'channel_update')
        throw new InternalError('no channel_update');
      return decoded.value as MessageOf<'channel_update'>;
    });
  }
}

/** The channel as the router knows it, each side with these terms. */
export const known = (policy?: GraphPolicy): GraphChannel => ({
  shortChannelId: SCID,
  nodeId1: NODE.nodeId,
  nodeId2: PEER.nodeId,
  capacitySat: CAPACITY_SAT,
  spentHeight: 0,
  policy1: policy,
  policy2: policy,
});

/** A public channel that its peer may leave, and its owner close; `counterparty`: what HTLCs the peer takes. */
export function publicChannel(
  counterparty = { htlcMinimumMsat: 0n, maxHtlcValueInFlightMsat: CAPACITY_SAT * 1_000n },
) {
  const connection = { type: 'connected' };
  const phase = { type: 'open' };
  const actor = {
    state: {
      type: 'established',
      parameters: {
        announce: true,
        channelType: encodeChannelType({
          commitmentFormat: 'anchors',
          scidAlias: 'real_scid',
          confirmations: 'confirmed',
        }),
        counterpartyNodeId: PEER.nodeId,
        counterparty,
      },
      phase,
      connection,
      counterpartyAliasScid: undefined,
      fundings: [
        {
          fundingValueSat: CAPACITY_SAT,
          holderFundingPubkey: NODE.nodeId,
          counterpartyFundingPubkey: PEER.nodeId,
          confirmation: { type: 'confirmed', shortChannelId: SCID },
          announcement: { type: 'unannounced' } as Funding['announcement'],
        },
      ],
    },
    channelId: new Uint8Array(32),
    counterpartyNodeId: PEER.nodeId,
    generation: 1n,
    stopped: false,
    lastUpdateTimestamp: 0,
    toldDisabled: undefined,
    awaySinceMs: undefined,
    policy: {
      feeBaseMsat: 1_000,
      feeProportionalMillionths: 1,
      cltvExpiryDelta: 72,
      htlcMinimumMsat: 1n,
      htlcMaximumMsat: CAPACITY_SAT * 250n,
      updatedUnixMs: 0,
    },
    isConnected: () => connection.type === 'connected',
  };
  return { actor: actor as unknown as ChannelActor, connection, phase, policy: actor.policy };
}

/** The announcement of the channel of `publicChannel` under this id, as far as the peer signs it. */
export function signedByPeer(
  shortChannelId: bigint,
  holder: 'unsent' | 'sent',
): Extract<Funding['announcement'], { type: 'counterparty_signed' }> {
  // Both nodes' keys are ordered by id; the signatures are over the message without its signatures.
  const nodeIsFirst = compareBytes(NODE.nodeId, PEER.nodeId) < 0;
  const [first, second] = nodeIsFirst ? [NODE.nodeId, PEER.nodeId] : [PEER.nodeId, NODE.nodeId];
  const none = new Uint8Array(64);
  const unsigned = make('channel_announcement', {
    nodeSignature1: none,
    nodeSignature2: none,
    bitcoinSignature1: none,
    bitcoinSignature2: none,
    features: new Uint8Array(0),
    chainHash: NETWORKS.regtest.chainHash,
    shortChannelId,
    nodeId1: first,
    nodeId2: second,
    bitcoinKey1: first,
    bitcoinKey2: second,
    excessData: new Uint8Array(0),
  });
  const signature = secp256k1.sign(sha256d(gossipSignedBytes(encodeMessage(unsigned))), PEER.secret);
  return {
    type: 'counterparty_signed',
    holder,
    shortChannelId,
    nodeSignature: signature,
    bitcoinSignature: signature,
  };
}
