/** peers list, connect, disconnect, trust. */
import type { Command } from 'commander';
import type { Peer } from '@fulmen/proto/manager/v1/manager';
import { type CliContext, examples } from '../context.ts';
import { hex, short } from '../format.ts';
import { type Column, table } from '../output.ts';
import * as parse from '../parse.ts';

/** Dialling and the handshake, through the fleet. */
const CONNECT_DEADLINE_MS = 90_000;

export function peerCommands(program: Command, context: CliContext): void {
  const peers = program.command('peers').description('Connections to other nodes');
  examples(peers, [
    ['peers list', ''],
    ['peers connect 03ab…@10.0.0.7:9735', ''],
  ]);

  const list = peers
    .command('list')
    .description('Peers with a connection or a channel')
    .action(async () => {
      const session = await context.session();
      const answer = await session.call(
        (d) => d.PeerServiceService,
        (client, options) => client.listPeers({}, options),
      );
      context.print(answer, (found) =>
        table(found.peers, PEERS, 'No peers. Connect one with: fulmen peers connect'),
      );
    });
  examples(list, [
    ['peers list', 'a table'],
    ['peers list -o json', 'with whole node ids'],
  ]);

  const connect = peers
    .command('connect')
    .argument('<peer>', 'node id, @, host and port')
    .description('Connect to a peer, and stay connected')
    .action(async (peer: string) => {
      const request = parse.nodeUri(peer);
      const session = await context.session();
      const answer = await session.call(
        (d) => d.PeerServiceService,
        (client, options) => client.connectPeer(request, options),
        CONNECT_DEADLINE_MS,
      );
      context.print(answer, () => `Connected to ${peer}.\n`);
    });
  examples(connect, [
    ['peers connect 03ab…@node.example.com:9735', ''],
    ['peers connect 03ab…@[2001:db8::7]:9735', 'an IPv6 address goes in brackets'],
  ]);

  const disconnect = peers
    .command('disconnect')
    .argument('<node_id>', 'node id of the peer')
    .description('Close the connection to a peer')
    .action(async (nodeId: string) => {
      const request = { nodeId: parse.nodeId(nodeId) };
      const session = await context.session();
      const answer = await session.call(
        (d) => d.PeerServiceService,
        (client, options) => client.disconnectPeer(request, options),
      );
      context.print(answer, () => `Disconnected from ${nodeId}.\n`);
    });
  examples(disconnect, [['peers disconnect 03ab…', '']]);

  const trust = peers
    .command('trust')
    .argument('<node_id>', 'node id of the peer')
    .option('--no-zero-conf', 'take the trust back')
    .description('Let a peer open channels that are used before their funding confirms')
    .action(async (nodeId: string, options: { zeroConf: boolean }) => {
      const request = { nodeId: parse.nodeId(nodeId), zeroConf: options.zeroConf };
      const session = await context.session();
      const answer = await session.call(
        (d) => d.PeerServiceService,
        (client, call) => client.trustPeer(request, call),
      );
      context.print(answer, () =>
        options.zeroConf
          ? `Channels of ${nodeId} need no confirmation. Money in them can be lost if it cheats.\n`
          : `Channels of ${nodeId} are used once their funding confirmed.\n`,
      );
    });
  examples(trust, [
    ['peers trust 03ab…', 'from its next channel on'],
    ['peers trust 03ab… --no-zero-conf', ''],
  ]);
}

const PEERS: readonly Column<Peer>[] = [
  { title: 'NODE ID', value: ({ nodeId }) => short(hex(nodeId)) },
  { title: 'ADDRESS', value: ({ address }) => address },
  { title: 'CONNECTED', value: ({ connected }) => (connected ? 'yes' : 'no') },
  { title: 'CHANNELS', value: ({ channels }) => String(channels), align: 'right' },
  { title: 'ZERO-CONF', value: ({ zeroConf }) => (zeroConf ? 'trusted' : '') },
  { title: 'GATEWAY', value: ({ gatewayId }) => gatewayId },
];
