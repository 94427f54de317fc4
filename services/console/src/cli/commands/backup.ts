/** backup show, export, verify; recover. */
import type { Command } from 'commander';
import type { BackupChannel, RecoveredChannel, VerifyBackupResponse } from '@fulmen/proto/manager/v1/manager';
import { type CliContext, examples } from '../context.ts';
import { grouped, hex, sat, short, time } from '../format.ts';
import { CliError, type CliIo, usage } from '../io.ts';
import { card, type Column, table } from '../output.ts';
import type { Session } from '../session.ts';

/** Every channel is registered with the signer, one after the other. */
const RECOVER_DEADLINE_MS = 305_000;

const PIECE_BYTES = 16 * 1024;

export function backupCommands(program: Command, context: CliContext): void {
  const backup = program
    .command('backup')
    .description('Static channel backups: with the seed they bring channels’ balances back');
  examples(backup, [
    ['backup show', ''],
    ['backup export channels.backup', ''],
    ['backup verify channels.backup', ''],
  ]);

  const show = backup
    .command('show')
    .description('The newest backup, and where it is kept')
    .action(async () => {
      const session = await context.session();
      const answer = await session.call(
        (d) => d.BackupServiceService,
        (client, options) => client.getBackup({}, options),
      );
      context.print({ ...answer, sealed: answer.sealed.length }, (found) =>
        found.sequence === 0n
          ? 'No backup yet: the node has had no channel.\n'
          : card([
              ['number', grouped(found.sequence)],
              ['made', time(found.createdUnixSeconds * 1000n)],
              ['at block', grouped(found.blockHeight)],
              ['channels', grouped(found.channels)],
              ['file', fileLine(found)],
            ]),
      );
    });
  examples(show, [['backup show', '']]);

  const exporting = backup
    .command('export')
    .argument('<file>', 'where to')
    .description('Write the newest backup to a file; one that holds more is never overwritten')
    .action(async (file: string) => {
      const session = await context.session();
      const answer = await session.call(
        (d) => d.BackupServiceService,
        (client, options) => client.getBackup({}, options),
      );
      if (answer.sequence === 0n) throw new CliError('There is no backup yet: the node has had no channel.');
      await refuseToLose(context.io, session, file, answer.sequence);
      await context.io.replaceBytes(file, answer.sealed);
      context.print({ file, sequence: answer.sequence, channels: answer.channels }, (written) =>
        card([
          ['file', written.file],
          ['number', grouped(written.sequence)],
          ['channels', grouped(written.channels)],
        ]),
      );
    });
  examples(exporting, [['backup export /media/usb/channels.backup', '']]);

  const verify = backup
    .command('verify')
    .argument('<file>', 'a backup')
    .description('Open a backup with the node’s key, and hold it against the node’s channels')
    .action(async (file: string) => {
      const sealed = await read(context.io, file);
      const session = await context.session();
      const found = await verified(session, sealed);
      context.print(
        found,
        (answer) => `${verificationCard(answer)}\n${table(answer.channels, CHANNELS, '')}`,
      );
      const complaint = complaintOf(found, file);
      if (complaint !== undefined) throw new CliError(complaint);
    });
  examples(verify, [['backup verify channels.backup', 'exit code 0: every channel is in it']]);

  const recover = program
    .command('recover')
    .option('--backup <file>', 'a backup of this node')
    .option('--from-peers', 'what peers keep for this node; connect them first')
    .description('Have the peers close the channels of a backup, and bring the balances home')
    .action(async (options: { backup?: string; fromPeers?: true }) => {
      if ((options.backup === undefined) === (options.fromPeers === undefined))
        throw usage('Give either --backup <file> or --from-peers.');
      const sealed =
        options.backup === undefined ? new Uint8Array(0) : await read(context.io, options.backup);
      const session = await context.session();
      context.tell('Registering the channels with the signer, and asking their peers to close them…');
      const answer = await session.call(
        (d) => d.BackupServiceService,
        (client, call) => client.recoverChannels(pieces(sealed), call),
        RECOVER_DEADLINE_MS,
      );
      context.print(
        answer,
        (found) => `${table(found.channels, RECOVERED, 'The backup has no channels.')}${NEXT}`,
      );
      const open = answer.channels.filter(({ outcome }) => outcome === 'elsewhere' || outcome === 'refused');
      if (open.length > 0)
        throw new CliError(
          `${open.length} of ${answer.channels.length} channels are not recovered. Ask again, or look at the reasons.`,
        );
    });
  examples(recover, [
    ['recover --backup channels.backup', ''],
    ['recover --from-peers', 'after: fulmen peers connect …'],
  ]);
}

const NEXT =
  '\nPeers are dialled where an address is known, and asked to close; others must be connected or come by themselves.\n' +
  'Follow it with: fulmen channels list --closing, fulmen wallet balance\n';

const CHANNELS: readonly Column<BackupChannel>[] = [
  { title: 'CHANNEL', value: ({ channelId }) => short(hex(channelId)) },
  { title: 'PEER', value: ({ counterpartyNodeId }) => short(hex(counterpartyNodeId)) },
  { title: 'ADDRESS', value: ({ addresses }) => addresses[0] ?? '-' },
  { title: 'CAPACITY', value: ({ capacitySat }) => sat(capacitySat), align: 'right' },
  { title: 'TYPE', value: ({ channelType }) => channelType },
  { title: 'HERE', value: ({ phase }) => phase },
];

const RECOVERED: readonly Column<RecoveredChannel>[] = [
  { title: 'CHANNEL', value: ({ channel }) => short(hex(channel?.channelId ?? new Uint8Array(0))) },
  { title: 'PEER', value: ({ channel }) => short(hex(channel?.counterpartyNodeId ?? new Uint8Array(0))) },
  { title: 'ADDRESS', value: ({ channel }) => channel?.addresses[0] ?? '-' },
  { title: 'CAPACITY', value: ({ channel }) => sat(channel?.capacitySat ?? 0n), align: 'right' },
  {
    title: 'OUTCOME',
    value: ({ outcome, channel }) => (outcome === 'known' ? `known (${channel?.phase})` : outcome),
  },
  { title: 'REASON', value: ({ reason }) => reason },
];

function fileLine(found: {
  readonly fileState: string;
  readonly filePath: string;
  readonly fileReason: string;
}): string {
  switch (found.fileState) {
    case 'written':
      return found.filePath;
    case 'refused':
      return `${found.filePath} is left as it is: ${found.fileReason}`;
    default:
      return '';
  }
}

async function read(io: CliIo, file: string): Promise<Uint8Array> {
  const bytes = await io.readBytes(file);
  if (bytes === undefined) throw new CliError(`The file ${file} does not exist.`);
  if (bytes.length === 0) throw new CliError(`The file ${file} is empty.`);
  return bytes;
}

/** A backup in requests that are well below the node's bound of one. */
function* pieces(sealed: Uint8Array): Generator<{ readonly sealed: Uint8Array }> {
  for (let start = 0; start < sealed.length; start += PIECE_BYTES)
    yield { sealed: sealed.subarray(start, start + PIECE_BYTES) };
}

function verified(session: Session, sealed: Uint8Array): Promise<VerifyBackupResponse> {
  return session.call(
    (d) => d.BackupServiceService,
    (client, options) => client.verifyBackup(pieces(sealed), options),
  );
}

/** An export never takes the place of a file that holds more than the node knows, or of none that it can read. */
async function refuseToLose(io: CliIo, session: Session, file: string, sequence: bigint): Promise<void> {
  const existing = await io.readBytes(file);
  if (existing === undefined || existing.length === 0) return;
  const kept = ' It is not overwritten: choose another file, or move it away.';
  let found: VerifyBackupResponse;
  try {
    found = await verified(session, existing);
  } catch (error) {
    if (error instanceof CliError) throw new CliError(`${file}: ${error.message}.${kept}`, error.exitCode);
    throw error;
  }
  if (found.verdict === 'recoverable')
    throw new CliError(`${file} has channels that this node does not know; recover them from it.${kept}`);
  if (found.sequence > sequence)
    throw new CliError(
      `${file} is newer (${found.sequence}) than the node’s own backup (${sequence}).${kept}`,
    );
}

function verificationCard(found: VerifyBackupResponse): string {
  return card([
    ['number', grouped(found.sequence)],
    ['made', time(found.createdUnixSeconds * 1000n)],
    ['at block', grouped(found.blockHeight)],
    ['network', found.network],
    ['coverage', found.coverage === 'part' ? 'part: whoever kept it took no more bytes' : 'full'],
    ['channels', grouped(found.channels.length)],
    ['missing', found.missingChannelIds.length === 0 ? '' : grouped(found.missingChannelIds.length)],
    ['verdict', found.verdict],
  ]);
}

function complaintOf(found: VerifyBackupResponse, file: string): string | undefined {
  const unknown = found.channels.filter(({ phase }) => phase === 'unknown').length;
  switch (found.verdict) {
    case 'current':
      return undefined;
    case 'recoverable':
      return `${file} has ${unknown} channels that this node does not know. Bring them back with: fulmen recover --backup ${file}`;
    default:
      return `${file} lacks ${found.missingChannelIds.length} channels of this node. Make a new one with: fulmen backup export`;
  }
}
