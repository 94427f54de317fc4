/** The holder's own commitment confirmed: its balance and its HTLCs come home after the delay that the counterparty asked for. */
import type { MonitorFunding } from '@fulmen/monitor';
import { htlcKey } from '@fulmen/monitor';
import { outPointOf, trimmedHtlcs } from '../commitments.ts';
import type { CloseScope, HtlcEnd, Resolution } from '../scope.ts';
import type { SettlementOutput } from '../types.ts';
import { resolveAnchor } from './anchor.ts';
import { outboundEnd } from './htlc-end.ts';
import { resolveHolderHtlc } from './htlc-holder-commitment.ts';
import type { ConfirmedHolderCommitment } from './htlc-holder-commitment.ts';
import { resolveToLocal } from './to-local.ts';

/** BOLT 5, "Unilateral Close Handling: Local Commitment Transaction". to_remote is the counterparty's alone. */
export function resolveHolderCommitment(
  scope: CloseScope,
  funding: MonitorFunding,
  commitment: ConfirmedHolderCommitment,
): Resolution {
  const { built, commitmentNumber, htlcs } = commitment;
  const outputs: SettlementOutput[] = [];
  const ends = new Map<string, HtlcEnd>();
  let htlcIndex = 0;
  for (const output of built.outputs) {
    const outPoint = outPointOf(built, output);
    if (output.type === 'to_local') {
      const { valueSat, scriptPubKey, witnessScript } = output;
      outputs.push(
        resolveToLocal(scope, { outPoint, valueSat, scriptPubKey, witnessScript }, commitmentNumber),
      );
    } else if (output.type === 'htlc') {
      outputs.push(...resolveHolderHtlc(scope, commitment, output, htlcIndex));
      htlcIndex += 1;
      if (output.htlc.direction === 'outbound')
        ends.set(htlcKey(output.htlc), outboundEnd(scope, outPoint, 'holder', output.htlc));
    }
  }
  outputs.push(...resolveAnchor(scope, funding));
  return { outputs, ends, trimmed: trimmedHtlcs(htlcs, built.outputs), content: 'known', alsoWatched: [] };
}
