/** A backup in a file: read whole, replaced whole, the old one or the new one after a crash. */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open, readFile, rename, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import { MAX_BACKUP_BYTES } from '@fulmen/backup';

export interface BackupFile {
  readonly path: string;
  /** Undefined: there is none, or it is empty. */
  read(): Promise<Uint8Array | undefined>;
  replace(sealed: Uint8Array): Promise<void>;
}

/** The file is larger than any backup. */
export class BackupFileError extends Error {
  override readonly name = 'BackupFileError';
}

export function backupFile(file: string): BackupFile {
  return {
    path: file,
    read: async () => {
      try {
        const { size } = await stat(file);
        if (size > MAX_BACKUP_BYTES) throw new BackupFileError(`${file} has ${size} bytes: it is no backup`);
        const bytes = new Uint8Array(await readFile(file));
        return bytes.length === 0 ? undefined : bytes;
      } catch (error) {
        if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
        throw error;
      }
    },
    replace: (sealed) => replace(file, sealed),
  };
}

async function replace(file: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${file}.${randomBytes(6).toString('hex')}.new`;
  try {
    const { O_WRONLY, O_CREAT, O_EXCL } = constants;
    const handle = await open(temporary, O_WRONLY | O_CREAT | O_EXCL, 0o600);
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  const folder = await open(path.dirname(file), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
