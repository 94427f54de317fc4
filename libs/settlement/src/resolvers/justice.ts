/**
 * The contracts of a revoked commitment. Everything that is not the holder's already is taken with the revocation key:
 * to_local, the HTLC outputs, and whatever the cheater moved from those to second-stage outputs.
 */
import { equalBytes, toHex } from '@fulmen/codec';
import type { HtlcRef } from '@fulmen/monitor';
import { JUSTICE_WITHIN_BLOCKS } from '../constants.ts';
import type { MatchedOutput, RevokedOutputs } from '../revoked-outputs.ts';
import { SEQUENCE_REPLACEABLE, claimOf, spenderOf, spentStatus } from '../scope.ts';
import type { CloseScope } from '../scope.ts';
import { readDelayedSpend, readHtlcSpend } from '../spends.ts';
import type { ConfirmedInput } from '../spends.ts';
import type { OutPoint, OutputStatus, SettlementOutput } from '../types.ts';

/** Status of an output that the cheater gets after its delay, counted from `height`: BOLT 5: "MUST resolve ... by spending it using the revocation private key." */
function revokedDelayedStatus(
  scope: CloseScope,
  outPoint: OutPoint,
  output: Omit<MatchedOutput, 'outputIndex'>,
  from: { readonly height: number; readonly perCommitmentSecret: Uint8Array },
): OutputStatus {
  const spender = spenderOf(scope, outPoint);
  if (spender !== undefined) {
    const { by, how } = readDelayedSpend(spender, 'counterparty');
    return spentStatus(scope, spender, by, how);
  }
  const claim = claimOf(
    { outPoint, ...output },
    {
      kind: { type: 'revoked_delayed', perCommitmentSecret: from.perCommitmentSecret },
      sequence: SEQUENCE_REPLACEABLE,
      locktimeHeight: 0,
      deadlineHeight: from.height + scope.monitor.parameters.counterparty.selfDelayBlocks,
    },
  );
  return { type: 'claimable', claim };
}

export function resolveRevokedToLocal(
  scope: CloseScope,
  { outputIndex, ...output }: MatchedOutput,
  perCommitmentSecret: Uint8Array,
): SettlementOutput {
  const outPoint = { txid: scope.close.txid, outputIndex };
  const from = { height: scope.close.height, perCommitmentSecret };
  const status = revokedDelayedStatus(scope, outPoint, output, from);
  return { outPoint, valueSat: output.valueSat, kind: 'to_local', status };
}

export function resolveRevokedHtlc(
  scope: CloseScope,
  { outputIndex, htlc, ...output }: RevokedOutputs['htlcs'][number],
  perCommitmentSecret: Uint8Array,
): SettlementOutput {
  const outPoint = { txid: scope.close.txid, outputIndex };
  const spender = spenderOf(scope, outPoint);
  let status: OutputStatus;
  if (spender === undefined) {
    const { height } = scope.close;
    const claim = claimOf(
      { outPoint, ...output },
      {
        kind: { type: 'revoked_htlc', perCommitmentSecret, htlc },
        // The revocation path has no OP_CHECKSEQUENCEVERIFY, with anchors neither.
        sequence: SEQUENCE_REPLACEABLE,
        locktimeHeight: 0,
        deadlineHeight:
          height + Math.min(JUSTICE_WITHIN_BLOCKS, scope.monitor.parameters.counterparty.selfDelayBlocks),
      },
    );
    status = { type: 'claimable', claim };
  } else {
    const spend = readHtlcSpend(spender, 'counterparty', htlc.paymentHash);
    status =
      spend.type === 'other'
        ? spentStatus(scope, spender, 'counterparty', 'other')
        : spentStatus(scope, spender, spend.by, spend.type === 'revocation' ? 'justice' : spend.type);
  }
  const kind = htlc.direction === 'outbound' ? 'htlc_offered_by_holder' : 'htlc_offered_by_counterparty';
  return {
    outPoint,
    valueSat: output.valueSat,
    kind,
    htlc: { direction: htlc.direction, id: htlc.id },
    status,
  };
}

/**
 * Every output with the delayed script in the transactions that spent HTLC outputs. One transaction may spend several
 * (with anchors the cheater aggregates), and where its outputs are is the cheater's choice: the script decides.
 */
export function resolveRevokedSecondStages(
  scope: CloseScope,
  { htlcs, delayedScript, delayedScriptPubKey }: RevokedOutputs,
  perCommitmentSecret: Uint8Array,
): SettlementOutput[] {
  const stages = new Map<string, { readonly spender: ConfirmedInput; readonly refs: Map<number, HtlcRef> }>();
  for (const { outputIndex, htlc } of htlcs) {
    const spender = spenderOf(scope, { txid: scope.close.txid, outputIndex });
    if (spender === undefined) continue;
    const key = toHex(spender.txid);
    const stage = stages.get(key) ?? { spender, refs: new Map<number, HtlcRef>() };
    stages.set(key, stage);
    stage.refs.set(spender.inputIndex, { direction: htlc.direction, id: htlc.id });
  }
  return [...stages.values()].flatMap(({ spender: { tx, txid, height }, refs }) =>
    tx.outputs.flatMap(({ script, valueSat }, outputIndex): SettlementOutput[] => {
      if (!equalBytes(script, delayedScriptPubKey)) return [];
      const outPoint = { txid, outputIndex };
      const status = revokedDelayedStatus(
        scope,
        outPoint,
        { valueSat, scriptPubKey: script, witnessScript: delayedScript },
        { height, perCommitmentSecret },
      );
      // The holder signed such a transaction with SINGLE: where inputs and outputs pair, the HTLC is known.
      const htlc = refs.get(outputIndex);
      return [{ outPoint, valueSat, kind: 'second_stage', ...(htlc === undefined ? {} : { htlc }), status }];
    }),
  );
}
