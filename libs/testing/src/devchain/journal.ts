/**
 * The development chain's memory: one append-only file of what happened.
 *
 * A record is written before its effect is answered, with one write, so a
 * process killed at any moment leaves whole records and at most one torn one
 * at the end, which the next start cuts off.
 */
import { Buffer } from 'node:buffer';
import { closeSync, fstatSync, ftruncateSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { concatBytes } from '@fulmen/bitcoin/bytes';
import { sha256 } from '@fulmen/crypto';

/** What happened. */
export type JournalRecord =
  | { readonly kind: 'block'; readonly raw: Uint8Array }
  | { readonly kind: 'transactions'; readonly raws: readonly Uint8Array[] }
  | { readonly kind: 'invalidate'; readonly hash: string }
  | { readonly kind: 'reconsider'; readonly hash: string };

const KINDS = ['block', 'transactions', 'invalidate', 'reconsider'] as const;
/** Kind 1, length 4, checksum 4. */
const HEADER_LENGTH = 9;
const MAX_RECORD_LENGTH = 64 * 1024 * 1024;
const FILE_NAME = 'devchain.journal';

function payloadOf(record: JournalRecord): Uint8Array {
  switch (record.kind) {
    case 'block':
      return record.raw;
    case 'transactions':
      return concatBytes(...record.raws.flatMap((raw) => [lengthBytes(raw.length), raw]));
    case 'invalidate':
    case 'reconsider':
      return new Uint8Array(Buffer.from(record.hash, 'hex'));
  }
}

function lengthBytes(length: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, length, true);
  return bytes;
}

function recordOf(kind: (typeof KINDS)[number], payload: Uint8Array): JournalRecord {
  switch (kind) {
    case 'block':
      return { kind, raw: payload };
    case 'transactions': {
      const raws: Uint8Array[] = [];
      const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
      for (let at = 0; at + 4 <= payload.length;) {
        const length = view.getUint32(at, true);
        raws.push(payload.slice(at + 4, at + 4 + length));
        at += 4 + length;
      }
      return { kind, raws };
    }
    case 'invalidate':
    case 'reconsider':
      return { kind, hash: Buffer.from(payload).toString('hex') };
  }
}

/** An open journal. */
export class Journal {
  readonly #file: number;

  /** Opens or creates the journal in a folder and replays what it holds. */
  constructor(dataDir: string, replay: (record: JournalRecord) => void) {
    mkdirSync(dataDir, { recursive: true });
    // 'a+' appends whatever the position; reads go by explicit position.
    this.#file = openSync(join(dataDir, FILE_NAME), 'a+');
    const end = this.#replay(replay);
    ftruncateSync(this.#file, end);
  }

  #replay(replay: (record: JournalRecord) => void): number {
    const size = fstatSync(this.#file).size;
    const header = Buffer.alloc(HEADER_LENGTH);
    let at = 0;
    while (at + HEADER_LENGTH <= size) {
      readSync(this.#file, header, 0, HEADER_LENGTH, at);
      const kind = KINDS[header[0] as number];
      const length = header.readUInt32LE(1);
      if (kind === undefined || length > MAX_RECORD_LENGTH || at + HEADER_LENGTH + length > size) break;
      const payload = new Uint8Array(length);
      readSync(this.#file, payload, 0, length, at + HEADER_LENGTH);
      if (!Buffer.from(sha256(payload).subarray(0, 4)).equals(header.subarray(5, 9))) break;
      replay(recordOf(kind, payload));
      at += HEADER_LENGTH + length;
    }
    return at;
  }

  append(record: JournalRecord): void {
    const payload = payloadOf(record);
    const kind = Uint8Array.from([KINDS.indexOf(record.kind)]);
    const bytes = concatBytes(kind, lengthBytes(payload.length), sha256(payload).subarray(0, 4), payload);
    for (let written = 0; written < bytes.length;) written += writeSync(this.#file, bytes, written);
  }

  close(): void {
    closeSync(this.#file);
  }
}
