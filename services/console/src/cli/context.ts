/** What each command is built with. */
import type { Command } from 'commander';
import type { CliIo } from './io.ts';
import { json, type OutputFormat } from './output.ts';
import { type ConnectionFlags, openSession, type Session } from './session.ts';

interface GlobalFlags extends ConnectionFlags {
  readonly output?: OutputFormat;
}

export class CliContext {
  readonly io: CliIo;
  readonly #program: Command;

  constructor(io: CliIo, program: Command) {
    this.io = io;
    this.#program = program;
  }

  get format(): OutputFormat {
    return this.#program.opts<GlobalFlags>().output ?? (this.io.isTerminal ? 'table' : 'json');
  }

  session(): Promise<Session> {
    return openSession(this.io, this.#program.opts<GlobalFlags>());
  }

  /** Prints an answer: `message` as JSON, or what `render` makes of it. */
  print<T>(message: T, render: (message: T) => string): void {
    this.io.stdout(this.format === 'json' ? json(message) : render(message));
  }

  /** Progress for a person at the terminal. */
  tell(sentence: string): void {
    if (this.format === 'table') this.io.stderr(`${sentence}\n`);
  }
}

/** Adds examples to a command's help. */
export function examples(command: Command, lines: readonly (readonly [string, string])[]): Command {
  const width = Math.max(...lines.map(([line]) => line.length));
  const shown = lines.map(([line, what]) => `  fulmen ${line.padEnd(width)}  ${what}`.trimEnd());
  return command.addHelpText('after', `\nExamples:\n${shown.join('\n')}`);
}
