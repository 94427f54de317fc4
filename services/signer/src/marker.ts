/**
 * The marker beside the seed: a lower bound of the database's generation,
 * written now and then. A database that is behind it was set back (restored
 * from a backup, failed over to a stale standby), and no state in it can be
 * trusted to be the last.
 */
import { open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

export interface GenerationMarker {
  /** 0n when there is none yet. */
  read(): Promise<bigint>;
  write(generation: bigint): Promise<void>;
}

/** The file is not what this signer writes. */
export class MarkerError extends Error {
  override readonly name = 'MarkerError';
}

/** Replaced atomically and synced, file and folder, so that a crash leaves the old or the new. */
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
    write: async (generation) => {
      const temporary = `${path}.new`;
      const file = await open(temporary, 'w', 0o600);
      try {
        await file.writeFile(`${generation}\n`);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, path);
      const folder = await open(dirname(path), 'r');
      try {
        await folder.sync();
      } finally {
        await folder.close();
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
