/** What holds of every plan, whatever is claimed, whoever contests it, and whatever the node and the signer say. */
import { dustThresholdSat, txWeight } from '@fulmen/bitcoin';
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
  rivalOf,
  secondStage,
} from './testing.ts';
import { sweepTransaction } from './transaction.ts';
import type { PlannedSweep, Rival, SweepPlanInput } from './types.ts';

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
  /** For a block, who spends which claim. */
  const contest = fc.record({
    claim: fc.integer({ min: 0, max: 14 }),
    by: fc.oneof(fc.integer({ min: 1, max: 3 }), fc.constant('ally' as const)),
    offer: fc.option(
      fc.record({
        feeSat: fc.bigInt({ min: 200n, max: 2_000_000n }),
        vsize: fc.integer({ min: 100, max: 100_000 }),
      }),
      { nil: undefined },
    ),
  });
  const scenario = fc.record({
    claims: fc.uniqueArray(claimArbitrary, { maxLength: 15, selector: ({ n }) => n }),
    coins: fc.array(fc.bigInt({ min: 500n, max: 3_000_000n }), { maxLength: 6 }),
    feerates: fc.array(fc.integer({ min: 253, max: 60_000 }), { minLength: 6, maxLength: 25 }),
    parentFeeSat: fc.option(fc.bigInt({ min: 0n, max: 20_000n }), { nil: undefined }),
    lost: fc.array(fc.integer({ min: 0, max: 14 }), { maxLength: 5 }),
    refusals: fc.array(fc.constantFrom(undefined, 'insufficient fee', 'missing-inputs'), { maxLength: 25 }),
    contests: fc.array(fc.array(contest, { maxLength: 3 }), { maxLength: 25 }),
    unsigned: fc.array(fc.option(fc.integer({ min: 0, max: 14 }), { nil: undefined }), { maxLength: 25 }),
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

  function contestedIn(
    { contests, unsigned }: Scenario,
    block: number,
    claims: SweepPlanInput['claims'],
  ): Pick<SweepPlanInput, 'rivals' | 'allied' | 'unsignable'> {
    const keyAt = (at: number | undefined): readonly string[] => {
      const one = at === undefined ? undefined : claims[at];
      return one === undefined ? [] : [outPointKeyOf(one.claim.outPoint)];
    };
    const rivals = new Map<string, Rival>();
    const allied = new Map<string, Uint8Array>();
    for (const { claim: at, by, offer } of contests[block] ?? [])
      for (const key of keyAt(at)) {
        if (by === 'ally') allied.set(key, outPoint(40_000).txid);
        else rivals.set(key, rivalOf(by, offer));
      }
    return { rivals, allied, unsignable: new Set(keyAt(unsigned[block])) };
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
          input = { ...input, ...contestedIn(it, block, input.claims) };
          const plan = planSweeps(input);
          const claimable = new Set([
            ...input.claims.map((one) => outPointKeyOf(one.claim.outPoint)),
            ...input.commitments.map((one) => outPointKeyOf(one.commitment.anchor.outPoint)),
          ]);
          const spent = new Set<string>();
          for (const sweep of plan.sweeps) {
            checkStandard(sweep, input);
            for (const old of sweep.replaces) {
              // The node does not have it.
              if (old.rejectReason !== undefined) continue;
              const isSpent = (key: string): boolean => input.rivals.has(key) || input.allied.has(key);
              if (old.claims.some((at) => isSpent(outPointKeyOf(at)))) continue;
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
