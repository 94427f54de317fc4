import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { syntheticAnnouncement, syntheticNode } from '@fulmen/graph/synthetic';
import { createTestDatabase } from '@fulmen/store/testing/postgres';
import { MemoryRouterDisk, memoryRouterStore } from './memory.ts';
import { ROUTER_MIGRATIONS, ROUTER_SCHEMA, postgresRouterStore } from './postgres/postgres.ts';
import { routerStoreCompliance } from './router-store.compliance.ts';
import { expect, onTestFinished, test } from 'vitest';

routerStoreCompliance('in memory', () => {
  const disk = new MemoryRouterDisk();
  const clock = { wallClockMs: () => 1_000 };
  return Promise.resolve([memoryRouterStore(disk, clock), memoryRouterStore(disk, clock)] as const);
});

routerStoreCompliance('on Postgres', async () => {
  const database = await createTestDatabase(ROUTER_SCHEMA, ROUTER_MIGRATIONS);
  const stores = [
    await postgresRouterStore(database.open()),
    await postgresRouterStore(database.open()),
  ] as const;
  onTestFinished(async () => {
    await Promise.all(stores.map((store) => store.close()));
    await database.drop();
  });
  return stores;
});

test('what earlier versions kept beyond the bounds goes with the migration, and nothing else', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'router-migrations-'));
  copyFileSync(new URL('0001_graph.sql', ROUTER_MIGRATIONS), join(folder, '0001_graph.sql'));
  const database = await createTestDatabase(ROUTER_SCHEMA, pathToFileURL(`${folder}/`));
  onTestFinished(async () => {
    await database.drop();
    rmSync(folder, { recursive: true });
  });
  const channels = [
    [1n, syntheticAnnouncement(fakeSecp256k1, 1n, [1, 2], new Uint8Array(300)).raw],
    [2n, syntheticAnnouncement(fakeSecp256k1, 2n, [2, 3]).raw],
    [3n, syntheticAnnouncement(fakeSecp256k1, 3n, [4, 5], new Uint8Array(60_000)).raw],
  ] as const;
  const nodes = [1, 2, 4].map((key) => syntheticNode(fakeSecp256k1, key, 7));
  const long = syntheticNode(fakeSecp256k1, 3, 7, new Uint8Array(3_000));
  const before = database.open();
  for (const [scid, raw] of channels) {
    await before.write('INSERT INTO channel VALUES ($1, 1, 1, 0, $2, 1)', [scid, raw]);
  }
  await before.write('INSERT INTO channel_update VALUES (2, 0, $1, 1), (2, 1, $2, 1)', [
    new Uint8Array(2_048),
    new Uint8Array(2_049),
  ]);
  for (const { message, raw } of [...nodes, long]) {
    await before.write('INSERT INTO node VALUES ($1, $2, 1)', [message.nodeId, raw]);
  }
  await before.close();

  const store = await postgresRouterStore(database.open());
  onTestFinished(() => store.close());
  const { channels: kept } = await store.loadChannels(0n, 10);
  expect(kept.map(({ announcement }) => announcement)).toEqual([channels[0][1], channels[1][1]]);
  expect(kept[1]?.updates.map((raw) => raw?.length)).toEqual([2_048, undefined]);
  const page = await store.loadNodes(new Uint8Array(0), 10);
  expect(page.nodes.toSorted((a, b) => Buffer.compare(a, b))).toEqual(
    nodes
      .slice(0, 2)
      .map(({ raw }) => raw)
      .toSorted((a, b) => Buffer.compare(a, b)),
  );
});
