/** What the command line touches of the outside, so that a test can run it without any. */
import type { RpcConnector } from '@fulmen/rpc';

export interface CliIo {
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
  /** Standard output is a terminal: tables, not JSON. */
  readonly isTerminal: boolean;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Rejects when the file cannot be read. */
  readonly readFile: (path: string) => Promise<string>;
  /** Whatever the file ends with, the line is one of its own. */
  readonly appendLine: (path: string, line: string) => Promise<void>;
  /** Undefined when there is no such file. */
  readonly readBytes: (path: string) => Promise<Uint8Array | undefined>;
  /** Whole or not at all, also when the machine dies; readable by its owner alone. */
  readonly replaceBytes: (path: string, bytes: Uint8Array) => Promise<void>;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Made when the first call is: loading gRPC takes a while, and `--help` needs none. */
  readonly connector: () => Promise<RpcConnector>;
  /** Root of the checkout, where `npm start` leaves its state. */
  readonly checkout: string;
  /** Fires at Ctrl-C. */
  readonly interrupted: AbortSignal;
}

/** 0 ok, 1 the node said no, 2 the node does not answer, 3 wrong usage. */
export const EXIT = { ok: 0, error: 1, unreachable: 2, usage: 3 } as const;

/** Ends the command with a sentence on standard error. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly exitCode: number;
  constructor(message: string, exitCode: number = EXIT.error) {
    super(message);
    this.exitCode = exitCode;
  }
}

export const usage = (message: string): CliError => new CliError(message, EXIT.usage);
