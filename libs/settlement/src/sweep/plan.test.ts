import { dustThresholdSat, feeForWeightRoundedUpSat, txWeight } from '@fulmen/bitcoin';
import { equalBytes, toHex } from '@fulmen/codec';
import fc from 'fast-check';
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
  pendingOf,
  planInput,
  progressAfter,
  secondStage,
} from './testing.ts';
import { sweepTransaction } from './transaction.ts';
import type { PlannedSweep, SweepPlan, SweepPlanInput } from './types.ts';

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
      }),
    );
    const sweep = only(plan);
    expect(sweep.inputs).toHaveLength(3);
    expect(sweep.homeSat).toBe(200_330n - sweep.feeSat);
    expect(sweep.feeSat).toBe(feeForWeightRoundedUpSat(sweep.weight, 1_000));
    expect(wordsOf(plan)[0]).toBe('in block 100: offered at 4 sat/vB');
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
    const rivals = new Map([[outPointKeyOf(outPoint(1)), { feeSat: 20_000n, vsize: 180 }]]);
    const sweep = only(planSweeps({ ...next, rivals }));
    expect(sweep.feeSat).toBeGreaterThan(20_000n + BigInt(Math.ceil(sweep.weight / 4)) - 1n);
    expect(sweep.feerateSatPerKw).toBeGreaterThan((20_000 * 1000) / (180 * 4));
    const rich = new Map([[outPointKeyOf(outPoint(1)), { feeSat: 60_000n, vsize: 180 }]]);
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

describe('whatever comes', () => {
  const kinds = fc.constantFrom(
    KINDS.delayed,
    KINDS.balance,
    KINDS.anchor,
    KINDS.justice,
    KINDS.justiceHtlc,
    KINDS.htlc,
  );
  const claimArbitrary = fc.record({
    n: fc.integer({ min: 1, max: 40 }),
    kind: fc.oneof(kinds, fc.constant('second' as const), fc.constant('fixed' as const)),
    valueSat: fc.bigInt({ min: 1_000n, max: 5_000_000n }),
    deadline: fc.option(fc.integer({ min: 90, max: 180 }), { nil: undefined }),
    channel: fc.integer({ min: 1, max: 3 }),
    locktimeHeight: fc.constantFrom(0, 0, 80, 95, 110),
  });
  const scenario = fc.record({
    claims: fc.uniqueArray(claimArbitrary, { maxLength: 15, selector: ({ n }) => n }),
    coins: fc.array(fc.bigInt({ min: 500n, max: 3_000_000n }), { maxLength: 6 }),
    feerates: fc.array(fc.integer({ min: 253, max: 60_000 }), { minLength: 6, maxLength: 25 }),
    parentFeeSat: fc.option(fc.bigInt({ min: 0n, max: 20_000n }), { nil: undefined }),
    lost: fc.array(fc.integer({ min: 0, max: 14 }), { maxLength: 5 }),
    refusals: fc.array(fc.constantFrom(undefined, 'insufficient fee', 'missing-inputs'), { maxLength: 25 }),
  });
  type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never;

  function start({ claims, coins, parentFeeSat }: Scenario): SweepPlanInput {
    return planInput({
      claims: claims.map(({ n, kind, valueSat, deadline, channel, locktimeHeight }) => {
        const made =
          kind === 'second'
            ? secondStage(valueSat, 'single_anyonecanpay')
            : kind === 'fixed'
              ? secondStage(valueSat + 1_000n, 'fixed')
              : kind;
        return claim(n, made, {
          valueSat: made.type === 'anchor' ? 330n : kind === 'fixed' ? valueSat + 1_000n : valueSat,
          channel,
          locktimeHeight,
          ...(deadline !== undefined && { deadlineHeight: deadline }),
        });
      }),
      coins: coins.map((valueSat, n) => coin(n, valueSat)),
      commitments:
        parentFeeSat === undefined
          ? []
          : [commitment({ parentFeeSat, stakeSat: 500_000n, deadlineHeight: 150 })],
    });
  }

  /** One transaction by itself, against what relays. */
  function checkStandard(sweep: PlannedSweep, input: SweepPlanInput): void {
    const tx = sweepTransaction(sweep, HOME);
    for (const { script, valueSat } of tx.outputs)
      expect(valueSat).toBeGreaterThanOrEqual(dustThresholdSat(script));
    expect(txWeight(pendingOf(sweep, 100).tx)).toBeLessThanOrEqual(sweep.weight);
    expect(sweep.weight).toBeLessThanOrEqual(400_000);
    const inSat = sweep.inputs.reduce(
      (sum, one) => sum + (one.type === 'claim' ? one.claimed.claim.valueSat : one.coin.valueSat),
      0n,
    );
    const outSat = tx.outputs.reduce((sum, { valueSat }) => sum + valueSat, 0n);
    // Conservation: what goes in comes out, or is the fee that is written down.
    expect(inSat).toBe(outSat + sweep.feeSat);
    expect(sweep.feeSat).toBeGreaterThan(0n);
    expect(sweep.feeSat).toBeLessThanOrEqual(input.policy.maximumFeeSat);
    expect(tx.locktime).toBeLessThanOrEqual(input.bestHeight);
    const locktimes = sweep.inputs.flatMap((one) =>
      one.type === 'claim' ? [one.claimed.claim.locktimeHeight] : [],
    );
    expect(tx.locktime).toBe(Math.max(...locktimes));
    for (const one of sweep.inputs) {
      if (one.type !== 'claim' || one.claimed.claim.kind.type !== 'holder_htlc') continue;
      expect(one.claimed.claim.locktimeHeight).toBe(tx.locktime);
      expect(tx.outputs[sweep.inputs.indexOf(one)]).toEqual(one.claimed.claim.kind.output);
    }
    for (const { sequence } of tx.inputs) expect(sequence).toBeLessThan(0xffff_fffe);
  }

  test('every plan is standard, conserves value, replaces by BIP 125, and never lowers a fee before a deadline', () => {
    fc.assert(
      fc.property(scenario, (it) => {
        let input = start(it);
        const paid = new Map<string, number>();
        for (const [block, normalSatPerKw] of it.feerates.entries()) {
          input = {
            ...input,
            feerates: { ...CALM, normalSatPerKw, urgentSatPerKw: normalSatPerKw * 2 },
            pending: input.pending.map((one) => {
              const { rejectReason: _, ...rest } = one;
              const reason = it.refusals[block];
              return { ...rest, ...(reason !== undefined && { rejectReason: reason }) };
            }),
          };
          const lost = it.lost[block];
          if (lost !== undefined) input = { ...input, claims: input.claims.filter((_, at) => at !== lost) };
          const plan = planSweeps(input);
          const claimable = new Set([
            ...input.claims.map((one) => outPointKeyOf(one.claim.outPoint)),
            ...input.commitments.map((one) => outPointKeyOf(one.commitment.anchor.outPoint)),
          ]);
          const spent = new Set<string>();
          for (const sweep of plan.sweeps) {
            checkStandard(sweep, input);
            for (const old of sweep.replaces) {
              if (old.rejectReason !== undefined) continue;
              const vsize = BigInt(Math.ceil(sweep.weight / 4));
              expect(sweep.feeSat).toBeGreaterThanOrEqual(old.feeSat + vsize);
            }
          }
          for (const tx of [
            ...plan.kept.map((one) => one.tx),
            ...plan.sweeps.map((one) => sweepTransaction(one, HOME)),
          ])
            for (const { txid, vout } of tx.inputs) {
              const key = outPointKeyOf({ txid, outputIndex: vout });
              // No two transactions of a plan fight each other.
              expect(spent.has(key)).toBe(false);
              spent.add(key);
            }
          // No pending claim has a spent input.
          for (const { claims } of plan.kept)
            for (const at of claims) expect(claimable.has(outPointKeyOf(at))).toBe(true);
          for (const one of plan.claims) {
            const key = outPointKeyOf(one.outPoint);
            if (one.deadlineHeight !== undefined) {
              // Alone, after a batch was refused, a claim may not have as much: then it gives all but a last output.
              const own = plan.sweeps.find(
                ({ sweepId }) => one.sweepId !== undefined && equalBytes(sweepId, one.sweepId),
              );
              if (own?.homeSat !== dustThresholdSat(HOME))
                expect(one.feerateSatPerKw).toBeGreaterThanOrEqual(paid.get(key) ?? 0);
              paid.set(key, one.feerateSatPerKw);
            }
          }
          const ids = [...plan.sweeps, ...plan.kept, ...plan.dropped].map(({ sweepId }) => toHex(sweepId));
          expect(new Set(ids).size).toBe(ids.length);
          input = nextBlock(input, plan);
        }
      }),
      { numRuns: 200 },
    );
  });

  test('asked again without a change it changes nothing', () => {
    fc.assert(
      fc.property(scenario, (it) => {
        const input = start(it);
        const again = planSweeps({ ...nextBlock(input, planSweeps(input)), bestHeight: input.bestHeight });
        expect(again.sweeps).toEqual([]);
        expect(again.dropped).toEqual([]);
      }),
      { numRuns: 200 },
    );
  });
});
