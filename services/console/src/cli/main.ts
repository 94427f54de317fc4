/** `fulmen`: the process around the command line. */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { RpcConnector } from '@fulmen/rpc';
import { appendLine } from '../auth/token-files.ts';
import { readBytes, replaceBytes } from './files.ts';
import { EXIT } from './io.ts';
import { runCli } from './program.ts';

/** A list of every channel of a large node. */
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;

const interrupt = new AbortController();
process.on('SIGINT', () => {
  // A second Ctrl-C does not wait for the first to be heeded.
  if (interrupt.signal.aborted) process.exit(130);
  interrupt.abort();
});
// `fulmen events | head`: the reader has had enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) =>
  process.exit(error.code === 'EPIPE' ? EXIT.ok : EXIT.error),
);

let connector: RpcConnector | undefined;
const code = await runCli(process.argv.slice(2), {
  stdout: (text) => void process.stdout.write(text),
  stderr: (text) => void process.stderr.write(text),
  isTerminal: process.stdout.isTTY === true,
  environment: process.env,
  readFile: (file) => readFile(file, 'utf8'),
  appendLine,
  readBytes,
  replaceBytes,
  randomBytes: (length) => new Uint8Array(randomBytes(length)),
  sleep: (ms, signal) => delay(ms, undefined, { signal }),
  connector: async () => {
    const { grpcConnector } = await import('@fulmen/rpc');
    connector ??= grpcConnector({ maxMessageBytes: MAX_ANSWER_BYTES });
    return connector;
  },
  checkout: path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..', '..', '..'),
  interrupted: interrupt.signal,
});
connector?.close();
process.exitCode = code;
