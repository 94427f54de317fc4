/** An unrevoked commitment of the counterparty confirmed, its current one or the next: nothing of the holder's is delayed. */
import { htlcKey } from '@fulmen/monitor';
import type { MonitorFunding } from '@fulmen/monitor';
import { outPointOf, trimmedHtlcs } from '../commitments.ts';
import type { RebuiltCommitment } from '../commitments.ts';
import type { CloseScope, HtlcEnd, Resolution } from '../scope.ts';
import type { SettlementOutput } from '../types.ts';
import { resolveAnchor } from './anchor.ts';
import { resolveCounterpartyHtlc } from './htlc-counterparty-commitment.ts';
import { outboundEnd } from './htlc-end.ts';
import { resolveToRemote } from './to-remote.ts';

/** BOLT 5, "Unilateral Close Handling: Remote Commitment Transaction". */
export function resolveCounterpartyCommitment(
  scope: CloseScope,
  funding: MonitorFunding,
  commitment: RebuiltCommitment & { readonly perCommitmentPoint: Uint8Array },
): Resolution {
  const { built, perCommitmentPoint, htlcs } = commitment;
  const outputs: SettlementOutput[] = [...resolveToRemote(scope)];
  const ends = new Map<string, HtlcEnd>();
  for (const output of built.outputs) {
    if (output.type !== 'htlc') continue;
    outputs.push(resolveCounterpartyHtlc(scope, perCommitmentPoint, output));
    if (output.htlc.direction === 'outbound')
      ends.set(
        htlcKey(output.htlc),
        outboundEnd(scope, outPointOf(built, output), 'counterparty', output.htlc),
      );
  }
  outputs.push(...resolveAnchor(scope, funding));
  return { outputs, ends, trimmed: trimmedHtlcs(htlcs, built.outputs), content: 'known', alsoWatched: [] };
}
