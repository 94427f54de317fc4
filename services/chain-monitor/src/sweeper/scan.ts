/** Sweeps against blocks: what confirmed, what a reorganisation took back, and what is buried. */
import { toHex } from '@fulmen/codec';
import { BURIAL_DEPTH } from '../follower/orders.ts';
import type { Draft } from '../state/draft.ts';

/** Notes the sweeps that this block confirms. */
export function scanSweeps(
  draft: Draft,
  { txids }: { readonly txids: readonly Uint8Array[] },
  height: number,
): void {
  const open = new Map([...draft.settlement.sweeps()].map((sweep) => [toHex(sweep.txid), sweep]));
  if (open.size === 0) return;
  for (const txid of txids) {
    const sweep = open.get(toHex(txid));
    if (sweep === undefined) continue;
    const { rejectReason: _, ...rest } = sweep;
    draft.settlement.putSweep({ ...rest, confirmedHeight: height });
  }
}

/** Takes back what a disconnected block said. */
export function unscanSweeps(draft: Draft, height: number): void {
  for (const sweep of [...draft.settlement.sweeps()]) {
    const { confirmedHeight, ...rest } = sweep;
    if (confirmedHeight === height) draft.settlement.putSweep(rest);
  }
}

/** Ends the sweeps that no reorganisation will revive, with the rows of their claims. */
export function finishSweeps(draft: Draft, bestHeight: number): void {
  const buried = new Set<string>();
  for (const sweep of [...draft.settlement.sweeps()]) {
    if (sweep.confirmedHeight === undefined || bestHeight - sweep.confirmedHeight + 1 < BURIAL_DEPTH)
      continue;
    buried.add(toHex(sweep.sweepId));
    draft.settlement.dropSweep(sweep.sweepId);
  }
  if (buried.size === 0) return;
  for (const claim of [...draft.settlement.claims()])
    if (claim.sweepId !== undefined && buried.has(toHex(claim.sweepId)))
      draft.settlement.dropClaim(claim.outPoint);
}
