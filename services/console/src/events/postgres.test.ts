import { MANAGER_MIGRATIONS, MANAGER_SCHEMA } from '@fulmen/store/manager/postgres/store';
import { createTestDatabase } from '@fulmen/store/testing/postgres';
import { expect, onTestFinished, test } from 'vitest';
import { postgresEvents } from './postgres.ts';

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
