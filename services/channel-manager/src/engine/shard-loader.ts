/**
 * Taking a shard: fence the signer, read the rows, restore every channel, and
 * compare its numbers with the signer's. Equal, or one step apart, is normal
 * and resumed; anything else makes that channel passive and alarms: one of the
 * two databases was set back.
 */
import { type ChannelState, type EstablishedChannel, restore, type SignerProgress } from '@fulmen/channel';
import { toHex } from '@fulmen/codec';
import type { SignerChannelState } from '@fulmen/proto/signer/v1/signer';
import type { ChannelPolicyRow, Fence, LoadedChannel, LoadedPayment } from '@fulmen/store';
import type { EnginePorts } from './ports.ts';

/** Channels in one question to the signer. */
const SIGNER_BATCH = 200;

export interface RestoredChannel {
  readonly loaded: LoadedChannel;
  readonly state: EstablishedChannel;
  readonly signer: SignerProgress;
  readonly points: { readonly first: bigint; readonly points: readonly Uint8Array[] };
  readonly policy: ChannelPolicyRow | undefined;
  /** Set when the signer contradicts the rows: never sign, never broadcast, ask the peer to close. */
  readonly contradiction: string | undefined;
}

export interface LoadedShard {
  readonly channels: readonly RestoredChannel[];
  readonly payments: readonly LoadedPayment[];
  /** Channels whose rows could not be read: out of service, the others go on. */
  readonly unreadable: readonly { readonly channelId: Uint8Array; readonly reason: string }[];
}

/** The shard cannot be had now. */
export class ShardLoadError extends Error {
  override readonly name = 'ShardLoadError';
}

export async function loadShard(ports: EnginePorts, fence: Fence): Promise<LoadedShard> {
  // The old owner's calls must fail before the rows are read.
  await ports.signer.fenceShard({ shard: fence.shard, epoch: fence.epoch });
  const loaded = await ports.store.loadShard(fence);
  if (loaded.type === 'fence_lost')
    throw new ShardLoadError('the shard was taken by another replica while it was loaded');
  const restored: { loaded: LoadedChannel; state: EstablishedChannel }[] = [];
  const unreadable: { channelId: Uint8Array; reason: string }[] = [];
  for (const channel of loaded.channels) {
    const state = restore(channel.persisted);
    if (!state.ok) unreadable.push({ channelId: channel.row.channelId, reason: state.error.reason });
    else if (state.value.type === 'established') restored.push({ loaded: channel, state: state.value });
  }
  const states = await signerStates(
    ports,
    restored.map(({ state }) => state),
  );
  const channels: RestoredChannel[] = [];
  for (const { loaded: channel, state } of restored) {
    const signer = states.get(toHex(state.parameters.channelKeysId));
    channels.push({
      loaded: channel,
      state,
      ...compare(state, signer, channel.closingDecision),
      points: await pointsOf(ports, state, signer),
      policy: await ports.store.getPolicy(state.channelId),
    });
  }
  return { channels, payments: loaded.payments, unreadable };
}

async function signerStates(
  ports: EnginePorts,
  states: readonly EstablishedChannel[],
): Promise<Map<string, SignerChannelState>> {
  const result = new Map<string, SignerChannelState>();
  const ids = states.map((state) => state.parameters.channelKeysId);
  for (let start = 0; start < ids.length; start += SIGNER_BATCH) {
    const answer = await ports.signer.getChannelStates({
      channelKeysIds: ids.slice(start, start + SIGNER_BATCH),
    });
    for (const state of answer.states) result.set(toHex(state.channelKeysId), state);
  }
  return result;
}

/** The holder's points that the channel will speak of. A passive one speaks of its own last commitment, wherever the signer is. */
async function pointsOf(
  { signer: client }: EnginePorts,
  state: EstablishedChannel,
  signer: SignerChannelState | undefined,
): Promise<RestoredChannel['points']> {
  if (state.phase.type !== 'passive')
    return { first: signer?.firstPointNumber ?? 0n, points: signer?.perCommitmentPoints ?? [] };
  const first = state.changes.holderCommitmentNumber;
  const { channelKeysId } = state.parameters;
  const { points } = await client.getPerCommitmentPoints({ channelKeysId, commitmentNumbers: [first] });
  return { first, points };
}

/** Where the signer stands beside the rows. */
export function compare(
  state: EstablishedChannel,
  signer: SignerChannelState | undefined,
  closingDecision?: string,
): { readonly signer: SignerProgress; readonly contradiction: string | undefined } {
  const { holderCommitmentNumber, counterpartyCommitmentNumber, counterpartySecrets } = state.changes;
  if (signer === undefined || !signer.registered) {
    // A crash between the first commit and the registration's answer: nothing was signed yet.
    const isNew = holderCommitmentNumber === 0n && counterpartyCommitmentNumber === 0n;
    return {
      signer: { holderCommitmentNumber: -1n, counterpartyRevocations: 0n },
      contradiction: isNew ? undefined : 'the signer does not know this channel: its database was set back',
    };
  }
  const progress: SignerProgress = {
    holderCommitmentNumber: signer.nextHolderCommitment - 1n,
    counterpartyRevocations: signer.nextCounterpartyRevocation,
  };
  // It never signs again, whatever the signer did before.
  if (state.phase.type === 'passive') return { signer: progress, contradiction: undefined };
  // chain-monitor may have closed it while nobody owned it: then the manager follows.
  const isOpen =
    closingDecision === undefined && state.phase.type !== 'closing_force' && state.phase.type !== 'closed';
  const contradiction =
    progress.holderCommitmentNumber > holderCommitmentNumber
      ? 'the signer has validated a holder commitment that the database does not know: the database was set back'
      : progress.holderCommitmentNumber < holderCommitmentNumber - 1n
        ? 'the signer is more than one holder commitment behind: its database was set back'
        : signer.nextCounterpartyCommitment > counterpartyCommitmentNumber + 1n
          ? 'the signer has signed a counterparty commitment that the database does not know: the database was set back'
          : signer.nextCounterpartyCommitment < counterpartyCommitmentNumber
            ? 'the signer has not signed what the peer holds: its database was set back'
            : progress.counterpartyRevocations > counterpartySecrets.count
              ? 'the signer has a revocation that the database does not know: the database was set back'
              : signer.closing && isOpen
                ? 'the signer has signed a holder commitment for broadcast'
                : undefined;
  return { signer: progress, contradiction };
}

/** States that need no actor. */
export function isFinished(state: ChannelState): boolean {
  return state.type === 'established' && state.phase.type === 'closed';
}
