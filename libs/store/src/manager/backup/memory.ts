/** The store of backups in memory: the model of the Postgres one, beside the manager's. */
import { StoreError } from '../../error.ts';
import type { Fence } from '../manager-store.ts';
import type { MemoryManagerDatabase } from '../memory.ts';
import type { MemoryManagerState } from '../memory-state.ts';
import { hexKey } from '../source.ts';
import { OLDER_BACKUPS_KEPT, type BackupStore, type StoredBackup } from './backup-store.ts';
import type { MemoryBackupTables } from './tables.ts';

export class MemoryBackupStore implements BackupStore {
  readonly #state: MemoryManagerState;
  readonly #tables: MemoryBackupTables;
  #open = true;

  constructor(database: MemoryManagerDatabase) {
    this.#state = database.state;
    this.#tables = database.state.backupTables;
  }

  // oxlint-disable-next-line require-await -- a throw must become a rejection
  async #do<T>(operation: (state: MemoryManagerState, tables: MemoryBackupTables) => T): Promise<T> {
    if (!this.#open) throw new StoreError('unavailable', 'the handle is closed');
    return operation(this.#state, this.#tables);
  }

  #fenced<T>(
    fence: Fence,
    operation: (state: MemoryManagerState, tables: MemoryBackupTables) => T,
  ): Promise<T | 'fence_lost'> {
    return this.#do((state, tables) =>
      state.fenceHolds(fence) ? operation(state, tables) : ('fence_lost' as const),
    );
  }

  backupChannels(): Promise<readonly { channelId: Uint8Array; cold: Uint8Array }[]> {
    return this.#do(({ channels }) =>
      [...channels]
        .toSorted(([a], [b]) => (a < b ? -1 : 1))
        .filter(([, { row }]) => row.phase !== 'closed')
        .map(([, { row, cold }]) => ({ channelId: row.channelId, cold })),
    );
  }

  closedChannels(channelIds: readonly Uint8Array[]): Promise<readonly Uint8Array[]> {
    return this.#do(({ channels }) =>
      channelIds.filter((channelId) => channels.get(hexKey(channelId))?.row.phase === 'closed'),
    );
  }

  latestBackup(): Promise<StoredBackup | undefined> {
    return this.#do((_state, { backups }) => {
      const sequence = newest(backups);
      const sealed = backups.get(sequence);
      return sealed === undefined ? undefined : { sequence, sealed };
    });
  }

  latestSequence(): Promise<bigint> {
    return this.#do((_state, { backups }) => newest(backups));
  }

  putBackup(
    fence: Fence,
    previousSequence: bigint,
    { sequence, sealed }: StoredBackup,
  ): Promise<'ok' | 'fence_lost' | 'conflict'> {
    return this.#fenced(fence, (_state, { backups }) => {
      if (newest(backups) !== previousSequence || backups.has(sequence)) return 'conflict';
      backups.set(sequence, sealed);
      for (const old of backups.keys()) if (old < sequence - OLDER_BACKUPS_KEPT) backups.delete(old);
      return 'ok';
    });
  }

  putPeerStorage(
    fence: Fence,
    peerNodeId: Uint8Array,
    blob: Uint8Array,
    blockHeight: number,
  ): Promise<'ok' | 'fence_lost'> {
    return this.#fenced(fence, (_state, { peerStorage }) => {
      const channelHeight = Math.max(blockHeight, peerStorage.get(hexKey(peerNodeId))?.channelHeight ?? 0);
      peerStorage.set(hexKey(peerNodeId), { peerNodeId, blob, channelHeight });
      return 'ok';
    });
  }

  peerStorage(peerNodeId: Uint8Array): Promise<Uint8Array | undefined> {
    return this.#do((_state, { peerStorage }) => peerStorage.get(hexKey(peerNodeId))?.blob);
  }

  prunePeerStorage(blockHeight: number, keepBlocks: number): Promise<number> {
    return this.#do(({ channels }, { peerStorage }) => {
      const withChannels = new Set(
        [...channels.values()]
          .filter(({ row }) => row.phase !== 'closed')
          .map(({ row }) => hexKey(row.counterpartyNodeId)),
      );
      let gone = 0;
      for (const [key, entry] of peerStorage) {
        if (withChannels.has(key)) entry.channelHeight = Math.max(entry.channelHeight, blockHeight);
        if (entry.channelHeight >= blockHeight - keepBlocks) continue;
        peerStorage.delete(key);
        gone += 1;
      }
      return gone;
    });
  }

  putReturnedBackup(fence: Fence, peerNodeId: Uint8Array, sealed: Uint8Array): Promise<'ok' | 'fence_lost'> {
    return this.#fenced(fence, (_state, { returned }) => {
      returned.delete(hexKey(peerNodeId));
      returned.set(hexKey(peerNodeId), { peerNodeId, sealed });
      return 'ok';
    });
  }

  returnedBackups(limit: number): Promise<readonly { peerNodeId: Uint8Array; sealed: Uint8Array }[]> {
    return this.#do((_state, { returned }) => [...returned.values()].toReversed().slice(0, limit));
  }

  putFundingSearch(fence: Fence, channelId: Uint8Array, fromHeight: number): Promise<'ok' | 'fence_lost'> {
    return this.#fenced(fence, ({ fundingSearches }) => {
      fundingSearches.set(hexKey(channelId), fromHeight);
      return 'ok';
    });
  }

  close(): Promise<void> {
    this.#open = false;
    return Promise.resolve();
  }
}

function newest(backups: ReadonlyMap<bigint, Uint8Array>): bigint {
  let highest = 0n;
  for (const sequence of backups.keys()) if (sequence > highest) highest = sequence;
  return highest;
}
