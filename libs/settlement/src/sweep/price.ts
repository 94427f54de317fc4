/** What a group of claims pays now, and the transaction that comes of it; or why there is none yet. */
import { DUST_THRESHOLD_SAT, type Tx, feeForWeightRoundedUpSat, txWeight } from '@fulmen/bitcoin';
import { claimBudgetSat, commitmentBudgetSat } from './budget.ts';
import { type Replaced, feerateAt, feerateOf, replacementFeeSat } from './fee-function.ts';
import { type Funded, fund } from './fund.ts';
import { type ClaimGroup, deadlineOf, isWorthAlone, pairedOutputs } from './group.ts';
import type {
  PlannedInput,
  PlannedSweep,
  SweepFeerates,
  SweepPolicy,
  SweepableClaim,
  WalletCoin,
} from './types.ts';
import { plannedWeight } from './weights.ts';

/** So close to a deadline the estimate for the next blocks counts. */
const URGENT_WITHIN_BLOCKS = 12;
/** Coins that one transaction takes from the wallet. */
const MAXIMUM_COINS = 10;
/** What several claims with deadlines pay together at most, of the budget of the one that can pay most. */
const WHOLE_SHARE_PERCENT = 75n;
/** A transaction without deadline is replaced when the estimate rose by a fifth. */
const CALM_RAISE_PERCENT = 120;

export interface PricingContext {
  readonly bestHeight: number;
  readonly feerates: SweepFeerates;
  readonly policy: SweepPolicy;
}

/** What stands in a group's way in the mempool. */
export type Obstacle =
  | { readonly type: 'none' }
  /** Ours, which it takes the place of. */
  | { readonly type: 'ours'; readonly replaced: readonly Replaced[] }
  /** Others'. */
  | { readonly type: 'rivals'; readonly replaced: readonly Replaced[] }
  /** The node refused the last attempt for its fee, and nobody can see why. */
  | { readonly type: 'unseen' };

export interface PriceRequest {
  readonly group: ClaimGroup;
  readonly firstHeight: number;
  /** Of the last attempt; 0: none. */
  readonly lastSatPerKw: number;
  readonly requestedSatPerKw: number | undefined;
  readonly obstacle: Obstacle;
  /** unchanged: what waits may go on waiting. */
  readonly otherwise: 'unchanged' | 'nothing';
  readonly held: readonly WalletCoin[];
  readonly available: readonly WalletCoin[];
}

export type Price =
  | { readonly type: 'send'; readonly sweep: Priced }
  /** What waits in the mempool is as good. */
  | { readonly type: 'keep' }
  /** Not worth it, or not to be relayed, before the feerate is at most this. */
  | { readonly type: 'wait_for_fees'; readonly affordableSatPerKw: number }
  | { readonly type: 'wait_for_coins'; readonly missingSat: bigint }
  /** The commitment needs no child. */
  | { readonly type: 'paid_by_itself'; readonly feerateSatPerKw: number };

export type Priced = Pick<
  PlannedSweep,
  'inputs' | 'outputs' | 'homeSat' | 'locktime' | 'feeSat' | 'feerateSatPerKw' | 'weight' | 'parent'
> & { readonly coins: readonly WalletCoin[] };

/** What may be spent on a group. */
export function groupBudgetSat(
  group: ClaimGroup,
  { feerates, policy }: Omit<PricingContext, 'bestHeight'>,
): bigint {
  if (group.shape === 'child' && group.commitment !== undefined) {
    const hurry = deadlineOf(group.members) === undefined ? 'none' : 'deadline';
    return commitmentBudgetSat(group.commitment.stakeSat, hurry, policy);
  }
  const sumSat = group.members.reduce((sum, { claim }) => sum + claimBudgetSat(claim, policy), 0n);
  const richest = richestOf(group.members, policy);
  if (group.members.length < 2 || richest === undefined || deadlineOf(group.members) === undefined)
    return sumSat;
  if (!isWorthAlone(richest, feerates, policy)) return sumSat;
  // It will be taken apart before the deadline: one of the parts must be able to pay more than the whole did.
  return smallest(sumSat, (claimBudgetSat(richest.claim, policy) * WHOLE_SHARE_PERCENT) / 100n);
}

/** The member that can pay most. */
export function richestOf(
  members: readonly SweepableClaim[],
  policy: SweepPolicy,
): SweepableClaim | undefined {
  return members.reduce<SweepableClaim | undefined>(
    (best, one) =>
      best === undefined || claimBudgetSat(one.claim, policy) > claimBudgetSat(best.claim, policy)
        ? one
        : best,
    undefined,
  );
}

function smallest(...values: readonly bigint[]): bigint {
  return values.reduce((least, value) => (value < least ? value : least));
}

export function priceOf(ctx: PricingContext, request: PriceRequest): Price {
  const { group } = request;
  return group.shape === 'fixed' ? fixed(request, group.members[0]) : variable(ctx, request);
}

/** Both sides signed every byte: there is one fee. */
function fixed({ otherwise }: PriceRequest, claimed: ClaimGroup['members'][number]): Price {
  if (otherwise === 'unchanged') return { type: 'keep' };
  const inputs: readonly PlannedInput[] = [{ type: 'claim', claimed }];
  const outputs = pairedOutputs([claimed]);
  const feeSat = outputs.reduce((left, { valueSat }) => left - valueSat, claimed.claim.valueSat);
  const weight = plannedWeight(inputs, outputs, 'none');
  return {
    type: 'send',
    sweep: {
      inputs,
      outputs,
      homeSat: undefined,
      locktime: claimed.claim.locktimeHeight,
      feeSat,
      feerateSatPerKw: feerateOf(feeSat, weight),
      weight,
      parent: undefined,
      coins: [],
    },
  };
}

function variable(ctx: PricingContext, request: PriceRequest): Price {
  const { feerates } = ctx;
  const { group } = request;
  const parent = parentOf(group);
  const inputs = group.members.map((claimed): PlannedInput => ({ type: 'claim', claimed }));
  const outputs = pairedOutputs(group.members);
  const claimedSat = group.members.reduce((sum, { claim }) => sum + claim.valueSat, 0n);
  const surplusSat = outputs.reduce((left, { valueSat }) => left - valueSat, claimedSat);
  const bounds = boundsOf(ctx, request, parent, surplusSat);
  const verdict = bounds.at(plannedWeight(inputs, outputs, 'home'));
  if (verdict.type !== 'fee') return verdict;
  const feeSat = (weight: number): bigint => {
    const again = bounds.at(weight);
    return again.type === 'fee' ? again.feeSat : verdict.feeSat;
  };
  const funded: Funded = fund({
    inputs,
    outputs,
    surplusSat,
    feeSat,
    held: request.held,
    available: group.shape === 'sweep' ? [] : request.available,
    maximumCoins: MAXIMUM_COINS,
  });
  if (funded.type === 'short') {
    if (group.shape !== 'sweep') return { type: 'wait_for_coins', missingSat: funded.missingSat };
    return { type: 'wait_for_fees', affordableSatPerKw: feerates.mempoolMinimumSatPerKw };
  }
  const last = bounds.at(funded.weight);
  if (last.type !== 'fee') return last;
  if (request.otherwise === 'unchanged' && last.urge === 'may_wait') return { type: 'keep' };
  const allInputs: readonly PlannedInput[] = [
    ...inputs,
    ...funded.coins.map((coin): PlannedInput => ({ type: 'coin', coin })),
  ];
  return {
    type: 'send',
    sweep: {
      inputs: allInputs,
      outputs,
      homeSat: funded.homeSat,
      locktime: Math.max(...group.members.map(({ claim }) => claim.locktimeHeight)),
      feeSat: funded.feeSat,
      feerateSatPerKw: feerateOf(funded.feeSat + parent.feeSat, funded.weight + parent.weight),
      weight: funded.weight,
      parent: parent.tx,
      coins: funded.coins,
    },
  };
}

interface Parent {
  readonly tx: Tx | undefined;
  readonly weight: number;
  readonly feeSat: bigint;
}

function parentOf(group: ClaimGroup): Parent {
  if (group.shape !== 'child' || group.commitment === undefined)
    return { tx: undefined, weight: 0, feeSat: 0n };
  const { commitment, parentFeeSat } = group.commitment;
  return { tx: commitment.tx, weight: txWeight(commitment.tx), feeSat: parentFeeSat };
}

type FeeVerdict =
  | { readonly type: 'fee'; readonly feeSat: bigint; readonly urge: 'must_rise' | 'may_wait' }
  | Exclude<Price, { readonly type: 'send' } | { readonly type: 'wait_for_coins' }>;

/** The fee as a function of the weight, within all bounds. */
function boundsOf(
  ctx: PricingContext,
  request: PriceRequest,
  parent: Parent,
  surplusSat: bigint,
): { at(weight: number): FeeVerdict } {
  const { bestHeight, feerates, policy } = ctx;
  const { group, lastSatPerKw, requestedSatPerKw, obstacle, otherwise } = request;
  const deadlineHeight = deadlineOf(group.members);
  const isUrgent = deadlineHeight !== undefined && deadlineHeight - bestHeight <= URGENT_WITHIN_BLOCKS;
  const startSatPerKw = Math.max(
    isUrgent ? feerates.urgentSatPerKw : feerates.normalSatPerKw,
    feerates.mempoolMinimumSatPerKw,
  );
  const budgetSat = groupBudgetSat(group, ctx);
  const at = (weight: number): FeeVerdict => {
    const total = weight + parent.weight;
    const rateOf = (feeSat: bigint): number => feerateOf(feeSat + parent.feeSat, total);
    const possibleSat = smallest(
      policy.maximumFeeSat,
      feeForWeightRoundedUpSat(total, policy.maximumFeerateSatPerKw) - parent.feeSat,
      // Without the wallet's coins the fee comes out of what is claimed, and an output above dust must be left.
      ...(group.shape === 'sweep' ? [surplusSat - DUST_THRESHOLD_SAT.p2wpkh] : []),
    );
    const capSat = smallest(budgetSat, possibleSat);
    const cap = capSat < 0n ? 0 : rateOf(capSat);
    // Alone it would not be relayed, or (no hurry) it costs more than it should.
    const least =
      deadlineHeight === undefined && group.shape === 'sweep'
        ? startSatPerKw
        : feerates.mempoolMinimumSatPerKw;
    const isAsked = requestedSatPerKw !== undefined && rateOf(possibleSat) >= feerates.mempoolMinimumSatPerKw;
    if (cap < least && !isAsked && otherwise === 'nothing')
      return { type: 'wait_for_fees', affordableSatPerKw: cap };
    // No replacement that may be paid would be relayed.
    if (cap < feerates.mempoolMinimumSatPerKw && !isAsked) return { type: 'keep' };
    const curve = feerateAt({
      startSatPerKw,
      capSatPerKw: cap,
      firstHeight: request.firstHeight,
      bestHeight,
      lastSatPerKw,
      ...(deadlineHeight !== undefined && { deadlineHeight }),
    });
    // Half as much again as what was refused.
    const pushed =
      obstacle.type === 'unseen'
        ? Math.min(Math.ceil(lastSatPerKw * 1.5) + 1, Math.max(cap, lastSatPerKw))
        : 0;
    const asked = requestedSatPerKw === undefined ? 0 : Math.min(requestedSatPerKw, rateOf(possibleSat));
    const rate = Math.max(curve, pushed, asked);
    if (parent.tx !== undefined && otherwise === 'nothing' && feerateOf(parent.feeSat, parent.weight) >= rate)
      return { type: 'paid_by_itself', feerateSatPerKw: feerateOf(parent.feeSat, parent.weight) };
    const minimumSat = (of: number): bigint => feeForWeightRoundedUpSat(of, feerates.mempoolMinimumSatPerKw);
    const ownMinimumSat = minimumSat(inWholeVbytes(weight));
    // The node adds up the whole vbytes of each transaction of a package.
    const packageMinimumSat =
      minimumSat(inWholeVbytes(weight) + inWholeVbytes(parent.weight)) - parent.feeSat;
    let feeSat = feeForWeightRoundedUpSat(total, rate) - parent.feeSat;
    feeSat = bigger(feeSat, bigger(ownMinimumSat, packageMinimumSat));
    let mustRise = Math.max(pushed, asked) > lastSatPerKw || otherwise === 'nothing';
    const replacingSat =
      'replaced' in obstacle
        ? replacementFeeSat(obstacle.replaced, weight, feerates.incrementalRelaySatPerKw)
        : 0n;
    const isWithinLimit = replacingSat <= (asked > lastSatPerKw ? possibleSat : capSat);
    if (obstacle.type === 'ours' && feeSat < replacingSat && !(mustRise && isWithinLimit))
      return { type: 'keep' };
    // What cannot be outbid here is ignored: another miner may never have seen it, and it may go as it came.
    if (isWithinLimit && feeSat < replacingSat) feeSat = replacingSat;
    if (isWithinLimit && obstacle.type === 'rivals') mustRise = true;
    // What the last attempt paid stands, unless there is not as much.
    feeSat = smallest(feeSat, bigger(possibleSat, ownMinimumSat));
    const isRaised =
      mustRise ||
      (deadlineHeight === undefined ? rate * 100 >= lastSatPerKw * CALM_RAISE_PERCENT : rate > lastSatPerKw);
    return { type: 'fee', feeSat, urge: isRaised ? 'must_rise' : 'may_wait' };
  };
  return { at };
}

/** Weight of a transaction as the node counts it: in vbytes, rounded up. */
function inWholeVbytes(weight: number): number {
  return Math.ceil(weight / 4) * 4;
}

function bigger(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
