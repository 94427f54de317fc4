/** What the spends of an outbound HTLC's output say of how it ended. */
import type { CommitmentOwner } from '@fulmen/channel/commitment/types';
import type { MonitorHtlc } from '@fulmen/monitor';
import type { CloseScope, HtlcEnd } from '../scope.ts';
import { spenderOf } from '../scope.ts';
import { outPointKey, readHtlcSpend } from '../spends.ts';
import type { UnconfirmedInputs } from '../spends.ts';
import type { OutPoint } from '../types.ts';

/** The counterparty's preimage in the mempool, if a spend there shows it. */
export function unconfirmedPreimage(
  unconfirmed: UnconfirmedInputs,
  outPoint: OutPoint,
  owner: CommitmentOwner,
  htlc: MonitorHtlc,
): Uint8Array | undefined {
  for (const input of unconfirmed.get(outPointKey(outPoint)) ?? []) {
    const spend = readHtlcSpend(input, owner, htlc.paymentHash);
    if (spend.type === 'preimage' && spend.by === 'counterparty') return spend.preimage;
  }
  return undefined;
}

/**
 * The end of an HTLC that the holder offered, as far as its own output tells. A preimage that another HTLC of the same
 * hash was paid with is none of this one: the counterparty was paid for that one only.
 */
export function outboundEnd(
  scope: CloseScope,
  outPoint: OutPoint,
  owner: CommitmentOwner,
  htlc: MonitorHtlc,
): HtlcEnd {
  const waiting = unconfirmedPreimage(scope.unconfirmed, outPoint, owner, htlc);
  if (waiting !== undefined) return { type: 'preimage', preimage: waiting };
  const spender = spenderOf(scope, outPoint);
  if (spender === undefined) return { type: 'unspent', untilHeight: htlc.cltvExpiryHeight };
  const spend = readHtlcSpend(spender, owner, htlc.paymentHash);
  if (spend.type === 'preimage' && spend.by === 'counterparty')
    return { type: 'preimage', preimage: spend.preimage };
  // The holder has the money either way; what no path of the script explains is not judged.
  if (spend.type === 'timeout' && spend.by === 'holder')
    return { type: 'without_preimage', reason: 'timeout', height: spender.height };
  if (spend.type === 'revocation' && spend.by === 'holder')
    return { type: 'without_preimage', reason: 'justice', height: spender.height };
  return { type: 'unspent', untilHeight: htlc.cltvExpiryHeight };
}
