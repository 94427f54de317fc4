import { ChainServiceService, WalletServiceService } from '@fulmen/proto/chain/v1/chain';
import type { Payment } from '@fulmen/proto/manager/v1/manager';
import {
  ChannelServiceService,
  InvoiceServiceService,
  NodeServiceService,
  OnChainServiceService,
  PaymentServiceService,
  PeerServiceService,
} from '@fulmen/proto/node/v1/node';
import { RpcError } from '@fulmen/rpc';
import { describe, expect, test } from 'vitest';
import { HealthService } from './upstream/health.ts';
import { ADMIN, as, PAYER, READER, redirect, startTestConsole, tokenText } from './testing/harness.ts';

const NODE_ID = Uint8Array.of(2, ...new Uint8Array(32).fill(5));
const HASH = new Uint8Array(32).fill(9);
/** BOLT 11's example of 2500 µBTC, "1 cup coffee". */
const COFFEE =
  'lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh';
/** BOLT 11's example of a donation: any amount. */
const DONATION =
  'lnbc1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twvus8g6rfwvs8qun0dfjkxaq9qrsgq357wnc5r2ueh7ck6q93dj32dlqnls087fxdwk8qakdyafkq3yap9us6v52vjjsrvywa6rt52cm9r9zqt8r2t7mlcwspyetp5h2tztugp9lfyql';

const payment = (changes: Partial<Payment>): Payment => ({
  paymentHash: HASH,
  status: 'succeeded',
  amountMsat: 250_000_000n,
  feeMsat: 1_000n,
  preimage: new Uint8Array(32).fill(1),
  failureReason: '',
  createdUnixMs: 1n,
  bolt11: COFFEE,
  attempts: 1,
  attemptRecords: [],
  ...changes,
});

const errorOf = (promise: Promise<unknown>): Promise<RpcError> =>
  promise.then(
    () => expect.unreachable('the call succeeded'),
    (error: unknown) => {
      expect(error).toBeInstanceOf(RpcError);
      return error as RpcError;
    },
  );

describe('tokens', () => {
  test('a call without a token, with a malformed one or an unknown one is refused with a sentence', async () => {
    const { client } = await startTestConsole();
    const node = client(NodeServiceService);
    const cases: [Record<string, string>, RegExp][] = [
      [{}, /needs a token/],
      [{ authorization: 'Basic abc' }, /malformed/],
      [{ authorization: `Bearer ${tokenText('f')}` }, /does not know this token/],
    ];
    for (const [metadata, sentence] of cases) {
      const error = await errorOf(node.getInfo({}, { metadata }));
      expect(error.code).toBe('unauthenticated');
      expect(error.message).toMatch(sentence);
    }
  });

  test('each method needs its scope, and admin has all', async () => {
    const { client, serve } = await startTestConsole();
    await serve('manager-a', {
      createInvoice: () => Promise.resolve({ bolt11: 'lnbc1', paymentHash: HASH }),
      listPeers: () => Promise.resolve({ peers: [] }),
    });
    const invoices = client(InvoiceServiceService);
    const request = { amountMsat: 1n, description: '', idempotencyKey: '' };
    const refused = await errorOf(invoices.createInvoice(request, as(READER)));
    expect(refused).toMatchObject({ code: 'permission_denied' });
    expect(refused.message).toBe(
      'The token "dashboard" may not call InvoiceService.CreateInvoice: that needs the scope "invoices", and it has read.',
    );
    expect((await invoices.createInvoice(request, as(PAYER))).bolt11).toBe('lnbc1');
    expect((await invoices.createInvoice(request, as(ADMIN))).bolt11).toBe('lnbc1');
    const peers = client(PeerServiceService);
    expect(await peers.listPeers({}, as(READER))).toEqual({ peers: [] });
    expect(await errorOf(peers.disconnectPeer({ nodeId: NODE_ID }, as(PAYER)))).toMatchObject({
      code: 'permission_denied',
    });
  });

  test('a token has a rate and a number of calls at once', async () => {
    const { client, serve } = await startTestConsole();
    const release = Promise.withResolvers<void>();
    let entered = 0;
    const allIn = Promise.withResolvers<void>();
    await serve('manager-a', {
      listPeers: async () => {
        entered += 1;
        if (entered === 8) allIn.resolve();
        await release.promise;
        return { peers: [] };
      },
    });
    const peers = client(PeerServiceService);
    const open = Array.from({ length: 8 }, () => peers.listPeers({}, as(READER)));
    await allIn.promise;
    const ninth = await errorOf(peers.listPeers({}, as(READER)));
    expect(ninth).toMatchObject({ code: 'resource_exhausted' });
    expect(ninth.message).toMatch(/already has 8 calls open/);
    release.resolve();
    await Promise.all(open);
    // Of a burst of 200, 8 are spent; then the rate is told.
    for (let i = 0; i < 192; i += 1) await peers.listPeers({}, as(READER));
    expect((await errorOf(peers.listPeers({}, as(READER)))).message).toMatch(/more than 50 calls a second/);
    expect(await peers.listPeers({}, as(PAYER))).toEqual({ peers: [] });
  });
});

describe('audit', () => {
  test('says who did what with which outcome, for calls that change something, and no secret', async () => {
    const { client, serve, audit } = await startTestConsole();
    await serve('manager-a', {
      createInvoice: () => Promise.resolve({ bolt11: 'lnbc1', paymentHash: HASH }),
      listPeers: () => Promise.resolve({ peers: [] }),
    });
    const invoices = client(InvoiceServiceService);
    const preimage = new Uint8Array(32).fill(0xee);
    const request = { amountMsat: 5n, description: 'x', idempotencyKey: 'k'.repeat(128), preimage };
    await invoices.createInvoice(request, as(PAYER));
    await errorOf(invoices.createInvoice(request, as(READER)));
    await errorOf(invoices.createInvoice({ ...request, preimage: preimage.subarray(1) }, as(PAYER)));
    await client(PeerServiceService).listPeers({}, as(READER));
    expect(audit()).toMatchObject([
      {
        by: 'bot',
        method: 'InvoiceService.CreateInvoice',
        outcome: 'ok',
        request: { amountMsat: '5', paymentHash: '09'.repeat(32) },
      },
      { by: 'dashboard', outcome: 'permission_denied' },
      { by: 'bot', outcome: 'invalid_argument', error: 'preimage must be 32 bytes, not 31.' },
    ]);
    expect(JSON.stringify(audit())).not.toContain('eeee');
  });
});

describe('the owner of a shard', () => {
  const connect = { nodeId: NODE_ID, host: '10.0.0.7', port: 9735 };

  test('gets the command that another replica refused', async () => {
    const { client, serve } = await startTestConsole();
    const seen: string[] = [];
    await serve('manager-a', { connectPeer: () => (seen.push('a'), redirect('manager-c')) });
    await serve('manager-c', { connectPeer: () => (seen.push('c'), Promise.resolve({})) });
    await client(PeerServiceService).connectPeer(connect, as(ADMIN));
    expect(seen).toEqual(['a', 'c']);
  });

  test('is looked for anew after three hops, and while there is none', async () => {
    const { client, serve } = await startTestConsole();
    let asked = 0;
    await serve('manager-a', {
      connectPeer: () => {
        asked += 1;
        // First nobody owns it, then replicas that disagree, then this one does.
        return asked < 3 ? redirect('') : asked < 5 ? redirect('manager-c') : Promise.resolve({});
      },
    });
    let others = 0;
    await serve('manager-c', { connectPeer: () => ((others += 1), redirect('manager-d')) });
    await serve('manager-d', { connectPeer: () => ((others += 1), redirect('manager-c')) });
    await client(PeerServiceService).connectPeer(connect, as(ADMIN));
    expect({ asked, others }).toEqual({ asked: 5, others: 6 });
  });

  test('is waited for within a bound', async () => {
    const { client, serve } = await startTestConsole();
    let asked = 0;
    await serve('manager-a', { connectPeer: () => ((asked += 1), redirect('')) });
    const error = await errorOf(client(PeerServiceService).connectPeer(connect, as(ADMIN)));
    expect(error).toMatchObject({ code: 'unavailable' });
    expect(error.message).toMatch(/No channel-manager owns/);
    expect(asked).toBeGreaterThan(10);
    expect(asked).toBeLessThan(100);
  });

  test('may die: the next owner gets the same idempotency key', async () => {
    const { client, serve } = await startTestConsole();
    const keys: string[] = [];
    let dead = false;
    await serve('manager-a', { openChannel: () => (dead ? redirect('manager-d') : redirect('manager-c')) });
    const opened = { channelId: HASH, fundingTxid: HASH, fundingOutputIndex: 1 };
    await serve('manager-c', {
      openChannel: ({ idempotencyKey }) => {
        keys.push(idempotencyKey);
        dead = true;
        return Promise.reject(new RpcError('unavailable', 'connection lost'));
      },
    });
    await serve('manager-d', {
      openChannel: ({ idempotencyKey }) => (keys.push(idempotencyKey), Promise.resolve(opened)),
    });
    const request = {
      nodeId: NODE_ID,
      fundingSat: 100_000n,
      pushMsat: 0n,
      announce: true,
      idempotencyKey: '',
    };
    const answer = await client(ChannelServiceService).openChannel(request, as(ADMIN));
    expect(new Uint8Array(answer.channelId)).toEqual(HASH);
    expect(keys).toHaveLength(2);
    expect(keys[0]).toMatch(/^console-[0-9a-f]{32}$/);
    expect(keys[1]).toBe(keys[0]);
  });

  test("a refusal that is not about ownership reaches the caller, without the fleet's addresses", async () => {
    const { client, serve } = await startTestConsole();
    await serve('manager-a', {
      closeChannel: () =>
        Promise.reject(new RpcError('failed_precondition', 'The channel is closing.', { inner: 'x' })),
    });
    const error = await errorOf(
      client(ChannelServiceService).closeChannel({ channelId: HASH, force: false }, as(ADMIN)),
    );
    expect(error).toMatchObject({ code: 'failed_precondition', message: 'The channel is closing.' });
    expect(error.metadata).toEqual({ 'fulmen-answered-by': 'console' });
  });
});

describe('fail-over', () => {
  test('a replica that does not answer is replaced by the next, and remembered', async () => {
    const { client, serve } = await startTestConsole();
    let answered = 0;
    await serve('manager-b', { listPeers: () => ((answered += 1), Promise.resolve({ peers: [] })) });
    const peers = client(PeerServiceService);
    await peers.listPeers({}, as(READER));
    let strays = 0;
    await serve('manager-a', { listPeers: () => ((strays += 1), Promise.resolve({ peers: [] })) });
    await peers.listPeers({}, as(READER));
    expect({ answered, strays }).toEqual({ answered: 2, strays: 0 });
  });

  test('nobody there is told as a sentence, after a bounded time', async () => {
    const { client } = await startTestConsole();
    const error = await errorOf(client(PeerServiceService).listPeers({}, as(READER)));
    expect(error).toMatchObject({ code: 'unavailable' });
    expect(error.message).toBe(
      'No channel-manager could answer at manager-a, manager-b (nobody listens at manager-b). "fulmen fleet" shows which services are up.',
    );
  });

  test('a command waits longer than a question, for a shard that has no owner yet', async () => {
    const { client, serve } = await startTestConsole();
    let asked = 0;
    await serve('manager-a', {
      disconnectPeer: () => {
        asked += 1;
        return asked < 30 ? Promise.reject(new RpcError('unavailable', 'no owner yet')) : Promise.resolve({});
      },
    });
    await client(PeerServiceService).disconnectPeer({ nodeId: NODE_ID }, as(ADMIN));
    expect(asked).toBe(30);
  });

  test("the wallet's writer is asked when another replica names it", async () => {
    const { client, network } = await startTestConsole();
    const refused = (): Promise<never> =>
      Promise.reject(
        new RpcError('unavailable', 'another is the writer', { 'fulmen-writer-address': 'chain-2' }),
      );
    const wallet = (newAddress: () => Promise<{ address: string; scriptPubkey: Uint8Array }>) => ({
      newAddress,
      getBalance: refused,
      getAnchorReserve: refused,
      fundChannel: refused,
      releaseFunding: refused,
      sendCoins: refused,
      listTransactions: refused,
      exportDescriptors: refused,
    });
    const [reader, writer] = [network.server('chain'), network.server('chain-2')];
    reader.add(WalletServiceService, wallet(refused));
    writer.add(
      WalletServiceService,
      wallet(() => Promise.resolve({ address: 'bcrt1q', scriptPubkey: HASH })),
    );
    await Promise.all([reader.listen(), writer.listen()]);
    const answer = await client(OnChainServiceService).newAddress({ addressType: '' }, as(ADMIN));
    expect(answer).toEqual({ address: 'bcrt1q' });
  });

  test("a service's refusal of the console is not told as one of the caller's token", async () => {
    const { client, serve } = await startTestConsole();
    await serve('manager-a', {
      listPeers: () => Promise.reject(new RpcError('permission_denied', 'no capability')),
    });
    expect(await errorOf(client(PeerServiceService).listPeers({}, as(READER)))).toMatchObject({
      code: 'internal',
    });
  });
});

describe('payments', () => {
  const pay = { bolt11: COFFEE, wait: true };

  test('an invoice that is already on its way is followed, not paid again', async () => {
    const { client, serve, audit } = await startTestConsole();
    let lookups = 0;
    await serve('manager-a', {
      sendPayment: () => Promise.reject(new RpcError('already_exists', 'this payment exists')),
      lookupPayment: () => {
        lookups += 1;
        return Promise.resolve(payment(lookups < 3 ? { status: 'pending' } : {}));
      },
    });
    const paid = await client(PaymentServiceService).sendPayment(pay, as(PAYER));
    expect(paid.status).toBe('succeeded');
    expect(lookups).toBe(3);
    expect(audit()).toMatchObject([
      { by: 'bot', outcome: 'ok', request: { status: 'succeeded', feeMsat: '1000' } },
    ]);
    expect(JSON.stringify(audit())).not.toContain('01'.repeat(32));
  });

  test('a wait passes the time limit on and returns what it knows when time is over', async () => {
    const { client, serve } = await startTestConsole();
    let timeout: number | undefined;
    await serve('manager-a', {
      sendPayment: (request) => {
        timeout = request.timeoutSeconds;
        return Promise.resolve(payment({ status: 'pending' }));
      },
      lookupPayment: () => Promise.resolve(payment({ status: 'pending' })),
    });
    const answer = await client(PaymentServiceService).sendPayment({ ...pay, timeoutSeconds: 7 }, as(PAYER));
    expect({ timeout, status: answer.status }).toEqual({ timeout: 7, status: 'pending' });
  });

  test.each([
    [{ bolt11: 'lnbc1nonsense', wait: true }, /no valid BOLT 11 invoice: its checksum/],
    [{ bolt11: '', wait: true }, /bolt11 is missing/],
    [{ bolt11: DONATION, wait: true }, /names no amount/],
    [{ bolt11: COFFEE, amountMsat: 1n, wait: true }, /asks for 250000000 msat/],
    [{ bolt11: COFFEE, timeoutSeconds: 100_000, wait: true }, /timeout_seconds must be/],
  ])('%# a request that cannot be paid is refused before anybody is asked', async (request, sentence) => {
    const { client } = await startTestConsole();
    const error = await errorOf(client(PaymentServiceService).sendPayment(request, as(PAYER)));
    expect(error.code).toBe('invalid_argument');
    expect(error.message).toMatch(sentence);
  });

  test('an invoice is decoded here', async () => {
    const { client } = await startTestConsole();
    const says = await client(InvoiceServiceService).decodeInvoice({ bolt11: COFFEE }, as(READER));
    expect(says).toMatchObject({
      amountMsat: 250_000_000n,
      description: '1 cup coffee',
      createdUnixSeconds: 1_496_314_658n,
      expirySeconds: 60n,
      network: 'bitcoin',
    });
  });
});

describe('the node', () => {
  const info = {
    nodeId: NODE_ID,
    network: 'regtest',
    blockHeight: 101,
    channelsOpen: 3,
    channelsPending: 1,
    peersConnected: 2,
    replicas: [
      { replicaId: 'a', address: 'manager-a', shards: 200 },
      { replicaId: 'z', address: 'manager-z', shards: 56 },
    ],
  };
  const serveChain = async (
    network: Awaited<ReturnType<typeof startTestConsole>>['network'],
    height: number,
  ) => {
    const server = network.server('chain');
    const none = () => Promise.reject(new RpcError('unimplemented', 'none'));
    server.add(ChainServiceService, {
      getBestBlock: () =>
        Promise.resolve({
          blockHash: 'ab',
          height,
          timeUnixSeconds: 1,
          network: 'regtest',
          halted: false,
          haltReason: '',
        }),
      getUtxo: none,
      estimateFee: none,
      broadcast: none,
    });
    await server.listen();
  };

  test('is described by managers, chain and configuration', async () => {
    const { client, serve, network } = await startTestConsole();
    await serve('manager-a', { getInfo: () => Promise.resolve(info) });
    const node = client(NodeServiceService);
    expect(await node.getInfo({}, as(READER))).toMatchObject({
      alias: 'ada',
      blockHeight: 101,
      blockHash: '',
    });
    await serveChain(network, 101);
    const described = await node.getInfo({}, as(READER));
    expect(described).toMatchObject({ channelsOpen: 3, blockHash: 'ab', version: '0.1.0' });
    expect(described.uris).toEqual([`02${'05'.repeat(32)}@node.example.com:9735`]);
  });

  test('shows each service of its fleet, replicas that only the managers know of too', async () => {
    const { client, serve, network } = await startTestConsole();
    const managerA = await serve('manager-a', { getInfo: () => Promise.resolve(info) });
    const anyone = { callers: { 'grpc.health.v1.Health': 'anyone' } } as const;
    managerA.add(HealthService, { check: () => Promise.resolve({ status: 1 }) }, anyone);
    const chain = network.server('chain');
    chain.add(HealthService, { check: () => Promise.resolve({ status: 2 }) }, anyone);
    await chain.listen();
    const { members } = await client(NodeServiceService).getFleet({}, as(READER));
    expect(members.map(({ service, address }) => `${service} ${address}`)).toEqual([
      'console console',
      'channel-manager manager-a',
      'channel-manager manager-b',
      'channel-manager manager-z',
      'chain-monitor chain',
      'router router',
    ]);
    expect(members.map(({ status, detail }) => `${status}: ${detail}`)).toEqual([
      'serving: version 0.1.0',
      'serving: owns 200 shards',
      'unreachable: nobody answers there',
      'unreachable: nobody answers there',
      'not serving: it is starting or stopping',
      'unreachable: nobody answers there',
    ]);
  });
});
