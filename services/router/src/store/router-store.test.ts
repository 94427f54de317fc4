import { createTestDatabase } from '@fulmen/store/testing/postgres';
import { MemoryRouterDisk, memoryRouterStore } from './memory.ts';
import { ROUTER_MIGRATIONS, ROUTER_SCHEMA, postgresRouterStore } from './postgres/postgres.ts';
import { routerStoreCompliance } from './router-store.compliance.ts';
import { onTestFinished } from 'vitest';

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
