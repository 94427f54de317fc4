/** The command line as a function: arguments and the outside in, an exit code out. */
import { Command, CommanderError, Option } from 'commander';
import { VERSION } from '../version.ts';
import { backupCommands } from './commands/backup.ts';
import { channelCommands } from './commands/channels.ts';
import { eventCommands } from './commands/events.ts';
import { graphCommands } from './commands/graph.ts';
import { invoiceCommands } from './commands/invoices.ts';
import { nodeCommands } from './commands/node.ts';
import { paymentCommands } from './commands/payments.ts';
import { peerCommands } from './commands/peers.ts';
import { sweepCommands } from './commands/sweeps.ts';
import { tokenCommands } from './commands/tokens.ts';
import { towerCommands } from './commands/towers.ts';
import { walletCommands } from './commands/wallet.ts';
import { CliContext, examples } from './context.ts';
import { type CliIo, CliError, EXIT } from './io.ts';

export function buildProgram(io: CliIo): Command {
  const program = new Command('fulmen');
  program
    .description('Talk to a Fulmen node.')
    .version(`fulmen ${VERSION}`, '-V, --version', 'print the version')
    .option('--address <host:port>', 'the node (default: FULMEN_ADDRESS, or the node that npm start runs)')
    .option('--token-file <file>', 'file with the token (default: FULMEN_TOKEN_FILE, or that of npm start)')
    .addOption(
      new Option('-o, --output <format>', 'default: a table on a terminal, JSON otherwise').choices([
        'table',
        'json',
      ]),
    )
    .helpOption('-h, --help', 'show help')
    .helpCommand('help [command]', 'show help for a command')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: io.stdout,
      writeErr: io.stderr,
      outputError: (text, write) => write(text.replace(/^error: /, 'fulmen: ')),
    })
    .showSuggestionAfterError()
    .exitOverride();
  examples(program, [
    ['info', 'the node'],
    ['peers connect 03ab…@10.0.0.7:9735', 'a connection'],
    ['channels open 03ab… 1000000', 'a channel of 1,000,000 sat'],
    ['invoice create 25000 -d "two coffees"', 'to be paid'],
    ['pay lnbc250u1p…', 'to pay'],
    ['events --follow', 'what happens'],
  ]);
  const context = new CliContext(io, program);
  nodeCommands(program, context);
  peerCommands(program, context);
  channelCommands(program, context);
  invoiceCommands(program, context);
  paymentCommands(program, context);
  walletCommands(program, context);
  sweepCommands(program, context);
  eventCommands(program, context);
  graphCommands(program, context);
  backupCommands(program, context);
  towerCommands(program, context);
  tokenCommands(program, context);
  return program;
}

/** Runs one command. Resolves with the exit code; rejects only on a defect. */
export async function runCli(args: readonly string[], io: CliIo): Promise<number> {
  const program = buildProgram(io);
  try {
    await program.parseAsync([...args], { from: 'user' });
    return EXIT.ok;
  } catch (error) {
    if (error instanceof CliError) {
      io.stderr(`fulmen: ${error.message}\n`);
      return error.exitCode;
    }
    // Help and version that were asked for end with 0; of the rest, commander has told what is wrong.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    throw error;
  }
}
