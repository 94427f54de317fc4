/** Rows of claims: what is known of each after planning. */
import { claimBudgetSat } from './budget.ts';
import type { ClaimGroup } from './group.ts';
import { outPointKeyOf } from './keys.ts';
import { type Price, groupBudgetSat } from './price.ts';
import type { ClaimPlan, ClaimProgress, PendingSweep, SweepPlanInput, SweepableClaim } from './types.ts';
import { nextActionOf } from './words.ts';

/** A group with the transaction that stands for it so far. */
export interface Held {
  readonly group: ClaimGroup;
  readonly pending: PendingSweep | undefined;
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

export function claimPlans(
  input: SweepPlanInput,
  { group, pending }: Held,
  price: Price,
  sweepId: Uint8Array,
): readonly ClaimPlan[] {
  const isHeld = price.type === 'send' || pending !== undefined;
  return group.members.map((one): ClaimPlan => {
    const progress = progressOf(input, one);
    const { claim } = one;
    const sent = price.type === 'send';
    return {
      ...planOf(input, one),
      budgetSat: group.shape === 'child' ? groupBudgetSat(group, input) : claimBudgetSat(claim, input.policy),
      feerateSatPerKw: sent
        ? price.sweep.feerateSatPerKw
        : (pending?.feerateSatPerKw ?? progress.feerateSatPerKw),
      attempts: progress.attempts + (sent ? 1 : 0),
      ...(isHeld && { sweepId }),
      nextAction: nextActionOf({
        price,
        bestHeight: input.bestHeight,
        deadlineHeight: claim.deadlineHeight,
        lastSatPerKw: pending?.feerateSatPerKw ?? progress.feerateSatPerKw,
        pending,
      }),
    };
  });
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
