/** Rows of claims: what is known of each after planning. */
import { claimBudgetSat } from './budget.ts';
import type { ClaimGroup } from './group.ts';
import { outPointKeyOf } from './keys.ts';
import { type Price, groupBudgetSat } from './price.ts';
import type { ClaimPlan, ClaimProgress, PendingSweep, SweepPlanInput, SweepableClaim } from './types.ts';
import { nextActionOf } from './words.ts';

/** What became of a group in a plan. */
export interface Outcome {
  readonly group: ClaimGroup;
  readonly sweepId: Uint8Array;
  readonly price: Price;
  /** The transaction that stood for just this group. */
  readonly pending: PendingSweep | undefined;
  /** after_another_part: that one makes room in the mempool. */
  readonly goes: 'at_once' | 'after_another_part';
}

/** What was done for a claim before; nothing, when it is new. */
export function progressOf(
  { progress, bestHeight }: SweepPlanInput,
  { claim }: SweepableClaim,
): ClaimProgress {
  return (
    progress.get(outPointKeyOf(claim.outPoint)) ?? {
      feerateSatPerKw: 0,
      attempts: 0,
      firstHeight: bestHeight,
    }
  );
}

/** `kept`: what goes on waiting. */
export function claimPlans(
  input: SweepPlanInput,
  outcomes: readonly Outcome[],
  kept: readonly PendingSweep[],
): readonly ClaimPlan[] {
  const keptOf = new Map(kept.flatMap((one) => one.claims.map((at) => [outPointKeyOf(at), one] as const)));
  return outcomes.flatMap(({ group, sweepId, price, pending }) =>
    group.members.map((one): ClaimPlan => {
      const { claim } = one;
      const progress = progressOf(input, one);
      const isSent = price.type === 'send';
      const waits = isSent ? pending : keptOf.get(outPointKeyOf(claim.outPoint));
      const holder = isSent ? sweepId : waits?.sweepId;
      return {
        ...planOf(input, one),
        budgetSat:
          group.shape === 'child' ? groupBudgetSat(group, input) : claimBudgetSat(claim, input.policy),
        feerateSatPerKw: isSent
          ? price.sweep.feerateSatPerKw
          : (waits?.feerateSatPerKw ?? progress.feerateSatPerKw),
        attempts: progress.attempts + (isSent ? 1 : 0),
        ...(holder !== undefined && { sweepId: holder }),
        nextAction: nextActionOf({
          price,
          bestHeight: input.bestHeight,
          deadlineHeight: claim.deadlineHeight,
          lastSatPerKw: waits?.feerateSatPerKw ?? progress.feerateSatPerKw,
          pending: waits,
        }),
      };
    }),
  );
}

function planOf(input: SweepPlanInput, one: SweepableClaim): Omit<ClaimPlan, 'budgetSat' | 'nextAction'> {
  const { claim, channelId } = one;
  return {
    ...progressOf(input, one),
    outPoint: claim.outPoint,
    channelId,
    kind: claim.kind.type,
    valueSat: claim.valueSat,
    ...(claim.deadlineHeight !== undefined && { deadlineHeight: claim.deadlineHeight }),
  };
}

/** Claims whose time has not come. */
export function waitingPlans(input: SweepPlanInput): readonly ClaimPlan[] {
  return input.claims
    .filter(({ claim }) => claim.locktimeHeight > input.bestHeight)
    .map((one) => ({
      ...planOf(input, one),
      budgetSat: claimBudgetSat(one.claim, input.policy),
      nextAction: `waits for block ${one.claim.locktimeHeight}`,
    }));
}
