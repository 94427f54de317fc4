/** BackupService: static channel backups, and the way back from one. */
import {
  ManagerServiceService,
  type RecoverChannelsRequest,
  type RecoverChannelsResponse,
  type RecoveredChannel,
} from '@fulmen/proto/manager/v1/manager';
import type { BackupServiceService } from '@fulmen/proto/node/v1/node';
import type { Handlers } from '@fulmen/rpc';
import { concatBytes, toHex } from '@fulmen/codec';
import type { Call } from '../auth/guard.ts';
import { refuse } from '../errors.ts';
import { type ConsoleContext, query } from './context.ts';

/** As channel-manager's: what one message inside the fleet can carry. */
const MAX_BACKUP_BYTES = 4 * 1024 * 1024 - 4096;
/** Each costs memory of its own, however short it is. */
const MAX_PIECES = 4_096;
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
    verifyBackup: guard.upload(
      { name: 'BackupService.VerifyBackup', scope: 'read' },
      sealedOf,
      (sealed, call) => {
        if (sealed.length === 0)
          throw refuse('invalid_argument', 'sealed is missing: send the backup’s bytes.');
        return managers.run((client, options) => client.verifyBackup({ sealed }, options), query(call));
      },
    ),
    recoverChannels: guard.upload(
      {
        name: 'BackupService.RecoverChannels',
        scope: 'channels',
        audit: (sealed, response) => ({
          bytes: sealed.length,
          backups: response?.backups,
          recovered: response?.channels.filter(({ outcome }) => outcome === 'recovered').length,
        }),
      },
      sealedOf,
      (sealed, call) => recover(context, { sealed }, call),
    ),
  };
}

/** Puts a backup together; it is longer than one request may be. */
async function sealedOf(pieces: AsyncIterable<{ readonly sealed: Uint8Array }>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const { sealed } of pieces) {
    if (parts.length >= MAX_PIECES)
      throw refuse('invalid_argument', `sealed comes in more than ${MAX_PIECES} pieces: make them longer.`);
    length += sealed.length;
    if (length > MAX_BACKUP_BYTES)
      throw refuse('invalid_argument', `sealed is longer than ${MAX_BACKUP_BYTES} bytes.`);
    parts.push(sealed);
  }
  return concatBytes(...parts);
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
