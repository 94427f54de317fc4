import { feeForWeightRoundedUpSat, txWeight } from '@fulmen/bitcoin';
import { describe, expect, test } from 'vitest';
import { outPointKeyOf } from './keys.ts';
import { planSweeps } from './plan.ts';
import {
  CALM,
  HOME,
  KINDS,
  claim,
  coin,
  commitment,
  nextBlock,
  outPoint,
  planInput,
  progressAfter,
  rivalOf,
  secondStage,
} from './testing.ts';
import { sweepTransaction } from './transaction.ts';
import type { PlannedSweep, SweepPlan } from './types.ts';

function only(plan: SweepPlan): PlannedSweep {
  expect(plan.sweeps).toHaveLength(1);
  return plan.sweeps[0] as PlannedSweep;
}

const wordsOf = (plan: SweepPlan): readonly string[] => plan.claims.map(({ nextAction }) => nextAction);

describe('batching', () => {
  test('what has no hurry goes together, across channels', () => {
    const plan = planSweeps(
      planInput({
        claims: [
          claim(1, KINDS.delayed, { channel: 1 }),
          claim(2, KINDS.balance, { channel: 2 }),
          claim(3, KINDS.anchor, { channel: 3, valueSat: 330n, witnessWeight: 115 }),
        ],
        feerates: { ...CALM, normalSatPerKw: 750 },
      }),
    );
    const sweep = only(plan);
    expect(sweep.inputs).toHaveLength(3);
    expect(sweep.homeSat).toBe(200_330n - sweep.feeSat);
    expect(sweep.feeSat).toBe(feeForWeightRoundedUpSat(sweep.weight, 750));
    expect(wordsOf(plan)[0]).toBe('in block 100: offered at 3 sat/vB');
  });

  test('a time-out that is not due waits for its block', () => {
    const plan = planSweeps(planInput({ claims: [claim(1, KINDS.htlc, { locktimeHeight: 120 })] }));
    expect(plan.sweeps).toEqual([]);
    expect(wordsOf(plan)).toEqual(['waits for block 120']);
  });

  test('an anchor by itself is not worth a transaction', () => {
    const plan = planSweeps(
      planInput({ claims: [claim(1, KINDS.anchor, { valueSat: 330n, witnessWeight: 115 })] }),
    );
    expect(plan.sweeps).toEqual([]);
    expect(wordsOf(plan)[0]).toMatch(/^waits for lower fees/);
  });

  test('what costs more than its share waits for lower fees, and goes when they are there', () => {
    const claims = [claim(1, KINDS.delayed, { valueSat: 3_000n })];
    const dear = planSweeps(planInput({ claims, feerates: { ...CALM, normalSatPerKw: 10_000 } }));
    expect(dear.sweeps).toEqual([]);
    expect(wordsOf(dear)[0]).toMatch(/^waits for lower fees: worth at most/);
    expect(planSweeps(planInput({ claims, progress: progressAfter(dear) })).sweeps).toHaveLength(1);
  });

  test('deadlines close to each other share a transaction of one channel; near them each stands alone', () => {
    const claims = [1, 2, 3].map((n) => claim(n, KINDS.htlc, { deadlineHeight: 150 + n }));
    const far = planSweeps(planInput({ claims }));
    expect(only(far).inputs).toHaveLength(3);
    let input = nextBlock(planInput({ claims }), far);
    let plan = planSweeps(input);
    while (plan.sweeps.every(({ partOf }) => partOf === undefined)) {
      expect(input.bestHeight).toBeLessThan(141);
      expect(plan.sweeps.length + plan.kept.length).toBe(1);
      input = nextBlock(input, plan);
      plan = planSweeps(input);
    }
    expect(plan.sweeps.map(({ inputs }) => inputs.length)).toEqual([1, 1, 1]);
    const [first, ...others] = plan.sweeps;
    const [whole] = first?.replaces ?? [];
    expect(whole?.claims).toHaveLength(3);
    // The others wait for it to go.
    for (const { replaces, partOf } of others)
      expect({ replaces, partOf }).toEqual({ replaces: [], partOf: whole });
    // BIP 125: the one that makes room pays for all that it replaces.
    expect(first?.feeSat).toBeGreaterThan(whole?.feeSat ?? 0n);
  });

  test('HTLC outputs that a cheater can spend too do not hold what only the holder can spend', () => {
    const plan = planSweeps(
      planInput({
        claims: [
          claim(1, KINDS.justice, { deadlineHeight: 244 }),
          claim(2, KINDS.justiceHtlc, { deadlineHeight: 244 }),
          claim(3, KINDS.justiceHtlc, { deadlineHeight: 244 }),
        ],
      }),
    );
    expect(plan.sweeps.map(({ inputs }) => inputs.length).sort((a, b) => a - b)).toEqual([1, 2]);
  });

  test('an input spent by somebody else vanishes, and the rest is planned again', () => {
    const claims = [1, 2].map((n) => claim(n, KINDS.htlc, { deadlineHeight: 180 }));
    const first = planSweeps(planInput({ claims }));
    const later = planSweeps({ ...nextBlock(planInput({ claims }), first), claims: claims.slice(1) });
    expect(later.dropped).toHaveLength(1);
    const sweep = only(later);
    expect(sweep.inputs).toHaveLength(1);
    expect(sweep.feerateSatPerKw).toBeGreaterThanOrEqual(first.sweeps[0]?.feerateSatPerKw ?? Infinity);
  });

  test('a batch refused for anything but its fee is taken apart', () => {
    const claims = [1, 2].map((n) => claim(n, KINDS.delayed, { channel: n }));
    const first = planSweeps(planInput({ claims }));
    const next = nextBlock(planInput({ claims }), first);
    const refused = next.pending.map((one) => ({ ...one, rejectReason: 'missing-inputs' }));
    expect(planSweeps({ ...next, pending: refused }).sweeps).toHaveLength(2);
  });
});

describe('the second stage', () => {
  const stage = (n: number, fields: Parameters<typeof claim>[2] = {}) =>
    claim(n, secondStage(100_000n, 'single_anyonecanpay'), { deadlineHeight: 160, ...fields });

  test('outputs stand at the index of their inputs, the wallet pays, the change comes last', () => {
    const plan = planSweeps(
      planInput({
        claims: [stage(1, { locktimeHeight: 90 }), stage(2, { locktimeHeight: 90 }), stage(3)],
        coins: [coin(1, 50_000n), coin(2, 1_000_000n)],
      }),
    );
    expect(plan.sweeps.map(({ locktime }) => locktime).sort((a, b) => a - b)).toEqual([0, 90]);
    for (const sweep of plan.sweeps) {
      const { inputs, outputs } = sweepTransaction(sweep, HOME);
      const claims = sweep.inputs.filter(({ type }) => type === 'claim').length;
      expect(outputs).toHaveLength(claims + 1);
      expect(inputs).toHaveLength(claims + 1);
      expect(sweep.inputs.at(-1)?.type).toBe('coin');
      expect(sweep.outputs.every(({ valueSat }) => valueSat === 100_000n)).toBe(true);
    }
  });

  test('without a coin it waits and says how much is missing; a spent coin is replaced by another', () => {
    const claims = [stage(1)];
    const poor = planSweeps(planInput({ claims }));
    expect(poor.sweeps).toEqual([]);
    expect(wordsOf(poor)[0]).toMatch(/^waits for \d+ sat more in the wallet/);
    const rich = planInput({ claims, coins: [coin(1, 50_000n), coin(2, 60_000n)] });
    const first = planSweeps(rich);
    const used = only(first).inputs.at(-1);
    const after = planSweeps({
      ...nextBlock(rich, first),
      coins: rich.coins.filter((one) => used?.type === 'coin' && one !== used.coin),
    });
    expect(only(after).inputs).toHaveLength(2);
    expect(after.dropped).toEqual([]);
  });

  test('each has a coin of its own near the deadline, unless there are too few: then they share', () => {
    const claims = [1, 2].map((n) => stage(n, { deadlineHeight: 105 }));
    const rich = planSweeps(planInput({ claims, coins: [coin(1, 90_000n), coin(2, 90_000n)] }));
    expect(rich.sweeps.map(({ inputs }) => inputs.length)).toEqual([2, 2]);
    const poor = planSweeps(planInput({ claims, coins: [coin(1, 900_000n)] }));
    expect(only(poor).inputs).toHaveLength(3);
  });

  test('without anchors the transaction is as both signed it, and is only broadcast again', () => {
    const claims = [claim(1, secondStage(100_000n, 'fixed'), { deadlineHeight: 160, locktimeHeight: 90 })];
    const first = planSweeps(planInput({ claims }));
    const sweep = only(first);
    expect(sweep).toMatchObject({ feeSat: 700n, homeSat: undefined, locktime: 90 });
    const second = planSweeps(nextBlock(planInput({ claims }), first));
    expect(second.sweeps).toEqual([]);
    expect(second.kept).toHaveLength(1);
  });
});

describe('the child of an anchor', () => {
  const coins = [coin(1, 200_000n)];

  test('brings commitment and child to the feerate together', () => {
    const parent = commitment({ parentFeeSat: 300n, stakeSat: 1_000_000n, deadlineHeight: 150 });
    const sweep = only(planSweeps(planInput({ commitments: [parent], coins })));
    const total = sweep.weight + txWeight(parent.commitment.tx);
    expect(sweep.feeSat + 300n).toBe(feeForWeightRoundedUpSat(total, 1_000));
    expect(sweep.parent).toBe(parent.commitment.tx);
  });

  test.each([68, 69, 70, 71])(
    'pays a full mempool’s minimum in whole vbytes, as the node counts (%i)',
    (length) => {
      const base = commitment({ parentFeeSat: 300n, stakeSat: 1_000_000n });
      const witness = [new Uint8Array(0), new Uint8Array(length), new Uint8Array(71), new Uint8Array(71)];
      const tx = {
        ...base.commitment.tx,
        inputs: base.commitment.tx.inputs.map((input) => ({ ...input, witness })),
      };
      const parent = { ...base, commitment: { ...base.commitment, tx } };
      const feerates = { ...CALM, normalSatPerKw: 500, mempoolMinimumSatPerKw: 500 };
      const sweep = only(planSweeps(planInput({ commitments: [parent], coins, feerates })));
      const vbytes = Math.ceil(sweep.weight / 4) + Math.ceil(txWeight(tx) / 4);
      expect(sweep.feeSat + 300n).toBeGreaterThanOrEqual(BigInt(vbytes) * 2n);
    },
  );

  test('is not made when the commitment pays enough', () => {
    const parent = commitment({ parentFeeSat: 30_000n, stakeSat: 1_000_000n });
    const plan = planSweeps(planInput({ commitments: [parent], coins }));
    expect(plan.sweeps).toEqual([]);
    expect(wordsOf(plan)[0]).toMatch(/^nothing: the commitment pays/);
  });

  test('costs no more than its share of what is behind the commitment', () => {
    const parent = commitment({ parentFeeSat: 300n, stakeSat: 100_000n, deadlineHeight: 150 });
    let input = planInput({ commitments: [parent], coins });
    for (let block = 0; block < 60; block++) input = nextBlock(input, planSweeps(input));
    expect(input.pending[0]?.feeSat).toBeLessThanOrEqual(50_000n);
    expect(input.pending[0]?.feeSat).toBeGreaterThan(45_000n);
  });

  test('goes when another commitment confirmed', () => {
    const input = planInput({
      commitments: [commitment({ parentFeeSat: 300n, stakeSat: 1_000_000n })],
      coins,
    });
    const next = planSweeps({ ...nextBlock(input, planSweeps(input)), commitments: [] });
    expect(next).toMatchObject({ sweeps: [], kept: [] });
    expect(next.dropped).toHaveLength(1);
  });
});

describe('fees', () => {
  test('rise to the budget in the last block before the deadline, and never fall', () => {
    let input = planInput({ claims: [claim(1, KINDS.htlc, { deadlineHeight: 140 })] });
    const rates: number[] = [];
    while (input.bestHeight < 139) {
      const plan = planSweeps(input);
      input = nextBlock(input, plan);
      rates.push(input.pending[0]?.feerateSatPerKw ?? 0);
    }
    expect(rates).toEqual([...rates].sort((a, b) => a - b));
    expect(input.pending[0]?.feeSat).toBeGreaterThan(49_900n);
    expect(input.pending[0]?.feeSat).toBeLessThanOrEqual(50_000n);
  });

  test('do not fall with the estimate', () => {
    const claims = [claim(1, KINDS.htlc, { deadlineHeight: 140 })];
    const dear = planInput({ claims, feerates: { ...CALM, normalSatPerKw: 5_000 } });
    const first = planSweeps(dear);
    const next = planSweeps({ ...nextBlock(dear, first), feerates: CALM });
    expect(next.claims[0]?.feerateSatPerKw).toBeGreaterThanOrEqual(5_000);
  });

  test('what an operator asks for is paid at once, beyond the budget but not beyond the claim', () => {
    const claims = [claim(1, KINDS.delayed, { valueSat: 20_000n })];
    const input = planInput({ claims });
    const first = planSweeps(input);
    const next = nextBlock(input, first);
    const asked = (feerateSatPerKw: number) =>
      planSweeps({
        ...next,
        progress: new Map([
          [
            outPointKeyOf(outPoint(1)),
            {
              ...(first.claims[0] as SweepPlan['claims'][number]),
              requestedFeerateSatPerKw: feerateSatPerKw,
            },
          ],
        ]),
      });
    expect(only(asked(20_000)).feerateSatPerKw).toBeGreaterThanOrEqual(20_000);
    expect(only(asked(20_000)).replaces).toHaveLength(1);
    expect(only(asked(10_000_000)).homeSat).toBeGreaterThanOrEqual(294n);
  });

  test('a rival in the mempool is outbid, as far as the budget goes', () => {
    const claims = [claim(1, KINDS.htlc, { deadlineHeight: 140 })];
    const input = planInput({ claims });
    const next = nextBlock(input, planSweeps(input));
    const rivals = new Map([[outPointKeyOf(outPoint(1)), rivalOf(1, { feeSat: 20_000n, vsize: 180 })]]);
    const sweep = only(planSweeps({ ...next, rivals }));
    expect(sweep.feeSat).toBeGreaterThan(20_000n + BigInt(Math.ceil(sweep.weight / 4)) - 1n);
    expect(sweep.feerateSatPerKw).toBeGreaterThan((20_000 * 1000) / (180 * 4));
    const rich = new Map([[outPointKeyOf(outPoint(1)), rivalOf(1, { feeSat: 60_000n, vsize: 180 })]]);
    expect(planSweeps({ ...next, rivals: rich }).sweeps.every(({ feeSat }) => feeSat <= 50_000n)).toBe(true);
  });

  test('refused for its fee, by what nobody can see, it pays half as much again each time', () => {
    const claims = [claim(1, KINDS.htlc, { deadlineHeight: 140 })];
    let input = planInput({ claims });
    let plan = planSweeps(input);
    const rates: number[] = [];
    for (let attempt = 0; attempt < 3; attempt++) {
      rates.push(only(plan).feerateSatPerKw);
      input = nextBlock(input, plan);
      plan = planSweeps({
        ...input,
        pending: input.pending.map((one) => ({ ...one, rejectReason: 'insufficient fee' })),
      });
    }
    for (const [at, rate] of rates.slice(1).entries())
      expect(rate).toBeGreaterThanOrEqual((rates[at] ?? 0) * 1.5);
  });
});

test.each([
  { what: 'a claim', input: { claims: [claim(1, KINDS.htlc, { deadlineHeight: 150 })] } },
  {
    what: 'a commitment',
    input: {
      commitments: [commitment({ parentFeeSat: 300n, stakeSat: 2_000_000n, deadlineHeight: 150 })],
      coins: [coin(1, 20_000_000n)],
    },
  },
])('$what that waits is not raised beyond its budget, whatever the mempool asks for', ({ input }) => {
  const first = planSweeps(planInput(input));
  expect(first.sweeps).toHaveLength(1);
  const next = nextBlock(planInput(input), first);
  const feerates = { ...next.feerates, mempoolMinimumSatPerKw: 10_000_000 };
  const plan = planSweeps({ ...next, feerates });
  expect(plan.sweeps.map(({ feeSat }) => feeSat)).toEqual([]);
  expect(plan.kept).toHaveLength(1);
});
