import { readFileSync } from 'node:fs';
import { Database } from '@fulmen/store';
import { MANAGER_MIGRATIONS, MANAGER_SCHEMA } from '@fulmen/store/manager/postgres/store';
import { createTestDatabase } from '@fulmen/store/testing/postgres';
import { expect, onTestFinished, test } from 'vitest';
import { postgresEvents } from './postgres.ts';

/** As an operator is told to grant them. */
const RIGHTS =
  /```sql\n([^`]+)```/.exec(
    readFileSync(new URL('../../../../deploy/k8s/README.md', import.meta.url), 'utf8'),
  )?.[1] ?? '';

test('a role with the rights that deploy/k8s/README.md gives it reads the log, and nothing else', async () => {
  const database = await createTestDatabase(MANAGER_SCHEMA, MANAGER_MIGRATIONS);
  const owner = database.open();
  const url = new URL(database.connectionString);
  const role = `${url.pathname.slice(1)}_console`;
  const sql = RIGHTS.replaceAll('fulmen_console', role).replaceAll('fulmen_node', url.pathname.slice(1));
  for (const statement of sql.trim().split(/;\s*/)) if (statement !== '') await owner.write(statement);
  [url.username, url.password] = [role, '…'];
  const reader = postgresEvents(url.href);
  const other = new Database({
    connectionString: url.href,
    applicationName: 'test',
    schema: MANAGER_SCHEMA,
    maxConnections: 1,
  });
  onTestFinished(async () => {
    await Promise.all([reader.close(), other.close()]);
    await owner.write(`DROP OWNED BY ${role}`);
    await owner.write(`DROP ROLE ${role}`);
    await owner.close();
    await database.drop();
  });
  expect(await reader.readEvents(0n, 4)).toEqual([]);
  await expect(other.read('SELECT * FROM channel', [])).rejects.toThrow(/permission denied/);
  await expect(other.write('DELETE FROM event', [])).rejects.toThrow(/permission denied/);
});

test('events come from the log in order, from after a position, at most as many as asked', async () => {
  const database = await createTestDatabase(MANAGER_SCHEMA, MANAGER_MIGRATIONS);
  const writer = database.open();
  const reader = postgresEvents(database.connectionString);
  onTestFinished(async () => {
    await reader.close();
    await writer.close();
    await database.drop();
  });
  await writer.write(
    `INSERT INTO event (position, shard, type, time_unix_ms, body)
     SELECT n, 0, 'payment_sent', 1700000000000 + n, '{"n":"' || n || '"}' FROM generate_series(1, 10) AS n`,
  );
  const read = await reader.readEvents(3n, 4);
  expect(read.map(({ position }) => position)).toEqual([4n, 5n, 6n, 7n]);
  expect(read[0]?.event).toEqual({ type: 'payment_sent', timeUnixMs: 1_700_000_000_004, body: '{"n":"4"}' });
  expect(await reader.readEvents(10n, 4)).toEqual([]);
});
