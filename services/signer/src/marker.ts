/**
 * The marker beside the seed: a lower bound of the database's generation,
 * written before the first commit, and then now and then. A database that is
 * behind it was set back (restored from a backup, failed over to a stale
 * standby), and no state in it can be trusted to be the last; a database with
 * commits and no marker may have been.
 */
import { readFile } from 'node:fs/promises';
import { replaceDurably } from './durable-file.ts';

export interface GenerationMarker {
  /** Undefined when there is none. */
  read(): Promise<bigint | undefined>;
  /** Written when the call returns; the promise tells whether it failed. */
  write(generation: bigint): Promise<void>;
}

/** The file is not what this signer writes. */
export class MarkerError extends Error {
  override readonly name = 'MarkerError';
}

/** Writes what `generation` says by then, unless the marker says as much. Never lowers it. */
export async function raiseMarker(marker: GenerationMarker, generation: () => bigint): Promise<void> {
  const marked = await marker.read();
  const now = generation();
  if (marked === undefined || now > marked) await marker.write(now);
}

/** In a file; a crash leaves the old or the new number. */
export function fileMarker(path: string): GenerationMarker {
  return {
    read: async () => {
      let text: string;
      try {
        text = await readFile(path, 'utf8');
      } catch (error) {
        if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
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
  let stored: bigint | undefined;
  return {
    read: () => Promise.resolve(stored),
    write: (generation) => {
      stored = generation;
      return Promise.resolve();
    },
  };
}
