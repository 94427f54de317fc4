/** The wallet's coins: who gets one, and that none is taken for what it is not. */
import { describe, expect, test } from 'vitest';
import { planSweeps } from './plan.ts';
import { CALM, claim, coin, commitment, nextBlock, planInput, secondStage } from './testing.ts';
import type { SweepPlan, SweepPlanInput } from './types.ts';

const stage = (n: number, deadlineHeight: number) =>
  claim(n, secondStage(100_000n, 'single_anyonecanpay'), { deadlineHeight });

const claimsPerSweep = ({ sweeps }: SweepPlan): readonly number[] =>
  sweeps.map(({ inputs }) => inputs.filter(({ type }) => type === 'claim').length);

/** What holds the claims after this plan, by the number of them. */
const held = ({ pending }: SweepPlanInput): readonly number[] => pending.map(({ claims }) => claims.length);

describe('second stages near their deadline stay together', () => {
  const claims = [1, 2].map((n) => stage(n, 105));
  const dust = [coin(2, 300n), coin(3, 300n)];

  test('when there is one coin, and others that are worth nothing', () => {
    const plan = planSweeps(planInput({ claims, coins: [coin(1, 900_000n), ...dust] }));
    expect(claimsPerSweep(plan)).toEqual([2]);
    expect(plan.claims.every(({ nextAction }) => nextAction.startsWith('in block'))).toBe(true);
  });

  test('when they waited together, and such coins came', () => {
    const early = planInput({ claims, coins: [coin(1, 900_000n)], bestHeight: 80 });
    let input: SweepPlanInput = { ...nextBlock(early, planSweeps(early)), bestHeight: 95 };
    input = { ...input, coins: [...input.coins, ...dust] };
    while (input.bestHeight < 104) {
      input = nextBlock(input, planSweeps(input));
      expect(held(input)).toEqual([2]);
    }
  });

  test('when the other coin is an anchor’s child’s', () => {
    const parent = commitment({ parentFeeSat: 300n, stakeSat: 1_000_000n, deadlineHeight: 104 });
    const far = { commitments: [parent], coins: [coin(1, 90_000n), coin(2, 90_000n)] };
    const first = planInput(far);
    const input = {
      ...nextBlock(first, planSweeps(first)),
      claims: claims.map((one) => ({ ...one, channelId: one.channelKeysId })),
    };
    expect(held(input)).toEqual([1]);
    expect(claimsPerSweep(planSweeps({ ...input, bestHeight: 100 }))).toEqual([2]);
  });

  test('when the second coin pays the fee of now and no higher one', () => {
    const plan = planSweeps(planInput({ claims, coins: [coin(1, 900_000n), coin(2, 6_000n)] }));
    expect(claimsPerSweep(plan)).toEqual([2]);
  });
});

test('second stages that waited together go apart once each has its coin', () => {
  const claims = [1, 2].map((n) => stage(n, 105));
  const early = planInput({ claims, coins: [coin(1, 900_000n)], bestHeight: 80 });
  const late = { ...nextBlock(early, planSweeps(early)), bestHeight: 95 };
  const plan = planSweeps({ ...late, coins: [...late.coins, coin(4, 90_000n)] });
  expect(claimsPerSweep(plan)).toEqual([1, 1]);
  expect(plan.sweeps.map(({ replaces }) => replaces)).toEqual([late.pending, []]);
  // The first can use the other coin, and the second the one that the whole had.
  const coins = plan.sweeps.flatMap(({ inputs }) =>
    inputs.flatMap((one) => (one.type === 'coin' ? [one.coin] : [])),
  );
  expect(new Set(coins).size).toBe(2);
});

test('the child of a commitment has its coin before what is less urgent, however dear its anchor is', () => {
  const parent = commitment({ parentFeeSat: 300n, stakeSat: 1_000_000n, deadlineHeight: 120 });
  const other = claim(1, secondStage(100_000n, 'single_anyonecanpay'), { deadlineHeight: 150, channel: 2 });
  const input = planInput({
    commitments: [parent],
    claims: [other],
    coins: [coin(1, 90_000n)],
    feerates: { ...CALM, normalSatPerKw: 3_000 },
  });
  expect(planSweeps(input).sweeps.map(({ parent: paid }) => paid)).toEqual([parent.commitment.tx]);
});
