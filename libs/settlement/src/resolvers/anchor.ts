/**
 * The holder's anchor, on either side's commitment. While the commitment is unconfirmed it pays for it; afterwards it is
 * 330 sat that may be worth a place in another claim. BOLT 3: "After 16 blocks, anyone can sweep the anchor".
 */
import { p2wshScript } from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { anchorScript } from '@fulmen/channel/commitment/scripts/anchor';
import { equalBytes } from '@fulmen/codec';
import type { MonitorFunding } from '@fulmen/monitor';
import { SEQUENCE_REPLACEABLE, claimOf, spenderOf, spentStatus } from '../scope.ts';
import type { CloseScope } from '../scope.ts';
import type { Claim, SettlementOutput } from '../types.ts';

/** The claim of the holder's anchor in a commitment, confirmed or not; undefined when it has none. */
export function anchorClaim(
  { anchorSat }: CloseScope['format'],
  funding: MonitorFunding,
  commitment: { readonly tx: Tx; readonly txid: Uint8Array },
  deadlineHeight: number | undefined,
): Claim | undefined {
  if (anchorSat === 0n) return undefined;
  const witnessScript = anchorScript(funding.holderFundingPubkey);
  const scriptPubKey = p2wshScript(witnessScript);
  const outputIndex = commitment.tx.outputs.findIndex(({ script }) => equalBytes(script, scriptPubKey));
  const output = commitment.tx.outputs[outputIndex];
  if (output === undefined) return undefined;
  const { valueSat } = output;
  return claimOf(
    { outPoint: { txid: commitment.txid, outputIndex }, valueSat, scriptPubKey, witnessScript },
    {
      kind: { type: 'anchor' },
      sequence: SEQUENCE_REPLACEABLE,
      locktimeHeight: 0,
      ...(deadlineHeight === undefined ? {} : { deadlineHeight }),
    },
  );
}

/** Of a confirmed commitment: nothing depends on it, so it has no deadline. */
export function resolveAnchor(scope: CloseScope, funding: MonitorFunding): SettlementOutput[] {
  const claim = anchorClaim(scope.format, funding, scope.close, undefined);
  if (claim === undefined) return [];
  const { outPoint, valueSat } = claim;
  const spender = spenderOf(scope, outPoint);
  if (spender === undefined)
    return [{ outPoint, valueSat, kind: 'anchor', status: { type: 'claimable', claim } }];
  // "<sig> <script>" is the holder's; "<> <script>" anybody's.
  const isOwn = (spender.tx.inputs[spender.inputIndex]?.witness[0]?.length ?? 0) > 0;
  const status = isOwn
    ? spentStatus(scope, spender, 'holder', 'claim')
    : spentStatus(scope, spender, 'counterparty', 'other');
  return [{ outPoint, valueSat, kind: 'anchor', status }];
}
