/** Backups of large nodes, over gRPC with the bounds that every process has by itself: command line, console, manager. */
import { ManagerServiceService, type VerifyBackupResponse } from '@fulmen/proto/manager/v1/manager';
import { BackupServiceService, InvoiceServiceService } from '@fulmen/proto/node/v1/node';
import { grpcConnector, grpcServer } from '@fulmen/rpc';
import { expect, onTestFinished, test } from 'vitest';
import { consoleConfig } from '../config.ts';
import { ENTRY, startCli, VERIFIED } from '../testing/cli.ts';
import { ADMIN, as, CONFIG, manager, type ManagerHandlers } from '../testing/harness.ts';

/** The largest that a manager makes: `MAX_BACKUP_BYTES` of libs/backup. */
const LARGEST = 4 * 1024 * 1024 - 4096;
const CHANNELS = 12_000;
/** As main.ts of the console and of the command line have it. */
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;

const LARGE: VerifyBackupResponse = { ...VERIFIED, channels: Array.from({ length: CHANNELS }, () => ENTRY) };

async function startNode(handlers: Partial<ManagerHandlers>) {
  const fleet = grpcServer({ listenAddress: '127.0.0.1:0' });
  fleet.add(ManagerServiceService, manager(handlers));
  const managerAddress = await fleet.listen();
  const { process: settings } = consoleConfig({
    FULMEN_MANAGER_ADDRESSES: managerAddress,
    FULMEN_CHAIN_ADDRESSES: '127.0.0.1:1',
    FULMEN_DATABASE_URL: 'postgres://localhost/none',
    FULMEN_TOKENS_FILE: 'none',
  });
  const [toFleet, user] = [0, 1].map(() => grpcConnector({ maxMessageBytes: MAX_ANSWER_BYTES }));
  if (toFleet === undefined || user === undefined) return expect.unreachable();
  const cli = await startCli(
    {},
    {
      config: { fleet: { ...CONFIG.fleet, managers: [managerAddress] } },
      connector: toFleet,
      server: grpcServer({ listenAddress: '127.0.0.1:0', maxMessageBytes: settings.maxRequestBytes }),
    },
  );
  const { address, stop } = cli.service;
  onTestFinished(async () => {
    user.close();
    await stop();
    toFleet.close();
    await fleet.stop(100);
  });
  const files: Record<string, Uint8Array> = {};
  const run = (args: readonly string[]) =>
    cli.run(args, {
      files: {
        '/checkout/.fulmen/cli.json': JSON.stringify({ address, tokenFile: 't' }),
        '/checkout/t': ADMIN,
      },
      readBytes: (file) => Promise.resolve(files[file]),
      replaceBytes: (file, bytes) => {
        files[file] = Uint8Array.from(bytes);
        return Promise.resolve();
      },
      connector: () => Promise.resolve(user),
    });
  return { run, files, user, address };
}

test('the largest backup is exported, exported again over itself, verified and recovered from', async () => {
  const sealed = Uint8Array.from({ length: LARGEST }, (_, index) => index % 251);
  const seen: Record<string, boolean[]> = { verified: [], recovered: [] };
  const isWhole = (bytes: Uint8Array): boolean => Buffer.compare(bytes, sealed) === 0;
  const { run, files } = await startNode({
    getBackup: () =>
      Promise.resolve({
        sequence: 17n,
        sealed,
        channels: CHANNELS,
        createdUnixSeconds: 1_790_000_000n,
        blockHeight: 120,
        fileState: 'none',
        filePath: '',
        fileReason: '',
      }),
    verifyBackup: (request) => (seen['verified']?.push(isWhole(request.sealed)), Promise.resolve(LARGE)),
    recoverChannels: (request) => {
      seen['recovered']?.push(isWhole(request.sealed));
      return Promise.resolve({
        channels: LARGE.channels.map((channel) => ({ channel, outcome: 'recovered', reason: '' })),
        askNext: [],
        backups: 1,
        adopted: true,
      });
    },
  });
  expect(await run(['backup', 'export', 'a'])).toMatchObject({ code: 0, stderr: '' });
  expect(await run(['backup', 'export', 'a'])).toMatchObject({ code: 0, stderr: '' });
  expect(isWhole(files['a'] ?? new Uint8Array(0))).toBe(true);
  expect(await run(['backup', 'verify', 'a'])).toMatchObject({ code: 0, stderr: '' });
  expect((await run(['recover', '--backup', 'a'])).code).toBe(0);
  expect(seen).toEqual({ verified: [true, true], recovered: [true] });
});

test('a program that sends a short backup as one request, as clients of before do, is answered', async () => {
  const { user, address } = await startNode({
    verifyBackup: ({ sealed }) =>
      Promise.resolve({ ...LARGE, channels: [], sequence: BigInt(sealed.length) }),
  });
  const before = {
    verifyBackup: { ...BackupServiceService.verifyBackup, requestStream: false as const },
  };
  const found = await user
    .client(before, address)
    .verifyBackup({ sealed: new Uint8Array(60_000) }, as(ADMIN));
  expect(found.sequence).toBe(60_000n);
});

test('what is longer than any backup is refused with a sentence, and so is any other request of more than 64 KiB', async () => {
  const { run, files, user, address } = await startNode({});
  files['a'] = new Uint8Array(LARGEST + 1);
  expect(await run(['backup', 'verify', 'a'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`longer than ${LARGEST} bytes`) as string,
  });
  expect(await run(['recover', '--backup', 'a'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`longer than ${LARGEST} bytes`) as string,
  });
  const invoice = { amountMsat: 1n, description: 'x'.repeat(70_000), idempotencyKey: '' };
  await expect(
    user.client(InvoiceServiceService, address).createInvoice(invoice, as(ADMIN)),
  ).rejects.toMatchObject({ code: 'resource_exhausted' });
});
