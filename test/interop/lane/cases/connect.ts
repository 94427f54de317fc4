/** Connections, before and beside any channel. */
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';

const group = 'connect';

export const CONNECT_CASES: readonly Case[] = [
  {
    group,
    name: 'the peer dials, disconnects, dials again',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await world.connect(peer);
      await peer.disconnect(world.nodeId);
      await until('the fleet sees the end', async () => ((await world.isConnected(peer)) ? undefined : true));
      await world.connect(peer);
    },
  },
  {
    group,
    name: 'the fleet dials',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await world.node.peers.connectPeer(
        { nodeId: Buffer.from(peer.nodeId, 'hex'), host: '127.0.0.1', port: peer.port },
        world.node.auth(),
      );
      await until('both are connected', async () =>
        (await peer.isConnected(world.nodeId)) && (await world.isConnected(peer)) ? true : undefined,
      );
      const { peers } = await world.node.peers.listPeers({}, world.node.auth());
      const features = peers.find(
        ({ nodeId }) => Buffer.from(nodeId).toString('hex') === peer.nodeId,
      )?.features;
      ensure(features !== undefined && features.length > 0, 'the features of the peer are known');
    },
  },
  {
    group,
    name: 'the peer is killed and comes back',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await world.connect(peer);
      await world.open(peer, 'peer');
      await peer.restart('kill9');
      await world.usable(peer);
    },
  },
  {
    group,
    name: 'the gateway that holds the connection is killed',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await world.connect(peer);
      await world.open(peer, 'peer');
      for (const name of world.fleet.lightningPorts.keys()) await world.fleet.kill9AndWait(name);
      await world.usable(peer);
      await world.agree(peer);
    },
  },
];
