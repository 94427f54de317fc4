/** A revoked commitment of the counterparty confirmed: the holder takes all of it. */
import type { MonitorFunding, RevokedCommitment } from '@fulmen/monitor';
import { htlcKey } from '@fulmen/monitor';
import type { RevokedOutputs } from '../revoked-outputs.ts';
import type { CloseScope, HtlcEnd, Resolution } from '../scope.ts';
import type { SettlementOutput } from '../types.ts';
import { resolveAnchor } from './anchor.ts';
import { outboundEnd } from './htlc-end.ts';
import { resolveRevokedHtlc, resolveRevokedSecondStages, resolveRevokedToLocal } from './justice.ts';
import { resolveToRemote } from './to-remote.ts';

/** BOLT 5, "Revoked Transaction Close Handling". */
export function resolveRevokedCommitment(
  scope: CloseScope,
  funding: MonitorFunding,
  { revoked, matched }: { readonly revoked: RevokedCommitment; readonly matched: RevokedOutputs },
): Resolution {
  const { secret } = revoked;
  const outputs: SettlementOutput[] = [];
  if (matched.toLocal !== undefined) outputs.push(resolveRevokedToLocal(scope, matched.toLocal, secret));
  outputs.push(...resolveToRemote(scope));
  const ends = new Map<string, HtlcEnd>();
  const trimmed = new Set(revoked.htlcs.map((htlc) => htlcKey(htlc)));
  for (const output of matched.htlcs) {
    outputs.push(resolveRevokedHtlc(scope, output, secret));
    const key = htlcKey(output.htlc);
    trimmed.delete(key);
    const outPoint = { txid: scope.close.txid, outputIndex: output.outputIndex };
    if (output.htlc.direction === 'outbound')
      ends.set(key, outboundEnd(scope, outPoint, 'counterparty', output.htlc));
  }
  outputs.push(...resolveAnchor(scope, funding), ...resolveRevokedSecondStages(scope, matched, secret));
  return { outputs, ends, trimmed, content: 'known', alsoWatched: [] };
}
