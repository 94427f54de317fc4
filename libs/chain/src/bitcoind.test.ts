import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { RequestListener, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { BitcoindChainSource } from './bitcoind.ts';
import type { BitcoindRpcConfig } from './bitcoind-rpc.ts';
import { BitcoindRpc } from './bitcoind-rpc.ts';
import { ChainSourceError } from './source.ts';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

async function serve(listener: RequestListener): Promise<Pick<BitcoindRpcConfig, 'host' | 'port'>> {
  const server: Server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => {
    server.close();
    server.closeAllConnections();
  });
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port };
}

function client(config: BitcoindRpcConfig): BitcoindRpc {
  const rpc = new BitcoindRpc(config);
  closers.push(() => rpc.close());
  return rpc;
}

const auth = { kind: 'password', user: 'u', password: 'p' } as const;

async function failureOf(promise: Promise<unknown>): Promise<ChainSourceError> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ChainSourceError);
  return error as ChainSourceError;
}

/** A node that answers every call with this result. */
async function answering(result: unknown): Promise<BitcoindChainSource> {
  return answeringText(JSON.stringify(result));
}

/** The result as the node spells it: JSON has numbers that are none here. */
async function answeringText(result: string): Promise<BitcoindChainSource> {
  const at = await serve((request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += String(chunk)));
    request.on('end', () => {
      const call = JSON.parse(body) as { id: number } | { id: number }[];
      const reply = ({ id }: { id: number }): string => `{"result":${result},"error":null,"id":${id}}`;
      response.end(Array.isArray(call) ? `[${call.map(reply).join()}]` : reply(call));
    });
  });
  const source = new BitcoindChainSource({ ...at, auth });
  closers.push(() => source.close());
  return source;
}

describe('a node that misbehaves', () => {
  test('is not there', async () => {
    const { host, port } = await serve(() => undefined);
    for (const close of closers.splice(0)) close();
    const error = await failureOf(client({ host, port, auth }).call('getblockcount'));
    expect(error.code).toBe('unreachable');
    expect(error.isTransient).toBe(true);
  });

  test('does not answer', async () => {
    const at = await serve(() => undefined);
    expect((await failureOf(client({ ...at, auth, timeoutMs: 30 }).call('getblockcount'))).code).toBe(
      'timeout',
    );
  });

  test('answers without end', async () => {
    const at = await serve((_, response) => {
      response.on('error', () => undefined);
      response.end('x'.repeat(100_000));
    });
    expect(
      (await failureOf(client({ ...at, auth, maxResponseBytes: 1000 }).call('getblockcount'))).code,
    ).toBe('too-large');
  });

  test.each(['', 'not json', '[]', '{}', '{"id":7,"result":1}', '{"id":1,"error":"no"}', 'null', '3'])(
    'answers %j',
    async (body) => {
      const at = await serve((_, response) => response.end(body));
      const rpc = client({ ...at, auth });
      const error = await failureOf(rpc.call('getblockcount'));
      expect(error.code).toBe('malformed');
    },
  );

  test('is starting, too busy, or refuses the password', async () => {
    const answers: [number, string][] = [
      [500, '{"result":null,"error":{"code":-28,"message":"Loading block index"},"id":1}'],
      [503, 'Work queue depth exceeded'],
      [401, ''],
    ];
    const at = await serve((_, response) => {
      const [status, body] = answers.shift() ?? [500, ''];
      response.writeHead(status).end(body);
    });
    const rpc = client({ ...at, auth });
    expect((await failureOf(rpc.call('x'))).code).toBe('warming-up');
    expect((await failureOf(rpc.call('x'))).code).toBe('unreachable');
    expect((await failureOf(rpc.call('x'))).code).toBe('unauthorized');
  });

  test('whatever its results are, the port fails typed or keeps its types', async () => {
    const result: { value: unknown } = { value: undefined };
    const at = await serve((request, response) => {
      let body = '';
      request.on('data', (chunk) => (body += String(chunk)));
      request.on('end', () => {
        const call = JSON.parse(body) as { id: number } | { id: number }[];
        const reply = ({ id }: { id: number }): unknown => ({ result: result.value, error: null, id });
        response.end(JSON.stringify(Array.isArray(call) ? call.map(reply) : reply(call)));
      });
    });
    const source = new BitcoindChainSource({ ...at, auth });
    closers.push(() => source.close());
    const hash = 'ab'.repeat(32);
    const calls = [
      () => source.getBestBlock(),
      () => source.getBlockHeader(hash),
      () => source.getBlock(hash),
      () => source.getUtxo(hash, 0),
      () => source.getRawMempool(),
      () => source.getMempoolTransaction(hash),
      () => source.testMempoolAccept([new Uint8Array(60)]),
      () => source.broadcastPackage([new Uint8Array(60)]),
      () => source.estimateFeerateSatPerKw(6, 'economical'),
      () => source.networkName(),
      () => source.getTxByBlockAndIndex(1, 0),
    ];
    await fc.assert(
      fc.asyncProperty(fc.jsonValue({ maxDepth: 2 }), fc.nat(calls.length - 1), async (value, index) => {
        result.value = value;
        const error: unknown = await calls[index]?.().then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        if (error !== undefined) expect(error).toBeInstanceOf(ChainSourceError);
      }),
      { numRuns: 150 },
    );
  });

  test.each(['1e999', '1e300', '1.01', '-0.00001', '"0.00001"', 'null'])(
    'a minimum of the mempool of %s BTC/kvB is malformed',
    async (feerate) => {
      const source = await answeringText(`{"mempoolminfee":${feerate}}`);
      expect((await failureOf(source.mempoolMinFeerateSatPerKw())).code).toBe('malformed');
    },
  );

  test.each(['1e999', '1e300', '1.01', '"0.00001"', 'null'])(
    'an estimate of %s BTC/kvB is malformed',
    async (feerate) => {
      const source = await answeringText(`{"feerate":${feerate},"blocks":6}`);
      expect((await failureOf(source.estimateFeerateSatPerKw(6, 'economical'))).code).toBe('malformed');
    },
  );

  test('feerates are in sat per 1000 weight, and no estimate is none', async () => {
    expect(await (await answering({ mempoolminfee: 1 })).mempoolMinFeerateSatPerKw()).toBe(25_000_000);
    expect(await (await answering({ mempoolminfee: 0 })).mempoolMinFeerateSatPerKw()).toBe(253);
    const estimate = async (answer: object): Promise<number | undefined> =>
      (await answering(answer)).estimateFeerateSatPerKw(6, 'economical');
    expect(await estimate({ feerate: 0.0001, blocks: 6 })).toBe(2_500);
    expect(await estimate({ errors: ['Insufficient data'], blocks: 6 })).toBeUndefined();
    // Bitcoin Core's word for it before version 0.15.
    expect(await estimate({ feerate: -1, blocks: 6 })).toBeUndefined();
  });

  test.each([{ confirmations: 0 }, { confirmations: -400 }])(
    'an unspent output with $confirmations confirmations is malformed',
    async ({ confirmations }) => {
      const source = await answering({
        value: 1,
        scriptPubKey: { hex: '00' },
        confirmations,
        coinbase: false,
      });
      expect((await failureOf(source.getUtxo('ab'.repeat(32), 0))).code).toBe('malformed');
    },
  );

  test('a best block below the first is malformed', async () => {
    const source = await answering({ bestblockhash: 'ab'.repeat(32), blocks: -1 });
    expect((await failureOf(source.getBestBlock())).code).toBe('malformed');
  });

  test('a fee beyond all reason is malformed', async () => {
    const source = await answering({
      value: 22_000_000,
      scriptPubKey: { hex: '00' },
      confirmations: 1,
      coinbase: false,
    });
    expect((await failureOf(source.getUtxo('ab'.repeat(32), 0))).code).toBe('malformed');
  });
});

describe('authentication', () => {
  test('a cookie that changed is read again', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fulmen-cookie-'));
    closers.push(() => rmSync(folder, { recursive: true }));
    const path = join(folder, '.cookie');
    let expected = '__cookie__:first';
    const at = await serve((request, response) => {
      const good = request.headers.authorization === `Basic ${Buffer.from(expected).toString('base64')}`;
      request.resume();
      request.on('end', () =>
        good ? response.end(`{"result":5,"error":null,"id":${call}}`) : response.writeHead(401).end(),
      );
    });
    let call = 1;
    const rpc = client({ ...at, auth: { kind: 'cookie', path } });
    expect((await failureOf(rpc.call('getblockcount'))).code).toBe('unreachable');
    writeFileSync(path, expected);
    call = 2;
    expect(await rpc.call('getblockcount')).toBe(5);
    expected = '__cookie__:second';
    writeFileSync(path, `${expected}\n`);
    call = 3;
    expect(await rpc.call('getblockcount')).toBe(5);
    expected = '__cookie__:third';
    call = 4;
    expect((await failureOf(rpc.call('getblockcount'))).code).toBe('unauthorized');
  });
});
