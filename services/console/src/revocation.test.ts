/** What becomes of the calls of a token that is taken back while they are open. */
import { EventServiceService } from '@fulmen/proto/node/v1/node';
import { Metrics, type Runtime, spawnTask } from '@fulmen/service';
import { expect, test, vi } from 'vitest';
import { Guard } from './auth/guard.ts';
import {
  ADMIN,
  as,
  CONFIG,
  fastRuntime,
  keepingLogger,
  PAYER,
  READER,
  startTestConsole,
  tokenEntry,
} from './testing/harness.ts';

const OTHERS = [tokenEntry('admin', ADMIN, ['admin'])];

/** A console that reads its tokens again when it is told to. */
async function start() {
  const reloads: (() => void)[] = [];
  const runtime: Runtime = {
    ...fastRuntime(),
    sleep: () => new Promise<void>((resolve) => void reloads.push(resolve)),
    spawn: (name, work) =>
      spawnTask(name, name === 'token reload' ? work : () => Promise.resolve(), () => undefined),
  };
  const { setTokens, ...rest } = await startTestConsole({ runtime });
  return {
    ...rest,
    reload: async (entries: Parameters<typeof setTokens>[0]): Promise<void> => {
      setTokens(entries);
      reloads.shift()?.();
      await new Promise<void>((resolve) => setImmediate(resolve));
    },
  };
}

test.each([
  ['was revoked', []],
  ['lost the scope', [tokenEntry('dashboard', READER, ['invoices'])]],
  ['was replaced by another under its name', [tokenEntry('dashboard', PAYER, ['read'])]],
])('the stream of a token that %s ends, and no other', async (_what, after) => {
  const { client, events, hint, reload } = await start();
  events.append('x');
  const subscribe = (token: string) =>
    client(EventServiceService)
      .subscribe({ afterPosition: 0n, types: [] }, as(token))
      [Symbol.asyncIterator]();
  const [revoked, other] = [subscribe(READER), subscribe(ADMIN)];
  for (const stream of [revoked, other]) expect((await stream.next()).value).toMatchObject({ position: 1n });
  const [ended, goesOn] = [revoked.next(), other.next()];
  await Promise.all([
    expect(ended).rejects.toMatchObject({
      code: 'unauthenticated',
      message: 'The token "dashboard" was revoked, or may no longer call EventService.Subscribe.',
    }),
    reload([...OTHERS, ...after]),
  ]);
  events.append('y');
  hint();
  expect((await goesOn).value).toMatchObject({ position: 2n });
  await other.return?.();
});

test('a reader that is behind gets nothing more', async () => {
  const { client, events, reload } = await start();
  for (let i = 0; i < 3; i += 1) events.append('x');
  const stream = client(EventServiceService)
    .subscribe({ afterPosition: 0n, types: [] }, as(READER))
    [Symbol.asyncIterator]();
  await stream.next();
  await reload(OTHERS);
  await expect(stream.next()).rejects.toMatchObject({ code: 'unauthenticated' });
});

test('a request whose last piece comes after the token was revoked does nothing', async () => {
  const guard = new Guard({
    runtime: fastRuntime(),
    logger: keepingLogger([]),
    metrics: new Metrics('console'),
    limits: CONFIG.limits,
  });
  guard.setTokens(OTHERS);
  const last = Promise.withResolvers<Uint8Array>();
  const handler = vi.fn(() => Promise.resolve({}));
  const recover = guard.upload({ name: 'Recover', scope: 'channels' }, () => last.promise, handler);
  const pieces = (async function* () {})();
  const call = recover(pieces, {
    capabilities: new Set(),
    signal: new AbortController().signal,
    ...as(ADMIN),
  });
  guard.setTokens([]);
  last.resolve(new Uint8Array(1));
  await expect(call).rejects.toMatchObject({ code: 'unauthenticated' });
  expect(handler).not.toHaveBeenCalled();
});
