/** When a transaction of several claims is taken apart, and into which parts. */
import { claimBudgetSat } from './budget.ts';
import {
  type ClaimGroup,
  type GroupingRules,
  deadlineOf,
  groupOf,
  isBurden,
  isDue,
  isWorthAlone,
} from './group.ts';
import { richestOf } from './price.ts';
import type { PendingSweep, SweepableClaim } from './types.ts';

export interface Split {
  /** Two at least. The first can pay most, and takes the place of the whole; the others follow it. */
  readonly parts: readonly ClaimGroup[];
  /** raised: only if the fee rises anyway, and for what is worth it. */
  readonly when: 'now' | 'raised';
}

/** Undefined: it stays together. `pending`: the transaction that waits for the group, if there is one. */
export function splitOf(
  rules: GroupingRules,
  { members }: ClaimGroup,
  pending: PendingSweep | undefined,
): Split | undefined {
  if (members.length < 2) return undefined;
  const burdens = members.filter((one) => isBurden(one, rules));
  const sound = members.filter((one) => !burdens.includes(one));
  const parts = dueParts(rules, sound, pending) ?? [sound];
  if (sound.length === 0 || parts.length + burdens.length < 2) return undefined;
  return {
    parts: [...parts, ...burdens.map((one) => [one])].flatMap((part) => groupOf(part) ?? []),
    when: parts.length > 1 ? 'now' : 'raised',
  };
}

/** Near the deadline, or when the whole costs so much that soon no part could replace it any more. */
function dueParts(
  rules: GroupingRules,
  members: readonly SweepableClaim[],
  pending: PendingSweep | undefined,
): readonly (readonly SweepableClaim[])[] | undefined {
  const { policy, feerates } = rules;
  const richest = richestOf(members, policy);
  if (richest === undefined || deadlineOf(members) === undefined) return undefined;
  if (!isWorthAlone(richest, feerates, policy)) return undefined;
  const isDear = pending !== undefined && pending.feeSat * 2n >= claimBudgetSat(richest.claim, policy);
  if (!isDear && !members.some((one) => isDue(one, rules))) return undefined;
  const small = members.filter((one) => !isWorthAlone(one, feerates, policy));
  const others = members.filter((one) => one !== richest && !small.includes(one));
  return [[richest], ...others.map((one) => [one]), ...(small.length === 0 ? [] : [small])];
}
