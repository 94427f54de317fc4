import { getEventListeners } from 'node:events';
import { describe, expect, test } from 'vitest';
import type { ServiceTerms } from './callers.ts';
import { type Handlers, type RpcConnector, RpcError, type RpcServer } from './transport.ts';

/** A tiny codec, so that the suite needs no generated contract. */
const text = {
  encode: (value: string): Buffer => Buffer.from(value, 'utf8'),
  decode: (value: Buffer): string => value.toString('utf8'),
};
const method = <P extends string, Q extends boolean, S extends boolean>(
  path: P,
  requestStream: Q,
  responseStream: S,
) => ({
  path,
  requestStream,
  responseStream,
  requestSerialize: text.encode,
  requestDeserialize: text.decode,
  responseSerialize: text.encode,
  responseDeserialize: text.decode,
});
const EchoService = {
  echo: method('/test.v1.EchoService/Echo', false as const, false as const),
  count: method('/test.v1.EchoService/Count', false as const, true as const),
  chat: method('/test.v1.EchoService/Chat', true as const, true as const),
  join: method('/test.v1.EchoService/Join', true as const, false as const),
} as const;

export interface Wiring {
  readonly server: RpcServer;
  readonly connector: RpcConnector;
}

/** What every transport must do; run on gRPC and on memory. */
export function transportCompliance(name: string, makeWiring: () => Wiring): void {
  const everybody: ServiceTerms = { callers: { 'test.v1.EchoService': 'anyone' } };
  const start = async (waiting: { started?: () => void } = {}, terms = everybody) => {
    const { server, connector } = makeWiring();
    const handlers: Handlers<typeof EchoService> = {
      echo: async (request, context) => {
        if (request === 'fail')
          throw new RpcError('failed_precondition', 'not mine', { 'fulmen-owner-address': 'x:1' });
        if (request === 'crash') throw new TypeError('a bug');
        if (request === 'capabilities') return [...context.capabilities].join(',');
        if (request === 'hang') {
          waiting.started?.();
          await new Promise((resolve) => context.signal.addEventListener('abort', resolve));
        }
        return `${request}!`;
      },
      count: async function* (request) {
        for (let i = 0; i < Number(request); i += 1) yield String(i);
      },
      join: async (requests, context) => {
        let joined = '';
        for await (const line of requests) {
          if (line === 'break') throw new RpcError('aborted', 'asked to', { after: joined });
          joined += line;
          if (line === 'hang') {
            waiting.started?.();
            await new Promise((resolve) => context.signal.addEventListener('abort', resolve));
          }
        }
        return joined;
      },
      chat: async (stream) => {
        for await (const line of stream) {
          if (line === 'break') throw new RpcError('aborted', 'asked to');
          await stream.send(`re: ${line}`);
        }
      },
    };
    server.add(EchoService, handlers, terms);
    const address = await server.listen();
    const client = connector.client(EchoService, address);
    const stop = async (): Promise<void> => {
      connector.close();
      await server.stop(100);
    };
    return { client, connector, server, stop };
  };

  describe(`transport: ${name}`, () => {
    test('unary calls answer', async () => {
      const { client, stop } = await start();
      expect(await client.echo('hello')).toBe('hello!');
      expect(await Promise.all(Array.from({ length: 50 }, (_, i) => client.echo(String(i))))).toEqual(
        Array.from({ length: 50 }, (_, i) => `${i}!`),
      );
      await stop();
    });

    test('errors keep code, message and metadata; bugs are internal', async () => {
      const { client, stop } = await start();
      const error = await client.echo('fail').catch((e: unknown) => e);
      expect(error).toBeInstanceOf(RpcError);
      expect(error).toMatchObject({
        code: 'failed_precondition',
        message: 'not mine',
        metadata: { 'fulmen-owner-address': 'x:1' },
      });
      await expect(client.echo('crash')).rejects.toMatchObject({ code: 'internal' });
      await stop();
    });

    test('server streams deliver everything in order', async () => {
      const { client, stop } = await start();
      const seen: string[] = [];
      for await (const item of client.count('500')) seen.push(item);
      expect(seen).toEqual(Array.from({ length: 500 }, (_, i) => String(i)));
      await stop();
    });

    test('a call that ended leaves nothing with the signal of its caller', async () => {
      const { client, stop } = await start();
      const { signal } = new AbortController();
      await client.echo('hello', { signal });
      for await (const item of client.count('3', { signal })) expect(item).toBeDefined();
      for await (const item of client.count('500', { signal })) if (item === '1') break;
      expect(getEventListeners(signal, 'abort')).toEqual([]);
      await stop();
    });

    test('client streams arrive in order and are answered once, also when they are empty', async () => {
      const { client, stop } = await start();
      const pieces = Array.from({ length: 1000 }, (_, i) => `${i} `);
      expect(await client.join(pieces)).toBe(pieces.join(''));
      expect(await client.join([])).toBe('');
      await stop();
    });

    test('a client stream that is refused is sent no further', async () => {
      const { client, stop } = await start();
      let sent = 0;
      const endless = function* () {
        for (;;) {
          sent += 1;
          yield sent === 3 ? 'break' : 'x';
        }
      };
      await expect(client.join(endless())).rejects.toMatchObject({
        code: 'aborted',
        message: 'asked to',
        metadata: { after: 'xx' },
      });
      const before = sent;
      expect(await client.join(['still', ' there'])).toBe('still there');
      expect(sent).toBe(before);
      await stop();
    });

    test('a client stream ends with its caller, and leaves nothing with the signal', async () => {
      const started = Promise.withResolvers<void>();
      const { client, stop } = await start({ started: started.resolve });
      const controller = new AbortController();
      const hanging = client.join(['hang'], { signal: controller.signal }).catch((e: unknown) => e);
      await started.promise;
      controller.abort();
      expect(await hanging).toBeInstanceOf(RpcError);
      const { signal } = new AbortController();
      expect(await client.join(['a', 'b'], { signal })).toBe('ab');
      await expect(client.join(['break'], { signal })).rejects.toBeInstanceOf(RpcError);
      expect(getEventListeners(signal, 'abort')).toEqual([]);
      await stop();
    });

    test('duplex streams keep order under load and end cleanly', async () => {
      const { client, stop } = await start();
      const stream = client.chat();
      const writer = (async () => {
        for (let i = 0; i < 1000; i += 1) await stream.send(String(i));
        stream.end();
      })();
      const seen: string[] = [];
      for await (const line of stream) seen.push(line);
      await writer;
      expect(seen).toEqual(Array.from({ length: 1000 }, (_, i) => `re: ${i}`));
      await stop();
    });

    test('a broken stream is an error on the other side', async () => {
      const { client, stop } = await start();
      const stream = client.chat();
      await stream.send('break');
      const read = async (): Promise<void> => {
        for await (const line of stream) expect(line).toBeDefined();
      };
      await expect(read()).rejects.toMatchObject({ code: 'aborted' });
      await stop();
    });

    test('each method answers its callers, and denies everybody else', async () => {
      const denied: string[] = [];
      const { client, stop } = await start(
        {},
        {
          // What is not named is for nobody.
          callers: {
            'test.v1.EchoService': { Echo: ['console', 'plaintext'], Count: ['console', 'router'] },
          },
          onDenied: ({ method: name }) => denied.push(name),
        },
      );
      const stream = client.chat();
      const read = async (items: AsyncIterable<string>): Promise<void> => {
        for await (const item of items) expect(item).toBeUndefined();
      };
      expect(await client.echo('hello')).toBe('hello!');
      await expect(read(client.count('1'))).rejects.toMatchObject({
        code: 'permission_denied',
        message:
          'EchoService.Count needs a certificate with the unit console or router; the caller has plaintext',
      });
      await expect(read(stream)).rejects.toMatchObject({
        code: 'permission_denied',
        message: 'EchoService.Chat is for nobody; the caller has plaintext',
      });
      await expect(client.join(['a'])).rejects.toMatchObject({ code: 'permission_denied' });
      expect(denied.toSorted()).toEqual(['Chat', 'Count', 'Join']);
      await stop();
    });

    test('a call to nobody is unavailable; a server that stops breaks its calls', async () => {
      const started = Promise.withResolvers<void>();
      const { client, server, connector } = await start({ started: started.resolve });
      const hanging = client.echo('hang').catch((e: unknown) => e);
      await started.promise;
      await server.stop(10);
      expect(await hanging).toBeInstanceOf(RpcError);
      await expect(client.echo('x', { deadlineMs: 2000 })).rejects.toMatchObject({ code: 'unavailable' });
      connector.close();
    });
  });
}
