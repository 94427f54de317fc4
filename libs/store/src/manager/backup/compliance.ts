/** What every store of backups must do: the one suite of the Postgres store and of its in-memory model. Called from a test file. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bytes, channelIdOf, owner, row, step } from '../compliance/fixtures.ts';
import type { Fence, ManagerStore } from '../manager-store.ts';
import { MAX_PEER_STORAGE_BYTES, type BackupStore } from './backup-store.ts';

export interface BackupDatabaseUnderTest {
  connect(): ManagerStore;
  connectBackups(): BackupStore;
  drop(): Promise<void>;
}

export function backupStoreCompliance(
  name: string,
  makeDatabase: () => Promise<BackupDatabaseUnderTest>,
): void {
  describe(`store of backups: ${name}`, () => {
    let database: BackupDatabaseUnderTest;
    let manager: ManagerStore;
    let store: BackupStore;
    let fence: Fence;
    let stale: Fence;
    beforeAll(async () => {
      database = await makeDatabase();
      manager = database.connect();
      store = database.connectBackups();
      stale = await owner(manager, 'a', 0);
      fence = await owner(manager, 'a', 0);
    });
    afterAll(async () => {
      await Promise.all([manager.close(), store.close()]);
      await database.drop();
    });

    test('backups follow one another, and no two writers add one', async () => {
      expect(await store.latestBackup()).toBeUndefined();
      expect(await store.latestSequence()).toBe(0n);
      const backup = (sequence: bigint) => ({ sequence, sealed: bytes(300, Number(sequence)) });
      expect(await store.putBackup(stale, 0n, backup(1n))).toBe('fence_lost');
      const outcomes = await Promise.all([
        store.putBackup(fence, 0n, backup(1n)),
        store.putBackup(fence, 0n, { sequence: 1n, sealed: bytes(300, 77) }),
      ]);
      expect(outcomes.toSorted()).toEqual(['conflict', 'ok']);
      expect(await store.putBackup(fence, 0n, backup(2n))).toBe('conflict');
      for (let n = 1n; n < 40n; n += 1n) expect(await store.putBackup(fence, n, backup(n + 1n))).toBe('ok');
      expect(await store.latestBackup()).toEqual(backup(40n));
      // After a recovery the numbers go on above those of the backup.
      expect(await store.putBackup(fence, 40n, backup(900n))).toBe('ok');
      expect((await store.latestBackup())?.sequence).toBe(900n);
      expect(await store.latestSequence()).toBe(900n);
    });

    test('channels are those that are not closed, with their newest cold blob', async () => {
      const born = [step(fence, 30, 0n), step(fence, 31, 0n), step(fence, 32, 0n)];
      for (const verdict of await manager.commitSteps(born)) expect(verdict.type).toBe('committed');
      await manager.commitSteps([
        step(fence, 31, 1n, { delta: { cold: bytes(480, 99) } }),
        step(fence, 32, 1n, { row: { phase: 'closed' } }),
      ]);
      const mine = new Set([30, 31, 32].map((n) => Buffer.from(channelIdOf(n)).toString('hex')));
      const found = (await store.backupChannels()).filter(({ channelId }) =>
        mine.has(Buffer.from(channelId).toString('hex')),
      );
      expect(found).toEqual([
        { channelId: channelIdOf(30), cold: bytes(500, 30) },
        { channelId: channelIdOf(31), cold: bytes(480, 99) },
      ]);
      expect(await store.closedChannels([30, 31, 32, 33].map(channelIdOf))).toEqual([channelIdOf(32)]);
      expect(await store.closedChannels([])).toEqual([]);
    });

    test('a peer’s blob replaces the one before, and outlives its last channel by as many blocks as asked', async () => {
      const [verdict] = await manager.commitSteps([step(fence, 40, 0n)]);
      expect(verdict?.type).toBe('committed');
      const peer = row(40, fence.shard).counterpartyNodeId;
      const other = Uint8Array.from([2, ...bytes(32, 250)]);
      expect(await store.peerStorage(peer)).toBeUndefined();
      expect(await store.putPeerStorage(stale, peer, bytes(10, 1), 100)).toBe('fence_lost');
      expect(await store.putPeerStorage(fence, peer, bytes(10, 1), 100)).toBe('ok');
      expect(await store.putPeerStorage(fence, peer, bytes(MAX_PEER_STORAGE_BYTES, 2), 101)).toBe('ok');
      expect(await store.putPeerStorage(fence, other, bytes(0, 1), 100)).toBe('ok');
      expect(await store.peerStorage(peer)).toEqual(bytes(MAX_PEER_STORAGE_BYTES, 2));
      expect(await store.prunePeerStorage(2_116, 2_016)).toBe(0);
      expect(await store.prunePeerStorage(2_117, 2_016)).toBe(1);
      expect(await store.peerStorage(other)).toBeUndefined();
      await manager.commitSteps([step(fence, 40, 1n, { row: { phase: 'closed' } })]);
      expect(await store.prunePeerStorage(2_117 + 2_016, 2_016)).toBe(0);
      expect(await store.peerStorage(peer)).toBeDefined();
      expect(await store.prunePeerStorage(2_117 + 2_017, 2_016)).toBe(1);
      expect(await store.peerStorage(peer)).toBeUndefined();
    });

    test('what peers gave back is kept, the last of each', async () => {
      const [a, b] = [Uint8Array.from([2, ...bytes(32, 1)]), Uint8Array.from([3, ...bytes(32, 2)])];
      expect(await store.putReturnedBackup(stale, a, bytes(5, 5))).toBe('fence_lost');
      for (const [peer, n] of [
        [a, 1],
        [b, 2],
        [a, 3],
      ] as const)
        expect(await store.putReturnedBackup(fence, peer, bytes(100, n))).toBe('ok');
      expect(await store.returnedBackups(10)).toEqual([
        { peerNodeId: a, sealed: bytes(100, 3) },
        { peerNodeId: b, sealed: bytes(100, 2) },
      ]);
      expect(await store.returnedBackups(1)).toHaveLength(1);
    });

    test('a search is fenced', async () => {
      expect(await store.putFundingSearch(stale, channelIdOf(50), 7)).toBe('fence_lost');
      expect(await store.putFundingSearch(fence, channelIdOf(50), 7)).toBe('ok');
      expect(await store.putFundingSearch(fence, channelIdOf(50), 8)).toBe('ok');
    });
  });
}
