/**
 * What the sweeper does now, as a function of what can be claimed, what was
 * tried, and what fees are. It is asked again at every block and always starts
 * from the claims that can be made: an output that somebody else spent is not
 * among them, so no transaction goes on waiting with a spent input.
 */
import { txWeight } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/codec';
import { claimBudgetSat } from './budget.ts';
import { type Held, claimPlans, progressOf, waitingPlans } from './claim-plans.ts';
import { type Replaced, replacementFeeSat } from './fee-function.ts';
import {
  type ClaimGroup,
  type GroupingRules,
  deadlineOf,
  groupClaims,
  groupOf,
  isWorthAlone,
  standsAlone,
} from './group.ts';
import { outPointKeyOf, sweepIdOf } from './keys.ts';
import { type Price, priceOf, richestOf } from './price.ts';
import { isFeeRefusal } from './refusal.ts';
import type {
  ClaimPlan,
  PayableCommitment,
  PendingSweep,
  PlannedSweep,
  SweepPlan,
  SweepPlanInput,
  SweepableClaim,
  WalletCoin,
} from './types.ts';

interface Job extends Held {
  /** Taken apart for this and its like. */
  readonly partOf: PendingSweep | undefined;
  /** The first of the parts: it makes room in the mempool for the others. */
  readonly makesRoomFor: PendingSweep | undefined;
}

export function planSweeps(input: SweepPlanInput): SweepPlan {
  const members = sweepable(input);
  const commitments: Commitments = new Map(
    input.commitments.map((one) => [outPointKeyOf(one.commitment.anchor.outPoint), one]),
  );
  const coins = new Map(input.coins.map((coin) => [outPointKeyOf(coin.outPoint), coin]));
  const { confirmed, alive, dead } = sortPending(input, members, coins);
  const rules: GroupingRules = { ...input, coinSupply: coinSupplyOf(input, coins.size) };
  const jobs: Job[] = [];
  const taken = new Set(confirmed.flatMap(({ claims }) => claims.map(outPointKeyOf)));
  for (const pending of alive) {
    const held = pending.claims.flatMap((at) => members.get(outPointKeyOf(at)) ?? []);
    for (const at of pending.claims) taken.add(outPointKeyOf(at));
    const parts = apart(rules, pending, held);
    if (parts === undefined) {
      const group = pendingGroup(commitments, pending, held);
      if (group !== undefined) jobs.push({ group, pending, partOf: undefined, makesRoomFor: undefined });
      continue;
    }
    for (const [at, group] of parts.entries())
      jobs.push({
        group,
        pending: undefined,
        partOf: pending,
        makesRoomFor: at === 0 ? pending : undefined,
      });
  }
  jobs.push(...freshJobs(commitments, rules, members, taken));
  return execute(input, { jobs, coins, confirmed, alive, dead });
}

function coinSupplyOf({ claims }: SweepPlanInput, coins: number): GroupingRules['coinSupply'] {
  const needy = claims.filter(
    ({ claim: { kind } }) => kind.type === 'holder_htlc' && kind.aggregation === 'single_anyonecanpay',
  );
  return needy.length > coins ? 'scarce' : 'plenty';
}

/** What can be claimed or paid for in the next block, by outpoint. */
function sweepable({ claims, commitments, bestHeight }: SweepPlanInput): ReadonlyMap<string, SweepableClaim> {
  const found = new Map<string, SweepableClaim>();
  for (const one of claims)
    if (one.claim.locktimeHeight <= bestHeight) found.set(outPointKeyOf(one.claim.outPoint), one);
  for (const { channelId, channelKeysId, commitment } of commitments)
    found.set(outPointKeyOf(commitment.anchor.outPoint), {
      channelId,
      channelKeysId,
      claim: commitment.anchor,
    });
  return found;
}

/** By the outpoint of the holder's anchor. */
type Commitments = ReadonlyMap<string, PayableCommitment>;

function commitmentOf(commitments: Commitments, claimed: SweepableClaim): PayableCommitment | undefined {
  return commitments.get(outPointKeyOf(claimed.claim.outPoint));
}

function sortPending(
  { pending }: SweepPlanInput,
  members: ReadonlyMap<string, SweepableClaim>,
  coins: ReadonlyMap<string, WalletCoin>,
) {
  const confirmed = pending.filter(({ confirmedHeight }) => confirmedHeight !== undefined);
  const open = pending.filter(({ confirmedHeight }) => confirmedHeight === undefined);
  const isAlive = ({ claims, walletInputs }: PendingSweep): boolean =>
    claims.length > 0 &&
    claims.every((at) => members.has(outPointKeyOf(at))) &&
    walletInputs.every((at) => coins.has(outPointKeyOf(at)));
  return { confirmed, alive: open.filter(isAlive), dead: open.filter((one) => !isAlive(one)) };
}

/** The group of a transaction that was made before. */
function pendingGroup(
  commitments: Commitments,
  { walletInputs }: PendingSweep,
  held: readonly SweepableClaim[],
): ClaimGroup | undefined {
  const [first] = held;
  if (first?.claim.kind.type === 'anchor' && (walletInputs.length > 0 || commitmentOf(commitments, first)))
    return { shape: 'child', members: [first], commitment: commitmentOf(commitments, first) };
  return groupOf(held);
}

/** The parts of a transaction that must not stay together, the one that can pay most first; undefined: it stays. */
function apart(
  rules: GroupingRules,
  pending: PendingSweep,
  held: readonly SweepableClaim[],
): readonly ClaimGroup[] | undefined {
  const { policy, feerates, coinSupply } = rules;
  const richest = richestOf(held, policy);
  if (held.length < 2 || richest === undefined) return undefined;
  if (richest.claim.kind.type === 'holder_htlc' && coinSupply === 'scarce') return undefined;
  const alone = held.map((one) => [one]);
  // Refused for its fee it would be no other alone; for anything else, one input may be the reason.
  if (pending.rejectReason !== undefined)
    return isFeeRefusal(pending.rejectReason) ? undefined : alone.flatMap((one) => groupOf(one) ?? []);
  if (deadlineOf(held) === undefined || !isWorthAlone(richest, feerates, policy)) return undefined;
  const budgetSat = claimBudgetSat(richest.claim, policy);
  if (!held.some((one) => standsAlone(one, rules)) && pending.feeSat * 2n < budgetSat) return undefined;
  // The first of the parts replaces the whole: unless it can pay for that, the whole is raised as it is.
  const whole: Replaced = { feeSat: pending.feeSat, weight: txWeight(pending.tx) };
  const roomSat = replacementFeeSat([whole], whole.weight, feerates.incrementalRelaySatPerKw);
  if (budgetSat < roomSat) return undefined;
  const small = held.filter((one) => !isWorthAlone(one, feerates, policy));
  const parts = [
    [richest],
    ...alone.filter(([one]) => one !== richest && one !== undefined && !small.includes(one)),
  ];
  return [...parts, small].flatMap((part) => groupOf(part) ?? []);
}

function freshJobs(
  commitments: Commitments,
  rules: GroupingRules,
  members: ReadonlyMap<string, SweepableClaim>,
  taken: ReadonlySet<string>,
): readonly Job[] {
  const free = [...members].flatMap(([key, one]) => (taken.has(key) ? [] : [one]));
  const children = free.flatMap((one): readonly ClaimGroup[] => {
    const commitment = commitmentOf(commitments, one);
    return commitment === undefined ? [] : [{ shape: 'child', members: [one], commitment }];
  });
  const rest = free.filter((one) => commitmentOf(commitments, one) === undefined);
  return [...children, ...groupClaims(rest, rules)].map((group) => ({
    group,
    pending: undefined,
    partOf: undefined,
    makesRoomFor: undefined,
  }));
}

interface Planning {
  readonly jobs: readonly Job[];
  readonly coins: ReadonlyMap<string, WalletCoin>;
  readonly confirmed: readonly PendingSweep[];
  readonly alive: readonly PendingSweep[];
  readonly dead: readonly PendingSweep[];
}

function execute(input: SweepPlanInput, planning: Planning): SweepPlan {
  const held = new Set(planning.alive.flatMap(({ walletInputs }) => walletInputs.map(outPointKeyOf)));
  const free = new Map([...planning.coins].filter(([key]) => !held.has(key)));
  const sweeps: PlannedSweep[] = [];
  const kept = [...planning.confirmed];
  const claims: ClaimPlan[] = [];
  const takenApart = new Set<PendingSweep>();
  for (const job of byUrgency(planning.jobs)) {
    const { partOf } = job;
    if (partOf !== undefined && job.makesRoomFor === undefined && !takenApart.has(partOf)) {
      // Its first part could not take its place: all stays as it is.
      claims.push(...claimPlans(input, { ...job, pending: partOf }, { type: 'keep' }, partOf.sweepId));
      continue;
    }
    const predecessor = job.pending ?? job.makesRoomFor;
    const heldCoins = (predecessor?.walletInputs ?? []).flatMap(
      (at) => planning.coins.get(outPointKeyOf(at)) ?? [],
    );
    const price = priceJob(input, job, heldCoins, [...free.values()]);
    if (job.makesRoomFor !== undefined) {
      if (price.type === 'send') takenApart.add(job.makesRoomFor);
      else {
        kept.push(job.makesRoomFor);
        const whole = { ...job, pending: job.makesRoomFor };
        claims.push(...claimPlans(input, whole, { type: 'keep' }, job.makesRoomFor.sweepId));
        continue;
      }
    }
    const sweepId = job.pending?.sweepId ?? sweepIdOf(job.group.members.map(({ claim }) => claim.outPoint));
    if (price.type === 'send') {
      for (const { outPoint } of price.sweep.coins) free.delete(outPointKeyOf(outPoint));
      const replaces = [job.pending, job.makesRoomFor].filter((one) => one !== undefined);
      const { coins: _, ...sweep } = price.sweep;
      sweeps.push({ ...sweep, sweepId, replaces, partOf: job.partOf, homeScript: homeScriptOf(job) });
    } else if (job.pending !== undefined) {
      kept.push(job.pending);
    }
    claims.push(...claimPlans(input, job, price, sweepId));
  }
  const renewed = new Set(sweeps.map(({ sweepId }) => toHex(sweepId)));
  return {
    sweeps,
    kept,
    dropped: planning.dead.filter(({ sweepId }) => !renewed.has(toHex(sweepId))),
    claims: [...claims, ...waitingPlans(input)],
  };
}

/** The nearest deadline first, for the wallet's coins go round in this order. */
function byUrgency(jobs: readonly Job[]): readonly Job[] {
  const rank = ({ group }: Job): number => deadlineOf(group.members) ?? Infinity;
  const room = ({ makesRoomFor }: Job): number => (makesRoomFor === undefined ? 1 : 0);
  return [...jobs].sort((a, b) => room(a) - room(b) || (rank(a) === rank(b) ? 0 : rank(a) - rank(b)));
}

/** The predecessor's own output of the wallet: the last, unless every output is a second stage's. */
function homeScriptOf({ pending, group }: Job): Uint8Array | undefined {
  if (pending === undefined || group.shape === 'fixed') return undefined;
  return pending.tx.outputs.at(-1)?.script;
}

function priceJob(
  input: SweepPlanInput,
  { group, pending, makesRoomFor }: Job,
  held: readonly WalletCoin[],
  available: readonly WalletCoin[],
): Price {
  const progress = group.members.map((one) => progressOf(input, one));
  const hasDeadline = deadlineOf(group.members) !== undefined;
  // Before a deadline it never falls, in whichever transaction it was tried before.
  const before = hasDeadline ? Math.max(...progress.map(({ feerateSatPerKw }) => feerateSatPerKw)) : 0;
  const last = Math.max(before, pending?.feerateSatPerKw ?? 0);
  const requested = Math.max(0, ...progress.map((one) => one.requestedFeerateSatPerKw ?? 0));
  const ours = [pending, makesRoomFor].flatMap((one) =>
    one === undefined || one.rejectReason !== undefined
      ? []
      : [{ feeSat: one.feeSat, weight: txWeight(one.tx) }],
  );
  const rivals = group.members.flatMap(({ claim }): readonly Replaced[] => {
    const rival = input.rivals.get(outPointKeyOf(claim.outPoint));
    return rival === undefined ? [] : [{ feeSat: rival.feeSat, weight: rival.vsize * 4 }];
  });
  return priceOf(input, {
    group,
    firstHeight: Math.min(...progress.map(({ firstHeight }) => firstHeight)),
    lastSatPerKw: last,
    // What an anchor's child may meet is another commitment: no fee of its own helps against that.
    outbidSatPerKw: group.shape === 'child' ? undefined : outbidOf(pending, last, rivals),
    requestedSatPerKw: requested === 0 ? undefined : requested,
    // A rival in the mempool has ours put out of it.
    obstacle: rivals.length > 0 ? 'rivals' : 'ours',
    replaced: rivals.length > 0 ? rivals : ours,
    otherwise: pending === undefined ? 'nothing' : 'unchanged',
    held,
    available,
  });
}

/** More than what stands in the way, as far as that is known; else half as much again as what was refused. */
function outbidOf(
  pending: PendingSweep | undefined,
  lastSatPerKw: number,
  rivals: readonly Replaced[],
): number | undefined {
  const known = rivals.map(({ feeSat, weight }) => Number((feeSat * 1000n) / BigInt(weight)) + 1);
  const reason = pending?.rejectReason;
  if (known.length === 0 && reason !== undefined && isFeeRefusal(reason))
    return Math.ceil(lastSatPerKw * 1.5) + 1;
  return known.length === 0 ? undefined : Math.max(...known);
}
