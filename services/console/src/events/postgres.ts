/** The event log in Postgres, for a role that may do no more than read it. */
import { Database } from '@fulmen/store';
import type { EventReader } from './reader.ts';

/** Where the manager's store keeps it. */
const SCHEMA = 'manager';
const READ_EVENTS = {
  name: 'console_read_events',
  text: 'SELECT position, type, time_unix_ms, body FROM event WHERE position > $1 ORDER BY position LIMIT $2',
};

interface EventRow {
  readonly position: bigint;
  readonly type: string;
  readonly time_unix_ms: bigint;
  readonly body: string;
}

export function postgresEvents(connectionString: string): EventReader & { close(): Promise<void> } {
  const database = new Database({
    connectionString,
    applicationName: 'fulmen console',
    schema: SCHEMA,
    maxConnections: 4,
  });
  return {
    readEvents: async (afterPosition, limit) => {
      const rows = await database.read<EventRow>(READ_EVENTS, [afterPosition, limit]);
      return rows.map(({ position, type, time_unix_ms, body }) => ({
        position,
        event: { type, timeUnixMs: Number(time_unix_ms), body },
      }));
    },
    close: () => database.close(),
  };
}
