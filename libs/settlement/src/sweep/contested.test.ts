/** Claims that others in the mempool spend too, or that the node or the signer does not take: none holds another. */
import { equalBytes } from '@fulmen/codec';
import { feeForWeightRoundedUpSat } from '@fulmen/bitcoin';
import { describe, expect, test } from 'vitest';
import { outPointKeyOf } from './keys.ts';
import { planSweeps } from './plan.ts';
import {
  CALM,
  KINDS,
  claim,
  coin,
  nextBlock,
  outPoint,
  pendingOf,
  planInput,
  rivalOf,
  secondStage,
} from './testing.ts';
import type { PlannedSweep, SweepPlan, SweepPlanInput } from './types.ts';

/** The claims of a sweep, by their number. */
function claimsOf({ inputs }: PlannedSweep, upTo = 20): readonly number[] {
  return Array.from({ length: upTo }, (_, n) => n).filter((n) =>
    inputs.some(
      (one) => one.type === 'claim' && equalBytes(one.claimed.claim.outPoint.txid, outPoint(n).txid),
    ),
  );
}

const sweepOf = (plan: SweepPlan, ...claims: readonly number[]): PlannedSweep | undefined =>
  plan.sweeps.find((sweep) => JSON.stringify(claimsOf(sweep)) === JSON.stringify(claims));

const keyOf = (n: number): string => outPointKeyOf(outPoint(n));

const refusedWith = (rejectReason: string, input: SweepPlanInput): SweepPlanInput => ({
  ...input,
  pending: input.pending.map((one) => ({ ...one, rejectReason })),
});

describe('a rival of one claim', () => {
  const claims = [
    claim(1, KINDS.htlc, { valueSat: 1_000n, deadlineHeight: 140 }),
    claim(2, KINDS.htlc, { valueSat: 10_000_000n, deadlineHeight: 140 }),
    claim(3, KINDS.htlc, { valueSat: 200_000n, deadlineHeight: 140 }),
  ];
  /** It pays far more than all of them together may: nobody outbids it. */
  const pin = new Map([[keyOf(1), rivalOf(1, { feeSat: 400_000n, vsize: 98_000 })]]);

  test('holds no other, before the node refused anything or after', () => {
    const first = nextBlock(planInput({ claims }), planSweeps(planInput({ claims })));
    for (const input of [first, refusedWith('insufficient fee', first)]) {
      const plan = planSweeps({ ...input, rivals: pin });
      const others = sweepOf(plan, 2, 3);
      expect(others?.feeSat).toBeLessThan(5_000n);
      // The whole is in no mempool: nothing of it need be paid for, and whichever part is stored first takes its place.
      expect(others?.replaces).toEqual(input.pending);
      expect(plan.kept).toEqual([]);
      expect(plan.claims.every(({ sweepId }) => sweepId !== undefined)).toBe(true);
    }
  });

  test('holds no other whose fee nobody knows', () => {
    const first = nextBlock(planInput({ claims }), planSweeps(planInput({ claims })));
    const rivals = new Map([[keyOf(1), rivalOf(1)]]);
    expect(sweepOf(planSweeps({ ...first, rivals }), 2, 3)).toBeDefined();
  });

  test('is kept out of what is put together anew', () => {
    const plan = planSweeps(planInput({ claims, rivals: pin }));
    expect(sweepOf(plan, 2, 3)).toBeDefined();
    expect(sweepOf(plan, 1)).toBeDefined();
  });

  test('cannot make the claim that it pins pay all that it has, and lets it rise to its deadline', () => {
    let input: SweepPlanInput = planInput({ claims: [claim(5, KINDS.htlc, { deadlineHeight: 140 })] });
    const rivals = new Map([[keyOf(5), rivalOf(5, { feeSat: 400_000n, vsize: 98_000 })]]);
    const fees: bigint[] = [];
    while (input.bestHeight < 139) {
      input = refusedWith('insufficient fee', nextBlock(input, planSweeps({ ...input, rivals })));
      fees.push(input.pending[0]?.feeSat ?? 0n);
    }
    expect(fees[0]).toBeLessThan(1_000n);
    expect(fees.at(-1)).toBeGreaterThan(49_900n);
  });

  test('whose feerate is low and whose fee is high is outbid by what waits already', () => {
    const one = [claim(5, KINDS.htlc, { valueSat: 1_000_000n, deadlineHeight: 140 })];
    const first = nextBlock(planInput({ claims: one }), planSweeps(planInput({ claims: one })));
    const rivals = new Map([[keyOf(5), rivalOf(5, { feeSat: 20_000n, vsize: 20_000 })]]);
    const sweep = sweepOf(planSweeps({ ...refusedWith('insufficient fee', first), rivals }), 5);
    expect(sweep?.feeSat).toBeGreaterThan(20_000n);
    expect(sweep?.feeSat).toBeLessThan(20_500n);
  });

  test('gives the coin of its second stage to another that can use it', () => {
    const stages = [
      claim(1, secondStage(1_000n, 'single_anyonecanpay'), { valueSat: 1_000n, deadlineHeight: 140 }),
      claim(2, secondStage(900_000n, 'single_anyonecanpay'), {
        valueSat: 900_000n,
        deadlineHeight: 145,
        locktimeHeight: 101,
      }),
    ];
    const input = planInput({ claims: stages, coins: [coin(1, 100_000n)], rivals: pin });
    const first = planSweeps(input);
    expect(sweepOf(first, 1)).toBeDefined();
    const next = nextBlock(input, first);
    const plan = planSweeps(next);
    expect(sweepOf(plan, 2)?.replaces).toEqual(next.pending);
    expect(plan.kept).toEqual([]);
    const after = planSweeps(nextBlock(next, plan));
    expect(after.sweeps.map((one) => claimsOf(one))).not.toContainEqual([1]);
    expect(after.claims.find(({ valueSat }) => valueSat === 1_000n)?.nextAction).toMatch(
      /more in the wallet/,
    );
  });
});

describe('a rival of several claims', () => {
  const claims = [1, 2, 3].map((n) => claim(n, KINDS.justiceHtlc, { deadlineHeight: 150 }));
  const rivals = new Map(
    [1, 2, 3].map((n) => [keyOf(n), rivalOf(1, { feeSat: 5_000n, vsize: 500 })] as const),
  );

  test('is paid for once', () => {
    const plan = planSweeps(planInput({ claims, rivals }));
    const sweep = sweepOf(plan, 1, 2, 3);
    const relaySat = BigInt(Math.ceil((sweep?.weight ?? 0) / 4));
    expect(sweep?.feeSat).toBeGreaterThanOrEqual(5_000n + relaySat);
    expect(sweep?.feeSat).toBeLessThan(10_000n);
  });

  test('is paid for once by claims that stand alone, too', () => {
    const plan = planSweeps(planInput({ claims, rivals, bestHeight: 145 }));
    expect(plan.sweeps.map((one) => claimsOf(one).length)).toEqual([1, 1, 1]);
    expect(plan.sweeps.filter(({ feeSat }) => feeSat >= 5_000n)).toHaveLength(1);
  });
});

describe('an anchor', () => {
  const balance = claim(1, KINDS.balance, { valueSat: 1_000_000n });
  const anchor = claim(2, KINDS.anchor, { valueSat: 330n, witnessWeight: 115 });
  const rivals = new Map([[keyOf(2), rivalOf(2, { feeSat: 60_000n, vsize: 5_000 })]]);
  const cheap = { ...CALM, normalSatPerKw: 800 };

  test('that somebody else spends makes a balance pay nothing', () => {
    const input = planInput({ claims: [balance, anchor], feerates: cheap });
    const plan = planSweeps({ ...input, rivals });
    const sweep = sweepOf(plan, 1);
    expect(sweep?.feeSat).toBe(feeForWeightRoundedUpSat(sweep?.weight ?? 0, 800));
    expect(plan.sweeps).toHaveLength(1);
  });

  test('leaves the batch that it was in when somebody else spends it', () => {
    const input = planInput({ claims: [balance, anchor], feerates: cheap });
    const first = planSweeps(input);
    expect(sweepOf(first, 1, 2)).toBeDefined();
    const next = nextBlock(input, first);
    const sweep = sweepOf(planSweeps({ ...next, rivals }), 1);
    expect(sweep?.feeSat).toBe(feeForWeightRoundedUpSat(sweep?.weight ?? 0, 800));
    expect(sweep?.replaces).toEqual(next.pending);
  });

  test('is no part of a batch in which it costs more than it may', () => {
    const input = planInput({ claims: [balance, anchor], feerates: { ...CALM, normalSatPerKw: 1_200 } });
    expect(planSweeps(input).sweeps.map((one) => claimsOf(one))).toEqual([[1]]);
  });

  test('is left behind when a batch is raised to where it costs more than it may, and not before', () => {
    const input = planInput({ claims: [balance, anchor], feerates: cheap });
    const next = nextBlock(input, planSweeps(input));
    const dearer = { ...CALM, normalSatPerKw: 950 };
    expect(planSweeps({ ...next, feerates: dearer }).sweeps).toEqual([]);
    const plan = planSweeps({ ...next, feerates: { ...CALM, normalSatPerKw: 20_000 } });
    expect(plan.sweeps.map((one) => claimsOf(one))).toEqual([[1]]);
    expect(sweepOf(plan, 1)?.replaces).toEqual(next.pending);
  });
});

describe('a transaction with the holder’s own keys that is not the sweeper’s', () => {
  const claims = [1, 2, 3].map((n) => claim(n, KINDS.justiceHtlc, { deadlineHeight: 240 }));
  const allied = new Map([1, 2, 3].map((n) => [keyOf(n), outPoint(40_000).txid] as const));

  test('is not bid against, however often the node refuses for it', () => {
    const input = planInput({ claims });
    const next = refusedWith('insufficient fee', nextBlock(input, planSweeps(input)));
    const plan = planSweeps({ ...next, bestHeight: input.bestHeight, allied });
    expect(plan.sweeps).toEqual([]);
    expect(plan.kept).toHaveLength(1);
  });

  test('does not keep the fee from rising to the deadline', () => {
    let input: SweepPlanInput = planInput({ claims, allied });
    while (input.bestHeight < 239)
      input = refusedWith('insufficient fee', nextBlock(input, planSweeps(input)));
    expect(input.pending.reduce((sum, { feeSat }) => sum + feeSat, 0n)).toBeGreaterThan(250_000n);
  });

  test('may be spending the coins of what was made in its place, so nothing else does', () => {
    const stage = (n: number, deadlineHeight: number) =>
      claim(n, secondStage(100_000n, 'single_anyonecanpay'), { deadlineHeight, channel: n });
    const input = planInput({ claims: [stage(1, 150)], coins: [coin(1, 90_000n)], allied });
    const next = refusedWith('insufficient fee', nextBlock(input, planSweeps(input)));
    const plan = planSweeps({ ...next, bestHeight: 100, claims: [stage(1, 150), stage(2, 140)] });
    expect(plan).toMatchObject({ sweeps: [], kept: next.pending });
  });

  test('holds no other claim', () => {
    const input = planInput({ claims });
    const next = nextBlock(input, planSweeps(input));
    const plan = planSweeps({ ...next, allied: new Map([[keyOf(1), outPoint(40_000).txid]]) });
    expect(sweepOf(plan, 2, 3)?.replaces).toEqual(next.pending);
  });
});

describe('a batch refused for anything but its fee', () => {
  test('goes apart, though its first part is not worth a transaction', () => {
    const claims = [
      claim(1, KINDS.delayed, { valueSat: 800n }),
      claim(2, KINDS.delayed, { valueSat: 100_000n }),
    ];
    const input = planInput({ claims });
    const next = refusedWith('missing-inputs', nextBlock(input, planSweeps(input)));
    const plan = planSweeps(next);
    expect(sweepOf(plan, 2)?.replaces).toEqual(next.pending);
    expect(plan.kept).toEqual([]);
  });

  test('stays as it is while no part can go', () => {
    const claims = [1, 2].map((n) => claim(n, KINDS.delayed, { valueSat: 1_500n }));
    const input = planInput({ claims, feerates: { ...CALM, normalSatPerKw: 300 } });
    const next = refusedWith('missing-inputs', nextBlock(input, planSweeps(input)));
    expect(next.pending).toHaveLength(1);
    const plan = planSweeps({ ...next, feerates: { ...CALM, normalSatPerKw: 900 } });
    expect(plan.sweeps).toEqual([]);
    expect(plan.kept).toEqual(next.pending);
    expect(plan.claims.every(({ sweepId }) => sweepId !== undefined)).toBe(true);
  });
});

describe('a claim that the signer does not sign', () => {
  const claims = [1, 2, 3].map((n) => claim(n, KINDS.balance, { channel: n }));
  const unsignable = new Set([keyOf(2)]);

  test('holds no other', () => {
    const plan = planSweeps(planInput({ claims, unsignable }));
    expect(plan.sweeps.map((one) => claimsOf(one))).toEqual([[1, 3], [2]]);
  });

  test('is left behind when the batch that it is in is raised', () => {
    const input = planInput({ claims });
    const next = nextBlock(input, planSweeps(input));
    expect(planSweeps({ ...next, unsignable }).sweeps).toEqual([]);
    const plan = planSweeps({ ...next, unsignable, feerates: { ...CALM, normalSatPerKw: 3_000 } });
    expect(sweepOf(plan, 1, 3)?.replaces).toEqual(next.pending);
    expect(sweepOf(plan, 2)).toMatchObject({ replaces: [], partOf: next.pending[0] });
  });

  test('takes no coin before another', () => {
    const stages = [
      claim(1, secondStage(100_000n, 'single_anyonecanpay'), { deadlineHeight: 140 }),
      claim(2, secondStage(100_000n, 'single_anyonecanpay'), { deadlineHeight: 150, channel: 2 }),
    ];
    const input = planInput({ claims: stages, coins: [coin(1, 100_000n)], unsignable: new Set([keyOf(1)]) });
    expect(planSweeps(input).sweeps.map((one) => claimsOf(one))).toEqual([[2]]);
  });
});

test('a plan is one that the store can carry out part by part', () => {
  // Every sweep names what it takes the place of, so that it can be stored though another could not be signed.
  const claims = [1, 2, 3].map((n) => claim(n, KINDS.htlc, { deadlineHeight: 140 }));
  const input = planInput({ claims });
  const whole = planSweeps(input).sweeps.map((one) => pendingOf(one, 100));
  const rivals = new Map([[keyOf(1), rivalOf(1, { feeSat: 400_000n, vsize: 98_000 })]]);
  for (const { replaces, partOf } of planSweeps({ ...input, pending: whole, rivals }).sweeps) {
    expect(replaces).toEqual(whole);
    expect(partOf).toBe(whole[0]);
  }
});
