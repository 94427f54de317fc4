/** Where the key that opens the seed comes from: a file, the environment, or a command that asks a KMS. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { SeedError } from './seed-file.ts';

export type SeedKeySource =
  | { readonly type: 'file'; readonly path: string }
  | { readonly type: 'value'; readonly value: string }
  /** Program and arguments; prints the key on standard output. */
  | { readonly type: 'command'; readonly command: readonly string[] };

const COMMAND_TIMEOUT_MS = 30_000;
const MAX_KEY_LENGTH = 4_096;
/** Shorter ones are guessed. */
const MIN_KEY_LENGTH = 8;

/** The key; line ends at its end do not count. @throws SeedError */
export function readSeedKey(source: SeedKeySource): Uint8Array {
  const key = Buffer.from(read(source).replace(/[\r\n]+$/, ''), 'utf8');
  if (key.length < MIN_KEY_LENGTH || key.length > MAX_KEY_LENGTH)
    throw new SeedError(
      `the seed’s key has ${key.length} bytes; ${MIN_KEY_LENGTH} to ${MAX_KEY_LENGTH} are wanted`,
    );
  return new Uint8Array(key);
}

function read(source: SeedKeySource): string {
  try {
    switch (source.type) {
      case 'value':
        return source.value;
      case 'file':
        return readFileSync(source.path, 'utf8');
      case 'command': {
        const [program = '', ...parameters] = source.command;
        return execFileSync(program, parameters, {
          encoding: 'utf8',
          timeout: COMMAND_TIMEOUT_MS,
          maxBuffer: 2 * MAX_KEY_LENGTH,
          stdio: ['ignore', 'pipe', 'inherit'],
        });
      }
    }
  } catch (error) {
    // The cause's message could quote the command's output.
    throw new SeedError(
      `the seed’s key could not be read (${source.type}: ${error instanceof Error && 'code' in error ? String(error.code) : 'failed'})`,
    );
  }
}
