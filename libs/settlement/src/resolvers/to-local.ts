/**
 * to_local of the holder's commitment: the holder's balance. BOLT 5: "MUST wait until the `OP_CHECKSEQUENCEVERIFY`
 * delay has passed (as specified by the remote node's `to_self_delay` field) before spending the output."
 */
import { claimOf, spenderOf, spentStatus, whenMature } from '../scope.ts';
import type { ClaimableOutput, CloseScope } from '../scope.ts';
import { readDelayedSpend } from '../spends.ts';
import type { OutputStatus, SettlementOutput } from '../types.ts';

/** Status of an output that pays the holder after its delay, counted from `height`: to_local, or a second stage. */
export function holderDelayedStatus(
  scope: CloseScope,
  output: ClaimableOutput,
  from: { readonly height: number; readonly commitmentNumber: bigint },
): OutputStatus {
  const spender = spenderOf(scope, output.outPoint);
  if (spender !== undefined) {
    const { by, how } = readDelayedSpend(spender, 'holder');
    return spentStatus(scope, spender, by, how);
  }
  const delayBlocks = scope.monitor.parameters.holder.selfDelayBlocks;
  const claim = claimOf(output, {
    kind: { type: 'holder_delayed', commitmentNumber: from.commitmentNumber },
    // BIP 68: the input may be in a block once the output is this deep.
    sequence: delayBlocks,
    locktimeHeight: 0,
  });
  return whenMature(scope, from.height + delayBlocks, claim);
}

export function resolveToLocal(
  scope: CloseScope,
  output: ClaimableOutput,
  commitmentNumber: bigint,
): SettlementOutput {
  const { outPoint, valueSat } = output;
  const status = holderDelayedStatus(scope, output, { height: scope.close.height, commitmentNumber });
  return { outPoint, valueSat, kind: 'to_local', status };
}
