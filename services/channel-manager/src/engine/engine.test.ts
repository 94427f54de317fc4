/** What the engine does about connections that change while a channel is made. */
import { NETWORKS } from '@fulmen/bitcoin';
import { FEATURES } from '@fulmen/channel/testing/node';
import { Pair } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { shardOfPeer } from '@fulmen/keys/shard';
import { Metrics, silentLogger } from '@fulmen/service';
import { expect, test } from 'vitest';
import type { Connection, Peer } from '../peers/peer.ts';
import { ChannelActor } from './channel-actor.ts';
import { Engine, type EngineOptions } from './engine.ts';
import type { EnginePorts, NodeView } from './ports.ts';

const POLICY = { feeBaseMsat: 0, feeProportionalMillionths: 0, cltvExpiryDelta: 40 };

async function engineOf(nodeId: Uint8Array): Promise<{ engine: Engine; peer: Peer }> {
  const never = new Promise<never>(() => undefined);
  const ports = {
    logger: silentLogger,
    metrics: new Metrics('test'),
    secp: fakeSecp256k1,
    bus: { publish: () => undefined },
    runtime: { wallClockMs: () => 0, sleep: () => never, spawn: () => ({ done: never }) },
    signer: { fenceShard: () => Promise.resolve({}) },
    store: {
      loadShard: () => Promise.resolve({ type: 'loaded', channels: [], payments: [] }),
      setPolicy: () => Promise.resolve('ok'),
      listPeers: () => Promise.resolve([]),
    },
  } as unknown as EnginePorts;
  const engine = new Engine(
    ports,
    { nodeId, chainHash: NETWORKS.regtest.chainHash } as unknown as NodeView,
    { replicaId: 'a', policy: POLICY, backups: {} } as unknown as EngineOptions,
  );
  const fence = { shard: shardOfPeer(nodeId), epoch: 1n, replicaId: 'a' };
  await engine.gained(fence);
  const peer = engine.peers.peerOf(nodeId);
  if (peer === undefined) throw new TypeError('not our shard');
  return { engine, peer };
}

test.each([
  [7n, []],
  [8n, ['disconnect']],
])('a channel of connection 7 that is there while connection %s is', async (generation, expected) => {
  const { channel } = new Pair(fakeSecp256k1).alice;
  const { counterpartyNodeId } = channel.parameters;
  const { engine, peer } = await engineOf(counterpartyNodeId);
  const actor = new ChannelActor(engine, {
    fence: peer.fence,
    channelKeysId: channel.parameters.channelKeysId,
    state: channel,
    policy: engine.policies.initial(1_000_000n, false, 0),
    points: { first: 0n, points: [] },
  });
  actor.adopt(7n);
  const sent: string[] = [];
  const gateway = { send: ({ $case }: { readonly $case: string }) => sent.push($case) };
  peer.connection = { gateway, generation, features: FEATURES } as unknown as Connection;
  engine.established(actor, new Uint8Array(32));
  expect(sent).toEqual(expected);
});
