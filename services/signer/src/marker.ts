/**
 * The marker beside the seed: a lower bound of the database's generation,
 * written now and then. A database that is behind it was set back (restored
 * from a backup, failed over to a stale standby), and no state in it can be
 * trusted to be the last.
 */
import { readFile } from 'node:fs/promises';
import { replaceDurably } from './durable-file.ts';

export interface GenerationMarker {
  /** 0n when there is none yet. */
  read(): Promise<bigint>;
  write(generation: bigint): Promise<void>;
}

/** The file is not what this signer writes. */
export class MarkerError extends Error {
  override readonly name = 'MarkerError';
}

/** In a file; a crash leaves the old or the new number. */
export function fileMarker(path: string): GenerationMarker {
  return {
    read: async () => {
      let text: string;
      try {
        text = await readFile(path, 'utf8');
      } catch (error) {
        if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return 0n;
        throw error;
      }
      if (!/^\d{1,19}\n$/.test(text)) throw new MarkerError(`${path} does not hold a generation`);
      return BigInt(text.trim());
    },
    write: (generation) => {
      try {
        replaceDurably(path, `${generation}\n`);
        return Promise.resolve();
      } catch (error) {
        return Promise.reject(error instanceof Error ? error : new MarkerError(String(error)));
      }
    },
  };
}

/** For tests and simulations; share one between the processes of a host. */
export function memoryMarker(): GenerationMarker {
  let stored = 0n;
  return {
    read: () => Promise.resolve(stored),
    write: (generation) => {
      stored = generation;
      return Promise.resolve();
    },
  };
}
