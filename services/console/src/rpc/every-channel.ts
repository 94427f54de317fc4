/**
 * A policy for every channel. Each replica has its own channels, so the one
 * that has it is asked for each, by the way of all commands: one that moves
 * meanwhile is followed. What could not be set is told: to set the same again
 * is always enough.
 */
import type {
  Channel,
  UpdateChannelPolicyRequest,
  UpdateChannelPolicyResponse,
} from '@fulmen/proto/manager/v1/manager';
import { RpcError } from '@fulmen/rpc';
import type { Call } from '../auth/guard.ts';
import { command, type ConsoleContext } from './context.ts';

/** For all of them, one commit each; the rest is told as not set. */
const EVERY_DEADLINE_MS = 120_000;
/** For one whose replica was waited for before. */
const AGAIN_MS = 1_000;
const LANES = 8;
/** What is on its way out, or never signs again, forwards nothing. */
const PAST: readonly string[] = ['closing_mutual', 'closing_force', 'passive', 'closed'];

interface NotSet {
  readonly channel: Channel;
  readonly reason: string;
  /** Spared: another of its kind had waited in vain. */
  readonly was: 'asked' | 'spared';
}

/** Rejects when the request itself is wrong, or nobody says which channels there are. */
export async function setEveryPolicy(
  { managers, runtime }: Pick<ConsoleContext, 'managers' | 'runtime'>,
  request: UpdateChannelPolicyRequest,
  call: Call,
): Promise<UpdateChannelPolicyResponse> {
  const terms = command(call);
  const endsMs = runtime.monotonicMs() + EVERY_DEADLINE_MS;
  const [{ channels }, { replicas }] = await Promise.all([
    managers.run((client, options) => client.listChannels({ includeClosed: false }, options), terms),
    managers.run((client, options) => client.getInfo({}, options), terms),
  ]);
  const addresses = new Map(replicas.map(({ replicaId, address }) => [replicaId, address]));

  const set = async ({ channelId, ownerReplicaId }: Channel, deadlineMs: number): Promise<void> => {
    const owner = addresses.get(ownerReplicaId);
    await managers.run((client, options) => client.updateChannelPolicy({ ...request, channelId }, options), {
      ...terms,
      deadlineMs: Math.min(deadlineMs, endsMs - runtime.monotonicMs()),
      ...(owner !== undefined && { owner }),
    });
  };
  /** Of the channels of one kind, once somebody waited in vain, the rest are spared. */
  const setAll = async (
    some: readonly Channel[],
    kindOf: (channel: Channel) => string | number,
    deadlineMs: number,
  ): Promise<readonly NotSet[]> => {
    const notSet: NotSet[] = [];
    const silent = new Map<string | number, string>();
    let wrong: RpcError | undefined;
    const next = some.values();
    const lane = async (): Promise<void> => {
      for (const channel of next) {
        if (wrong !== undefined) return;
        const silence = silent.get(kindOf(channel));
        if (silence !== undefined) {
          notSet.push({ channel, reason: silence, was: 'spared' });
          continue;
        }
        try {
          await set(channel, deadlineMs);
        } catch (error) {
          if (!(error instanceof RpcError)) throw error;
          const { code, message: reason } = error;
          if (code === 'invalid_argument' || code === 'cancelled') wrong ??= error;
          if (code === 'unavailable' || code === 'deadline_exceeded') silent.set(kindOf(channel), reason);
          notSet.push({ channel, reason, was: 'asked' });
        }
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    if (wrong !== undefined) throw wrong;
    return notSet;
  };

  const wanted = channels.filter(({ phase }) => !PAST.includes(phase));
  const first = await setAll(wanted, ({ ownerReplicaId }) => ownerReplicaId, terms.deadlineMs);
  // It may have been one shard alone that nobody had.
  const spared = first.flatMap(({ channel, was }) => (was === 'spared' ? [channel] : []));
  const second = await setAll(spared, ({ shard }) => shard, AGAIN_MS);
  const notSet = [...first.filter(({ was }) => was === 'asked'), ...second];
  return {
    channels: wanted.length - notSet.length,
    notSet: notSet.map(({ channel: { channelId }, reason }) => ({ channelId, reason })),
  };
}
