/** backup show, export, verify and recover, against a node whose managers do as told. */
import type { RecoverChannelsResponse, VerifyBackupResponse } from '@fulmen/proto/manager/v1/manager';
import { BackupServiceService } from '@fulmen/proto/node/v1/node';
import { expect, test } from 'vitest';
import { CHANNEL, CHANNEL_HEX, ENTRY, startCli, VERIFIED } from '../testing/cli.ts';
import { as, READER } from '../testing/harness.ts';

const SEALED = Uint8Array.of(1, 2, 3);
const BACKUP = {
  sequence: 17n,
  sealed: SEALED,
  channels: 1,
  createdUnixSeconds: 1_790_000_000n,
  blockHeight: 120,
  fileState: 'refused',
  filePath: '/var/lib/fulmen.backup',
  fileReason: 'the existing backup is newer (30) than this one (17)',
};
/** A disk that a test can look at. */
function disk(files: Record<string, Uint8Array>) {
  return {
    files,
    io: {
      readBytes: (file: string) => Promise.resolve(files[file]),
      replaceBytes: (file: string, bytes: Uint8Array) => {
        files[file] = Uint8Array.from(bytes);
        return Promise.resolve();
      },
    },
  };
}

test('backup show tells why a file is not replaced', async () => {
  const cli = await startCli({ getBackup: () => Promise.resolve(BACKUP) });
  const { code, stdout } = await cli.run(['backup', 'show']);
  expect(code).toBe(0);
  expect(stdout).toContain('17');
  expect(stdout).toContain('/var/lib/fulmen.backup is left as it is: the existing backup is newer');
  expect((await cli.run(['backup', 'show', '-o', 'json'])).stdout).not.toContain('010203');
});

test('backup export writes the newest backup, and never over one that holds more', async () => {
  let verified: VerifyBackupResponse = VERIFIED;
  const cli = await startCli({
    getBackup: () => Promise.resolve(BACKUP),
    verifyBackup: () => Promise.resolve(verified),
  });
  const { files, io } = disk({});
  expect((await cli.run(['backup', 'export', 'a'], io)).code).toBe(0);
  expect(files['a']).toEqual(SEALED);
  files['a'] = Uint8Array.of(9);
  expect((await cli.run(['backup', 'export', 'a'], io)).code).toBe(0);
  expect(files['a']).toEqual(SEALED);

  files['a'] = Uint8Array.of(9);
  verified = { ...VERIFIED, verdict: 'recoverable' };
  const refused = await cli.run(['backup', 'export', 'a'], io);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain('It is not overwritten');
  verified = { ...VERIFIED, sequence: 18n };
  expect((await cli.run(['backup', 'export', 'a'], io)).code).toBe(1);
  expect(files['a']).toEqual(Uint8Array.of(9));
});

test('backup export does not write what is not there', async () => {
  const cli = await startCli({ getBackup: () => Promise.resolve({ ...BACKUP, sequence: 0n }) });
  const { files, io } = disk({});
  expect((await cli.run(['backup', 'export', 'a'], io)).code).toBe(1);
  expect(files).toEqual({});
});

test('backup verify ends with 0 only for a backup that has every channel and no other', async () => {
  let verified: VerifyBackupResponse = VERIFIED;
  const cli = await startCli({ verifyBackup: () => Promise.resolve(verified) });
  const { io } = disk({ a: SEALED, empty: new Uint8Array(0) });
  const current = await cli.run(['backup', 'verify', 'a'], io);
  expect(current.code).toBe(0);
  expect(current.stdout).toContain('203.0.113.7:9735');
  verified = { ...VERIFIED, verdict: 'outdated', missingChannelIds: [CHANNEL] };
  const outdated = await cli.run(['backup', 'verify', 'a'], io);
  expect([outdated.code, outdated.stderr.includes('fulmen backup export')]).toEqual([1, true]);
  verified = { ...VERIFIED, verdict: 'recoverable', channels: [{ ...ENTRY, phase: 'unknown' }] };
  const recoverable = await cli.run(['backup', 'verify', 'a'], io);
  expect([recoverable.code, recoverable.stderr.includes('fulmen recover --backup a')]).toEqual([1, true]);
  expect((await cli.run(['backup', 'verify', 'empty'], io)).code).toBe(1);
  expect((await cli.run(['backup', 'verify', 'missing'], io)).code).toBe(1);
});

test('a backup comes in pieces from those alone who may send it: few at once of one token, and not too many pieces', async () => {
  const release = Promise.withResolvers<void>();
  let entered = 0;
  const allIn = Promise.withResolvers<void>();
  const { client } = await startCli({
    verifyBackup: async ({ sealed }) => {
      entered += 1;
      if (entered === 2) allIn.resolve();
      await release.promise;
      return { ...VERIFIED, sequence: BigInt(sealed.length) };
    },
  });
  const backups = client(BackupServiceService);
  const two = [{ sealed: SEALED }, { sealed: SEALED }];
  const open = [backups.verifyBackup(two, as(READER)), backups.verifyBackup(two, as(READER))];
  await allIn.promise;
  await expect(backups.verifyBackup(two, as(READER))).rejects.toMatchObject({
    code: 'resource_exhausted',
    message: 'The token "dashboard" already has 2 long requests open. Wait for one to end.',
  });
  release.resolve();
  expect((await Promise.all(open)).map(({ sequence }) => sequence)).toEqual([6n, 6n]);
  const many = Array.from({ length: 4_097 }, () => ({ sealed: SEALED.subarray(0, 1) }));
  await expect(backups.verifyBackup(many, as(READER))).rejects.toMatchObject({ code: 'invalid_argument' });
  expect((await backups.verifyBackup(many.slice(1), as(READER))).sequence).toBe(4_096n);
  await expect(backups.verifyBackup([], as(READER))).rejects.toMatchObject({ code: 'invalid_argument' });
  await expect(backups.recoverChannels(two, as(READER))).rejects.toMatchObject({ code: 'permission_denied' });
  await expect(backups.verifyBackup(two)).rejects.toMatchObject({ code: 'unauthenticated' });
});

test('recover asks every owner, and the best that was said of a channel stands', async () => {
  const asked: string[] = [];
  const answer =
    (name: string, outcome: string, askNext: string[]) => (): Promise<RecoverChannelsResponse> => {
      asked.push(name);
      return Promise.resolve({
        channels: [{ channel: ENTRY, outcome, reason: '' }],
        askNext: asked.length > 1 ? [] : askNext,
        backups: 1,
        adopted: name === 'b',
      });
    };
  const cli = await startCli({ recoverChannels: answer('a', 'elsewhere', ['manager-b']) });
  await cli.serve('manager-b', { recoverChannels: answer('b', 'recovered', []) });
  const { io } = disk({ a: SEALED });
  const { code, stdout } = await cli.run(['recover', '--backup', 'a'], io);
  expect(asked).toEqual(['a', 'b']);
  expect(code).toBe(0);
  expect(stdout).toContain('recovered');
  expect(stdout).toContain(CHANNEL_HEX.slice(0, 8));
  expect(cli.audit().at(-1)).toMatchObject({
    method: 'BackupService.RecoverChannels',
    request: { bytes: 3, recovered: 1 },
  });
});

test('recover says which channels are left, and needs to be told from where', async () => {
  const cli = await startCli({
    recoverChannels: ({ sealed }) =>
      Promise.resolve({
        channels: [{ channel: ENTRY, outcome: 'refused', reason: `of ${sealed.length} bytes` }],
        askNext: [],
        backups: 1,
        adopted: true,
      }),
  });
  const { io } = disk({ a: SEALED });
  const refused = await cli.run(['recover', '--backup', 'a'], io);
  expect([refused.code, refused.stdout.includes('of 3 bytes')]).toEqual([1, true]);
  expect((await cli.run(['recover', '--from-peers'], io)).stdout).toContain('of 0 bytes');
  expect((await cli.run(['recover'], io)).code).toBe(3);
  expect((await cli.run(['recover', '--backup', 'a', '--from-peers'], io)).code).toBe(3);
});
