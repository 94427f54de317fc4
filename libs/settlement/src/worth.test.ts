import { describe, expect, test } from 'vitest';
import { FEERATE_FLOOR_SAT_PER_KW } from '@fulmen/bitcoin';
import { KINDS, claim, secondStage } from './sweep/testing.ts';
import { isOverdue, isTooDear, isWorthless } from './worth.ts';

describe('an HTLC whose claim costs more than it brings', () => {
  test('is worthless only when no feerate that relays makes it worth it', () => {
    const of = (valueSat: bigint) =>
      claim(1, secondStage(valueSat, 'single_anyonecanpay'), { valueSat, witnessWeight: 286 }).claim;
    expect(isWorthless(of(400n))).toBe(true);
    expect(isWorthless(of(600n))).toBe(false);
    expect(isTooDear(of(600n), 1_000)).toBe(true);
    expect(isTooDear(of(50_000n), 1_000)).toBe(false);
  });

  test('is claimed directly at less', () => {
    const direct = claim(1, KINDS.htlc, { valueSat: 400n }).claim;
    expect(isWorthless(direct)).toBe(false);
    expect(isTooDear(direct, 4 * FEERATE_FLOOR_SAT_PER_KW)).toBe(true);
  });

  test('is not given up when its transaction is fixed, nor when it is justice or a balance', () => {
    const fixed = claim(1, secondStage(1_000n, 'fixed'), { valueSat: 1_000n }).claim;
    const others = [KINDS.justice, KINDS.justiceHtlc, KINDS.delayed, KINDS.balance];
    for (const one of [fixed, ...others.map((kind) => claim(1, kind, { valueSat: 1n }).claim)])
      expect(isTooDear(one, 250_000)).toBe(false);
  });

  test('is waited for until the height by which the claim was needed', () => {
    const due = claim(1, KINDS.htlc, { deadlineHeight: 150 }).claim;
    expect(isOverdue(due, 149)).toBe(false);
    expect(isOverdue(due, 150)).toBe(true);
    expect(isOverdue(claim(1, KINDS.htlc).claim, 1_000_000)).toBe(false);
  });
});
