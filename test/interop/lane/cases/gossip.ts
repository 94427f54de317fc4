/** What each learns of the public network from the other. */
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { type InteropPeer, NotApplicable } from '../peer.ts';
import type { World } from '../world.ts';
import { display } from './closing.ts';
import { CHANNEL_SAT, channelBetween, fleetsView, policyBy, untilSame, untilTerms } from './graph-support.ts';

const group = 'gossip';

const TERMS = { feeBaseMsat: 1_234n, feeProportionalMillionths: 56, cltvExpiryDelta: 90 };
const OTHER_TERMS = { feeBaseMsat: 77n, feeProportionalMillionths: 8, cltvExpiryDelta: 100 };
/** BOLT 7: "SHOULD forget a channel after a 72-block delay". */
const FORGET_BLOCKS = 72;

export const GOSSIP_CASES: readonly Case[] = [
  {
    group,
    name: 'the fleet learns a channel between two peers, each change of its terms, and its end',
    over: 'pairs',
    run: async (world, kind, other) => {
      const peer = await world.peer(kind);
      const far = await world.peer(other);
      await world.connect(peer);
      const { shortChannelId, channelId, fundingTxid, fundingOutputIndex } = await channelBetween(
        world,
        peer,
        far,
      );
      const fleet = () => fleetsView(world, shortChannelId);
      await untilSame('the fleet has the channel as the peer has it', fleet, () =>
        peer.graph.channel(shortChannelId),
      );
      ensure((await fleet())?.capacitySat === CHANNEL_SAT, 'the fleet asked the chain for the capacity');

      await peer.graph.announce(peer.name);
      const node = await until('the fleet knows the peer’s alias', async () => {
        const found = await world.node.graph.getNode(
          { nodeId: Buffer.from(peer.nodeId, 'hex') },
          world.node.auth(),
        );
        return found.alias === peer.name ? found : undefined;
      });
      ensure(node.channels === 1 && node.features.length > 0, 'the node has its channel and its features');

      await peer.graph.setPolicy(channelId, TERMS);
      await untilTerms('the peer’s new terms arrive', fleet, peer.nodeId, TERMS);
      await far.graph.setPolicy(channelId, OTHER_TERMS);
      await untilTerms('the other end’s new terms arrive', fleet, far.nodeId, OTHER_TERMS);
      // ldk-node has no command for it, and waits for ten minutes of its own clock.
      if (kind !== 'ldk-node') {
        await peer.graph.disable(channelId);
        await until('the peer has disabled its direction', async () =>
          policyBy(await fleet(), peer.nodeId)?.disabled === true ? true : undefined,
        );
      }

      await peer.close(channelId, 'force');
      await until('the close is in the mempool', async () =>
        (await world.isSpent(fundingTxid, fundingOutputIndex)) ? true : undefined,
      );
      await world.mine(1);
      await until('the fleet sees the channel closed', async () =>
        ((await fleet())?.spentHeight ?? 0) > 0 ? true : undefined,
      );
      await world.mine(FORGET_BLOCKS);
      await until('the fleet forgot the channel', async () =>
        (await fleet()) === undefined ? true : undefined,
      );
    },
  },
  {
    group,
    name: 'a peer that comes later learns the fleet, its public channel, and each change of its terms',
    over: 'pairs',
    run: async (world, kind, other) => {
      const far = await world.peer(other);
      await world.connect(far);
      const { ours, theirs } = await world.open(far, 'fleet', { announce: 'announced' });
      const { shortChannelId, channelId } = ours;
      await world.mine(1);
      const peer = await world.peer(kind);
      await world.connect(peer);
      const peers = () => peer.graph.channel(shortChannelId);
      await untilSame('the peer has the channel as the fleet has it', peers, () =>
        fleetsView(world, shortChannelId),
      );
      // LND asks for the graph, LDK for all that is stored, by its filter.
      ensureSaid(world, peer, 'in', ['gossip_timestamp_filter']);
      if (kind === 'lnd') {
        ensureSaid(world, peer, 'in', ['query_channel_range', 'query_short_channel_ids']);
        ensureSaid(world, peer, 'out', ['reply_channel_range', 'reply_short_channel_ids_end']);
      }
      const node = await until('the peer knows the fleet’s announcement', () =>
        peer.graph.node(world.nodeId),
      );
      const info = await world.node.node.getInfo({}, world.node.auth());
      ensure(node.alias === info.alias && node.alias !== '', `the alias is ${node.alias}`);
      const addresses = info.uris.map((uri) => uri.slice(uri.indexOf('@') + 1)).sort();
      ensure(
        JSON.stringify([...node.addresses].sort()) === JSON.stringify(addresses),
        `the addresses are ${node.addresses.join(', ')}`,
      );

      // At once, one after the other: each has to be newer than the one before.
      for (const terms of [TERMS, OTHER_TERMS])
        await world.node.channels.updateChannelPolicy(
          { channelId, ...terms, feeBaseMsat: Number(terms.feeBaseMsat) },
          world.node.auth(),
        );
      await untilTerms('the fleet’s last terms arrive', peers, world.nodeId, OTHER_TERMS);
      // LDK's clock is the newest block's, and LND asks for what is newer than its own clock at the connection.
      await world.mine(1);
      await far.graph.setPolicy(theirs.channelId, TERMS);
      await untilTerms('the fleet passes on the other end’s', peers, far.nodeId, TERMS);
    },
  },
  {
    group,
    name: 'a public channel that the fleet closes is disabled, and leaves the peer’s graph',
    over: 'peers',
    run: async (world, kind) => {
      const far = await world.peer('ldk');
      await world.connect(far);
      const peer = await world.peer(kind);
      await world.connect(peer);
      const { ours } = await world.open(far, 'fleet', { announce: 'announced' });
      await world.mine(1);
      const peers = () => peer.graph.channel(ours.shortChannelId);
      await until('the peer has the channel', async () =>
        policyBy(await peers(), world.nodeId) === undefined ? undefined : true,
      );
      await world.node.channels.closeChannel(
        { channelId: ours.channelId, force: false, scriptPubkey: undefined },
        world.node.auth(),
      );
      await until('the fleet’s direction is disabled', async () =>
        policyBy(await peers(), world.nodeId)?.disabled === true ? true : undefined,
      );
      await until('the close is in the mempool', async () =>
        (await world.isSpent(display(ours.fundingTxid), ours.fundingOutputIndex)) ? true : undefined,
      );
      await world.mine(FORGET_BLOCKS + 1);
      if (kind !== 'lnd')
        throw new NotApplicable('LDK forgets a channel of others when its updates are two weeks old');
      await until('the channel has left the peer’s graph', async () =>
        (await peers()) === undefined ? true : undefined,
      );
    },
  },
  {
    group,
    name: 'what happened while nobody was connected is asked for afterwards',
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      const far = await world.peer(kind);
      const { shortChannelId } = await channelBetween(world, peer, far);
      ensure((await fleetsView(world, shortChannelId)) === undefined, 'the fleet knows nothing of it');
      await world.connect(peer);
      const fleet = () => fleetsView(world, shortChannelId);
      await untilSame('the fleet has the channel as the peer has it', fleet, () =>
        peer.graph.channel(shortChannelId),
      );
      ensureSaid(world, peer, 'out', ['gossip_timestamp_filter', 'query_channel_range']);
      ensureSaid(world, peer, 'in', ['reply_channel_range']);
      // LDK never answers query_short_channel_ids: it sends all that it has on the first filter.
      if (kind === 'lnd') {
        ensureSaid(world, peer, 'out', ['query_short_channel_ids']);
        ensureSaid(world, peer, 'in', ['reply_short_channel_ids_end']);
      }
      // The router's graph outlives it; what it learnt in its last moment is asked for again.
      const known = await channelsOfFleet(world);
      ensure(known.length > 0, 'the fleet has public channels');
      await world.fleet.kill9AndWait('router');
      // What it forgot in its last moment, a closed channel of an earlier case's, it forgets again.
      await until(`the router knows ${known.join(' ')}`, async () => {
        const kept = await channelsOfFleet(world);
        ensure(String(kept) === String(known), `it knows ${kept.join(' ')}`);
        return true;
      });
      await peer.disconnect(world.nodeId);
      await until('the connection is over', async () => ((await world.isConnected(peer)) ? undefined : true));
      const [channel] = await peer.channels();
      await peer.graph.setPolicy(channel?.channelId ?? '', TERMS);
      await world.connect(peer);
      await untilTerms('what changed arrives', fleet, peer.nodeId, TERMS);
    },
  },
];

/** Messages of these types have passed between the fleet and a peer. */
function ensureSaid(
  world: World,
  peer: InteropPeer,
  direction: 'in' | 'out',
  types: readonly string[],
): void {
  for (const type of types)
    ensure(
      world.recording.saidWith(peer.nodeId, direction, type).length > 0,
      `${type} went ${direction === 'in' ? 'to' : 'from'} the fleet`,
    );
}

/** The fleet's own public channels, as its router knows them. */
async function channelsOfFleet(world: World): Promise<readonly bigint[]> {
  const { channels } = await world.node.graph.listChannels(
    { nodeId: Buffer.from(world.nodeId, 'hex'), afterShortChannelId: 0n, limit: 1_000 },
    world.node.auth(),
  );
  return channels.map(({ shortChannelId }) => shortChannelId);
}
