/**
 * An HTLC on an unrevoked commitment of the counterparty: the holder spends the output itself, with the preimage of what
 * it was offered, or after the expiry of what it offered. The counterparty's own second stages are its own business.
 */
import { TIMEOUT_CONFIRMED_WITHIN_BLOCKS } from '../constants.ts';
import type { OutputOf } from '../commitments.ts';
import { claimOf, knownPreimage, spenderOf, spentStatus, whenMature } from '../scope.ts';
import type { CloseScope } from '../scope.ts';
import { readHtlcSpend } from '../spends.ts';
import type { OutputStatus, SettlementOutput } from '../types.ts';

export function resolveCounterpartyHtlc(
  scope: CloseScope,
  perCommitmentPoint: Uint8Array,
  output: OutputOf<'htlc'>,
): SettlementOutput {
  const { htlc, valueSat, outputIndex } = output;
  const outPoint = { txid: scope.close.txid, outputIndex };
  const spender = spenderOf(scope, outPoint);
  let status: OutputStatus;
  if (spender === undefined) {
    status = unspentStatus(scope, perCommitmentPoint, output);
  } else {
    const spend = readHtlcSpend(spender, 'counterparty', htlc.paymentHash);
    status =
      spend.type === 'other'
        ? spentStatus(scope, spender, 'counterparty', 'other')
        : spentStatus(scope, spender, spend.by, spend.type === 'revocation' ? 'justice' : spend.type);
  }
  const kind = htlc.direction === 'outbound' ? 'htlc_offered_by_holder' : 'htlc_offered_by_counterparty';
  return { outPoint, valueSat, kind, htlc: { direction: htlc.direction, id: htlc.id }, status };
}

function unspentStatus(
  scope: CloseScope,
  perCommitmentPoint: Uint8Array,
  { htlc, valueSat, scriptPubKey, witnessScript, outputIndex }: OutputOf<'htlc'>,
): OutputStatus {
  const output = {
    outPoint: { txid: scope.close.txid, outputIndex },
    valueSat,
    scriptPubKey,
    witnessScript,
  };
  // BOLT 3, option_anchors: `1 OP_CHECKSEQUENCEVERIFY` in every path but the revocation.
  const sequence = scope.format.htlcInputSequence;
  const csvHeight = scope.close.height + sequence;
  const { cltvExpiryHeight } = htlc;
  if (htlc.direction === 'outbound') {
    const claim = claimOf(output, {
      kind: { type: 'counterparty_htlc', perCommitmentPoint, htlc },
      sequence,
      locktimeHeight: cltvExpiryHeight,
      deadlineHeight: cltvExpiryHeight + TIMEOUT_CONFIRMED_WITHIN_BLOCKS,
    });
    // A locktime of n allows block n + 1.
    return whenMature(scope, Math.max(cltvExpiryHeight + 1, csvHeight), claim);
  }
  const preimage = knownPreimage(scope, htlc);
  if (preimage === undefined) return { type: 'preimage_unknown', expiryHeight: cltvExpiryHeight };
  const claim = claimOf(output, {
    kind: { type: 'counterparty_htlc', perCommitmentPoint, htlc, preimage },
    sequence,
    locktimeHeight: 0,
    deadlineHeight: cltvExpiryHeight,
  });
  return whenMature(scope, csvHeight, claim);
}
