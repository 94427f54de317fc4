/** BackupService: static channel backups, and the way back from one. */
import {
  ManagerServiceService,
  type RecoverChannelsRequest,
  type RecoverChannelsResponse,
  type RecoveredChannel,
} from '@fulmen/proto/manager/v1/manager';
import type { BackupServiceService } from '@fulmen/proto/node/v1/node';
import type { Handlers } from '@fulmen/rpc';
import { toHex } from '@fulmen/codec';
import type { Call } from '../auth/guard.ts';
import { refuse } from '../errors.ts';
import { type ConsoleContext, query } from './context.ts';

/** As channel-manager's: one message of an RPC. */
const MAX_BACKUP_BYTES = 4 * 1024 * 1024 - 4096;
/** Recovering registers each channel with the signer, one after the other. */
const RECOVER_DEADLINE_MS = 300_000;
/** Rounds through the owners: shards may move meanwhile. */
const MAX_ROUNDS = 20;
const ROUND_PAUSE_MS = 500;

export function backupService(context: ConsoleContext): Handlers<typeof BackupServiceService> {
  const { guard, managers } = context;
  return {
    getBackup: guard.unary({ name: 'BackupService.GetBackup', scope: 'read' }, (request, call) =>
      managers.run((client, options) => client.getBackup(request, options), query(call)),
    ),
    verifyBackup: guard.unary({ name: 'BackupService.VerifyBackup', scope: 'read' }, (request, call) => {
      requireSealed(request.sealed);
      return managers.run((client, options) => client.verifyBackup(request, options), query(call));
    }),
    recoverChannels: guard.unary(
      {
        name: 'BackupService.RecoverChannels',
        scope: 'channels',
        audit: ({ sealed }, response) => ({
          bytes: sealed.length,
          backups: response?.backups,
          recovered: response?.channels.filter(({ outcome }) => outcome === 'recovered').length,
        }),
      },
      (request, call) => {
        if (request.sealed.length > 0) requireSealed(request.sealed);
        return recover(context, request, call);
      },
    ),
  };
}

function requireSealed(sealed: Uint8Array): void {
  if (sealed.length === 0) throw refuse('invalid_argument', 'sealed is missing: send the backup’s bytes.');
  if (sealed.length > MAX_BACKUP_BYTES)
    throw refuse('invalid_argument', `sealed is longer than ${MAX_BACKUP_BYTES} bytes.`);
}

/** Asks one replica, then those that own what it does not, until every channel is settled. */
async function recover(
  { managers, connectorOf, runtime, logger }: ConsoleContext,
  request: RecoverChannelsRequest,
  call: Call,
): Promise<RecoverChannelsResponse> {
  const terms = { deadlineMs: RECOVER_DEADLINE_MS, signal: call.signal };
  const channels = new Map<string, RecoveredChannel>();
  const asked = new Set<string>();
  let backups = 0;
  let adopted = false;
  const take = (answer: RecoverChannelsResponse): readonly string[] => {
    for (const channel of answer.channels) {
      const key = toHex(channel.channel?.channelId ?? new Uint8Array(0));
      const before = channels.get(key);
      if (before === undefined || rank(channel) > rank(before)) channels.set(key, channel);
    }
    backups = Math.max(backups, answer.backups);
    adopted ||= answer.adopted;
    return answer.askNext;
  };
  const isSettled = (): boolean =>
    adopted && [...channels.values()].every(({ outcome }) => outcome !== 'elsewhere');
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    if (round > 0) await runtime.sleep(ROUND_PAUSE_MS, call.signal);
    const first = await managers.run((client, options) => client.recoverChannels(request, options), terms);
    const next = take(first).filter((address) => !asked.has(address) || !isSettled());
    const answers = await Promise.allSettled(
      next.map((address) => {
        asked.add(address);
        return connectorOf('managers').client(ManagerServiceService, address).recoverChannels(request, terms);
      }),
    );
    for (const answer of answers) {
      if (answer.status === 'fulfilled') take(answer.value);
      else logger.warn({ err: answer.reason }, 'an owner of channels to recover did not answer');
    }
    if (isSettled()) break;
  }
  return { channels: [...channels.values()], askNext: [], backups, adopted };
}

/** What was learnt of a channel, from worse to better. */
const OUTCOMES: readonly string[] = ['elsewhere', 'refused', 'known', 'recovered'];

const rank = ({ outcome }: RecoveredChannel): number => OUTCOMES.indexOf(outcome);
