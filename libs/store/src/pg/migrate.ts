/**
 * Numbered SQL files, applied once and forward only, under an advisory lock, so
 * that any number of replicas may start together. A file that was applied must
 * never change: its hash is kept and compared.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { StoreError, StoreSetupError } from '../error.ts';
import type { Database, Session } from './database.ts';

export interface Migration {
  readonly number: number;
  readonly name: string;
  readonly sql: string;
  readonly sha256: string;
}

/** Any constant; shared by all schemas of one database, which only makes their first starts take turns. */
const ADVISORY_LOCK = 7_205_759_404;

/** Reads `0001_name.sql`, `0002_…` of a folder; the numbers must have no gap. */
export async function readMigrations(folder: URL): Promise<readonly Migration[]> {
  const base = folder.href.endsWith('/') ? folder : new URL(`${folder.href}/`);
  const files = (await readdir(base)).filter((file) => file.endsWith('.sql')).toSorted();
  return Promise.all(
    files.map(async (file, index) => {
      const number = Number(/^(\d{4})_[a-z0-9_]+\.sql$/.exec(file)?.[1]);
      if (number !== index + 1)
        throw new StoreSetupError(`migration ${file} should have number ${index + 1}`);
      const sql = await readFile(new URL(file, base), 'utf8');
      return { number, name: file, sql, sha256: createHash('sha256').update(sql).digest('hex') };
    }),
  );
}

/**
 * Brings the database's schema up to the folder's last migration; all in one transaction. Waits up to a minute while
 * another replica does so, which on a busy machine outlasts any bound on a lock or a statement.
 * @returns how many were applied
 * @throws StoreSetupError when an applied file changed, or the schema is newer than this release
 * @throws StoreError `unavailable` when the other replica did not end
 */
export async function migrate(database: Database, folder: URL): Promise<number> {
  const migrations = await readMigrations(folder);
  const endMs = performance.now() + LOCK_WAIT_MS;
  for (;;) {
    const count = await migrateUnlessLocked(database, migrations);
    if (count !== undefined) return count;
    if (performance.now() > endMs)
      throw new StoreError('unavailable', 'another replica has been migrating the schema for a minute');
    await pause(LOCK_POLL_MS);
  }
}

const LOCK_WAIT_MS = 60_000;
const LOCK_POLL_MS = 100;

/** undefined: another replica holds the lock. */
function migrateUnlessLocked(
  database: Database,
  migrations: readonly Migration[],
): Promise<number | undefined> {
  return database.transaction(async (session) => {
    const [lock] = await session.query<{ taken: boolean }>(
      `SELECT pg_try_advisory_xact_lock(${ADVISORY_LOCK}) AS taken`,
    );
    if (lock?.taken !== true) return undefined;
    await session.query(`CREATE SCHEMA IF NOT EXISTS ${database.schema}`);
    await session.query(
      'CREATE TABLE IF NOT EXISTS migration (number int PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())',
    );
    const applied = await appliedMigrations(session, migrations);
    for (const migration of migrations.slice(applied)) {
      await session.query(migration.sql);
      await session.query('INSERT INTO migration (number, name, sha256) VALUES ($1, $2, $3)', [
        migration.number,
        migration.name,
        migration.sha256,
      ]);
    }
    return migrations.length - applied;
  });
}

async function appliedMigrations(session: Session, known: readonly Migration[]): Promise<number> {
  const rows = await session.query<{ number: number; sha256: string }>(
    'SELECT number, sha256 FROM migration ORDER BY number',
  );
  for (const row of rows) {
    const migration = known[row.number - 1];
    if (migration === undefined)
      throw new StoreSetupError(`the schema has migration ${row.number}, which this release does not know`);
    if (migration.sha256 !== row.sha256)
      throw new StoreSetupError(`migration ${migration.name} changed after it was applied`);
  }
  return rows.length;
}
