import { MemoryManagerDatabase } from '../memory.ts';
import { makePostgresManagerDatabase } from '../postgres/testing.ts';
import { backupStoreCompliance } from './compliance.ts';
import { MemoryBackupStore } from './memory.ts';
import { openBackupStore } from './postgres.ts';

backupStoreCompliance('memory', () => {
  const database = new MemoryManagerDatabase(() => 0);
  return Promise.resolve({
    connect: () => database.connect('a'),
    connectBackups: () => new MemoryBackupStore(database),
    drop: () => Promise.resolve(),
  });
});

backupStoreCompliance('postgres', async () => {
  const database = await makePostgresManagerDatabase();
  const { connectionString } = database.server;
  return {
    connect: () => database.connect('a'),
    connectBackups: () => openBackupStore({ connectionString, applicationName: 'a' }),
    drop: () => database.drop(),
  };
});
