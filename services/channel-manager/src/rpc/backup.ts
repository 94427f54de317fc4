/** The RPCs about static channel backups. */
import { type ChannelBackup, MAX_BACKUP_BYTES } from '@fulmen/backup';
import type {
  BackupChannel,
  GetBackupResponse,
  RecoverChannelsRequest,
  RecoverChannelsResponse,
  VerifyBackupRequest,
  VerifyBackupResponse,
} from '@fulmen/proto/manager/v1/manager';
import type { FileState } from '../backup/keeper.ts';
import type { RecoveryOutcome } from '../backup/recovery.ts';
import type { ManagerDeps } from './deps.ts';
import { invalid } from './validate.ts';

/** The newest backup, whichever replica wrote it. */
export async function getBackup({ backups }: ManagerDeps): Promise<GetBackupResponse> {
  const current = await backups.keeper.refresh();
  return {
    sequence: current?.backup.sequence ?? 0n,
    sealed: current?.sealed ?? new Uint8Array(0),
    channels: current?.backup.channels.length ?? 0,
    createdUnixSeconds: BigInt(current?.backup.createdUnixSeconds ?? 0),
    blockHeight: current?.backup.blockHeight ?? 0,
    ...fileOf(backups.keeper.fileState),
  };
}

function fileOf(state: FileState): Pick<GetBackupResponse, 'fileState' | 'filePath' | 'fileReason'> {
  switch (state.type) {
    case 'none':
      return { fileState: 'none', filePath: '', fileReason: '' };
    case 'written':
      return { fileState: 'written', filePath: state.path, fileReason: '' };
    case 'refused':
      return { fileState: 'refused', filePath: state.path, fileReason: state.reason };
  }
}

/** What is in a backup, beside what the node has. */
export async function verifyBackup(
  { backups }: ManagerDeps,
  { sealed }: VerifyBackupRequest,
): Promise<VerifyBackupResponse> {
  const { backup, channels, missing, verdict } = await backups.verify(required(sealed));
  return {
    sequence: backup.sequence,
    createdUnixSeconds: BigInt(backup.createdUnixSeconds),
    blockHeight: backup.blockHeight,
    network: backup.network,
    coverage: backup.coverage,
    channels: channels.map(({ channel, phase }) => channelOf(channel, phase ?? 'unknown')),
    missingChannelIds: [...missing],
    verdict,
  };
}

/** Recovers what this replica owns the shards of. */
export async function recoverChannels(
  { backups }: ManagerDeps,
  { sealed }: RecoverChannelsRequest,
): Promise<RecoverChannelsResponse> {
  const recovery = await backups.recover(sealed.length === 0 ? undefined : required(sealed));
  return {
    channels: recovery.channels.map(({ channel, outcome }) => ({
      channel: channelOf(channel, phaseOf(outcome)),
      outcome: outcome.type,
      reason: outcome.type === 'refused' ? outcome.reason : '',
    })),
    askNext: [...recovery.askNext],
    backups: recovery.backups,
    adopted: recovery.adoption !== 'elsewhere',
  };
}

function phaseOf(outcome: RecoveryOutcome): string {
  if (outcome.type === 'known') return outcome.phase;
  return outcome.type === 'recovered' ? 'passive' : 'unknown';
}

function required(sealed: Uint8Array): Uint8Array {
  if (sealed.length === 0 || sealed.length > MAX_BACKUP_BYTES)
    throw invalid(`sealed must be a backup, of at most ${MAX_BACKUP_BYTES} bytes`);
  // The transport's buffer is not ours to keep.
  return Uint8Array.from(sealed);
}

function channelOf(channel: ChannelBackup, phase: string): BackupChannel {
  return {
    channelId: channel.channelId,
    counterpartyNodeId: channel.counterpartyNodeId,
    addresses: channel.addresses.map(({ host, port }) =>
      host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`,
    ),
    fundingTxid: channel.fundingTxid,
    fundingOutputIndex: channel.fundingOutputIndex,
    capacitySat: channel.fundingValueSat,
    holderIsFunder: channel.funder === 'holder',
    channelType: channel.commitmentFormat,
    phase,
  };
}
