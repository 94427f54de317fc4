/**
 * How each HTLC that the holder offered ended, as far as it is safe to tell
 * upstream. The HTLCs are those of every unrevoked commitment, whichever of
 * them confirmed.
 *
 * A preimage goes upstream from wherever it was seen. A failure goes upstream
 * only when the counterparty can never be paid for this very HTLC: its output
 * is the holder's for good, or the close has no output of it, for good; or when
 * the whole close is given up with an output that nobody pays to claim. All
 * are judged by the HTLC's identity: of two HTLCs with one hash, the one whose
 * output was claimed is fulfilled, and the one whose time-out is final, or that
 * has no output, is failed, whatever the other revealed.
 */
import { htlcKey } from '@fulmen/monitor';
import type { ChannelMonitor, MonitorHtlc } from '@fulmen/monitor';
import { ANTI_REORG_DELAY_BLOCKS, IRREVOCABLE_DEPTH } from './constants.ts';
import { depthOf, knownPreimage } from './scope.ts';
import type { CloseScope, Resolution } from './scope.ts';
import type { HtlcOutcome } from './types.ts';
import { isGivenUp } from './worth.ts';

type Failed = Extract<HtlcOutcome, { type: 'failed' }>;

/** @param preimages by `htlcKey`: seen in the mempool behind commitments that are not confirmed. */
export function htlcOutcomes(
  scope: CloseScope,
  resolution: Resolution,
  preimages: ReadonlyMap<string, Uint8Array>,
): HtlcOutcome[] {
  const outcomes: HtlcOutcome[] = [];
  const unrevoked = unrevokedHtlcs(scope.monitor);
  for (const [key, { htlc }] of scope.monitor.htlcs) {
    if (htlc.direction !== 'outbound') continue;
    if (!unrevoked.has(key) && !resolution.ends.has(key) && !resolution.trimmed.has(key)) continue;
    const preimage = knownPreimage(scope, htlc) ?? preimages.get(key);
    outcomes.push(
      preimage === undefined ? outcomeOf(scope, resolution, htlc) : { type: 'fulfilled', htlc, preimage },
    );
  }
  return outcomes;
}

/**
 * HTLCs of the commitments that may still confirm. One that only the holder's last but one commitment has is settled for
 * good off-chain: it left the counterparty's commitments after the holder's, and upstream heard then how it ended.
 */
function unrevokedHtlcs(monitor: ChannelMonitor): ReadonlySet<string> {
  const keys = new Set<string>();
  for (const commitment of [
    monitor.holderCommitment,
    monitor.counterpartyCommitment,
    monitor.nextCounterpartyCommitment,
  ])
    for (const ref of commitment?.content.htlcs ?? []) keys.add(htlcKey(ref));
  return keys;
}

function outcomeOf(scope: CloseScope, resolution: Resolution, htlc: MonitorHtlc): HtlcOutcome {
  const end = resolution.ends.get(htlcKey(htlc));
  switch (end?.type) {
    case 'preimage':
      return { type: 'fulfilled', htlc, preimage: end.preimage };
    case 'unspent':
      if (isOutputGivenUp(scope, resolution, htlc)) return { type: 'failed', htlc, reason: 'uneconomical' };
      return { type: 'pending', htlc, untilHeight: end.untilHeight };
    case 'without_preimage':
      return failedWhenDeep(scope, htlc, {
        reason: end.reason,
        height: end.height,
        depth: ANTI_REORG_DELAY_BLOCKS,
      });
    case undefined: {
      const { height } = scope.close;
      if (resolution.content === 'unknown')
        // The output, if there is one, cannot be watched for its end, but only for a preimage. Long after its expiry
        // nothing more can come, and whoever waits for the HTLC's end is told.
        return failedWhenDeep(scope, htlc, {
          reason: 'timeout',
          height: Math.max(height, htlc.cltvExpiryHeight),
          depth: IRREVOCABLE_DEPTH,
        });
      // BOLT 5: "for any committed HTLC that does NOT have an output in this commitment transaction: once the commitment
      // transaction has reached reasonable depth: MUST fail the corresponding incoming HTLC (if any)."
      const reason = resolution.trimmed.has(htlcKey(htlc)) ? 'dust' : 'not_on_commitment';
      return failedWhenDeep(scope, htlc, { reason, height, depth: ANTI_REORG_DELAY_BLOCKS });
    }
  }
}

/** The counterparty may still take what it has the preimage of: who pays again before has paid twice. */
function isOutputGivenUp({ facts }: CloseScope, { outputs }: Resolution, htlc: MonitorHtlc): boolean {
  return outputs.some(
    ({ kind, htlc: ref, status }) =>
      kind === 'htlc_offered_by_holder' &&
      ref?.id === htlc.id &&
      status.type === 'claimable' &&
      isGivenUp(status.claim, facts.bestHeight),
  );
}

function failedWhenDeep(
  scope: CloseScope,
  htlc: MonitorHtlc,
  { reason, height, depth }: Pick<Failed, 'reason'> & { readonly height: number; readonly depth: number },
): HtlcOutcome {
  return depthOf(scope, height) >= depth
    ? { type: 'failed', htlc, reason }
    : { type: 'pending', htlc, untilHeight: height + depth - 1 };
}
