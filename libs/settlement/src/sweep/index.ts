// What the sweeper needs: the plan, the transactions of it, and their words.
export { DEFAULT_SWEEP_POLICY, claimBudgetSat, commitmentBudgetSat } from './budget.ts';
export { claimantOf } from './claimant.ts';
export { outPointKeyOf } from './keys.ts';
export { planSweeps } from './plan.ts';
export { isFeeRefusal } from './refusal.ts';
export { sweepTransaction } from './transaction.ts';
export type * from './types.ts';
