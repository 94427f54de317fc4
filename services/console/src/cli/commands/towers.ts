/** towers list, add, remove: watchtowers that hold what the node's own chain-monitor holds. */
import type { Command } from 'commander';
import type { Tower } from '@fulmen/proto/tower/v1/tower';
import { type CliContext, examples } from '../context.ts';
import { grouped, hex, short } from '../format.ts';
import { CliError, EXIT } from '../io.ts';
import { type Column, table } from '../output.ts';

export function towerCommands(program: Command, context: CliContext): void {
  const towers = program
    .command('towers')
    .description('Watchtowers: they punish a breach when the node itself is gone');
  examples(towers, [
    ['towers list', ''],
    ['towers add zurich 02ab…', 'the key that its justice signer prints at its start'],
  ]);

  const list = towers
    .command('list')
    .description('The towers, and how far each has come')
    .action(async () => {
      const session = await context.session();
      const answer = await session.call(
        (d) => d.TowerServiceService,
        (client, call) => client.listTowers({}, call),
      );
      context.print(answer, (found) => {
        const rows = table(found.towers, TOWERS, 'There are no towers.');
        const waits =
          found.required === 0
            ? 'No channel waits for a tower.'
            : `An update of a channel is complete when ${found.required} of them have it.`;
        return `${rows}${waits}\n`;
      });
    });
  examples(list, [
    ['towers list', ''],
    ['towers list -o json', 'with the channels that a tower contradicts'],
  ]);

  const add = towers
    .command('add')
    .argument('<name>', 'as the tower calls itself (FULMEN_TOWER_ID)')
    .argument('<public_key>', "of the tower's justice signer, in hex")
    .description('Let a tower fetch what the monitors hold')
    .action(async (towerId: string, key: string) => {
      const publicKey = keyOf(key);
      const session = await context.session();
      const answer = await session.call(
        (d) => d.TowerServiceService,
        (client, call) => client.addTower({ towerId, publicKey }, call),
      );
      context.print(
        answer,
        () =>
          `${towerId} may fetch. It gets the keys that punish once the node's signer trusts its key, too ` +
          '(FULMEN_SIGNER_TOWER_KEYS). See: fulmen towers list\n',
      );
    });
  examples(add, [['towers add zurich 02ab…', '']]);

  const remove = towers
    .command('remove')
    .argument('<name>', 'as towers list shows it')
    .description('What the tower acknowledged counts no more; channels may have to wait for others')
    .action(async (towerId: string) => {
      const session = await context.session();
      const answer = await session.call(
        (d) => d.TowerServiceService,
        (client, call) => client.removeTower({ towerId }, call),
      );
      context.print(answer, () => `${towerId} is no tower of this node any more.\n`);
    });
  examples(remove, [['towers remove zurich', '']]);
}

function keyOf(text: string): Uint8Array {
  if (!/^0[23][0-9a-fA-F]{64}$/.test(text))
    throw new CliError('<public_key> is a compressed public key: 66 digits of hex.', EXIT.usage);
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

const seen = ({ lastSeenUnixMs }: Tower): string =>
  lastSeenUnixMs === undefined ? 'never' : new Date(Number(lastSeenUnixMs)).toISOString().slice(0, 19);

const TOWERS: readonly Column<Tower>[] = [
  { title: 'TOWER', value: ({ towerId }) => towerId },
  { title: 'KEY', value: ({ publicKey }) => short(hex(publicKey)) },
  { title: 'LAST SEEN (UTC)', value: seen },
  { title: 'CHANNELS BEHIND', value: ({ channelsBehind }) => grouped(channelsBehind), align: 'right' },
  { title: 'UPDATES WAITING', value: ({ updatesWaiting }) => grouped(updatesWaiting), align: 'right' },
  { title: 'FAULTS', value: ({ faults }) => grouped(faults.length), align: 'right' },
];
