// The parts under a local fleet: Postgres, NATS, ports, the supervisor.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openNats } from './nats.ts';
import { openPostgres } from './postgres.ts';
import { assignPorts, claimStateDir, freePort, isAlive, SupportError } from './state.ts';
import { Supervisor, type SupervisorEvent } from './supervisor.ts';

let dir: string;

beforeAll(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'fulmen-support-'));
  fs.chmodSync(dir, 0o755);
});

afterAll(() => {
  fs.rmSync(dir, { recursive: true, force: true });
});

async function rows(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows as unknown[];
  } finally {
    await client.end();
  }
}

describe('postgres', () => {
  test('keeps committed rows over a kill, and is durable unless told otherwise', async () => {
    const server = await openPostgres({ dataDir: path.join(dir, 'pg'), port: await freePort() });
    try {
      const url = await server.ensureDatabase('fleet');
      expect(await server.ensureDatabase('fleet')).toBe(url);
      await rows(url, 'CREATE TABLE t (a int)');
      await rows(url, 'INSERT INTO t VALUES (7)');
      const settings =
        "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit') ORDER BY 1";
      expect(await rows(url, settings)).toEqual([
        { name: 'fsync', setting: 'on' },
        { name: 'synchronous_commit', setting: 'on' },
      ]);
      await server.kill();
      await server.start();
      expect(await rows(url, 'SELECT a FROM t')).toEqual([{ a: 7 }]);
    } finally {
      await server.stop();
    }
  });

  test('says that its port is taken', async () => {
    const port = await freePort();
    const nats = await openNats({ port, logFile: path.join(dir, 'taken.log') });
    try {
      await expect(openPostgres({ dataDir: path.join(dir, 'pg'), port })).rejects.toThrow(/taken/);
    } finally {
      await nats.stop();
    }
  });
});

test('nats starts, is killed and starts again', async () => {
  const server = await openNats({ port: await freePort(), logFile: path.join(dir, 'nats.log') });
  await server.kill();
  await server.start();
  await server.stop();
  expect(fs.readFileSync(path.join(dir, 'nats.log'), 'utf8')).toContain('Server is ready');
});

test('ports are remembered, and a state folder has one owner', async () => {
  const state = path.join(dir, 'state');
  const first = await assignPorts(state, ['a', 'b']);
  expect(await assignPorts(state, ['b', 'a', 'c'])).toMatchObject(first);
  const release = claimStateDir(state);
  fs.writeFileSync(path.join(state, 'owner.pid'), `${process.ppid}\n`);
  expect(() => claimStateDir(state)).toThrow(SupportError);
  fs.writeFileSync(path.join(state, 'owner.pid'), '999999999\n');
  claimStateDir(state)();
  release();
});

describe('supervisor', () => {
  const program = `
    process.on('SIGTERM', () => { console.log('bye'); process.exit(0); });
    setInterval(() => {}, 1000);
    console.log('not json');
    console.log(JSON.stringify({ ready: true, greeting: process.env.GREETING, pid: process.pid }));
  `;

  const spec = (name: string) =>
    ({
      name,
      program: { command: process.execPath },
      args: ['-e', program],
      env: { GREETING: 'hello' },
      readiness: { kind: 'line' },
    }) as const;

  test('starts, restarts after a kill, and stops in reverse order', async () => {
    const supervisor = new Supervisor({ logsDir: path.join(dir, 'logs') });
    const events: SupervisorEvent[] = [];
    supervisor.onEvent((event) => events.push(event));
    expect(await supervisor.start(spec('one'))).toMatchObject({ greeting: 'hello' });
    await supervisor.start(spec('two'));
    const killed = await supervisor.kill9('one');
    const again = await supervisor.whenReady('one');
    expect(again['pid']).not.toBe(killed);
    expect(await supervisor.restart('two', { GREETING: 'changed' })).toMatchObject({ greeting: 'changed' });
    await supervisor.stopAll();
    expect(events.filter((event) => event.kind === 'exited').map((event) => event.name)).toEqual([
      'one',
      'two',
      'two',
      'one',
    ]);
    expect(fs.readFileSync(supervisor.logFile('one'), 'utf8')).toContain('bye');
  });

  test('tells why a process did not become ready', async () => {
    const supervisor = new Supervisor({ logsDir: path.join(dir, 'logs') });
    const broken = { ...spec('broken'), args: ['-e', 'console.error("no luck"); process.exit(3)'] };
    await expect(supervisor.start(broken)).rejects.toThrow(/exit code 3[^]*no luck/);
  });

  test('leaves no orphan when it is killed', async () => {
    const parent = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `
      const { Supervisor } = await import(${JSON.stringify(new URL('./supervisor.ts', import.meta.url).href)});
      const supervisor = new Supervisor({ logsDir: ${JSON.stringify(path.join(dir, 'logs'))} });
      const ready = await supervisor.start(${JSON.stringify(spec('orphan'))});
      console.log(ready.pid);
    `,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const childPid = await new Promise<number>((resolve) => {
      readline.createInterface({ input: parent.stdout }).once('line', (line) => resolve(Number(line)));
    });
    expect(isAlive(childPid)).toBe(true);
    parent.kill('SIGKILL');
    await expect.poll(() => isAlive(childPid), { timeout: 10_000 }).toBe(false);
  });
});
