/**
 * Which claims go into one transaction. What has no hurry goes together,
 * across channels. What has a deadline goes with its like, of one channel when
 * the counterparty may spend it too; and alone when the deadline is close. What
 * somebody else spends in the mempool is apart from what nobody does, so that
 * one output that is pinned or spent by somebody else holds no other.
 */
import { feeForWeightRoundedUpSat } from '@fulmen/bitcoin';
import { assertNever, toHex } from '@fulmen/codec';
import { claimBudgetSat } from './budget.ts';
import { outPointKeyOf } from './keys.ts';
import type {
  PayableCommitment,
  PlannedInput,
  SweepFeerates,
  SweepPlanInput,
  SweepPolicy,
  SweepableClaim,
  WalletCoin,
} from './types.ts';
import { plannedWeight } from './weights.ts';

export type ClaimGroup =
  /** The fee comes out of what is claimed. */
  | { readonly shape: 'sweep'; readonly members: readonly SweepableClaim[] }
  /** Second stages whose outputs are fixed: the wallet pays the fee. */
  | { readonly shape: 'second_stage'; readonly members: readonly SweepableClaim[] }
  /** A child of an anchor: the wallet pays its fee. `commitment` is undefined once that is confirmed. */
  | {
      readonly shape: 'child';
      readonly members: readonly [SweepableClaim];
      readonly commitment: PayableCommitment | undefined;
    }
  /** A second stage of which every byte is fixed. */
  | { readonly shape: 'fixed'; readonly members: readonly [SweepableClaim] };

export function deadlineOf(members: readonly SweepableClaim[]): number | undefined {
  const deadlines = members.flatMap(({ claim: { deadlineHeight } }) =>
    deadlineHeight === undefined ? [] : [deadlineHeight],
  );
  return deadlines.length === 0 ? undefined : Math.min(...deadlines);
}

/** A claim by itself must be able to pay this many times the feerate of now, or it is better off among others. */
const ALONE_MARGIN = 2n;

/** Its deadline is so close that it should stand alone, and it is not too small for a transaction of its own. */
export function isDue(one: SweepableClaim, { bestHeight, policy, feerates }: GroupingRules): boolean {
  const { deadlineHeight } = one.claim;
  if (deadlineHeight === undefined || deadlineHeight - (bestHeight + 1) > policy.aloneWithinBlocks)
    return false;
  return isWorthAlone(one, feerates, policy);
}

/** What makes no transaction that it is part of any better: the signer refuses it, or it costs more than it may. */
export function isBurden(one: SweepableClaim, { feerates, policy, alone }: GroupingRules): boolean {
  if (alone.has(outPointKeyOf(one.claim.outPoint))) return true;
  if (one.claim.kind.type !== 'anchor') return false;
  const weight = plannedWeight([{ type: 'claim', claimed: one }], [], 'none') - plannedWeight([], [], 'none');
  return feeForWeightRoundedUpSat(weight, feerates.normalSatPerKw) > claimBudgetSat(one.claim, policy);
}

/** Its fee comes from the wallet. */
function needsCoin({ claim: { kind } }: SweepableClaim): boolean {
  return kind.type === 'holder_htlc' && kind.aggregation === 'single_anyonecanpay';
}

export function isWorthAlone(one: SweepableClaim, feerates: SweepFeerates, policy: SweepPolicy): boolean {
  return claimBudgetSat(one.claim, policy) >= ALONE_MARGIN * urgentFeeSat([one], [], feerates);
}

/** What a transaction of these costs while it is urgent. */
export function urgentFeeSat(
  members: readonly SweepableClaim[],
  coins: readonly WalletCoin[],
  { urgentSatPerKw }: SweepFeerates,
): bigint {
  const inputs: readonly PlannedInput[] = [
    ...members.map((claimed) => ({ type: 'claim', claimed }) as const),
    ...coins.map((coin) => ({ type: 'coin', coin }) as const),
  ];
  return feeForWeightRoundedUpSat(plannedWeight(inputs, pairedOutputs(members), 'home'), urgentSatPerKw);
}

/** The group that these claims make as they are. */
export function groupOf(members: readonly SweepableClaim[]): ClaimGroup | undefined {
  const [first] = members;
  if (first === undefined) return undefined;
  const { kind } = first.claim;
  if (kind.type !== 'holder_htlc') return { shape: 'sweep', members };
  return kind.aggregation === 'fixed'
    ? { shape: 'fixed', members: [first] }
    : { shape: 'second_stage', members };
}

export interface GroupingRules extends Pick<
  SweepPlanInput,
  'bestHeight' | 'feerates' | 'policy' | 'rivals' | 'allied'
> {
  /** By `outPointKeyOf`: claims that nothing else shall be put together with. */
  readonly alone: ReadonlySet<string>;
}

/** Groups claims that no transaction holds. Second stages stay together: whether each can have a coin shows later. */
export function groupClaims(claims: readonly SweepableClaim[], rules: GroupingRules): readonly ClaimGroup[] {
  const byKey = new Map<string, SweepableClaim[]>();
  for (const one of claims) {
    const at = outPointKeyOf(one.claim.outPoint);
    const standsAlone = isBurden(one, rules) || (!needsCoin(one) && isDue(one, rules));
    const key = standsAlone ? `alone ${at}` : `${togetherKey(one)} ${spenderOf(one, rules)}`;
    const members = byKey.get(key);
    if (members === undefined) byKey.set(key, [one]);
    else members.push(one);
  }
  return [...byKey.values()].flatMap((members) =>
    split(members, rules.policy).flatMap((part) => groupOf(part) ?? []),
  );
}

/** What one other transaction spends stays together: it is outbid, or waited for, once. */
function spenderOf({ claim }: SweepableClaim, { rivals, allied }: GroupingRules): string {
  const key = outPointKeyOf(claim.outPoint);
  const txid = rivals.get(key)?.txid ?? allied.get(key);
  return txid === undefined ? '' : toHex(txid);
}

/** Claims with the same key may share a transaction. */
function togetherKey({ channelId, claim }: SweepableClaim): string {
  const channel = toHex(channelId);
  const hurry = claim.deadlineHeight === undefined ? 'calm' : 'deadline';
  switch (claim.kind.type) {
    case 'holder_htlc':
      // The counterparty's signature covers the locktime, so only equal ones fit together.
      return claim.kind.aggregation === 'fixed'
        ? `fixed ${channel} ${toHex(claim.outPoint.txid)}:${claim.outPoint.outputIndex}`
        : `second stage ${channel} ${claim.locktimeHeight} ${hurry}`;
    case 'counterparty_htlc':
      return `htlc ${channel}`;
    case 'revoked_htlc':
      // The cheater can spend these too; what only the holder can spend until its delay ends is not with them.
      return `revoked htlc ${channel}`;
    case 'revoked_delayed':
      return `revoked ${channel}`;
    case 'holder_delayed':
    case 'counterparty_balance':
    case 'anchor':
      return hurry;
    default:
      return assertNever(claim.kind);
  }
}

/** Parts with deadlines close to each other, within the bounds of a transaction. */
function split(
  members: readonly SweepableClaim[],
  policy: SweepPolicy,
): readonly (readonly SweepableClaim[])[] {
  const sorted = [...members].sort(
    (a, b) => (a.claim.deadlineHeight ?? Infinity) - (b.claim.deadlineHeight ?? Infinity),
  );
  const parts: SweepableClaim[][] = [];
  let weight = 0;
  for (const one of sorted) {
    const part = parts.at(-1);
    const first = part?.[0]?.claim.deadlineHeight;
    const { deadlineHeight } = one.claim;
    const isClose =
      first === undefined || deadlineHeight === undefined
        ? first === deadlineHeight
        : deadlineHeight - first <= policy.deadlineSpreadBlocks;
    const added = plannedWeight([{ type: 'claim', claimed: one }], pairedOutputs([one]), 'none');
    if (
      part === undefined ||
      !isClose ||
      part.length >= policy.maximumInputs ||
      weight + added > policy.maximumWeight
    ) {
      parts.push([one]);
      weight = added;
    } else {
      part.push(one);
      weight += added;
    }
  }
  return parts;
}

/** Outputs that second stages need at the index of their input. */
export function pairedOutputs(members: readonly SweepableClaim[]) {
  return members.flatMap(({ claim: { kind } }) => (kind.type === 'holder_htlc' ? [kind.output] : []));
}
