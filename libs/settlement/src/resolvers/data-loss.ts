/**
 * A commitment of the counterparty that this monitor knows nothing of: it was restored from something old. BOLT 5: "the
 * local node will possess the remote's `per_commitment_point`, and thus can derive its own `remotepubkey` for the
 * transaction, in order to salvage its own funds. Note: in this scenario, the node will be unable to salvage the HTLCs."
 * With static_remotekey the key never changes, so that to_remote is claimed as always.
 *
 * Which outputs are HTLCs is not known, but a preimage that the counterparty shows can still be recognized.
 */
import { toHex } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { htlcKey } from '@fulmen/monitor';
import type { MonitorFunding, MonitorHtlc } from '@fulmen/monitor';
import type { CloseScope, HtlcEnd, Resolution } from '../scope.ts';
import { spenderOf } from '../scope.ts';
import { outPointKey } from '../spends.ts';
import type { SpendingInput } from '../spends.ts';
import type { OutPoint } from '../types.ts';
import { resolveAnchor } from './anchor.ts';
import { resolveToRemote } from './to-remote.ts';

/** BOLT 2 allows 483 HTLCs each way; no commitment has more outputs than those, two balances and two anchors. */
const MAX_COMMITMENT_OUTPUTS = 2 * 483 + 4;

/** Claims what pays the holder's keys, whatever the transaction is. */
export function resolveDataLoss(scope: CloseScope, funding: MonitorFunding): Resolution {
  const outputs = [...resolveToRemote(scope), ...resolveAnchor(scope, funding)];
  const own = new Set(outputs.map(({ outPoint }) => outPoint.outputIndex));
  const { tx, txid } = scope.close;
  const alsoWatched: OutPoint[] = [];
  for (const outputIndex of tx.outputs.slice(0, MAX_COMMITMENT_OUTPUTS).keys())
    if (!own.has(outputIndex)) alsoWatched.push({ txid, outputIndex });
  return {
    outputs,
    ends: shownPreimages(scope, alsoWatched),
    trimmed: new Set(),
    content: 'unknown',
    alsoWatched,
  };
}

/** The preimage in a spend of any HTLC output: the item before the script. */
function preimageIn({ tx, inputIndex }: SpendingInput): Uint8Array | undefined {
  const item = tx.inputs[inputIndex]?.witness.at(-2);
  return item?.length === 32 ? item : undefined;
}

/**
 * Outbound HTLCs for which outputs of theirs were spent with their preimage. Identity cannot be had here, so each such
 * output stands for one HTLC of its hash and value: as many are fulfilled as the counterparty took.
 */
function shownPreimages(scope: CloseScope, outPoints: readonly OutPoint[]): ReadonlyMap<string, HtlcEnd> {
  const byHash = new Map<string, MonitorHtlc[]>();
  for (const { htlc } of scope.monitor.htlcs.values()) {
    if (htlc.direction !== 'outbound') continue;
    const key = toHex(htlc.paymentHash);
    byHash.set(key, [...(byHash.get(key) ?? []), htlc]);
  }
  const ends = new Map<string, HtlcEnd>();
  for (const outPoint of outPoints) {
    const confirmed = spenderOf(scope, outPoint);
    const spends = [
      ...(confirmed === undefined ? [] : [confirmed]),
      ...(scope.unconfirmed.get(outPointKey(outPoint)) ?? []),
    ];
    for (const preimage of spends.map(preimageIn)) {
      if (preimage === undefined) continue;
      const valueSat = scope.close.tx.outputs[outPoint.outputIndex]?.valueSat;
      const htlc = byHash
        .get(toHex(sha256(preimage)))
        ?.find((one) => one.amountMsat / 1000n === valueSat && !ends.has(htlcKey(one)));
      if (htlc === undefined) continue;
      ends.set(htlcKey(htlc), { type: 'preimage', preimage });
      break;
    }
  }
  return ends;
}
