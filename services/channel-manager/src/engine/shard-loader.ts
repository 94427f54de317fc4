/**
 * Taking a shard: fence the signer, read the rows, restore every channel, and
 * compare its numbers with the signer's. Equal, or one step apart, is normal
 * and resumed; anything else makes that channel passive and alarms: one of the
 * two databases was set back. Where the rows are older this is committed, for
 * nothing brings back what they lack; where the signer is, the channel only
 * rests in memory, and a restart beside the right signer takes it up again.
 */
import { type ChannelState, type EstablishedChannel, restore, type SignerProgress } from '@fulmen/channel';
import { equalBytes, toHex } from '@fulmen/codec';
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
  readonly contradiction: Contradiction | undefined;
}

export interface Contradiction {
  /** rows: the signer signed or revoked what they do not know. signer: it does not know what they say it did. */
  readonly behind: 'rows' | 'signer';
  /** For the operator. */
  readonly reason: string;
}

export interface UnreadableChannel {
  readonly channelId: Uint8Array;
  readonly counterpartyNodeId: Uint8Array;
  /** For the operator. */
  readonly reason: string;
}

export interface LoadedShard {
  readonly channels: readonly RestoredChannel[];
  readonly payments: readonly LoadedPayment[];
  /** Channels whose rows could not be read: out of service, the others go on. */
  readonly unreadable: readonly UnreadableChannel[];
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
  const unreadable: UnreadableChannel[] = [];
  for (const channel of loaded.channels) {
    const state = restore(channel.persisted);
    const { channelId, counterpartyNodeId } = channel.row;
    if (!state.ok) unreadable.push({ channelId, counterpartyNodeId, reason: state.error.reason });
    else if (state.value.type === 'established') restored.push({ loaded: channel, state: state.value });
  }
  const states = await signerStates(
    ports,
    restored.map(({ state }) => state),
  );
  const channels: RestoredChannel[] = [];
  for (const { loaded: read, state } of restored) {
    const signer = states.get(toHex(state.parameters.channelKeysId));
    const channel = await withLateDecision(ports, fence, { loaded: read, state, signer });
    const compared = compare(state, signer, channel.closingDecision);
    channels.push({
      loaded: channel,
      state,
      ...compared,
      points: await pointsOf(ports, state, { signer, contradiction: compared.contradiction }),
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

/**
 * chain-monitor asks no owner: it may have decided to close, and had the signer sign, after the rows were read. Its
 * decision is committed before the signer is asked, and stands in the rows by now.
 */
async function withLateDecision(
  { store }: EnginePorts,
  { shard }: Fence,
  {
    loaded,
    state,
    signer,
  }: Pick<RestoredChannel, 'loaded' | 'state'> & { readonly signer: SignerChannelState | undefined },
): Promise<LoadedChannel> {
  if (signer?.closing !== true || !isOpenByRows(state, loaded.closingDecision)) return loaded;
  const statuses = await store.fundingStatuses([shard]);
  const found = statuses.find(({ channelId }) => equalBytes(channelId, state.channelId));
  return found?.closingDecision === undefined
    ? loaded
    : { ...loaded, closingDecision: found.closingDecision };
}

/** The holder's points that the channel will speak of. A passive one speaks of its own last commitment, wherever the signer is. */
async function pointsOf(
  { signer: client }: EnginePorts,
  state: EstablishedChannel,
  {
    signer,
    contradiction,
  }: { readonly signer: SignerChannelState | undefined } & Pick<RestoredChannel, 'contradiction'>,
): Promise<RestoredChannel['points']> {
  if (state.phase.type !== 'passive' && contradiction?.behind !== 'rows')
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
): { readonly signer: SignerProgress; readonly contradiction: Contradiction | undefined } {
  const { holderCommitmentNumber, counterpartyCommitmentNumber } = state.changes;
  if (signer === undefined || !signer.registered) {
    // A crash between the first commit and the registration's answer: nothing was signed yet.
    const isNew = holderCommitmentNumber === 0n && counterpartyCommitmentNumber === 0n;
    return {
      signer: { holderCommitmentNumber: -1n, counterpartyRevocations: 0n },
      contradiction: isNew
        ? undefined
        : { behind: 'signer', reason: 'the signer does not know this channel: its database was set back' },
    };
  }
  const progress: SignerProgress = {
    holderCommitmentNumber: signer.nextHolderCommitment - 1n,
    counterpartyRevocations: signer.nextCounterpartyRevocation,
  };
  // It never signs again, whatever the signer did before.
  if (state.phase.type === 'passive') return { signer: progress, contradiction: undefined };
  const lost = whatRowsLack(state, signer, closingDecision);
  if (lost !== undefined) return { signer: progress, contradiction: { behind: 'rows', reason: lost } };
  const forgotten =
    progress.holderCommitmentNumber < holderCommitmentNumber - 1n
      ? 'the signer is more than one holder commitment behind: its database was set back'
      : signer.nextCounterpartyCommitment < counterpartyCommitmentNumber
        ? 'the signer has not signed what the peer holds: its database was set back'
        : undefined;
  return {
    signer: progress,
    contradiction: forgotten === undefined ? undefined : { behind: 'signer', reason: forgotten },
  };
}

/** What the signer did that the rows do not know: they are committed before it is asked, so that they were set back. */
function whatRowsLack(
  state: EstablishedChannel,
  signer: SignerChannelState,
  closingDecision: string | undefined,
): string | undefined {
  const { holderCommitmentNumber, counterpartyCommitmentNumber, counterpartySecrets } = state.changes;
  if (signer.nextHolderCommitment > holderCommitmentNumber + 1n)
    return 'the signer has validated a holder commitment that the database does not know: the database was set back';
  if (signer.nextCounterpartyCommitment > counterpartyCommitmentNumber + 1n)
    return 'the signer has signed a counterparty commitment that the database does not know: the database was set back';
  if (signer.nextCounterpartyRevocation > counterpartySecrets.count)
    return 'the signer has a revocation that the database does not know: the database was set back';
  return signer.closing && isOpenByRows(state, closingDecision)
    ? 'the signer has signed a holder commitment for broadcast, and the database does not know that the channel closes'
    : undefined;
}

/** chain-monitor may have closed it while nobody owned it: then the manager follows. */
function isOpenByRows({ phase }: EstablishedChannel, closingDecision: string | undefined): boolean {
  return closingDecision === undefined && phase.type !== 'closing_force' && phase.type !== 'closed';
}

/** States that need no actor. */
export function isFinished(state: ChannelState): boolean {
  return state.type === 'established' && state.phase.type === 'closed';
}
