// A database set back, as by a restored backup or a fail-over to a stale standby: a copy of the whole database
// is taken at one moment, and put into its place at a later one.
import type { FaultWorld, NODE_DATABASE, SIGNER_DATABASE } from './fault-world.ts';

/** A database of the fleet. */
export type FleetDatabase = typeof NODE_DATABASE | typeof SIGNER_DATABASE;

/** Whoever asks Postgres as the superuser. */
export type Asked = Pick<FaultWorld, 'rows'>;

const ADMIN = 'postgres';

const endSessions = (database: string): string =>
  `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${database}' AND pid <> pg_backend_pid()`;

/** Copies the database as it is now. Its users lose their sessions for the blink of an eye. */
export async function backUp(faults: Asked, database: FleetDatabase, copy: string): Promise<void> {
  await faults.rows(ADMIN, `ALTER DATABASE ${database} WITH ALLOW_CONNECTIONS false`);
  try {
    await faults.rows(ADMIN, endSessions(database));
    await faults.rows(
      ADMIN,
      `CREATE DATABASE ${copy} TEMPLATE ${database} OWNER ${database} STRATEGY file_copy`,
    );
  } finally {
    await faults.rows(ADMIN, `ALTER DATABASE ${database} WITH ALLOW_CONNECTIONS true`);
  }
}

/** Puts a copy into the database's place, which is kept under another name. Its users must have been stopped. */
export async function replace(
  faults: Asked,
  database: FleetDatabase,
  copy: string,
  keepAs: string,
): Promise<void> {
  await faults.rows(ADMIN, endSessions(database));
  await faults.rows(ADMIN, `ALTER DATABASE ${database} RENAME TO ${keepAs}`);
  await faults.rows(ADMIN, `ALTER DATABASE ${copy} RENAME TO ${database}`);
}
