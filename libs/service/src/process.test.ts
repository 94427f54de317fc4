/** A service as a process of its own, as its supervisor sees it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { afterEach, expect, test } from 'vitest';

const PROCESS = new URL('./process.ts', import.meta.url).href;

let child: ChildProcess | undefined;
afterEach(async () => {
  if (child?.exitCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (typeof address !== 'object' || address === null) throw new TypeError('not bound');
  return address.port;
}

/** Runs a service whose `start` is this expression; resolves once its port is open. */
async function run(start: string): Promise<(path: string) => Promise<number>> {
  const port = await freePort();
  const status = async (path: string): Promise<number> =>
    (await fetch(`http://127.0.0.1:${port}${path}`)).status;
  child = spawn(
    process.execPath,
    [
      '--input-type=module',
      '--eval',
      `import { runService } from ${JSON.stringify(PROCESS)}; runService('one', ${start});`,
    ],
    {
      env: { ...process.env, FULMEN_METRICS_PORT: String(port), FULMEN_LOG_LEVEL: 'fatal' },
      stdio: ['ignore', 'ignore', 'inherit'],
    },
  );
  const ended = once(child, 'exit').then(() => {
    throw new TypeError('the process ended');
  });
  ended.catch(() => undefined);
  for (;;) {
    const isOpen = await Promise.race([
      ended,
      status('/alive').then(
        () => true,
        () => false,
      ),
    ]);
    if (isOpen) return status;
  }
}

test('a service that waits for others is alive, and not ready', async () => {
  // A promise alone keeps no process: what waits for others has a timer or a socket.
  const status = await run('() => new Promise(() => setInterval(() => undefined, 1_000))');
  expect([await status('/alive'), await status('/metrics'), await status('/')]).toEqual([200, 503, 404]);
});

test('a service that has started is ready', async () => {
  const status = await run(
    `async () => ({ address: 'here', failed: new Promise(() => undefined), stop: async () => undefined })`,
  );
  const started = async (): Promise<void> => {
    while ((await status('/metrics')) !== 200);
  };
  await started();
  expect(await status('/alive')).toBe(200);
});
