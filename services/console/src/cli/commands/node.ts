/** info, fleet, version. */
import type { Command } from 'commander';
import type { FleetMember, GetInfoResponse } from '@fulmen/proto/node/v1/node';
import { VERSION } from '../../version.ts';
import { type CliContext, examples } from '../context.ts';
import { grouped, hex } from '../format.ts';
import { card, type Column, table } from '../output.ts';

export function nodeCommands(program: Command, context: CliContext): void {
  const info = program
    .command('info')
    .alias('getinfo')
    .description('Who this node is: id, network, height, channels and peers')
    .action(async () => {
      const session = await context.session();
      const answer = await session.call(
        (d) => d.NodeServiceService,
        (client, options) => client.getInfo({}, options),
      );
      context.print(answer, infoCard);
    });
  examples(info, [
    ['info', 'as a table'],
    ['info -o json', 'as JSON, also the form when the output is a pipe'],
  ]);

  const fleet = program
    .command('fleet')
    .description('The services of the node and their health')
    .action(async () => {
      const session = await context.session();
      const answer = await session.call(
        (d) => d.NodeServiceService,
        (client, options) => client.getFleet({}, options),
      );
      context.print(answer, ({ members }) => table(members, FLEET, 'No services are configured.'));
    });
  examples(fleet, [['fleet', 'each process, where it listens, and whether it serves']]);

  const version = program
    .command('version')
    .description('The version of this program (that of the node is in info)')
    .action(() => context.print({ version: VERSION }, () => `fulmen ${VERSION}\n`));
  examples(version, [['version', '']]);
}

function infoCard(info: GetInfoResponse): string {
  return card([
    ['node id', hex(info.nodeId)],
    ['alias', info.alias],
    ['network', info.network],
    ['block', `${grouped(info.blockHeight)}${info.blockHash === '' ? '' : ` ${info.blockHash}`}`],
    ['channels', `${info.channelsOpen} open, ${info.channelsPending} pending`],
    ['peers', `${info.peersConnected} connected`],
    ['version', info.version],
    ...info.uris.map((uri) => ['reach it at', uri] as const),
  ]);
}

const FLEET: readonly Column<FleetMember>[] = [
  { title: 'SERVICE', value: ({ service }) => service },
  { title: 'ADDRESS', value: ({ address }) => address },
  { title: 'STATUS', value: ({ status }) => status },
  { title: 'DETAIL', value: ({ detail }) => detail },
];
