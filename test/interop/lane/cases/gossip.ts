/** What each learns of the public network from the other. */
import { until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';

const group = 'gossip';

export const GOSSIP_CASES: readonly Case[] = [
  {
    group,
    name: 'a peer learns of a public channel between the fleet and another, and of its end',
    over: 'pairs',
    run: async (world, kind, other) => {
      const peer = await world.peer(kind);
      await world.connect(peer);
      const before = await peer.graphChannels();
      const far = await world.peer(other);
      await world.connect(far);
      await world.open(far, 'fleet', { announce: 'announced' });
      await world.mine(1);
      await until('the channel is in its graph', async () =>
        (await peer.graphChannels()) > before ? true : undefined,
      );
      const [channel] = await world.fleetChannels(far);
      if (channel === undefined) return;
      await world.node.channels.closeChannel(
        { channelId: channel.channelId, force: false, scriptPubkey: undefined },
        world.node.auth(),
      );
      await until('the close is in the mempool', async () =>
        (await world.chain.mempool()).length > 0 ? true : undefined,
      );
      // BOLT 7: "SHOULD forget a channel after a 72-block delay".
      await world.mine(73);
      await until('the channel has left its graph', async () =>
        (await peer.graphChannels()) <= before ? true : undefined,
      );
    },
  },
];
