/** token create: a token of narrower scope, made here; the node keeps only its hash. */
import type { Command } from 'commander';
import { isScope, makeToken, SCOPES, TokenFileError } from '../../auth/tokens.ts';
import { type CliContext, examples } from '../context.ts';
import { usage } from '../io.ts';
import { card } from '../output.ts';

export function tokenCommands(program: Command, context: CliContext): void {
  const token = program.command('token').description('Tokens that let programs use the node');
  examples(token, [['token create shop --scopes read,invoices', '']]);
  const create = token
    .command('create')
    .argument('<name>', 'who will use it; the audit log shows this')
    .requiredOption('--scopes <list>', `of ${SCOPES.join(', ')}`)
    .option('--tokens-file <file>', "the node's tokens file, to append to (its setting FULMEN_TOKENS_FILE)")
    .description('Make a token. It is shown once')
    .action(async (name: string, options: { scopes: string; tokensFile?: string }) => {
      const scopes = options.scopes.split(',').map((scope) => scope.trim());
      const known = scopes.filter(isScope);
      if (known.length !== scopes.length) throw usage(`--scopes may name ${SCOPES.join(', ')}.`);
      const made = tokenOf(name, known, context.io.randomBytes(32));
      if (options.tokensFile !== undefined) await context.io.appendLine(options.tokensFile, made.line);
      context.print({ name, scopes: known, token: made.token, tokensFileLine: made.line }, () =>
        card([
          ['token', made.token],
          options.tokensFile === undefined
            ? ['add to the tokens file', made.line]
            : ['added to', options.tokensFile],
        ]),
      );
    });
  examples(create, [
    ['token create shop --scopes read,invoices', 'prints the line for the tokens file'],
    ['token create bot --scopes read,pay --tokens-file tokens.jsonl', 'appends it'],
  ]);
}

function tokenOf(
  name: string,
  scopes: Parameters<typeof makeToken>[1],
  random: Uint8Array,
): ReturnType<typeof makeToken> {
  try {
    return makeToken(name, scopes, random);
  } catch (error) {
    if (error instanceof TokenFileError) throw usage(error.message);
    throw error;
  }
}
