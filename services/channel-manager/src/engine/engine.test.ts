/** What the engine does about connections that change while a channel is made, and about channels that are out of service. */
import { NETWORKS } from '@fulmen/bitcoin';
import type { ChannelInput, EstablishedChannel } from '@fulmen/channel';
import { FEATURES, FEERATES } from '@fulmen/channel/testing/node';
import { opened } from '@fulmen/channel/testing/opening';
import { Pair } from '@fulmen/channel/testing/pair';
import { toHex, utf8Encode } from '@fulmen/codec';
import { sha256, sha256d } from '@fulmen/crypto';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { shardOfPeer } from '@fulmen/keys/shard';
import { RpcError } from '@fulmen/rpc';
import { Metrics, silentLogger } from '@fulmen/service';
import type { ChannelRow, DecideCloseOutcome, ManagerStore } from '@fulmen/store';
import { decodeMessage, encodeMessage, gossipSignedBytes, make } from '@fulmen/wire';
import { describe, expect, test, vi } from 'vitest';
import type { Connection, Peer } from '../peers/peer.ts';
import { gatewayOf } from '../peers/testing/gateway.ts';
import { ChannelActor } from './channel-actor.ts';
import { EngineCommands } from './commands.ts';
import { Engine, type EngineOptions } from './engine.ts';
import type { Item } from './items.ts';
import type { EnginePorts, NodeView } from './ports.ts';
import { UNKNOWN_NODE } from './testing/gossip-bench.ts';

const POLICY = { feeBaseMsat: 0, feeProportionalMillionths: 0, cltvExpiryDelta: 40 };
const MAX_PENDING = 4;

async function engineOf(
  nodeId: Uint8Array,
  store: Partial<ManagerStore> = {},
): Promise<{ engine: Engine; peer: Peer; hints: string[] }> {
  const hints: string[] = [];
  const never = new Promise<never>(() => undefined);
  const ports = {
    logger: silentLogger,
    lease: { isValid: () => true },
    metrics: new Metrics('test'),
    secp: fakeSecp256k1,
    bus: { publish: (subject: string) => hints.push(subject) },
    runtime: { wallClockMs: () => 0, sleep: () => never, spawn: () => ({ done: never }) },
    signer: { fenceShard: () => Promise.resolve({}) },
    store: {
      loadShard: () => Promise.resolve({ type: 'loaded', channels: [], payments: [] }),
      setPolicy: () => Promise.resolve('ok'),
      listPeers: () => Promise.resolve([]),
      ...store,
    },
  } as unknown as EnginePorts;
  const engine = new Engine(
    ports,
    { nodeId, chainHash: NETWORKS.regtest.chainHash, feerates: FEERATES } as unknown as NodeView,
    {
      replicaId: 'a',
      policy: POLICY,
      backups: { store: { peerStorage: () => Promise.resolve(undefined) } },
      openings: { maxPendingPerPeer: MAX_PENDING, maxPendingTotal: MAX_PENDING },
    } as unknown as EngineOptions,
  );
  const fence = { shard: shardOfPeer(nodeId), epoch: 1n, replicaId: 'a' };
  await engine.gained(fence);
  const peer = engine.peers.peerOf(nodeId);
  if (peer === undefined) throw new TypeError('not our shard');
  return { engine, peer, hints };
}

function actorOf(engine: Engine, peer: Peer, channel: EstablishedChannel): ChannelActor {
  return new ChannelActor(engine, {
    fence: peer.fence,
    channelKeysId: channel.parameters.channelKeysId,
    state: channel,
    policy: engine.policies.initial(1_000_000n, false, 0),
    points: { first: 0n, points: [] },
  });
}

test.each([
  [7n, []],
  [8n, ['disconnect']],
])('a channel of connection 7 that is there while connection %s is', async (generation, expected) => {
  const { channel } = new Pair(fakeSecp256k1).alice;
  const { engine, peer } = await engineOf(channel.parameters.counterpartyNodeId);
  const actor = actorOf(engine, peer, channel);
  actor.adopt(7n);
  const sent: string[] = [];
  const gateway = { send: ({ $case }: { readonly $case: string }) => sent.push($case) };
  peer.connection = { gateway, generation, features: FEATURES } as unknown as Connection;
  engine.established(actor, new Uint8Array(32));
  expect(sent).toEqual(expected);
});

test('a channel that goes out of service has its peer connect anew, for the sake of the peer’s other channels', async () => {
  const { channel } = new Pair(fakeSecp256k1).alice;
  const { engine, peer } = await engineOf(channel.parameters.counterpartyNodeId);
  const sent: unknown[] = [];
  const gateway = { send: (body: unknown) => sent.push(body) };
  peer.connection = { gateway, generation: 7n, features: FEATURES } as unknown as Connection;
  const [broken, sound] = [channel, { ...channel, channelId: new Uint8Array(32).fill(6) }].map((state) => {
    const actor = actorOf(engine, peer, state);
    actor.adopt(7n);
    engine.established(actor, new Uint8Array(32));
    return actor;
  });
  if (broken === undefined) throw new TypeError('no channel');
  engine.quarantine(broken, 'its rows were refused');
  // The frames that it had in hand are acknowledged by nobody: they take up the credit of this connection for good.
  expect(sent).toMatchObject([{ $case: 'disconnect', value: { generation: 7n } }]);
  expect([broken.stopped, sound?.stopped]).toEqual([true, false]);
});

test('a peer that tells its terms of an unannounced channel with an alias hears ours again, under its alias', async () => {
  const { channel } = new Pair(fakeSecp256k1).alice;
  const { counterpartyNodeId } = channel.parameters;
  const { engine, peer } = await engineOf(counterpartyNodeId, {
    acceptConnection: () =>
      Promise.resolve({ type: 'accepted', generation: 7n, previousGatewayId: undefined }),
    dropConnection: () => Promise.resolve(),
    setCounterpartyPolicy: () => Promise.resolve(),
  });
  const work: Promise<void>[] = [];
  Object.assign(engine.ports.runtime, {
    spawn: (_: string, run: () => Promise<void>) => void work.push(run()),
  });
  Object.assign(engine.ports.signer, {
    signGossip: () => Promise.resolve({ nodeSignature: new Uint8Array(64) }),
  });
  const actor = actorOf(engine, peer, { ...channel, aliasScid: 77n, counterpartyAliasScid: 88n });
  peer.channels.set(toHex(channel.channelId), actor);
  const gateway = gatewayOf(engine.peers, counterpartyNodeId);
  gateway.announce(1n);
  await vi.waitFor(() => expect(gateway.heard('peerAccepted')).toHaveLength(1));
  actor.adopt(7n);
  const unsigned = make('channel_update', {
    signature: new Uint8Array(64),
    chainHash: NETWORKS.regtest.chainHash,
    shortChannelId: 77n,
    timestamp: 1_700_000_000,
    messageFlags: 1,
    channelFlags: 1,
    cltvExpiryDelta: 40,
    htlcMinimumMsat: 1n,
    feeBaseMsat: 5,
    feeProportionalMillionths: 6,
    htlcMaximumMsat: 1_000_000n,
    excessData: new Uint8Array(0),
  });
  const hash = sha256d(gossipSignedBytes(encodeMessage(unsigned)));
  const signature = fakeSecp256k1.sign(hash, sha256(utf8Encode('node bob')));
  gateway.inbound(7n, 1n, encodeMessage({ ...unsigned, signature }));
  await vi.waitFor(() => expect(gateway.heard('inboundAck')).toMatchObject([{ through: 1n }]));
  await Promise.all(work);
  const told = gateway.heard('outbound').map(({ message }) => decodeMessage(message));
  expect(told).toMatchObject([{ ok: true, value: { type: 'channel_update', shortChannelId: 88n } }]);
});

test('the node’s announcement is looked after by the replica of the first shard, and by no other', async () => {
  const asked: Uint8Array[] = [];
  const { counterpartyNodeId } = new Pair(fakeSecp256k1).alice.channel.parameters;
  const { engine } = await engineOf(counterpartyNodeId);
  const router: Pick<EnginePorts['router'], 'getNode'> = {
    getNode: ({ nodeId }) => {
      asked.push(nodeId);
      return Promise.resolve(UNKNOWN_NODE);
    },
  };
  Object.assign(engine.ports, { router });
  expect(shardOfPeer(counterpartyNodeId)).not.toBe(0);
  await engine.announceNode();
  expect(asked).toEqual([]);
  await engine.gained({ shard: 0, epoch: 1n, replicaId: 'a' });
  await engine.announceNode();
  expect(asked).toEqual([counterpartyNodeId]);
});

test('whom the operator trusts with channels without confirmations is stored', async () => {
  const nodeId = new Pair(fakeSecp256k1).bob.channel.parameters.counterpartyNodeId;
  const stored: unknown[] = [];
  const { engine } = await engineOf(nodeId, {
    setZeroConfTrust: (...words) => Promise.resolve(void stored.push(words)),
  });
  const commands = new EngineCommands(engine);
  for (const trust of ['trusted', 'refused'] as const) await commands.trustPeer(nodeId, trust);
  expect(stored).toEqual([
    [nodeId, 'trusted'],
    [nodeId, 'refused'],
  ]);
});

// An error would have the peer close by force what the next release, or the last, can read.
test('a peer is warned about a channel whose rows cannot be read, and about no other', async () => {
  const { channelId, parameters } = new Pair(fakeSecp256k1).alice.channel;
  const { counterpartyNodeId } = parameters;
  const row = { channelId, counterpartyNodeId } as ChannelRow;
  const persisted = { hot: Uint8Array.of(0xff), cold: new Uint8Array(0) };
  const { engine } = await engineOf(counterpartyNodeId, {
    loadShard: () => Promise.resolve({ type: 'loaded', payments: [], channels: [{ row, persisted }] }),
    acceptConnection: () =>
      Promise.resolve({ type: 'accepted', generation: 7n, previousGatewayId: undefined }),
  } as unknown as Partial<ManagerStore>);
  const gateway = gatewayOf(engine.peers, counterpartyNodeId);
  gateway.announce(1n);
  await vi.waitFor(() => expect(gateway.heard('peerAccepted')).toHaveLength(1));
  const [unreadable, unknown] = [channelId, new Uint8Array(32).fill(8)];
  for (const [frame, id] of [unreadable, unknown].entries())
    gateway.inbound(7n, BigInt(frame + 1), encodeMessage(make('stfu', { channelId: id, initiator: 1 })));
  await vi.waitFor(() => expect(gateway.heard('outbound')).toHaveLength(2));
  expect(gateway.heard('outbound').map(({ message }) => decodeMessage(message))).toMatchObject([
    {
      ok: true,
      value: { type: 'warning', channelId: unreadable, data: utf8Encode('the channel is out of service') },
    },
    { ok: true, value: { type: 'error', channelId: unknown, data: utf8Encode('unknown channel') } },
  ]);
});

test('a peer’s opening is refused for those that other peers have begun', async () => {
  const [one, other] = [1, 2].map((seed) => fakeSecp256k1.publicKeyOf(new Uint8Array(32).fill(seed)));
  if (one === undefined || other === undefined) throw new RangeError('two peers');
  const { engine, peer } = await engineOf(one);
  await engine.gained({ shard: shardOfPeer(other), epoch: 1n, replicaId: 'a' });
  for (let i = 0; i < MAX_PENDING; i += 1) engine.peers.peerOf(other)?.beginning.add(`opening ${i}`);
  const complaints: string[] = [];
  peer.complain = (_, text) => complaints.push(text);
  await engine.openings.received(peer, opened().message, 1n);
  expect(complaints).toEqual(['too many channels are being opened: try again later']);
});

test('a script that the signer does not allow closes nothing', async () => {
  const { channel } = new Pair(fakeSecp256k1).alice;
  const { upfrontShutdownScript: _, ...holder } = channel.parameters.holder;
  const free = { ...channel, parameters: { ...channel.parameters, holder } };
  const { engine, peer } = await engineOf(channel.parameters.counterpartyNodeId);
  Object.assign(engine.ports.signer, {
    newChannelKeys: () =>
      Promise.reject(new RpcError('failed_precondition', 'policy-channel-shutdown-script')),
  });
  const actor = actorOf(engine, peer, free);
  engine.established(actor, new Uint8Array(32));
  const script = new Uint8Array(22);
  const how = { kind: 'cooperative', script, feerates: undefined } as const;
  await expect(new EngineCommands(engine).closeChannel(channel.channelId, how)).rejects.toMatchObject({
    code: 'failed_precondition',
  });
  expect(actor.state.type === 'established' && actor.state.phase.type).toBe('open');
});

test('as funder, and not otherwise, the node proposes the feerate that a commitment should pay now', async () => {
  const present = 1_000;
  const wanted = (satPerKw: number) => ({ anchors: satPerKw, static_remotekey: 9_999 });
  for (const funder of ['holder', 'counterparty'] as const) {
    const pair = new Pair(fakeSecp256k1, { feerateSatPerKw: present });
    const { channel } = funder === 'holder' ? pair.alice : pair.bob;
    const { engine, peer } = await engineOf(channel.parameters.counterpartyNodeId);
    const actor = actorOf(engine, peer, channel);
    engine.established(actor, new Uint8Array(32));
    const post = vi.spyOn(actor, 'post').mockReturnValue(true);
    engine.followFeerates(wanted(present));
    expect(post).not.toHaveBeenCalled();
    engine.followFeerates(wanted(3 * present));
    expect(post.mock.calls).toMatchObject(
      funder === 'holder'
        ? [[{ kind: 'command', input: { type: 'update_fee', feerateSatPerKw: 3 * present } }]]
        : [],
    );
  }
});

test.each([[undefined], [{ targetSatPerKw: 500, maximumSatPerKw: 600 }]])(
  'a mutual close asks its channel for the feerates that the operator named: %o',
  async (feerates) => {
    const inputs: ChannelInput[] = [];
    const actor = {
      post: (item: Item) => {
        if (item.kind !== 'command') return false;
        inputs.push(item.input);
        item.settle({ ok: true });
        return true;
      },
    };
    const commands = new EngineCommands({ channel: () => actor } as unknown as Engine);
    await commands.closeChannel(new Uint8Array(32), { kind: 'cooperative', script: undefined, feerates });
    expect(inputs).toEqual([{ type: 'shutdown', ...(feerates && { feerates }) }]);
  },
);

test('a channel that is out of service has no policy to set: that is said, and not that another replica has it', async () => {
  const { channelId, parameters } = new Pair(fakeSecp256k1).alice.channel;
  const row = { channelId, shard: shardOfPeer(parameters.counterpartyNodeId), phase: 'open' } as ChannelRow;
  const { engine } = await engineOf(parameters.counterpartyNodeId, {
    listChannels: () => Promise.resolve([row]),
  });
  await expect(new EngineCommands(engine).updatePolicy(channelId, { feeBaseMsat: 7 })).rejects.toMatchObject({
    code: 'failed_precondition',
    metadata: {},
  });
});

describe('an operator closes by force', () => {
  const { channel } = new Pair(fakeSecp256k1).alice;
  const { counterpartyNodeId } = channel.parameters;
  const { channelId } = channel;
  const row = { channelId, shard: shardOfPeer(counterpartyNodeId), phase: 'open' } as ChannelRow;

  async function scene(outcome: DecideCloseOutcome = 'decided') {
    const decided: unknown[] = [];
    const { engine, peer, hints } = await engineOf(counterpartyNodeId, {
      listChannels: () => Promise.resolve([row]),
      decideClose: (...[fence, id, reason, event]) => {
        decided.push([fence.shard, id, reason, event.type, event.body]);
        return Promise.resolve(outcome);
      },
    });
    const close = () => new EngineCommands(engine).closeChannel(channelId, { kind: 'force' });
    return { engine, peer, hints, decided, close };
  }

  const REASON = 'the operator asked for it';
  const DECISION = [
    row.shard,
    channelId,
    REASON,
    'channel_closing',
    JSON.stringify({
      type: 'channel_closing',
      channelId: toHex(channelId),
      reason: REASON,
      decidedBy: 'the operator',
    }),
  ];

  test('a channel that was taken out of service: it is decided on its row, for chain-monitor', async () => {
    const { engine, peer, hints, decided, close } = await scene();
    const actor = actorOf(engine, peer, channel);
    engine.established(actor, new Uint8Array(32));
    engine.quarantine(actor, 'its rows were refused');
    await close();
    expect(decided).toEqual([DECISION]);
    expect(hints).toContain('fulmen.monitor');
  });

  test('a channel whose rows cannot be read', async () => {
    const { decided, close } = await scene();
    await close();
    expect(decided).toEqual([DECISION]);
  });

  test('a channel that closes already', async () => {
    const { close } = await scene('closing');
    await close();
  });

  test('no channel that is passive, whether its rows say so or its actor', async () => {
    const refusal = { code: 'failed_precondition', message: expect.stringContaining('passive') as string };
    await expect((await scene('passive')).close()).rejects.toMatchObject(refusal);
    const { engine, peer, decided, close } = await scene();
    const actor = actorOf(engine, peer, channel);
    engine.established(actor, new Uint8Array(32));
    actor.makePassive('the signer was set back');
    await expect(close()).rejects.toMatchObject(refusal);
    engine.quarantine(actor, 'and something else');
    await expect(close()).rejects.toMatchObject(refusal);
    expect(decided).toEqual([]);
  });

  test('nothing of a shard that another replica took', async () => {
    await expect((await scene('fence_lost')).close()).rejects.toMatchObject({ code: 'unavailable' });
  });
});
