/** wallet address, balance, send. */
import type { Command } from 'commander';
import type { LimboOutput } from '@fulmen/proto/chain/v1/chain';
import { type CliContext, examples } from '../context.ts';
import { grouped, msat, sat, txid } from '../format.ts';
import { card } from '../output.ts';
import { descriptorsCommand } from './descriptors.ts';
import * as parse from '../parse.ts';

export function walletCommands(program: Command, context: CliContext): void {
  const wallet = program.command('wallet').alias('onchain').description("The node's coins on the chain");
  examples(wallet, [
    ['wallet balance', ''],
    ['wallet address', ''],
  ]);

  const address = wallet
    .command('address')
    .option('--taproot', 'a p2tr address; default p2wpkh')
    .description('A new address to receive coins')
    .action(async (options: { taproot?: true }) => {
      const addressType = options.taproot === true ? 'p2tr' : 'p2wpkh';
      const session = await context.session();
      const answer = await session.call(
        (d) => d.OnChainServiceService,
        (client, call) => client.newAddress({ addressType }, call),
      );
      context.print(answer, (made) => `${made.address}\n`);
    });
  examples(address, [
    ['wallet address', ''],
    ['wallet address --taproot', ''],
  ]);

  const balance = wallet
    .command('balance')
    .description('Coins on the chain, on their way home from closed channels, and in channels')
    .action(async () => {
      const session = await context.session();
      const answer = await session.call(
        (d) => d.OnChainServiceService,
        (client, call) => client.getBalance({}, call),
      );
      context.print(answer, (found) =>
        card([
          ['confirmed', sat(found.confirmedSat)],
          ['unconfirmed', sat(found.unconfirmedSat)],
          ['in limbo', sat(found.limboSat)],
          ...byMaturity(found.limbo),
          ['reserved', sat(found.reservedSat)],
          ['in channels', msat(found.channelsHolderMsat)],
        ]),
      );
    });
  examples(balance, [
    ['wallet balance', ''],
    ['wallet balance -o json', 'each output in limbo with its channel'],
  ]);

  descriptorsCommand(wallet, context);

  const send = wallet
    .command('send')
    .argument('<address>', 'where to')
    .argument('<amount_sat>', 'how much')
    .option('--feerate <sat/vB>', "default: the node's estimate")
    .option('--idempotency-key <text>', 'asking twice with one key sends once')
    .description('Send coins on the chain')
    .action(async (to: string, amount: string, options: { feerate?: string; idempotencyKey?: string }) => {
      const request = {
        address: to,
        valueSat: parse.amountSat('<amount_sat>', amount),
        ...(options.feerate === undefined ? {} : { feerateSatPerKw: parse.feerate(options.feerate) }),
        idempotencyKey: options.idempotencyKey ?? '',
      };
      const session = await context.session();
      const answer = await session.call(
        (d) => d.OnChainServiceService,
        (client, call) => client.sendCoins(request, call),
      );
      context.print(answer, (sent) =>
        card([
          ['transaction', txid(sent.txid)],
          ['amount', sat(request.valueSat)],
          ['fee', sat(sent.feeSat)],
        ]),
      );
    });
  examples(send, [
    ['wallet send bc1q… 250000', '250,000 sat'],
    ['wallet send bc1q… 250000 --feerate 2.5', ''],
  ]);
}

/** A line for each height at which something of closed channels can be claimed, the soonest first. */
function byMaturity(limbo: readonly LimboOutput[]): readonly (readonly [string, string])[] {
  const sums = new Map<number, bigint>();
  for (const { maturityHeight, valueSat } of limbo)
    sums.set(maturityHeight, (sums.get(maturityHeight) ?? 0n) + valueSat);
  return [...sums]
    .sort(([a], [b]) => a - b)
    .map(([height, valueSat]) => [
      height === 0 ? '  being claimed' : `  from block ${grouped(height)}`,
      sat(valueSat),
    ]);
}
