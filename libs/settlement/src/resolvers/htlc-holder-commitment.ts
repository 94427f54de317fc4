/**
 * An HTLC on the holder's own commitment. The holder takes it by a second-stage transaction that the counterparty signed
 * in advance (HTLC-timeout for what the holder offered, HTLC-success for what it was offered), whose output waits for
 * to_self_delay like to_local.
 */
import { unsignedHtlcTransaction } from '@fulmen/channel/commitment/htlc-transaction';
import { InternalError, equalBytes } from '@fulmen/codec';
import { SIGHASH } from '@fulmen/bitcoin';
import type { TxOutput } from '@fulmen/bitcoin';
import { TIMEOUT_CONFIRMED_WITHIN_BLOCKS } from '../constants.ts';
import { outPointOf } from '../commitments.ts';
import type { OutputOf, RebuiltCommitment } from '../commitments.ts';
import { claimOf, knownPreimage, spenderOf, spentStatus, whenMature } from '../scope.ts';
import type { CloseScope } from '../scope.ts';
import { readHtlcSpend } from '../spends.ts';
import type { ConfirmedInput } from '../spends.ts';
import type { OutputStatus, SettlementOutput } from '../types.ts';
import { holderDelayedStatus } from './to-local.ts';

/** The holder's commitment that confirmed. */
export interface ConfirmedHolderCommitment extends RebuiltCommitment {
  readonly commitmentNumber: bigint;
  readonly htlcSignatures: readonly Uint8Array[];
}

/** The HTLC's output, and that of its second stage once there is one. */
export function resolveHolderHtlc(
  scope: CloseScope,
  commitment: ConfirmedHolderCommitment,
  output: OutputOf<'htlc'>,
  /** Among the HTLC outputs: the counterparty's signatures have this order. */
  htlcIndex: number,
): SettlementOutput[] {
  const { htlc, valueSat } = output;
  const outPoint = outPointOf(commitment.built, output);
  const kind = htlc.direction === 'outbound' ? 'htlc_offered_by_holder' : 'htlc_offered_by_counterparty';
  const ref = { direction: htlc.direction, id: htlc.id };
  const spender = spenderOf(scope, outPoint);
  if (spender === undefined)
    return [
      { outPoint, valueSat, kind, htlc: ref, status: unspentStatus(scope, commitment, output, htlcIndex) },
    ];
  const spend = readHtlcSpend(spender, 'holder', htlc.paymentHash);
  if (spend.type === 'other' || spend.by === 'counterparty') {
    const how = spend.type === 'revocation' ? 'justice' : spend.type;
    const status = spentStatus(scope, spender, 'counterparty', how);
    return [{ outPoint, valueSat, kind, htlc: ref, status }];
  }
  const status = spentStatus(scope, spender, 'holder', 'second_stage');
  return [
    { outPoint, valueSat, kind, htlc: ref, status },
    ...secondStage(scope, commitment, output, spender),
  ];
}

/** The second stage as the counterparty signed it. */
function signedSecondStage(
  { format }: CloseScope,
  { built, feerateSatPerKw }: RebuiltCommitment,
  output: OutputOf<'htlc'>,
): { readonly locktime: number; readonly output: TxOutput } {
  const { txid: commitmentTxid, delayedScriptPubKey } = built;
  const { locktime, outputs } = unsignedHtlcTransaction({
    format,
    commitmentTxid,
    output,
    feerateSatPerKw,
    delayedScriptPubKey,
  });
  const [paid] = outputs;
  if (paid === undefined) throw new InternalError('a second stage pays somebody');
  return { locktime, output: paid };
}

function unspentStatus(
  scope: CloseScope,
  commitment: ConfirmedHolderCommitment,
  spent: OutputOf<'htlc'>,
  htlcIndex: number,
): OutputStatus {
  const { htlc, valueSat, scriptPubKey, witnessScript, outputIndex } = spent;
  const isOutbound = htlc.direction === 'outbound';
  const preimage = isOutbound ? undefined : knownPreimage(scope, htlc);
  if (!isOutbound && preimage === undefined)
    return { type: 'preimage_unknown', expiryHeight: htlc.cltvExpiryHeight };
  const { locktime, output } = signedSecondStage(scope, commitment, spent);
  const counterpartySignature = commitment.htlcSignatures[htlcIndex];
  if (counterpartySignature === undefined)
    throw new InternalError('a holder commitment was accepted without a signature for each HTLC');
  const sighashType = scope.format.counterpartyHtlcSighashType;
  const claim = claimOf(
    { outPoint: { txid: commitment.built.txid, outputIndex }, valueSat, scriptPubKey, witnessScript },
    {
      kind: {
        type: 'holder_htlc',
        commitmentNumber: commitment.commitmentNumber,
        htlc,
        ...(preimage === undefined ? {} : { preimage }),
        counterpartySignature,
        sighashType,
        output,
        aggregation: sighashType === SIGHASH.ALL ? 'fixed' : 'single_anyonecanpay',
      },
      sequence: scope.format.htlcInputSequence,
      locktimeHeight: locktime,
      // The counterparty takes back what it offered from its expiry on.
      deadlineHeight: isOutbound
        ? htlc.cltvExpiryHeight + TIMEOUT_CONFIRMED_WITHIN_BLOCKS
        : htlc.cltvExpiryHeight,
    },
  );
  // A locktime of n allows block n + 1; with anchors the input waits for one block besides.
  const csvHeight = scope.close.height + scope.format.htlcInputSequence;
  return whenMature(scope, isOutbound ? Math.max(htlc.cltvExpiryHeight + 1, csvHeight) : csvHeight, claim);
}

/** The output of a second stage of the holder's: at the input's index, as the counterparty's SINGLE signature demands. */
function secondStage(
  scope: CloseScope,
  { built, commitmentNumber }: ConfirmedHolderCommitment,
  { htlc }: OutputOf<'htlc'>,
  spender: ConfirmedInput,
): SettlementOutput[] {
  const output = spender.tx.outputs[spender.inputIndex];
  if (output === undefined || !equalBytes(output.script, built.delayedScriptPubKey)) return [];
  const { valueSat, script: scriptPubKey } = output;
  const outPoint = { txid: spender.txid, outputIndex: spender.inputIndex };
  const status = holderDelayedStatus(
    scope,
    { outPoint, valueSat, scriptPubKey, witnessScript: built.delayedScript },
    { height: spender.height, commitmentNumber },
  );
  return [
    { outPoint, valueSat, kind: 'second_stage', htlc: { direction: htlc.direction, id: htlc.id }, status },
  ];
}
