import { encodeChannelType, type Funding } from '@fulmen/channel';
import { NETWORKS } from '@fulmen/bitcoin';
import { sha256d } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { InternalError, utf8Encode } from '@fulmen/codec';
import type { GetGraphNodeResponse, GraphChannel, GraphPolicy } from '@fulmen/proto/router/v1/router';
import { RpcError } from '@fulmen/rpc';
import { silentLogger } from '@fulmen/service';
import {
  decodeMessage,
  encodeMessage,
  gossipSignedBytes,
  HOLDER_FEATURES,
  make,
  type MessageOf,
} from '@fulmen/wire';
import { beforeEach, describe, expect, test } from 'vitest';
import { HandRuntime, NODE, PEER, SCID } from '../payments/testing/bench.ts';
import type { ChannelActor } from './channel-actor.ts';
import { type GossipHost, GossipPublisher } from './gossip-publisher.ts';
import { NodeAnnouncer } from './node-announcer.ts';
import type { EnginePorts } from './ports.ts';

const AWAY_MS = 600_000;
const WEEK_MS = 7 * 86_400_000;
const CAPACITY_SAT = 1_000_000n;

/** A router that takes what is newer, as the real one does. */
class FakeRouter {
  channel: GraphChannel | undefined;
  node: GetGraphNodeResponse = {
    found: false,
    alias: '',
    addresses: [],
    channels: 0,
    features: new Uint8Array(0),
    timestamp: 0,
    rgbColor: new Uint8Array(0),
    capacitySat: 0n,
  };
  readonly updates: MessageOf<'channel_update'>[] = [];
  readonly announcements: MessageOf<'channel_announcement'>[] = [];
  readonly nodes: MessageOf<'node_announcement'>[] = [];

  lookupChannel = () => Promise.resolve({ channel: this.channel });
  getNode = () => Promise.resolve(this.node);

  publishOwn = ({ messages }: { readonly messages: readonly Uint8Array[] }) => {
    for (const raw of messages) {
      const decoded = decodeMessage(raw);
      if (!decoded.ok) throw new InternalError('not a message');
      if (decoded.value.type === 'channel_announcement') {
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
    if (this.channel === undefined) throw new RpcError('failed_precondition', 'unknown channel');
    const side = (update.channelFlags & 1) === 0 ? 'policy1' : 'policy2';
    const known = this.channel[side];
    if (known !== undefined && update.timestamp <= known.timestamp)
      throw new RpcError('failed_precondition', 'stale');
    this.updates.push(update);
    this.channel = { ...this.channel, [side]: { ...update, disabled: (update.channelFlags & 2) !== 0 } };
  }
}

let router: FakeRouter;
let runtime: HandRuntime;
let background: Promise<void>[];
let toPeer: Uint8Array[];
let publisher: GossipPublisher;
let ports: EnginePorts;

const settled = async (): Promise<void> => {
  await Promise.all(background.splice(0));
};

beforeEach(() => {
  router = new FakeRouter();
  runtime = new HandRuntime();
  background = [];
  toPeer = [];
  ports = {
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
    ports,
    node: { nodeId: NODE.nodeId, chainHash: NETWORKS.regtest.chainHash },
    inBackground: (_name: string, work: () => Promise<void>) => void background.push(work()),
    peers: { find: () => ({ sendBytes: (bytes: Uint8Array) => toPeer.push(bytes) }) },
  } as unknown as GossipHost;
  publisher = new GossipPublisher(host, AWAY_MS);
});

const known = (policy?: GraphPolicy): GraphChannel => ({
  shortChannelId: SCID,
  nodeId1: NODE.nodeId,
  nodeId2: PEER.nodeId,
  capacitySat: CAPACITY_SAT,
  spentHeight: 0,
  policy1: policy,
  policy2: policy,
});

/** A public channel that its peer may leave, and its owner close. */
function publicChannel() {
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
        counterparty: { htlcMinimumMsat: 0n, maxHtlcValueInFlightMsat: CAPACITY_SAT * 1_000n },
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

describe('the terms of a public channel', () => {
  test('changed twice within a second are two updates, the second newer than the first', async () => {
    router.channel = known();
    const { actor, policy } = publicChannel();
    publisher.publishPolicy(actor);
    await settled();
    for (const feeBaseMsat of [7, 8]) {
      actor.policy = { ...policy, feeBaseMsat } as ChannelActor['policy'];
      publisher.publishPolicy(actor);
      await settled();
    }
    expect(router.updates.map(({ feeBaseMsat }) => feeBaseMsat)).toEqual([1_000, 7, 8]);
    const times = router.updates.map(({ timestamp }) => timestamp);
    expect(new Set(times).size).toBe(3);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    expect(toPeer).toHaveLength(3);
  });

  test('are newer than what the network knows, even if the clock was set back', async () => {
    const { actor } = publicChannel();
    const later = Math.floor(runtime.wallClockMs() / 1_000) + 5_000;
    const before = { timestamp: later, ...actor.policy, feeBaseMsat: 5, disabled: false };
    router.channel = known(before as unknown as GraphPolicy);
    publisher.publishPolicy(actor);
    await settled();
    expect(router.updates.map(({ timestamp }) => timestamp)).toEqual([later + 1]);
  });

  test('are not told again with every connection, but refreshed before others prune the channel', async () => {
    router.channel = known();
    const { actor } = publicChannel();
    for (let i = 0; i < 3; i++) {
      publisher.publishPolicy(actor);
      await settled();
    }
    expect(router.updates).toHaveLength(1);
    publisher.look([actor], 'all');
    await settled();
    expect(router.updates).toHaveLength(1);
    runtime.nowMs += WEEK_MS + 10_000;
    publisher.look([actor], 'all');
    await settled();
    expect(router.updates).toHaveLength(2);
  });

  test('wait for the announcement of their channel', async () => {
    const { actor } = publicChannel();
    publisher.publishPolicy(actor);
    await settled();
    expect(router.updates).toEqual([]);
    expect(toPeer).toHaveLength(1);
  });

  test('are disabled when the peer is away for long or the channel closes, and enabled when it returns', async () => {
    router.channel = known();
    const { actor, connection, phase } = publicChannel();
    publisher.publishPolicy(actor);
    await settled();
    const flags = async () => {
      publisher.look([actor], 'changed');
      await settled();
      return router.updates.map(({ channelFlags }) => (channelFlags & 2) !== 0);
    };
    connection.type = 'disconnected';
    expect(await flags()).toEqual([false]);
    runtime.nowMs += AWAY_MS - 1;
    expect(await flags()).toEqual([false]);
    runtime.nowMs += 1;
    expect(await flags()).toEqual([false, true]);
    expect(await flags()).toEqual([false, true]);
    connection.type = 'connected';
    expect(await flags()).toEqual([false, true, false]);
    phase.type = 'shutting_down';
    expect(await flags()).toEqual([false, true, false, true]);
  });
});

test('an announcement that was cut short, or not taken, is made again with the next look', async () => {
  const { actor } = publicChannel();
  const { state } = actor;
  if (state.type !== 'established') throw new InternalError('not established');
  publisher.look([actor], 'all');
  await settled();
  expect(router.announcements).toEqual([]);
  // Both nodes' keys are ordered by id; the signatures are over the message without its signatures.
  const nodeIsFirst = Buffer.compare(NODE.nodeId, PEER.nodeId) < 0;
  const [first, second] = nodeIsFirst ? [NODE.nodeId, PEER.nodeId] : [PEER.nodeId, NODE.nodeId];
  const none = new Uint8Array(64);
  const unsigned = make('channel_announcement', {
    nodeSignature1: none,
    nodeSignature2: none,
    bitcoinSignature1: none,
    bitcoinSignature2: none,
    features: new Uint8Array(0),
    chainHash: NETWORKS.regtest.chainHash,
    shortChannelId: SCID,
    nodeId1: first,
    nodeId2: second,
    bitcoinKey1: first,
    bitcoinKey2: second,
    excessData: new Uint8Array(0),
  });
  const signature = secp256k1.sign(sha256d(gossipSignedBytes(encodeMessage(unsigned))), PEER.secret);
  const [funding] = state.fundings;
  Object.assign(funding ?? {}, {
    announcement: {
      type: 'counterparty_signed',
      holder: 'sent',
      shortChannelId: SCID,
      nodeSignature: signature,
      bitcoinSignature: signature,
    } satisfies Funding['announcement'],
  });
  publisher.look([actor], 'all');
  await settled();
  expect(router.announcements).toMatchObject([{ shortChannelId: SCID, nodeId1: first }]);
  expect(router.updates).toHaveLength(1);
  publisher.look([actor], 'all');
  await settled();
  expect(router.announcements).toHaveLength(1);
});

describe('the node’s announcement', () => {
  const identity = {
    alias: 'ada ⚡',
    rgbColor: Uint8Array.of(1, 2, 3),
    addresses: [{ kind: 'ipv4', address: Uint8Array.of(203, 0, 113, 5), port: 9735 } as const],
  };
  const announcer = () => new NodeAnnouncer(ports, NODE, identity);

  test('is made once there is a public channel, and again when it says something else or is old', async () => {
    await announcer().run();
    expect(router.nodes).toEqual([]);
    router.node = { ...router.node, found: true, channels: 1 };
    await announcer().run();
    const [first] = router.nodes;
    const alias = new Uint8Array(32);
    alias.set(utf8Encode('ada ⚡'));
    expect(first).toMatchObject({ nodeId: NODE.nodeId, rgbColor: identity.rgbColor, alias });
    const said = {
      ...router.node,
      alias: 'ada ⚡',
      addresses: ['203.0.113.5:9735'],
      features: HOLDER_FEATURES.encode(),
      rgbColor: identity.rgbColor,
      timestamp: first?.timestamp ?? 0,
    };
    router.node = said;
    await announcer().run();
    expect(router.nodes).toHaveLength(1);
    router.node = { ...said, alias: 'bob' };
    await announcer().run();
    expect(router.nodes.map(({ timestamp }) => timestamp)).toEqual([said.timestamp, said.timestamp + 1]);
    router.node = said;
    runtime.nowMs += WEEK_MS;
    await announcer().run();
    expect(router.nodes).toHaveLength(3);
    for (const other of [
      { rgbColor: new Uint8Array(3) },
      { features: new Uint8Array(1) },
      { addresses: [] },
    ]) {
      router.node = { ...said, timestamp: said.timestamp + WEEK_MS / 1_000, ...other };
      await announcer().run();
    }
    expect(router.nodes).toHaveLength(6);
  });

  test('that another replica made first is no failure; one that the router cannot take is', async () => {
    router.node = { ...router.node, found: true, channels: 1 };
    router.publishOwn = () => Promise.reject(new RpcError('failed_precondition', 'stale'));
    await announcer().run();
    router.publishOwn = () => Promise.reject(new RpcError('unavailable', 'away'));
    await expect(announcer().run()).rejects.toMatchObject({ code: 'unavailable' });
  });
});

test('the terms of an unannounced channel are told again when its peer spoke, once for each connection', async () => {
  const { actor } = publicChannel();
  const state = actor.state as unknown as { parameters: object; counterpartyAliasScid: bigint | undefined };
  publisher.peerSpoke(actor);
  await settled();
  expect(toPeer).toHaveLength(0);
  state.parameters = { ...state.parameters, announce: false };
  state.counterpartyAliasScid = SCID + 1n;
  for (const generation of [1n, 1n, 2n]) {
    Object.assign(actor, { generation });
    publisher.peerSpoke(actor);
    await settled();
  }
  expect(toPeer).toHaveLength(2);
});
