/** Rebuilds revoked counterparty commitments from the archive, for the moment when one is seen on-chain. */
import { InternalError } from '@fulmen/codec';
import { lookupSecret } from '@fulmen/keys';
import { htlcsAt, stateAt } from './archive.ts';
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

/**
 * The content of a revoked counterparty commitment (which counts up from 0),
 * its HTLCs by direction and id; undefined when it is not revoked or never was.
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
