/** What the tests of both ends of a tower's feed share. */
import { CHAIN_MIGRATIONS, CHAIN_SCHEMA } from '../chain/postgres.ts';
import { MANAGER_MIGRATIONS, MANAGER_SCHEMA } from '../manager/postgres/store.ts';
import { migrate } from '../pg/migrate.ts';
import { createTestDatabase, type TestDatabase } from '../testing/postgres.ts';

export const id = (n: number): Uint8Array => new Uint8Array(32).fill(n);
export const payload = (n: number | bigint): Uint8Array => Uint8Array.from([Number(n)]);

/** A node's database, and beside it a chain-monitor's. */
export async function bothSchemas(): Promise<TestDatabase> {
  const database = await createTestDatabase(MANAGER_SCHEMA, MANAGER_MIGRATIONS);
  const chain = database.open({ schema: CHAIN_SCHEMA });
  await migrate(chain, CHAIN_MIGRATIONS);
  await chain.close();
  return database;
}
