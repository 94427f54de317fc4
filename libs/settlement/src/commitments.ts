/** Rebuilding commitments from what the monitor knows of them. */
import type { CommitmentOutput, CommitmentOwner } from '@fulmen/channel/commitment/types';
import { buildCommitmentSkeleton } from '@fulmen/channel/commitment/build';
import type { CommitmentSkeleton } from '@fulmen/channel/commitment/build';
import { CommitmentError } from '@fulmen/channel/commitment/errors';
import { commitmentParametersOfMonitor } from '@fulmen/channel/commitment/from-monitor';
import type { Secp256k1 } from '@fulmen/crypto';
import { htlcKey } from '@fulmen/monitor';
import type { ChannelMonitor, CommitmentContent, MonitorFunding, MonitorHtlc } from '@fulmen/monitor';
import type { OutPoint } from './types.ts';

/** Bodies of a commitment's HTLCs; undefined when one is not known. */
function bodiesOf(monitor: ChannelMonitor, content: CommitmentContent): MonitorHtlc[] | undefined {
  const htlcs: MonitorHtlc[] = [];
  for (const ref of content.htlcs) {
    const live = monitor.htlcs.get(htlcKey(ref));
    if (live === undefined) return undefined;
    htlcs.push(live.htlc);
  }
  return htlcs;
}

/** A commitment transaction with every HTLC of its content, those without an output too. */
export interface RebuiltCommitment {
  readonly built: CommitmentSkeleton;
  readonly htlcs: readonly MonitorHtlc[];
  readonly feerateSatPerKw: number;
}

/** The transaction of an unrevoked commitment on one funding; undefined when its content does not fit that funding. */
export function rebuildCommitment(
  secp: Secp256k1,
  monitor: ChannelMonitor,
  of: {
    readonly funding: MonitorFunding;
    readonly owner: CommitmentOwner;
    readonly content: CommitmentContent;
    readonly perCommitmentPoint: Uint8Array;
  },
): RebuiltCommitment | undefined {
  const htlcs = bodiesOf(monitor, of.content);
  if (htlcs === undefined) return undefined;
  const { funding, owner, perCommitmentPoint } = of;
  const parameters = commitmentParametersOfMonitor(monitor.parameters);
  try {
    const spec = { ...of.content, htlcs };
    const built = buildCommitmentSkeleton(secp, { parameters, funding, owner, spec, perCommitmentPoint });
    return { built, htlcs, feerateSatPerKw: spec.feerateSatPerKw };
  } catch (error) {
    // Fundings of other values (a splice) have other contents; what does not add up is not this funding's.
    if (error instanceof CommitmentError) return undefined;
    throw error;
  }
}

export type OutputOf<T extends CommitmentOutput['type']> = Extract<CommitmentOutput, { readonly type: T }>;

/** The outpoint of a commitment's output. */
export function outPointOf(built: Pick<CommitmentSkeleton, 'txid'>, output: CommitmentOutput): OutPoint {
  return { txid: built.txid, outputIndex: output.outputIndex };
}

/** By `htlcKey`: HTLCs of a commitment that have no output. */
export function trimmedHtlcs(
  htlcs: readonly MonitorHtlc[],
  outputs: readonly CommitmentOutput[],
): ReadonlySet<string> {
  const trimmed = new Set(htlcs.map((htlc) => htlcKey(htlc)));
  for (const output of outputs) if (output.type === 'htlc') trimmed.delete(htlcKey(output.htlc));
  return trimmed;
}
