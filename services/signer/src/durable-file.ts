/**
 * Small files that must survive a power cut. Written with O_SYNC rather than
 * fsync, which Node's permission model denies.
 */
import { closeSync, constants, fsyncSync, openSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

const { O_WRONLY, O_CREAT, O_EXCL, O_TRUNC, O_SYNC } = constants;

/** Creates a file of mode 0600; fails with EEXIST when there is one. */
export function createDurably(path: string, text: string): void {
  writeSynced(path, text, O_EXCL);
  syncFolder(path);
}

/** Replaces a file, of mode 0600: after a crash it is the old or the new one. */
export function replaceDurably(path: string, text: string): void {
  writeSynced(`${path}.new`, text, O_TRUNC);
  renameSync(`${path}.new`, path);
  syncFolder(path);
}

function writeSynced(path: string, text: string, how: number): void {
  const file = openSync(path, O_WRONLY | O_CREAT | O_SYNC | how, 0o600);
  try {
    writeSync(file, text);
  } finally {
    closeSync(file);
  }
}

function syncFolder(path: string): void {
  const folder = openSync(dirname(path), 'r');
  try {
    fsyncSync(folder);
  } catch (error) {
    // Denied under --permission: then the file system's journal names the file, some seconds later.
    if (!(error instanceof Error && 'code' in error && error.code === 'ERR_ACCESS_DENIED')) throw error;
  } finally {
    closeSync(folder);
  }
}
