/** Connections, before and beside any channel. */
import { equalBytes } from '@fulmen/codec';
import type { Peer } from '@fulmen/proto/manager/v1/manager';
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { HalfOpenProxy } from '../half-open-proxy.ts';
import type { InteropPeer } from '../peer.ts';
import { featureBitsOf } from '../peer-graph.ts';
import type { World } from '../world.ts';
import { ensureSucceeded, invoiceOfFleet, payByFleet, peerWithChannel } from './support.ts';

const group = 'connect';

/** LND pings once a minute, LDK and the fleet after ten seconds of silence. */
const PING_TIMEOUT_MS = 90_000;
/** LND takes 127.0.0.1 for a Tor proxy, and is three times as patient with what comes from there. */
const NOT_TOR = '127.0.0.2';
/** Connections that one event may cost before it is a storm. */
const CALM = 6;

export const CONNECT_CASES: readonly Case[] = [
  {
    group,
    name: 'the peer dials, disconnects, dials again; each knows the features of the other',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await world.connect(peer);
      await peer.disconnect(world.nodeId);
      await until('the fleet sees the end', async () => ((await world.isConnected(peer)) ? undefined : true));
      await world.connect(peer);
      const connection = await peer.graph.connection(world.nodeId);
      ensure(connection?.inbound === false, 'the peer dialled');
      const announced = await until('the fleet has announced itself', async () => {
        const { features } = await world.node.graph.getNode(
          { nodeId: Buffer.from(world.nodeId, 'hex') },
          world.node.auth(),
        );
        const bits = featureBitsOf(Buffer.from(features).toString('hex'));
        return bits.length > 0 ? bits : undefined;
      });
      ensure(
        String(connection.featureBits) === String(announced),
        `the peer was told ${connection.featureBits.join(' ')}, the world ${announced.join(' ')}`,
      );
      const [init] = world.recording.saidWith(peer.nodeId, 'in', 'init');
      const seen = await listed(world, peer);
      ensure(
        init !== undefined && seen !== undefined && equalBytes(seen.features, featuresOfInit(init)),
        'the fleet shows the features of the peer’s init',
      );
    },
  },
  {
    group,
    name: 'the fleet dials, disconnects, dials again',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await dial(world, peer);
      await world.node.peers.disconnectPeer({ nodeId: idOf(peer) }, world.node.auth());
      await until('both see the end', async () =>
        (await peer.isConnected(world.nodeId)) || (await world.isConnected(peer)) ? undefined : true,
      );
      await dial(world, peer);
    },
  },
  {
    group,
    name: 'a connection with nothing to say stays, and pings are answered both ways',
    over: 'peers',
    run: async (world, kind) => {
      const proxy = await HalfOpenProxy.start(() => world.gatewayPort, NOT_TOR);
      try {
        const peer = await world.peer(kind);
        await peer.connect(world.nodeId, proxy.port, NOT_TOR);
        await world.untilConnected(peer);
        const count = (direction: 'in' | 'out', type: string): number =>
          world.recording.saidWith(peer.nodeId, direction, type).length;
        await until(
          'the peer’s ping is answered',
          () => Promise.resolve(count('in', 'ping') > 0 && count('out', 'pong') > 0 ? true : undefined),
          PING_TIMEOUT_MS,
        );
        // LDK pings after as much silence as the fleet: who is first is chance.
        if (kind === 'lnd')
          ensure(count('out', 'ping') > 0 && count('in', 'pong') > 0, 'the fleet’s pings are answered');
        // Only LND shows how long a pong took.
        if (kind === 'lnd')
          await until('the peer measured the time of a pong', async () =>
            ((await peer.graph.connection(world.nodeId))?.pingMicroseconds ?? 0n) > 0n ? true : undefined,
          );
        ensure(connections(world, peer) === 1, 'it is still the same connection');
      } finally {
        await proxy.stop();
      }
    },
  },
  {
    group,
    name: 'both dial at once, again and again',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      for (let round = 0; round < 3; round++) {
        await peer.disconnect(world.nodeId);
        await until('the connection is over', async () =>
          (await world.isConnected(peer)) ? undefined : true,
        );
        const before = connections(world, peer);
        // One of the two connections gives way, and whoever dialled it may be told so: that the other serves is looked at below.
        await Promise.allSettled([
          peer.connect(world.nodeId, world.gatewayPort),
          connectByFleet(world, peer),
        ]);
        await works(world, peer);
        ensure(connections(world, peer) - before <= CALM, 'the connections come to rest');
      }
    },
  },
  {
    group,
    name: 'a peer that lost its connection comes through the other gateway while the fleet believes in the old one',
    over: 'peers',
    run: async (world, kind) => {
      const ports = [...world.fleet.lightningPorts.values()];
      let turn = 0;
      const proxy = await HalfOpenProxy.start(() => ports[turn % ports.length] ?? 0);
      try {
        const peer = await world.peer(kind);
        await peer.connect(world.nodeId, proxy.port);
        await world.untilConnected(peer);
        await world.open(peer, 'peer');
        for (turn = 1; turn <= 2; turn++) {
          const old = await listed(world, peer);
          const before = connections(world, peer);
          proxy.leaveHalfOpen();
          await peer.connect(world.nodeId, proxy.port);
          const now = await until('the newer connection has won', async () => {
            const seen = await listed(world, peer);
            return seen !== undefined && seen.generation > (old?.generation ?? 0n) ? seen : undefined;
          });
          ensure(now.gatewayId !== old?.gatewayId, 'it is the other gateway’s');
          await works(world, peer);
          ensure(connections(world, peer) - before <= CALM, 'the connections come to rest');
        }
      } finally {
        await proxy.stop();
      }
    },
  },
  ...(['kill9', 'clean'] as const).map((how): Case => ({
    group,
    name: `the peer is ${how === 'clean' ? 'stopped' : 'killed'} and comes back`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      await peer.restart(how);
      await works(world, peer);
    },
  })),
  {
    group,
    name: 'the fleet finds a peer that it dialled again, after the peer was away',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await dial(world, peer);
      await world.open(peer, 'fleet');
      await peer.restart('kill9');
      await works(world, peer);
      await peer.restart('clean');
      await works(world, peer);
    },
  },
  {
    group,
    name: 'the gateways are killed',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      for (const name of world.fleet.lightningPorts.keys()) await world.fleet.kill9AndWait(name);
      await works(world, peer);
    },
  },
  {
    group,
    name: 'the gateway that holds the connection is replaced, one by one, in order',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await dial(world, peer);
      await world.open(peer, 'fleet');
      for (let round = 0; round < 2; round++) {
        const { gatewayId = '' } = (await listed(world, peer)) ?? {};
        await world.fleet.supervisor.stop(gatewayId);
        // The other one dials.
        await works(world, peer);
        await world.fleet.supervisor.restart(gatewayId);
      }
    },
  },
];

const idOf = (peer: InteropPeer): Uint8Array => Buffer.from(peer.nodeId, 'hex');

function connectByFleet(world: World, peer: InteropPeer): Promise<unknown> {
  return world.node.peers.connectPeer(
    { nodeId: idOf(peer), host: '127.0.0.1', port: peer.port },
    world.node.auth(),
  );
}

async function dial(world: World, peer: InteropPeer): Promise<void> {
  await connectByFleet(world, peer);
  await world.untilConnected(peer);
}

async function listed(world: World, peer: InteropPeer): Promise<Peer | undefined> {
  const { peers } = await world.node.peers.listPeers({}, world.node.auth());
  return peers.find((one) => equalBytes(one.nodeId, idOf(peer)));
}

/** Connections of a peer since the case began. */
const connections = (world: World, peer: InteropPeer): number =>
  world.recording.saidWith(peer.nodeId, 'in', 'init').length;

/** The channel is usable, carries a payment in both directions, and both agree on it. */
async function works(world: World, peer: InteropPeer): Promise<void> {
  await world.usable(peer);
  const payment = await payByFleet(world, (await peer.invoice({ amountMsat: 1_000_000n })).bolt11);
  ensure(payment.status === 'succeeded', `the fleet pays: ${payment.failureReason}`);
  ensureSucceeded(await peer.pay(await invoiceOfFleet(world, 1_000_000n)), 'the peer pays');
  await world.agree(peer);
}

/** BOLT 1: both vectors of init are one. */
function featuresOfInit(message: Uint8Array): Uint8Array {
  const view = Buffer.from(message);
  const globalLength = view.readUInt16BE(2);
  const at = 4 + globalLength;
  const global = view.subarray(4, at);
  const local = view.subarray(at + 2, at + 2 + view.readUInt16BE(at));
  const length = Math.max(global.length, local.length);
  const joined = new Uint8Array(length);
  for (const part of [global, local])
    for (const [index, byte] of part.entries()) {
      const place = length - part.length + index;
      joined[place] = (joined[place] ?? 0) | byte;
    }
  return joined;
}
