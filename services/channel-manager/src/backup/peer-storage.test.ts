/** Peer storage (BOLT 1), both ways. */
import { openBackup, sealBackup } from '@fulmen/backup';
import { utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { MAX_PEER_STORAGE_BYTES } from '@fulmen/store/manager/backup/backup-store';
import { expect, test } from 'vitest';
import { BackupBench, channelWith, keyOf } from './testing/bench.ts';

const SECRET = sha256(utf8Encode('seed'));
const MINUTE_MS = 60_000;

test('a blob of a peer with a channel is kept, the latest, at most once a minute', async () => {
  const bench = await new BackupBench().begin();
  const { peer } = bench.connect('alice');
  const { storage } = bench.backups;
  const stored = () => bench.backupStore.peerStorage(peer.nodeId);
  storage.received(peer, Uint8Array.of(1));
  // It is given back at once, also before it is stored.
  expect(await storage.kept(peer.nodeId)).toEqual(Uint8Array.of(1));
  await bench.backups.run();
  expect(await stored()).toEqual(Uint8Array.of(1));
  for (const byte of [2, 3]) storage.received(peer, Uint8Array.of(byte));
  await bench.backups.run();
  expect(await stored()).toEqual(Uint8Array.of(1));
  expect(await storage.kept(peer.nodeId)).toEqual(Uint8Array.of(3));
  bench.runtime.nowMs += MINUTE_MS;
  await bench.backups.run();
  expect(await stored()).toEqual(Uint8Array.of(3));
});

test('nothing is kept for a peer without a channel', async () => {
  const bench = await new BackupBench().begin();
  const { peer } = bench.connect('mallory', { channels: 0 });
  bench.backups.storage.received(peer, Uint8Array.of(1));
  await bench.backups.run();
  expect(await bench.backups.storage.kept(peer.nodeId)).toBeUndefined();
});

test('our backup goes to peers with a channel that offer storage, padded, when it changed, at most once a minute', async () => {
  const bench = await new BackupBench().begin();
  const keeper = bench.connect('alice', { storage: true });
  const others = [bench.connect('bob'), bench.connect('carol', { storage: true, channels: 0 })];
  await bench.backups.run();
  expect(keeper.sent).toEqual([]);
  await bench.commit(channelWith('alice', 1));
  await bench.backups.run();
  await bench.backups.run();
  expect(keeper.sent).toHaveLength(1);
  const [message] = keeper.sent;
  if (message?.type !== 'peer_storage') throw new TypeError('another message');
  expect(message.blob.length).toBe(MAX_PEER_STORAGE_BYTES);
  const opened = openBackup(SECRET, message.blob);
  expect(opened.ok && opened.value.channels).toHaveLength(1);
  expect(others.flatMap(({ sent }) => sent)).toEqual([]);

  await bench.commit(channelWith('dave', 2));
  await bench.backups.run();
  expect(keeper.sent).toHaveLength(1);
  bench.runtime.nowMs += MINUTE_MS;
  await bench.backups.run();
  expect(keeper.sent).toHaveLength(2);
});

test('a peer that returns what we have needs nothing; one that returns less gets it again', async () => {
  const bench = await new BackupBench().begin();
  await bench.commit(channelWith('alice', 1));
  await bench.backups.run();
  const current = bench.backups.keeper.current;
  if (current === undefined) throw new TypeError('no backup');
  const { peer, sent } = bench.connect('alice', { storage: true });
  await bench.backups.storage.returned(peer, current.sealed);
  await bench.backups.run();
  expect(sent).toEqual([]);
  const older = sealBackup(SECRET, new Uint8Array(32).fill(4), {
    ...current.backup,
    sequence: 0n,
    channels: [],
  });
  await bench.backups.storage.returned(peer, older);
  await bench.backups.run();
  expect(sent).toHaveLength(1);
  expect(await bench.backupStore.returnedBackups(10)).toEqual([]);
});

test('what a peer returns to a node that lost its database is kept, and recovered from', async () => {
  const before = await new BackupBench().begin();
  await before.commit(channelWith('alice', 1));
  const keeper = before.connect('alice', { storage: true });
  await before.backups.run();
  const [message] = keeper.sent;
  if (message?.type !== 'peer_storage') throw new TypeError('no peer_storage');

  const after = await new BackupBench().begin();
  await expect(after.backups.recover(undefined)).rejects.toMatchObject({ code: 'not_found' });
  const { peer } = after.connect('alice', { storage: true, channels: 0 });
  // Somebody else's blob, and noise, are nothing to us.
  await after.backups.storage.returned(peer, new Uint8Array(100));
  expect(await after.backupStore.returnedBackups(10)).toEqual([]);
  await after.backups.storage.returned(peer, message.blob);
  expect(await after.backupStore.returnedBackups(10)).toHaveLength(1);
  const { channels, backups } = await after.backups.recover(undefined);
  expect(backups).toBe(1);
  expect(channels.map(({ outcome }) => outcome.type)).toEqual(['recovered']);
  expect(channels[0]?.channel.counterpartyNodeId).toEqual(keyOf('alice'));
});
