/** Rebuilds revoked counterparty commitments from the archive, for the moment when one is seen on-chain. */
import { InternalError } from '@fulmen/codec';
import { lookupSecret } from '@fulmen/keys';
import { STATES_PER_CHUNK, htlcsAt, isWhole, stateAt, stateCount } from './archive.ts';
import type { ArchiveChunk } from './archive.ts';
import type { ChannelMonitor } from './state.ts';
import type { CommitmentContent, MonitorHtlc } from './update.ts';

/** A revoked counterparty commitment: with the parameters it determines the transaction, with the secret its punishment. */
export interface RevokedCommitment {
  readonly content: CommitmentContent;
  /** Bodies of `content.htlcs`, in the same order. */
  readonly htlcs: readonly MonitorHtlc[];
  /** The counterparty's per-commitment secret; its point is the secret's public key. */
  readonly secret: Uint8Array;
}

function byIdentity(a: MonitorHtlc, b: MonitorHtlc): number {
  if (a.direction !== b.direction) return a.direction === 'inbound' ? -1 : 1;
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}

/** Whether `rebuildRevoked` has what it needs of the archives for this commitment, revoked or not. */
export function isAtHand({ revokedStates, revokedHtlcs }: ChannelMonitor, commitmentNumber: bigint): boolean {
  if (commitmentNumber >= stateCount(revokedStates)) return true;
  const chunk = Number(commitmentNumber / BigInt(STATES_PER_CHUNK));
  return (
    (chunk >= revokedStates.sealedCount || revokedStates.sealed.has(chunk)) &&
    (isWhole(revokedHtlcs) || revokedHtlcs.atHand.has(commitmentNumber))
  );
}

/**
 * A monitor with chunks at hand: all those that `firstNumber` and `lastNumber` name for any of these commitments, as
 * they are stored. Others that were at hand are let go.
 */
export function withChunks(
  monitor: ChannelMonitor,
  commitmentNumbers: readonly bigint[],
  chunks: readonly ArchiveChunk[],
): ChannelMonitor {
  const { revokedStates, revokedHtlcs } = monitor;
  const sealedOf = (kind: ArchiveChunk['kind'], count: number): ReadonlyMap<number, ArchiveChunk> =>
    new Map(
      chunks.flatMap((chunk) =>
        // What is beyond the count belongs to a later state of the monitor: here it is in the open end, or not yet.
        chunk.kind === kind && chunk.number < count ? [[chunk.number, chunk] as const] : [],
      ),
    );
  return {
    ...monitor,
    revokedStates: { ...revokedStates, sealed: sealedOf('state', revokedStates.sealedCount) },
    revokedHtlcs: {
      ...revokedHtlcs,
      sealed: sealedOf('htlc', revokedHtlcs.sealedCount),
      atHand: new Set(commitmentNumbers),
    },
  };
}

/** A monitor without its chunks: once they are stored, nothing holds them in memory. */
export function withoutChunks(monitor: ChannelMonitor): ChannelMonitor {
  return withChunks(monitor, [], []);
}

/**
 * The content of a revoked counterparty commitment (which counts up from 0),
 * its HTLCs by direction and id; undefined when it is not revoked or never was.
 * @throws InternalError when it is not at hand
 */
export function rebuildRevoked(
  monitor: ChannelMonitor,
  commitmentNumber: bigint,
): RevokedCommitment | undefined {
  const state = stateAt(monitor.revokedStates, commitmentNumber);
  if (state === undefined) return undefined;
  const secret = lookupSecret(monitor.secrets, commitmentNumber);
  if (secret === undefined) throw new InternalError('a revoked commitment without its secret');
  const htlcs = htlcsAt(monitor.revokedHtlcs, commitmentNumber);
  for (const { htlc, counterpartyNumbers } of monitor.htlcs.values()) {
    if (
      counterpartyNumbers !== undefined &&
      counterpartyNumbers.first <= commitmentNumber &&
      commitmentNumber <= counterpartyNumbers.last
    )
      htlcs.push(htlc);
  }
  htlcs.sort(byIdentity);
  return {
    content: { commitmentNumber, ...state, htlcs: htlcs.map(({ direction, id }) => ({ direction, id })) },
    htlcs,
    secret,
  };
}
