/** Backups of a replica: rows, file, peers, and the way back. */
import { type NodeBackup, openBackup, sealBackup } from '@fulmen/backup';
import { equalBytes, utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { expect, test } from 'vitest';
import { BackupBench, channelWith, keyOf, MemoryFile, NODE_ID } from './testing/bench.ts';

const SECRET = sha256(utf8Encode('seed'));
const CLOSED = { type: 'closed', reason: 'settled on-chain' } as const;

function opened(sealed: Uint8Array | undefined): NodeBackup {
  const backup = openBackup(SECRET, sealed ?? new Uint8Array(0));
  if (!backup.ok) throw new TypeError(backup.error.type);
  return backup.value;
}

/** A node with two channels and their backup. */
async function withTwo(file = new MemoryFile()) {
  const bench = await new BackupBench({ file }).begin();
  const [a, b] = [channelWith('alice', 1), channelWith('bob', 2)];
  await bench.commit(a);
  await bench.commit(b);
  await bench.store.upsertPeerAddress(keyOf('bob'), '203.0.113.7', 9735, 'wanted');
  await bench.backups.run();
  return { bench, a, b, sealed: file.content ?? new Uint8Array(0) };
}

test('each open and close makes a backup, and nothing else does', async () => {
  const { bench, a, b } = await withTwo();
  expect(opened(bench.file.content)).toMatchObject({ nodeId: NODE_ID, sequence: 1n, network: 'regtest' });
  expect(opened(bench.file.content).channels).toHaveLength(2);
  const bobs = opened(bench.file.content).channels.find(({ channelId }) =>
    equalBytes(channelId, b.channelId),
  );
  expect(bobs).toMatchObject({
    addresses: [{ host: '203.0.113.7', port: 9735 }],
    channelKeysId: b.parameters.channelKeysId,
    counterparty: b.parameters.counterparty,
    fundingValueSat: 1_000_002n,
    searchFromHeight: 556,
  });
  // A minute on nothing has changed, blocks apart.
  bench.node.blockHeight += 1;
  bench.runtime.nowMs += 60_000;
  await bench.backups.run();
  expect(await bench.backupStore.latestSequence()).toBe(1n);
  expect(bench.file.writes).toBe(1);

  await bench.commit(channelWith('carol', 3));
  await bench.backups.run();
  expect(opened(bench.file.content)).toMatchObject({ sequence: 2n });
  expect(opened(bench.file.content).channels).toHaveLength(3);
  await bench.move(a, CLOSED);
  await bench.backups.run();
  expect(opened(bench.file.content).channels).toHaveLength(2);
  expect(await bench.gauge('manager_backup_sequence')).toBe(3);
});

test('a change without a hint is found within a minute', async () => {
  const { bench, a } = await withTwo();
  await bench.move(a, CLOSED);
  bench.runtime.nowMs += 60_000;
  await bench.backups.run();
  expect(opened(bench.file.content).channels).toHaveLength(1);
});

test('the last channel may leave the backup, for it is known to be closed', async () => {
  const { bench, a, b } = await withTwo();
  await bench.move(a, CLOSED);
  await bench.move(b, CLOSED);
  await bench.backups.run();
  expect(opened(bench.file.content)).toMatchObject({ sequence: 2n, channels: [] });
  expect(bench.backups.keeper.fileState).toMatchObject({ type: 'written', sequence: 2n });
});

test('a full backup is not overwritten by that of a database that was lost', async () => {
  const { sealed } = await withTwo();
  const file = new MemoryFile();
  file.content = sealed;
  const lost = await new BackupBench({ file }).begin();
  await lost.backups.run();
  expect(file.content).toBe(sealed);
  // Not by an empty one, nor by one with another channel.
  await lost.commit(channelWith('carol', 3));
  await lost.backups.run();
  expect(await lost.backupStore.latestSequence()).toBe(1n);
  expect(file.content).toBe(sealed);
  expect(lost.backups.keeper.fileState).toMatchObject({
    type: 'refused',
    reason: 'the existing backup has 2 channels that this node does not know',
  });
  expect(await lost.gauge('manager_backup_file_refused')).toBe(1);
});

test('the file of another node, and what is no backup, are left alone', async () => {
  for (const content of [
    sealBackup(sha256(utf8Encode('another seed')), new Uint8Array(32), opened((await withTwo()).sealed)),
    utf8Encode('my diary'),
  ]) {
    const file = new MemoryFile();
    file.content = content;
    const { bench } = await withTwo(file);
    expect(file.content).toBe(content);
    expect(bench.backups.keeper.fileState.type).toBe('refused');
    // Moved away, the backup takes its place within a minute.
    file.content = undefined;
    bench.runtime.nowMs += 60_000;
    await bench.backups.run();
    expect(opened(file.content).channels).toHaveLength(2);
    expect(await bench.gauge('manager_backup_file_refused')).toBe(0);
  }
});

test('channels whose rows are gone stay in the backup, and an alarm says so', async () => {
  const { bench, a } = await withTwo();
  bench.database.state.channels.delete(Buffer.from(a.channelId).toString('hex'));
  await bench.commit(channelWith('carol', 3));
  await bench.backups.run();
  expect(opened(bench.file.content).channels).toHaveLength(3);
  expect(await bench.gauge('manager_backup_unknown_channels')).toBe(1);
});

test('verify says what a backup has, what it lacks, and what could be recovered', async () => {
  const { bench, a, sealed } = await withTwo();
  expect(await bench.backups.verify(sealed)).toMatchObject({ verdict: 'current', missing: [] });
  const carols = channelWith('carol', 3);
  await bench.commit(carols);
  expect(await bench.backups.verify(sealed)).toMatchObject({
    verdict: 'outdated',
    missing: [carols.channelId],
  });
  await bench.move(a, CLOSED);
  const { channels } = await bench.backups.verify(sealed);
  expect(new Set(channels.map(({ phase }) => phase))).toEqual(new Set(['closed', 'open']));
  const lost = await new BackupBench().begin();
  expect(await lost.backups.verify(sealed)).toMatchObject({ verdict: 'recoverable' });
  const other = await new BackupBench({ seed: 'another' }).begin();
  await expect(other.backups.verify(sealed)).rejects.toMatchObject({ code: 'invalid_argument' });
});

test('recovery: frozen at the signer, a passive row with monitor and watch, its peer wanted; once', async () => {
  const { sealed, a, b } = await withTwo();
  const file = new MemoryFile();
  file.content = sealed;
  const lost = await new BackupBench({ file }).begin();
  const first = await lost.backups.recover(sealed);
  expect(first.channels.map(({ outcome }) => outcome.type)).toEqual(['recovered', 'recovered']);
  expect(first.adoption).toBe('taken');
  expect(lost.registered.map(({ restored }) => restored)).toEqual([true, true]);
  expect(lost.registered.map(({ holder }) => holder?.fundingPubkey)).toEqual(
    expect.arrayContaining([a.parameters.holder.fundingPubkey, b.parameters.holder.fundingPubkey]),
  );
  const { state } = lost.database;
  for (const channel of [a, b]) {
    const key = Buffer.from(channel.channelId).toString('hex');
    expect(state.channels.get(key)?.row).toMatchObject({
      phase: 'passive',
      capacitySat: channel.fundings[0]?.fundingValueSat,
    });
    expect(state.monitorBirths.has(key)).toBe(true);
    expect(state.monitorLog.get(key)).toHaveLength(1);
    expect(state.watches.get(key)?.watch).toMatchObject({ fundingTxid: channel.fundings[0]?.fundingTxid });
    expect(state.fundingSearches.get(key)).toBe(556);
  }
  expect(lost.adopted.map(({ phase }) => phase.type)).toEqual(['passive', 'passive']);
  const wanted = (await lost.store.listPeers()).filter((peer) => peer.wanted);
  expect(wanted).toMatchObject([{ peerNodeId: keyOf('bob'), host: '203.0.113.7', port: 9735 }]);

  const second = await lost.backups.recover(sealed);
  expect(second.channels.map(({ outcome }) => outcome)).toEqual([
    { type: 'known', phase: 'passive' },
    { type: 'known', phase: 'passive' },
  ]);
  expect(lost.registered).toHaveLength(2);
  // The node goes on from the backup: its next one takes the file's place.
  await lost.commit(channelWith('carol', 3));
  await lost.backups.run();
  expect(opened(file.content)).toMatchObject({ sequence: 2n });
  expect(opened(file.content).channels).toHaveLength(3);
});

test('recovery names whoever owns a shard, and what the signer refuses', async () => {
  const { sealed, a } = await withTwo();
  const lost = await new BackupBench().begin();
  for (const shard of [...lost.fences.keys()]) {
    lost.fences.delete(shard);
    lost.owners.set(shard, 'b:1');
  }
  const elsewhere = await lost.backups.recover(sealed);
  expect(elsewhere).toMatchObject({ adoption: 'elsewhere', askNext: ['b:1'] });
  expect(elsewhere.channels.map(({ outcome }) => outcome.type)).toEqual(['elsewhere', 'elsewhere']);
  expect(lost.database.state.channels.size).toBe(0);

  const refusing = await new BackupBench().begin();
  refusing.signerRefuses = true;
  const refused = await refusing.backups.recover(sealed);
  expect(refused.channels.map(({ outcome }) => outcome.type)).toEqual(['refused', 'refused']);
  expect(refusing.database.state.channels.size).toBe(0);
  expect(a.phase.type).toBe('open');
});
