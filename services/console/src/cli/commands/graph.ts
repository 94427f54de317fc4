/** graph info, node, channel, channels: the public network as the node knows it. */
import type { Command } from 'commander';
import type { GraphChannel, GraphPolicy } from '@fulmen/proto/router/v1/router';
import { type CliContext, examples } from '../context.ts';
import { grouped, hex, msat, parseScid, sat, scid, short, time } from '../format.ts';
import { CliError, usage } from '../io.ts';
import { card, type Column, table } from '../output.ts';
import * as parse from '../parse.ts';

const MAX_CHANNELS = 1_000;

export function graphCommands(program: Command, context: CliContext): void {
  const graph = program.command('graph').description('The public network, learnt from gossip');
  examples(graph, [
    ['graph info', 'how large it is'],
    ['graph node 03ab…', 'what a node says of itself'],
    ['graph channel 800000x12x1', 'what its ends ask for forwarding'],
  ]);

  const info = graph
    .command('info')
    .description('How many nodes and channels are known')
    .action(async () => {
      const session = await context.session();
      const answer = await session.call(
        (d) => d.GraphServiceService,
        (client, options) => client.getGraphInfo({}, options),
      );
      context.print(answer, ({ nodes, channels, updates }) =>
        card([
          ['nodes', grouped(nodes)],
          ['channels', grouped(channels)],
          ['directions with terms', grouped(updates)],
        ]),
      );
    });
  examples(info, [['graph info', '']]);

  const node = graph
    .command('node')
    .argument('<node_id>', 'in hex')
    .description('Alias, addresses and channels of a node')
    .action(async (text: string) => {
      const nodeId = parse.nodeId(text);
      const session = await context.session();
      const answer = await session.call(
        (d) => d.GraphServiceService,
        (client, options) => client.getNode({ nodeId }, options),
      );
      if (!answer.found) throw new CliError('No public channel of this node is known.');
      context.print(answer, (found) =>
        card([
          ['node id', text],
          ['alias', found.alias],
          ['addresses', found.addresses.join(', ')],
          ['channels', grouped(found.channels)],
          ['capacity', sat(found.capacitySat)],
          ['features', hex(found.features)],
          ['announced', time(BigInt(found.timestamp) * 1_000n)],
        ]),
      );
    });
  examples(node, [['graph node 03ab…', '']]);

  const channel = graph
    .command('channel')
    .argument('<scid>', 'short channel id: block x transaction x output')
    .description('Both ends of a channel and their terms')
    .action(async (text: string) => {
      const shortChannelId = scidOf(text);
      const session = await context.session();
      const answer = await session.call(
        (d) => d.GraphServiceService,
        (client, options) => client.lookupChannel({ shortChannelId }, options),
      );
      if (answer.channel === undefined) throw new CliError('This channel is not known.');
      context.print(answer.channel, channelCard);
    });
  examples(channel, [['graph channel 800000x12x1', '']]);

  const channels = graph
    .command('channels')
    .description('Channels by their short channel ids')
    .option('--node <node_id>', 'only those of a node')
    .option('--after <scid>', 'those above this one: the next page')
    .option('--limit <n>', 'so many', '100')
    .action(async (flags: { node?: string; after?: string; limit: string }) => {
      const request = {
        afterShortChannelId: flags.after === undefined ? 0n : scidOf(flags.after),
        limit: parse.whole('--limit', flags.limit, 1, MAX_CHANNELS),
        nodeId: flags.node === undefined ? new Uint8Array(0) : parse.nodeId(flags.node),
      };
      const session = await context.session();
      const answer = await session.call(
        (d) => d.GraphServiceService,
        (client, options) => client.listChannels(request, options),
      );
      context.print(answer, (found) => table(found.channels, CHANNELS, 'No channels.'));
    });
  examples(channels, [
    ['graph channels', 'the first hundred'],
    ['graph channels --node 03ab… -o json', 'with the terms of both directions'],
  ]);
}

function scidOf(text: string): bigint {
  const parsed = parseScid(text);
  if (parsed === undefined)
    throw usage('A short channel id is block x transaction x output, for example 800000x12x1.');
  return parsed;
}

function termsOf(policy: GraphPolicy | undefined): string {
  if (policy === undefined) return 'unknown';
  const { feeBaseMsat, feeProportionalMillionths, cltvExpiryDelta, htlcMinimumMsat, htlcMaximumMsat } =
    policy;
  const terms = `${feeBaseMsat} msat + ${feeProportionalMillionths} ppm, ${cltvExpiryDelta} blocks`;
  const range = `${msat(htlcMinimumMsat)} to ${msat(htlcMaximumMsat)}`;
  return `${policy.disabled ? 'disabled; ' : ''}${terms}, ${range}`;
}

function channelCard(channel: GraphChannel): string {
  return card([
    ['short channel id', scid(channel.shortChannelId)],
    ['node 1', hex(channel.nodeId1)],
    ['node 2', hex(channel.nodeId2)],
    ['capacity', capacityOf(channel)],
    ['closed at height', channel.spentHeight === 0 ? '' : grouped(channel.spentHeight)],
    ['terms of node 1', termsOf(channel.policy1)],
    ['terms of node 2', termsOf(channel.policy2)],
  ]);
}

const capacityOf = ({ capacitySat }: GraphChannel): string => (capacitySat === 0n ? '' : sat(capacitySat));

const CHANNELS: readonly Column<GraphChannel>[] = [
  { title: 'SCID', value: ({ shortChannelId }) => scid(shortChannelId) },
  { title: 'NODE 1', value: ({ nodeId1 }) => short(hex(nodeId1)) },
  { title: 'NODE 2', value: ({ nodeId2 }) => short(hex(nodeId2)) },
  { title: 'CAPACITY', value: capacityOf, align: 'right' },
  { title: 'CLOSED AT', value: ({ spentHeight }) => (spentHeight === 0 ? '' : String(spentHeight)) },
];
