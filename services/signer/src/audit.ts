/**
 * The audit chain: a row for each group commit that lists what was signed in
 * it, each row's hash over its predecessor's. Whoever keeps one hash can tell
 * later whether anything before it was altered.
 */
import { Writer, equalBytes } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import type { AuditHead, AuditRow } from './store/port.ts';

/** What was done; the number is stored and never reused. */
export const AUDIT_OPERATIONS = {
  register_channel: 1,
  sign_item: 2,
  sign_closing: 3,
  sign_holder_commitment: 4,
  sign_invoice: 5,
  sign_gossip: 6,
  sign_psbt: 7,
  fence_shard: 8,
  sign_claim: 9,
  restore_channel: 10,
} as const;
export type AuditOperation = keyof typeof AUDIT_OPERATIONS;

export interface AuditEntry {
  readonly operation: AuditOperation;
  readonly channelKeysId: Uint8Array | undefined;
  /** What tells this signature from others: a hash, or numbers. At most 64 bytes. */
  readonly detail: Uint8Array;
}

/** The entries of one commit as stored. */
export function encodeAuditEntries(atMs: number, entries: readonly AuditEntry[]): Uint8Array {
  const writer = new Writer(16 + 100 * entries.length);
  writer.u64(BigInt(Math.max(0, Math.floor(atMs))));
  for (const { operation, channelKeysId, detail } of entries) {
    writer
      .u8(AUDIT_OPERATIONS[operation])
      .u8(channelKeysId?.length ?? 0)
      .bytes(channelKeysId ?? new Uint8Array(0));
    writer.u8(detail.length).bytes(detail);
  }
  return writer.finish();
}

function hashOf(previousHash: Uint8Array, sequence: bigint, entries: Uint8Array): Uint8Array {
  return sha256(new Writer(40 + entries.length).bytes(previousHash).u64(sequence).bytes(entries).finish());
}

/** The next row of the chain. `sequence`: the commit's generation. */
export function nextAuditRow(head: AuditHead, sequence: bigint, entries: Uint8Array): AuditRow {
  return { sequence, previousHash: head.hash, hash: hashOf(head.hash, sequence, entries), entries };
}

/** The first row that does not follow from the one before it; undefined when the chain holds. */
export function findAuditBreak(rows: readonly AuditRow[]): bigint | undefined {
  let previous: AuditRow | undefined;
  for (const row of rows) {
    const follows =
      previous === undefined ||
      (equalBytes(previous.hash, row.previousHash) && row.sequence > previous.sequence);
    if (!follows || !equalBytes(row.hash, hashOf(row.previousHash, row.sequence, row.entries)))
      return row.sequence;
    previous = row;
  }
  return undefined;
}
