/**
 * What the outputs of a closed channel wait for, in a form that is stored and
 * shown: people and other services read it without the monitor. Encoded as
 * JSON, because an operator may read the row itself.
 */
import type { OutputKind, SettlementOutput } from '@fulmen/settlement';
import { fromHex, toHex } from '@fulmen/codec';

/** Confirmations after which no reorganisation is expected to undo a transaction (LDK's ANTI_REORG_DELAY). */
export const BURIED_CONFIRMATIONS = 6;
/** A commitment has at most 966 HTLCs, two anchors and two balances, and as many second stages. */
const MAX_OUTPUTS = 2_000;

export type SummaryStatus = SettlementOutput['status']['type'];

export interface SummaryOutput {
  /** Internal byte order. */
  readonly txid: Uint8Array;
  readonly outputIndex: number;
  readonly valueSat: bigint;
  readonly kind: OutputKind;
  readonly status: SummaryStatus;
  /** In words; '' when nothing is waited for. */
  readonly waitsFor: string;
  readonly untilHeight?: number;
  readonly spentTxid?: Uint8Array;
  readonly spentBy?: 'holder' | 'counterparty';
}

/** The stored summary is not one that this code wrote. */
export class SummaryError extends Error {
  override readonly name = 'SummaryError';
}

/** One row for each output; in the order of the settlement. */
export function summarize(outputs: readonly SettlementOutput[]): readonly SummaryOutput[] {
  return outputs.map((output) => {
    const { outPoint, valueSat, kind, status } = output;
    const row = { txid: outPoint.txid, outputIndex: outPoint.outputIndex, valueSat, kind };
    switch (status.type) {
      case 'maturing':
        return {
          ...row,
          status: status.type,
          waitsFor: kind === 'htlc_offered_by_holder' ? 'its time-out' : 'its delay to end',
          untilHeight: status.height,
        };
      case 'claimable':
        return {
          ...row,
          status: status.type,
          waitsFor: kind === 'anchor' ? 'nothing: swept when it is worth its fee' : 'our claim to confirm',
          ...(status.claim.deadlineHeight !== undefined && { untilHeight: status.claim.deadlineHeight }),
        };
      case 'preimage_unknown':
        return {
          ...row,
          status: status.type,
          waitsFor: 'a preimage, or the counterparty to take it back',
          untilHeight: status.expiryHeight,
        };
      case 'spent':
        return {
          ...row,
          status: status.type,
          spentTxid: status.txid,
          spentBy: status.by,
          ...(status.finality === 'final'
            ? { waitsFor: '' }
            : {
                waitsFor: `burial of ${HOW[status.how]}`,
                untilHeight: status.height + BURIED_CONFIRMATIONS - 1,
              }),
        };
    }
  });
}

const HOW: Record<Extract<SettlementOutput['status'], { type: 'spent' }>['how'], string> = {
  claim: 'the claim',
  second_stage: 'the HTLC transaction',
  preimage: 'the claim with the preimage',
  timeout: 'the time-out',
  justice: 'the penalty',
  other: 'what spent it',
};

export function encodeSummary(outputs: readonly SummaryOutput[]): string {
  return JSON.stringify(
    outputs.slice(0, MAX_OUTPUTS).map((output) => ({
      txid: toHex(output.txid),
      outputIndex: output.outputIndex,
      valueSat: output.valueSat.toString(),
      kind: output.kind,
      status: output.status,
      waitsFor: output.waitsFor,
      ...(output.untilHeight !== undefined && { untilHeight: output.untilHeight }),
      ...(output.spentTxid !== undefined && { spentTxid: toHex(output.spentTxid) }),
      ...(output.spentBy !== undefined && { spentBy: output.spentBy }),
    })),
  );
}

/** @throws SummaryError */
export function decodeSummary(text: string): readonly SummaryOutput[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new SummaryError('a settlement’s summary is no JSON');
  }
  if (!Array.isArray(parsed) || parsed.length > MAX_OUTPUTS)
    throw new SummaryError('a settlement’s summary is no list of outputs');
  return parsed.map(decodeOutput);
}

const KINDS: readonly OutputKind[] = [
  'to_local',
  'to_remote',
  'anchor',
  'htlc_offered_by_holder',
  'htlc_offered_by_counterparty',
  'second_stage',
];
const STATUSES: readonly SummaryStatus[] = ['maturing', 'claimable', 'preimage_unknown', 'spent'];

function decodeOutput(value: unknown): SummaryOutput {
  if (typeof value !== 'object' || value === null) throw new SummaryError('an output is no object');
  const fields = value as Readonly<Record<string, unknown>>;
  const { outputIndex, valueSat, waitsFor, untilHeight, spentTxid } = fields;
  const kind = KINDS.find((one) => one === fields['kind']);
  const status = STATUSES.find((one) => one === fields['status']);
  const spentBy = (['holder', 'counterparty'] as const).find((one) => one === fields['spentBy']);
  if (kind === undefined || status === undefined || !isIndex(outputIndex) || typeof waitsFor !== 'string')
    throw new SummaryError('an output lacks its kind, status, index or words');
  if (typeof valueSat !== 'string' || !/^\d{1,19}$/.test(valueSat))
    throw new SummaryError('an output has no value');
  if (untilHeight !== undefined && !isIndex(untilHeight)) throw new SummaryError('a height is no height');
  return {
    txid: txidFrom(fields['txid']),
    outputIndex,
    valueSat: BigInt(valueSat),
    kind,
    status,
    waitsFor,
    ...(untilHeight !== undefined && { untilHeight }),
    ...(spentTxid !== undefined && { spentTxid: txidFrom(spentTxid) }),
    ...(spentBy !== undefined && { spentBy }),
  };
}

const isIndex = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff;

function txidFrom(value: unknown): Uint8Array {
  if (typeof value !== 'string' || !/^[0-9a-f]{64}$/.test(value))
    throw new SummaryError('a txid is not 64 hex digits');
  return fromHex(value);
}

/** What is the holder's and not home yet; anchors are not counted, for they are rarely worth their fee. */
export function inLimbo(outputs: readonly SummaryOutput[]): readonly SummaryOutput[] {
  return outputs.filter(
    ({ kind, status }) => kind !== 'anchor' && (status === 'maturing' || status === 'claimable'),
  );
}
