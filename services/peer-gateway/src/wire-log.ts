/**
 * The wire log: every Lightning message that passed between this node and its
 * counterparties, in plaintext, for an operator who must see what was said. It
 * is off unless a directory is configured, because it holds what the encryption
 * keeps from others (invoices' preimages, revoked secrets, who pays whom).
 *
 * One line a message: time (ISO 8601, UTC), `in` or `out`, node id, the
 * message's BOLT name, the whole message in hex. A connection begins with our
 * `init` and ends with a line `end` that names the cause, even if it became no
 * peer.
 *
 * What a counterparty says is here whether it is acted on or dropped by a rate
 * limit: the bound is one of bytes, and any counterparty that talks enough
 * pushes older lines out.
 *
 * Lines are written synchronously: the last words before a kill are those that
 * somebody will look for. Two files of half the bound each take turns.
 */
import fs from 'node:fs';
import path from 'node:path';
import { toHex } from '@fulmen/codec';
import type { Logger } from '@fulmen/service';
import { messageName } from '@fulmen/wire';
import { typeOf } from './peer/classify.ts';

/** Seen from this node. */
export type WireDirection = 'in' | 'out';

export interface WireLog {
  message(direction: WireDirection, nodeId: Uint8Array, message: Uint8Array): void;
  /** A connection on which `init` was said ended. */
  ended(nodeId: Uint8Array, cause: string): void;
}

export interface WireLogOptions {
  /** Made when it is not there; the files are `wire.log` and, older, `wire.log.1`. */
  readonly directory: string;
  /** Of both files together, in bytes. */
  readonly maxBytes: number;
}

export const DEFAULT_WIRE_LOG_BYTES = 256 * 1024 * 1024;
export const WIRE_LOG_FILE = 'wire.log';
export const OLDER_WIRE_LOG_FILE = 'wire.log.1';

/** The BOLT name of a message, or `type_N` of one that this node does not know. */
export function wireName(message: Uint8Array): string {
  const type = typeOf(message);
  return type === undefined ? 'empty' : (messageName(type) ?? `type_${type}`);
}

/**
 * Opens the log at its end. A disk that fails later ends the log with an error in the process's own, never the
 * connections. Throws when the directory cannot be written.
 */
export function fileWireLog(
  { directory, maxBytes }: WireLogOptions,
  ports: { readonly wallClockMs: () => number; readonly logger: Logger },
): WireLog & { close(): void } {
  const file = path.join(directory, WIRE_LOG_FILE);
  fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
  let handle: number | undefined = fs.openSync(file, 'a', 0o600);
  let bytes = fs.fstatSync(handle).size;

  const close = (): void => {
    const open = handle;
    handle = undefined;
    if (open !== undefined) fs.closeSync(open);
  };
  const rotate = (): number => {
    close();
    fs.renameSync(file, path.join(directory, OLDER_WIRE_LOG_FILE));
    const fresh = fs.openSync(file, 'a', 0o600);
    handle = fresh;
    bytes = 0;
    return fresh;
  };
  const end = (error: unknown): void => {
    ports.logger.error({ err: error, file }, 'the wire log cannot be written, and ends here');
    try {
      close();
    } catch {
      // The disk's failure is told; the descriptor is gone all the same.
    }
  };
  const write = (words: readonly string[]): void => {
    if (handle === undefined) return;
    const line = `${new Date(ports.wallClockMs()).toISOString()} ${words.join(' ')}\n`;
    try {
      const target = bytes > 0 && bytes + line.length > maxBytes / 2 ? rotate() : handle;
      fs.writeSync(target, line);
      bytes += line.length;
    } catch (error) {
      end(error);
    }
  };
  return {
    message: (direction, nodeId, message) =>
      write([direction, toHex(nodeId), wireName(message), toHex(message)]),
    ended: (nodeId, cause) => write(['end', toHex(nodeId), cause]),
    close,
  };
}
