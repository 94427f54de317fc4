import { afterEach, describe, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '@fulmen/store/testing/postgres';
import type { Database } from '@fulmen/store';
import { MemorySignerStore } from './memory.ts';
import { PostgresSignerStore, SIGNER_MIGRATIONS, SIGNER_SCHEMA } from './postgres/postgres-store.ts';
import { storeCompliance } from './store.compliance.ts';

const open: { readonly database: Database; readonly from: TestDatabase }[] = [];
afterEach(async () => {
  for (const { database, from } of open.splice(0)) {
    await database.close();
    await from.drop();
  }
});

async function fresh(): Promise<{ readonly database: Database; readonly from: TestDatabase }> {
  const from = await createTestDatabase(SIGNER_SCHEMA, SIGNER_MIGRATIONS);
  const made = { from, database: from.open() };
  open.push(made);
  return made;
}

storeCompliance('memory', (retention) =>
  Promise.resolve(
    new MemorySignerStore({ nowMs: () => 0, ...(retention === undefined ? {} : { retention }) }),
  ),
);
storeCompliance(
  'Postgres',
  async (retention) => new PostgresSignerStore((await fresh()).database, retention),
);

describe('Postgres', () => {
  test('a lease that ran out by the database’s clock is taken', async () => {
    const { database } = await fresh();
    const store = new PostgresSignerStore(database);
    const [me, you] = [new Uint8Array(16).fill(1), new Uint8Array(16).fill(2)];
    await store.acquireLease(me, 60_000);
    await database.write(`UPDATE signer SET lease_until = clock_timestamp() - interval '1 second'`);
    expect(await store.acquireLease(you, 60_000)).toBe('acquired');
    expect(await store.renewLease(me, 60_000)).toBe('lost');
  });
});
