/** What the engine does about connections that change while a channel is made, and about channels that are out of service. */
import { NETWORKS } from '@fulmen/bitcoin';
import type { EstablishedChannel } from '@fulmen/channel';
import { FEATURES, FEERATES } from '@fulmen/channel/testing/node';
import { opened } from '@fulmen/channel/testing/opening';
import { Pair } from '@fulmen/channel/testing/pair';
import { toHex } from '@fulmen/codec';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { shardOfPeer } from '@fulmen/keys/shard';
import { RpcError } from '@fulmen/rpc';
import { Metrics, silentLogger } from '@fulmen/service';
import type { ChannelRow, DecideCloseOutcome, ManagerStore } from '@fulmen/store';
import { describe, expect, test } from 'vitest';
import type { Connection, Peer } from '../peers/peer.ts';
import { ChannelActor } from './channel-actor.ts';
import { EngineCommands } from './commands.ts';
import { Engine, type EngineOptions } from './engine.ts';
import type { EnginePorts, NodeView } from './ports.ts';

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
      backups: {},
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
