// Where a fleet on this machine keeps what it must remember: `.fulmen` in the checkout.
import { randomInt } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** Root of the checkout. */
export const repositoryRoot = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

/** Default state folder of the local fleet; git-ignored. */
export const defaultStateDir = path.join(repositoryRoot, '.fulmen');

/** A failure of the machine under the fleet, told in a sentence for the person at the terminal. */
export class SupportError extends Error {
  override readonly name = 'SupportError';
}

/** Writes a file so that a crash leaves the old or the new content, never a part. */
export function writeFileAtomically(file: string, content: string | Uint8Array): void {
  const temporary = `${file}.${process.pid}.tmp`;
  const handle = fs.openSync(temporary, 'w');
  try {
    fs.writeFileSync(handle, content);
    fs.fsyncSync(handle);
  } finally {
    fs.closeSync(handle);
  }
  fs.renameSync(temporary, file);
}

/**
 * Claims a state folder for this process, so that two fleets never share one.
 * @returns a function that gives the claim back
 * @throws SupportError when another living process holds it
 */
export function claimStateDir(stateDir: string): () => void {
  fs.mkdirSync(stateDir, { recursive: true });
  const file = path.join(stateDir, 'owner.pid');
  for (;;) {
    try {
      fs.writeFileSync(file, `${process.pid}\n`, { flag: 'wx' });
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = Number(readIfThere(file));
    if (holder !== process.pid && isAlive(holder)) {
      throw new SupportError(
        `Another fleet (process ${holder}) runs on ${stateDir}. Stop it first, or choose another state folder.`,
      );
    }
    fs.rmSync(file, { force: true });
  }
  return () => {
    if (Number(readIfThere(file)) === process.pid) fs.rmSync(file, { force: true });
  };
}

/** True when a process with this id exists, whoever owns it. */
export function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * A loopback port that nobody listens on. Below the ports that systems give to outgoing connections (32,768 on Linux,
 * 49,152 elsewhere): one of those could be gone by the time its server binds it. Never the same twice in a process.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < PORT_ATTEMPTS; attempt += 1) {
    const port = FIRST_PORT + randomInt(LAST_PORT - FIRST_PORT + 1);
    if (givenPorts.has(port) || !(await isFree(port))) continue;
    givenPorts.add(port);
    return port;
  }
  throw new TypeError(`no free port was found between ${FIRST_PORT} and ${LAST_PORT}`);
}

const FIRST_PORT = 20_000;
const LAST_PORT = 32_000;
const PORT_ATTEMPTS = 1_000;
const givenPorts = new Set<number>();

/**
 * Gives each name a free loopback port and remembers it in `ports.json` of the state folder, so that
 * addresses survive a restart of the fleet. A remembered port that is taken meanwhile is replaced.
 */
export async function assignPorts<Name extends string>(
  stateDir: string,
  names: readonly Name[],
): Promise<Record<Name, number>> {
  fs.mkdirSync(stateDir, { recursive: true });
  const file = path.join(stateDir, 'ports.json');
  const remembered = parsePorts(readIfThere(file));
  const result: Partial<Record<Name, number>> = {};
  const given = new Set<number>();
  for (const name of names) {
    const before = remembered.get(name);
    let port =
      before !== undefined && !given.has(before) && (await isFree(before)) ? before : await freePort();
    while (given.has(port)) port = await freePort();
    given.add(port);
    remembered.set(name, port);
    result[name] = port;
  }
  writeFileAtomically(file, `${JSON.stringify(Object.fromEntries(remembered), null, 2)}\n`);
  return result as Record<Name, number>;
}

async function isFree(port: number): Promise<boolean> {
  try {
    await listen(port);
    return true;
  } catch {
    return false;
  }
}

/** Listens for a moment. */
function listen(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', reject);
    server.listen({ port, host: '127.0.0.1' }, () => server.close(() => resolve()));
  });
}

function parsePorts(text: string): Map<string, number> {
  const ports = new Map<string, number>();
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed !== 'object' || parsed === null) return ports;
    for (const [name, port] of Object.entries(parsed)) {
      if (typeof port === 'number' && Number.isInteger(port) && port > 0 && port < 65_536)
        ports.set(name, port);
    }
  } catch {
    // No file yet, or a damaged one: ports are only a convenience, so new ones are chosen.
  }
  return ports;
}

function readIfThere(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
