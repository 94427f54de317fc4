import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { grpcServer, RpcError } from '@fulmen/rpc';
import { nodeRuntime } from '@fulmen/service';
import { describe, expect, onTestFinished, test } from 'vitest';
import { channel, CHANNEL, CHANNEL_HEX, NODE_HEX, type Run, startCli } from '../testing/cli.ts';
import { ADMIN, READER, redirect, startTestConsole, tokenText } from '../testing/harness.ts';
import type { CliIo } from './io.ts';
import { buildProgram } from './program.ts';

const COFFEE =
  'lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh';

describe('answers', () => {
  test('are tables on a terminal and JSON otherwise, or as asked', async () => {
    const { run } = await startCli({ listChannels: () => Promise.resolve({ channels: [channel] }) });
    const shown = await run(['channels', 'list']);
    expect(shown).toMatchObject({ code: 0, stderr: '' });
    expect(shown.stdout.split('\n')[1]).toBe(
      '0102030405…1e1f20  101x2x1  02abababab…ababab' +
        '  open, private  1,000,000 sat  400,000.500 sat  599,999.500 sat  390,000 sat      2',
    );
    const piped = await run(['channels', 'list'], { isTerminal: false });
    const [row] = (JSON.parse(piped.stdout) as { channels: Record<string, unknown>[] }).channels;
    expect(row).toMatchObject({
      channel_id: CHANNEL_HEX,
      counterparty_node_id: NODE_HEX,
      capacity_sat: '1000000',
      funding_txid: Buffer.from(CHANNEL.toReversed()).toString('hex'),
    });
    expect((await run(['channels', 'list', '-o', 'json'])).stdout).toBe(piped.stdout);
    expect((await run(['channels', 'list', '--output=table'], { isTerminal: false })).stdout).toBe(
      shown.stdout,
    );
  });

  test('an invoice is made with amounts in sat or msat', async () => {
    const asked: unknown[] = [];
    const { run } = await startCli({
      createInvoice: ({ amountMsat, description, expirySeconds }) => {
        asked.push([amountMsat, description, expirySeconds]);
        return Promise.resolve({ bolt11: 'lnbcrt1x', paymentHash: CHANNEL });
      },
    });
    expect((await run(['invoice', 'create', '25,000', '-d', 'two coffees'])).stdout).toBe(
      `invoice       lnbcrt1x\npayment hash  ${CHANNEL_HEX}\n`,
    );
    await run(['invoice', 'create', '--amount-msat', '1500', '--expiry', '600']);
    await run(['invoices', 'create']);
    expect(asked).toEqual([
      [25_000_000n, 'two coffees', undefined],
      [1_500n, '', 600],
      [0n, '', undefined],
    ]);
  });

  test('a channel to close is found by the names a table shows', async () => {
    const closed: string[] = [];
    const { run } = await startCli({
      listChannels: () =>
        Promise.resolve({
          channels: [
            channel,
            { ...channel, channelId: CHANNEL.toReversed(), shortChannelId: 0n, fundingOutputIndex: 0 },
          ],
        }),
      closeChannel: ({ channelId, force }) => {
        closed.push(`${Buffer.from(channelId).toString('hex')} ${force}`);
        return Promise.resolve({});
      },
    });
    const txid = Buffer.from(CHANNEL.toReversed()).toString('hex');
    for (const name of [CHANNEL_HEX, '010203', '0102030405…1e1f20', '101x2x1', `${txid}:1`])
      expect({ name, code: (await run(['channels', 'close', name])).code }).toEqual({ name, code: 0 });
    expect((await run(['channels', 'close', '101x2x1', '--force'])).code).toBe(0);
    expect(closed).toEqual([
      ...Array.from({ length: 5 }, () => `${CHANNEL_HEX} false`),
      `${CHANNEL_HEX} true`,
    ]);
    expect(await run(['channels', 'close', '9x9x9'])).toMatchObject({
      code: 1,
      stderr: 'fulmen: There is no such channel. See: fulmen channels list\n',
    });
  });

  test('an opening may connect first', async () => {
    const did: string[] = [];
    const { run } = await startCli({
      connectPeer: ({ host, port }) => (did.push(`connect ${host}:${port}`), Promise.resolve({})),
      openChannel: ({ fundingSat, announce, fundingFeerateSatPerKw }) => {
        did.push(`open ${fundingSat} ${announce} ${fundingFeerateSatPerKw}`);
        return Promise.resolve({ channelId: CHANNEL, fundingTxid: new Uint8Array(0), fundingOutputIndex: 0 });
      },
    });
    expect(
      (await run(['channels', 'open', `${NODE_HEX}@10.0.0.7:9735`, '1_000_000', '--private'])).stdout,
    ).toBe(`channel   ${CHANNEL_HEX}\ncapacity  1,000,000 sat\n`);
    await run(['channels', 'open', NODE_HEX, '20000', '--feerate', '2']);
    expect(did).toEqual(['connect 10.0.0.7:9735', 'open 1000000 false undefined', 'open 20000 true 500']);
  });

  test('a payment that fails is an error that says what helps', async () => {
    const failed = {
      paymentHash: CHANNEL,
      status: 'failed',
      amountMsat: 250_000_000n,
      feeMsat: 0n,
      preimage: new Uint8Array(0),
      failureReason: 'no_route',
      createdUnixMs: 0n,
      bolt11: COFFEE,
      attempts: 3,
      attemptRecords: [
        {
          attemptNumber: 1,
          status: 'failed',
          amountMsat: 150_000_000n,
          feeMsat: 1_500n,
          route: [
            {
              nodeId: new Uint8Array(33).fill(2),
              shortChannelId: (800_000n << 40n) | (12n << 16n) | 1n,
              amountMsat: 150_001_500n,
              cltvExpiryHeight: 800_100,
            },
          ],
          failure: {
            code: 'temporary_channel_failure',
            failureCode: 0x1007,
            nodeId: new Uint8Array(33).fill(2),
            sourceIndex: 1,
            shortChannelId: 9n,
          },
        },
        {
          attemptNumber: 2,
          status: 'in_flight',
          amountMsat: 100_000_000n,
          feeMsat: 0n,
          route: [],
          failure: undefined,
        },
      ],
    };
    const { run } = await startCli({ sendPayment: () => Promise.resolve(failed) });
    const result = await run(['pay', `lightning:${COFFEE}`]);
    expect(result.code).toBe(1);
    expect(result.stdout).toMatch(/^status +failed\namount +250,000 sat\n/);
    expect(result.stdout).toMatch(
      /\n1 +800000x12x1 +150,000 sat +1\.500 sat +failed +temporary_channel_failure at 0202/,
    );
    expect(result.stdout).toMatch(/\n2 +100,000 sat +0 sat +in_flight\n/);
    expect(result.stderr).toMatch(/fulmen: The payment failed: no route to the payee has room/);
  });

  test('events are one line each, and end unless followed', async () => {
    const { run, events } = await startCli({});
    events.append('channel_ready');
    events.append('payment_sent');
    const lines = await run(['events', '--after', '1', '-o', 'json']);
    expect(JSON.parse(lines.stdout)).toEqual({
      position: '2',
      type: 'payment_sent',
      time_unix_ms: '1700000000000',
      body: { n: '2' },
    });
    expect((await run(['events'])).stdout).toMatch(
      /^ {7}1 {2}2023-11-14 22:13:20Z {2}channel_ready .*\n {7}2 /,
    );
  });

  test('followed events go on from the cursor when the connection breaks, until Ctrl-C', async () => {
    const { run, events, network, service } = await startCli({});
    events.append('a');
    const interrupt = new AbortController();
    let stdout = '';
    let waits = 0;
    const result = await run(['events', '--follow', '-o', 'json'], {
      interrupted: interrupt.signal,
      stdout: (text) => {
        stdout += text;
        // The node stops after the first event; nobody listens then.
        void service.stop().then(() => network.crash('console'));
      },
      sleep: () => {
        waits += 1;
        if (waits === 3) interrupt.abort();
        return Promise.resolve();
      },
    });
    expect(result.code).toBe(0);
    expect(stdout).toMatch(/^{"position":"1"/);
    expect(result.stderr.match(/Trying again from position 1\./g)).toHaveLength(1);
  });
});

describe('errors', () => {
  test.each([
    [['channels', 'opne'], /unknown command 'opne'/],
    [['nonsense'], /unknown command/],
    [['info', '--colour'], /unknown option/],
    [['info', '-o', 'xml'], /Allowed choices are table, json/],
    [['pay'], /missing required argument/],
    [['pay', 'bc1q'], /no BOLT 11 invoice/],
    [['peers', 'connect', 'x'], /write <node id>@<host>:<port>/],
    [['invoice', 'create', '1.5'], /whole number of satoshis/],
    [['invoice', 'create', '1', '--amount-msat', '1'], /amount once/],
    [['channels', 'policy', 'all'], /Say what to change/],
    [['channels'], /Usage: fulmen channels/],
    [[], /Usage: fulmen/],
    [['info', '--address', 'nohost', '--token-file', 'x'], /must be host:port/],
    [['token', 'create', 'x', '--scopes', 'root'], /--scopes may name/],
  ])('%j is wrong usage: 3', async (args, sentence) => {
    const { run } = await startCli({});
    const { code, stderr, stdout } = await run(args);
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr).toMatch(sentence);
  });

  test('a node that does not answer: 2, and what to do', async () => {
    const { run } = await startCli({});
    expect(await run(['info', '--address', '127.0.0.1:1'])).toEqual({
      code: 2,
      stdout: '',
      stderr: 'fulmen: The node at 127.0.0.1:1 does not answer. Is it running? Start it with npm start.\n',
    });
    expect(await run(['info'], { files: {} })).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^fulmen: No node to talk to/),
    });
  });

  test('a token that is missing, malformed or refused: 1', async () => {
    const { run } = await startCli({});
    const environment = { FULMEN_ADDRESS: 'console:1', FULMEN_TOKEN_FILE: '/t' };
    const cases: [Record<string, string>, RegExp][] = [
      [{}, /The token file \/t does not exist/],
      [{ '/t': 'hello' }, /holds no token/],
      [{ '/t': tokenText('f') }, /does not know this token/],
    ];
    for (const [files, sentence] of cases) {
      const { code, stderr } = await run(['info'], { environment, files });
      expect(code).toBe(1);
      expect(stderr).toMatch(sentence);
    }
    const scoped = await run(['wallet', 'address'], { environment, files: { '/t': READER } });
    expect(scoped).toMatchObject({ code: 1, stderr: expect.stringMatching(/needs the scope "wallet"/) });
  });

  test("the node's own sentences are passed on: 1", async () => {
    const { run } = await startCli({
      listPeers: () => Promise.reject(new RpcError('internal', 'the disk is full')),
      listPayments: () => Promise.reject(new RpcError('unavailable', 'down')),
    });
    expect(await run(['peers', 'list'])).toMatchObject({ code: 1, stderr: 'fulmen: the disk is full\n' });
    const behind = await run(['payments', 'list']);
    expect(behind).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^fulmen: No channel-manager could answer/),
    });
  });
});

describe('help', () => {
  const everyCommand = (command: Command, path: readonly string[] = []): string[][] =>
    command.commands.flatMap((child) =>
      child.name() === 'help'
        ? []
        : [[...path, child.name()], ...everyCommand(child, [...path, child.name()])],
    );

  test('of every command has examples, each of which names a command that exists', async () => {
    const { run } = await startCli({});
    const io = { stdout: () => undefined, stderr: () => undefined } as unknown as CliIo;
    const names = everyCommand(buildProgram(io));
    expect(names.length).toBeGreaterThan(25);
    const known = new Set(names.map((name) => name.join(' ')));
    for (const name of names) {
      const { code, stdout } = await run([...name, '--help']);
      expect(code).toBe(0);
      const shown = stdout.split('Examples:\n')[1] ?? '';
      const lines = shown.match(/^ {2}fulmen .*/gm) ?? [];
      expect({ name, examples: lines.length > 0 }).toEqual({ name, examples: true });
      for (const line of lines) {
        const words = line.trim().split(/\s+/).slice(1);
        const exists = known.has(words.slice(0, 2).join(' ')) || known.has(words[0] ?? '');
        expect({ line, exists }).toEqual({ line, exists: true });
      }
    }
  });

  test('and versions that are asked for end with 0', async () => {
    const { run } = await startCli({});
    expect(await run(['--version'])).toMatchObject({ code: 0, stdout: 'fulmen 0.1.0\n' });
    expect(await run(['version'])).toMatchObject({ code: 0, stdout: 'fulmen 0.1.0\n' });
    expect((await run(['help', 'pay'])).code).toBe(0);
  });
});

test('a token is made for a narrower scope', async () => {
  const { run } = await startCli({});
  const appended: string[] = [];
  const made = await run(
    ['token', 'create', 'shop', '--scopes', 'read,invoices', '--tokens-file', 't', '-o', 'json'],
    {
      appendLine: (file, line) => (appended.push(`${file}: ${line}`), Promise.resolve()),
    },
  );
  expect(JSON.parse(made.stdout)).toMatchObject({
    name: 'shop',
    scopes: ['read', 'invoices'],
    token: '01'.repeat(32),
  });
  expect(appended[0]).toMatch(/^t: {"name":"shop","scopes":\["read","invoices"\],"sha256":"[0-9a-f]{64}"}$/);
});

/** The program itself, as a process. */
function spawnCli(args: readonly string[], environment: Record<string, string>): Promise<Run> {
  const main = fileURLToPath(new URL('./main.ts', import.meta.url));
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [main, ...args], {
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString('utf8')));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString('utf8')));
    child.once('error', reject);
    child.once('close', (code) => resolve({ code: code ?? -1, stdout, stderr }));
  });
}

test('the program talks gRPC with a console, whose manager redirects, and ends with the right code', async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'fulmen-cli-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const tokenFile = path.join(folder, 'token');
  await writeFile(tokenFile, `${ADMIN}\n`);
  const { serve, service, events } = await startTestConsole({
    server: grpcServer({ listenAddress: '127.0.0.1:0' }),
    runtime: nodeRuntime({ onFailure: () => undefined }),
  });
  await serve('manager-a', {
    disconnectPeer: () => redirect('manager-b'),
    listChannels: () => Promise.resolve({ channels: [channel] }),
  });
  const disconnected: string[] = [];
  await serve('manager-b', {
    disconnectPeer: ({ nodeId }) => (
      disconnected.push(Buffer.from(nodeId).toString('hex')),
      Promise.resolve({})
    ),
  });
  for (let i = 0; i < 300; i += 1) events.append('payment_forwarded');
  const environment = { FULMEN_ADDRESS: service.address, FULMEN_TOKEN_FILE: tokenFile };

  const [done, listed, logged] = await Promise.all([
    spawnCli(['peers', 'disconnect', NODE_HEX], environment),
    spawnCli(['channels', 'list'], environment),
    spawnCli(['events'], environment),
  ]);
  expect(done).toEqual({ code: 0, stdout: '{}\n', stderr: '' });
  expect(disconnected).toEqual([NODE_HEX]);
  expect(JSON.parse(listed.stdout)).toMatchObject({ channels: [{ channel_id: CHANNEL_HEX }] });
  expect(logged.stdout.trim().split('\n')).toHaveLength(300);

  await service.stop();
  const gone = await spawnCli(['info'], environment);
  expect(gone).toMatchObject({
    code: 2,
    stderr: `fulmen: The node at ${service.address} does not answer. Is it running? Start it with npm start.\n`,
  });
});
