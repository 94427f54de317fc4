import type { SettlementOutput } from '@fulmen/settlement';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeSummary, encodeSummary, inLimbo, summarize, SummaryError } from './summary.ts';

const txid = new Uint8Array(32).fill(7);
const base = { outPoint: { txid, outputIndex: 1 }, valueSat: 50_000n } as const;
const outputs: readonly SettlementOutput[] = [
  { ...base, kind: 'to_local', status: { type: 'maturing', height: 244 } },
  {
    ...base,
    kind: 'htlc_offered_by_counterparty',
    status: { type: 'preimage_unknown', expiryHeight: 300 },
  },
  {
    ...base,
    kind: 'to_remote',
    status: {
      type: 'claimable',
      claim: {
        ...base,
        scriptPubKey: new Uint8Array(34),
        kind: { type: 'counterparty_balance' },
        sequence: 1,
        locktimeHeight: 0,
        witnessWeight: 200,
      },
    },
  },
  {
    ...base,
    kind: 'htlc_offered_by_holder',
    status: {
      type: 'spent',
      txid,
      height: 200,
      by: 'holder',
      how: 'timeout',
      finality: 'young',
    },
  },
];

describe('a settlement’s summary', () => {
  test('says of each output what it waits for, until which height', () => {
    expect(
      summarize(outputs).map(({ status, waitsFor, untilHeight }) => [status, waitsFor, untilHeight]),
    ).toEqual([
      ['maturing', 'its delay to end', 244],
      ['preimage_unknown', 'a preimage, or the counterparty to take it back', 300],
      ['claimable', 'our claim to confirm', undefined],
      ['spent', 'burial of the time-out', 205],
    ]);
  });

  test('is read back as it was written', () => {
    const rows = summarize(outputs);
    expect(decodeSummary(encodeSummary(rows))).toEqual(rows);
  });

  test('counts as in limbo what is ours and not home', () => {
    expect(inLimbo(summarize(outputs)).map(({ kind }) => kind)).toEqual(['to_local', 'to_remote']);
  });

  test('that is anything else gives a typed error', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        try {
          decodeSummary(text);
        } catch (error) {
          expect(error).toBeInstanceOf(SummaryError);
        }
      }),
    );
  });
});
