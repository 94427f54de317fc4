/** sweeps list, bump: outputs of closed channels on their way home. */
import type { Command } from 'commander';
import type { Sweep } from '@fulmen/proto/chain/v1/chain';
import { type CliContext, examples } from '../context.ts';
import { grouped, hex, sat, short, txid } from '../format.ts';
import { type Column, table } from '../output.ts';
import * as parse from '../parse.ts';

export function sweepCommands(program: Command, context: CliContext): void {
  const sweeps = program
    .command('sweeps')
    .description('Outputs of closed channels on their way into the wallet');
  examples(sweeps, [
    ['sweeps list', ''],
    ['sweeps bump 5f3a…:0 25', 'pay at least 25 sat/vB for it'],
  ]);

  const list = sweeps
    .command('list')
    .description('What is being claimed, at which fee, until when')
    .action(async () => {
      const session = await context.session();
      const answer = await session.call(
        (d) => d.OnChainServiceService,
        (client, call) => client.listSweeps({}, call),
      );
      context.print(answer, (found) => table(found.sweeps, SWEEPS, 'Nothing is being swept.'));
    });
  examples(list, [
    ['sweeps list', 'the most urgent first'],
    ['sweeps list -o json', 'in full'],
  ]);

  const bump = sweeps
    .command('bump')
    .argument('<outpoint>', '<txid>:<index> of the output, as sweeps list shows it')
    .argument('<feerate>', 'in sat/vB: the least that its claim pays from now on')
    .description('Raise the fee of a claim at once; it never falls again')
    .action(async (outpoint: string, rate: string) => {
      const named = parse.outpoint(outpoint);
      const feerateSatPerKw = parse.feerate(rate, '<feerate>');
      const session = await context.session();
      const outputs = await session.call(
        (d) => d.OnChainServiceService,
        (client, call) => client.listSweeps({}, call),
      );
      const { txid: id, outputIndex } = parse.matchOutpoint(named, outputs.sweeps);
      const answer = await session.call(
        (d) => d.OnChainServiceService,
        (client, call) => client.bumpSweep({ txid: id, outputIndex, feerateSatPerKw }, call),
      );
      context.print(
        answer,
        () =>
          `The claim of ${short(txid(id))}:${outputIndex} pays at least ${rate} sat/vB from now on. ` +
          'See: fulmen sweeps list\n',
      );
    });
  examples(bump, [['sweeps bump 5f3a…:0 25', '25 sat/vB at least']]);
}

const vbyteRate = (satPerKw: number): string =>
  satPerKw === 0 ? '' : `${Math.round((satPerKw / 250) * 10) / 10} sat/vB`;

const SWEEPS: readonly Column<Sweep>[] = [
  { title: 'OUTPUT', value: (sweep) => `${short(txid(sweep.txid))}:${sweep.outputIndex}` },
  { title: 'CHANNEL', value: ({ channelId }) => short(hex(channelId)) },
  { title: 'KIND', value: ({ kind }) => kind },
  { title: 'VALUE', value: ({ valueSat }) => sat(valueSat), align: 'right' },
  {
    title: 'DEADLINE',
    value: ({ deadlineHeight }) => (deadlineHeight === undefined ? '' : grouped(deadlineHeight)),
    align: 'right',
  },
  { title: 'BUDGET', value: ({ budgetSat }) => sat(budgetSat), align: 'right' },
  { title: 'FEERATE', value: ({ feerateSatPerKw }) => vbyteRate(feerateSatPerKw), align: 'right' },
  { title: 'TRIES', value: ({ attempts }) => String(attempts), align: 'right' },
  { title: 'SWEEP', value: ({ sweepTxid }) => (sweepTxid.length === 32 ? short(txid(sweepTxid)) : '') },
  {
    title: 'NEXT',
    value: ({ nextAction, rejectReason }) =>
      rejectReason === '' ? nextAction : `${nextAction} (refused: ${rejectReason})`,
  },
];
