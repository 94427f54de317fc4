import { once } from 'node:events';
import { type RequestListener, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { EsploraChainSource } from './esplora.ts';
import type { EsploraConfig } from './esplora-http.ts';
import { Registrations } from './filter.ts';
import { ChainSourceError } from './source.ts';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

async function serving(
  listener: RequestListener,
  changes: Partial<EsploraConfig> = {},
): Promise<EsploraChainSource> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const source = new EsploraChainSource({ url: `http://127.0.0.1:${port}/api/`, ...changes });
  closers.push(() => {
    source.close();
    server.close();
    server.closeAllConnections();
  });
  return source;
}

async function failureOf(call: Promise<unknown>): Promise<ChainSourceError> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ChainSourceError);
  return error as ChainSourceError;
}

const HASH = 'ab'.repeat(32);
const TX =
  '01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff0704ffff001d0104ffffffff0100f2052a0100000043410496b538e853519c726a2c91e61ec11600ae1390813a627c66fb8be7947be63c52da7589379515d4e0a604f8141781e62294721166bf621e73a82cbf2342c858eeac00000000';

describe('HTTP', () => {
  test('the path of the base address is kept, and nothing else is asked', async () => {
    const asked: string[] = [];
    const source = await serving((request, response) => {
      asked.push(`${request.method} ${request.url}`);
      response.end(HASH);
    });
    expect(await source.getBlockHash(7)).toBe(HASH);
    expect(asked).toEqual(['GET /api/block-height/7']);
  });

  test.each([
    [401, 'unauthorized'],
    [429, 'unreachable'],
    [503, 'unreachable'],
    [400, 'refused'],
  ])('status %i is %s', async (status, code) => {
    const source = await serving((_, response) => response.writeHead(status).end('no'));
    expect((await failureOf(source.getBestBlock())).code).toBe(code);
  });

  test('an endless answer and silence are cut off', async () => {
    const endless = await serving((_, response) => response.end('f'.repeat(10_000)), {
      maxResponseBytes: 1_000,
    });
    expect((await failureOf(endless.getBlockHash(1))).code).toBe('too-large');
    const silent = await serving(() => undefined, { timeoutMs: 50 });
    expect((await failureOf(silent.getBlockHash(1))).code).toBe('timeout');
  });

  test.each(['1e999', '1e300', '100001', '-1', '"1"', 'null'])(
    'an estimate of %s sat/vB is malformed',
    async (feerate) => {
      const source = await serving((_, response) => response.end(`{"6":${feerate}}`));
      expect((await failureOf(source.estimateFeerateSatPerKw(6, 'economical'))).code).toBe('malformed');
    },
  );

  test('only http and https', () => {
    for (const url of ['file:///etc/passwd', 'esplora.example', ''])
      expect(() => new EsploraChainSource({ url })).toThrow(ChainSourceError);
  });
});

test('whatever it answers, the port fails typed or keeps its types', async () => {
  const answer = { status: 200, body: '' };
  const source = await serving((_, response) => response.writeHead(answer.status).end(answer.body));
  const filter = new Registrations();
  filter.registerTx(new Uint8Array(32).fill(0xab));
  filter.registerScript(Uint8Array.of(0x51));
  for (let vout = 0; vout < 5; vout++) filter.registerOutput(new Uint8Array(32).fill(0xcd), vout);
  const raw = Uint8Array.from(Buffer.from(TX, 'hex'));
  const calls = [
    () => source.networkName(),
    () => source.getBestBlock(),
    () => source.getBlockHash(1),
    () => source.getBlockHeader(HASH),
    () => source.getFilteredBlock(HASH, filter),
    () => source.getFilteredMempool(filter),
    () => source.getTxByBlockAndIndex(1, 0),
    () => source.getUtxo(HASH, 0),
    () => source.getRawMempool(),
    () => source.getMempoolTransaction(HASH),
    () => source.getMempoolSpends([{ txid: HASH, vout: 0 }]),
    () => source.broadcastPackage([raw]),
    () => source.broadcastPackage([raw, raw]),
    () => source.estimateFeerateSatPerKw(6, 'economical'),
  ];
  const body = fc.oneof(
    fc.json({ maxDepth: 2 }),
    fc.string(),
    fc.constantFrom(HASH, TX, '{}', '[]', '{"confirmed":true}', '{"spent":true}', '{"in_best_chain":true}'),
  );
  await fc.assert(
    fc.asyncProperty(
      body,
      fc.constantFrom(200, 404, 500),
      fc.nat(calls.length - 1),
      async (text, status, at) => {
        answer.body = text;
        answer.status = status;
        const error: unknown = await calls[at]?.().then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        if (error !== undefined) expect(error).toBeInstanceOf(ChainSourceError);
      },
    ),
    { numRuns: 400 },
  );
});

describe('broadcasts', () => {
  test.each([
    ['sendrawtransaction RPC error -26: min relay fee not met, 0 < 141', 'min relay fee not met'],
    [
      'sendrawtransaction RPC error: {"code":-26,"message":"insufficient fee, rejecting"}',
      'insufficient fee',
    ],
    ['sendrawtransaction RPC error -25: bad-txns-inputs-missingorspent', 'missing-inputs'],
    ['out of luck', 'out of luck'],
  ])('%s', async (body, reason) => {
    const source = await serving((_, response) => response.writeHead(400).end(body));
    const raw = Uint8Array.from(Buffer.from(TX, 'hex'));
    expect(await source.broadcastPackage([raw])).toMatchObject({ kind: 'rejected', reason });
  });

  test('what the chain has already is accepted; a server without packages says so', async () => {
    const source = await serving((request, response) =>
      request.url === '/api/tx'
        ? response
            .writeHead(400)
            .end('sendrawtransaction RPC error -27: Transaction outputs already in utxo set')
        : response.writeHead(404).end('endpoint does not exist'),
    );
    const raw = Uint8Array.from(Buffer.from(TX, 'hex'));
    expect((await source.broadcastPackage([raw])).kind).toBe('accepted');
    expect(await source.broadcastPackage([raw, raw])).toMatchObject({
      kind: 'rejected',
      reason: 'the server relays no packages',
    });
  });
});

test('estimates: of the targets that are told, the slowest that is not slower than the question', async () => {
  const source = await serving((_, response) => response.end('{"2":20.5,"6":10,"144":1.001,"1008":0.1}'));
  const ask = (blocks: number) => source.estimateFeerateSatPerKw(blocks, 'economical');
  expect(await Promise.all([1, 2, 5, 6, 143, 144, 2_000].map(ask))).toEqual([
    5_125, 5_125, 5_125, 2_500, 2_500, 253, 253,
  ]);
});
