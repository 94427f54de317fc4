/** wallet descriptors: what another wallet needs to watch this one. */
import type { Command } from 'commander';
import type { ExportDescriptorsResponse, WalletDescriptor } from '@fulmen/proto/chain/v1/chain';
import { type CliContext, examples } from '../context.ts';
import { type Column, table } from '../output.ts';

export function descriptorsCommand(wallet: Command, context: CliContext): void {
  const descriptors = wallet
    .command('descriptors')
    .option('--import', 'as the argument of bitcoin-cli importdescriptors')
    .description('Descriptors of every address, for a wallet that only watches')
    .action(async (options: { import?: true }) => {
      const session = await context.session();
      const answer = await session.call(
        (d) => d.OnChainServiceService,
        (client, call) => client.exportDescriptors({}, call),
      );
      if (options.import === true) context.io.stdout(`${JSON.stringify(importable(answer))}\n`);
      else context.print(answer, (found) => table(found.descriptors, DESCRIPTORS, 'The wallet has none.'));
    });
  examples(descriptors, [
    ['wallet descriptors', ''],
    ['wallet descriptors --import', 'for bitcoin-cli importdescriptors, into a wallet without private keys'],
  ]);
}

const DESCRIPTORS: readonly Column<WalletDescriptor>[] = [
  { title: 'TYPE', value: ({ addressType }) => addressType },
  { title: 'FOR', value: ({ internal }) => (internal ? 'change' : 'receiving') },
  { title: 'NEXT', value: ({ nextIndex }) => String(nextIndex), align: 'right' },
  { title: 'DESCRIPTOR', value: ({ descriptor }) => descriptor },
];

/** What `importdescriptors` takes. Timestamp 0: whatever was paid before is found too. */
function importable({
  descriptors,
}: ExportDescriptorsResponse): readonly Readonly<Record<string, unknown>>[] {
  return descriptors.map(({ descriptor, internal, nextIndex, lastIndex }) => ({
    desc: descriptor,
    active: true,
    internal,
    range: [0, lastIndex],
    next_index: nextIndex,
    timestamp: 0,
  }));
}
