/**
 * What channel-manager keeps about backups: its own, those that it keeps for
 * peers (BOLT 1, peer storage), and what peers gave back. In the manager's
 * schema, apart from the hot path. Outcomes and `StoreError` as in the
 * manager's store.
 */
import type { Fence } from '../manager-store.ts';

/** BOLT 1: "The data stored must not exceed 65531 bytes". */
export const MAX_PEER_STORAGE_BYTES = 65_531;

export interface StoredBackup {
  readonly sequence: bigint;
  readonly sealed: Uint8Array;
}

export interface BackupStore {
  /** Every channel that is not closed, by id, as its owner stored it last: `cold` is the core's cold blob. */
  backupChannels(): Promise<readonly { readonly channelId: Uint8Array; readonly cold: Uint8Array }[]>;
  /** Those of these channels that are known here to be closed. */
  closedChannels(channelIds: readonly Uint8Array[]): Promise<readonly Uint8Array[]>;
  latestBackup(): Promise<StoredBackup | undefined>;
  /** Of the latest backup; 0n for none. */
  latestSequence(): Promise<bigint>;
  /**
   * Adds a backup after the one that the writer read (0n: none). conflict: another one came between. A few of the
   * backups before stay.
   */
  putBackup(
    fence: Fence,
    previousSequence: bigint,
    backup: StoredBackup,
  ): Promise<'ok' | 'fence_lost' | 'conflict'>;

  /** Keeps a peer's blob (at most 65,531 bytes) in place of the one before. */
  putPeerStorage(
    fence: Fence,
    peerNodeId: Uint8Array,
    blob: Uint8Array,
    blockHeight: number,
  ): Promise<'ok' | 'fence_lost'>;
  peerStorage(peerNodeId: Uint8Array): Promise<Uint8Array | undefined>;
  /**
   * Forgets blobs of peers that have had no channel here for more than `keepBlocks`, counted from calls of this.
   * @returns how many went
   */
  prunePeerStorage(blockHeight: number, keepBlocks: number): Promise<number>;

  /** Remembers a backup of ours that a peer gave back, one for each peer. */
  putReturnedBackup(fence: Fence, peerNodeId: Uint8Array, sealed: Uint8Array): Promise<'ok' | 'fence_lost'>;
  /** The newest first. */
  returnedBackups(
    limit: number,
  ): Promise<readonly { readonly peerNodeId: Uint8Array; readonly sealed: Uint8Array }[]>;

  /** Has chain-monitor look for spends of this channel's funding output from a height on; before its watch is written. */
  putFundingSearch(fence: Fence, channelId: Uint8Array, fromHeight: number): Promise<'ok' | 'fence_lost'>;

  /** Ends this handle; the state stays. */
  close(): Promise<void>;
}

/** Backups kept beside the newest. */
export const OLDER_BACKUPS_KEPT = 16n;
