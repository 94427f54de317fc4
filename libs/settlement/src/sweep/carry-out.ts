/** Carries a plan's units out one after the other: each takes what it needs of the wallet, and the next what is left. */
import { toHex } from '@fulmen/codec';
import { type Outcome, claimPlans, waitingPlans } from './claim-plans.ts';
import { isAmple } from './fund.ts';
import { type ClaimGroup, urgentFeeSat } from './group.ts';
import { type Job, outbidBy, priceJob } from './job.ts';
import { outPointKeyOf, sweepIdOf } from './keys.ts';
import type { Price } from './price.ts';
import type { Split } from './split.ts';
import type { OutPoint } from '../types.ts';
import type { PendingSweep, PlannedSweep, SweepPlan, SweepPlanInput, WalletCoin } from './types.ts';

/** Claims that belong together, with the transaction that waits for just these. */
export interface Unit {
  readonly group: ClaimGroup;
  readonly sweepId: Uint8Array;
  readonly pending: PendingSweep | undefined;
  readonly split: Split | undefined;
}

export interface Planning {
  /** Most urgent first. */
  readonly units: readonly Unit[];
  /** By `outPointKeyOf`. */
  readonly coins: ReadonlyMap<string, WalletCoin>;
  readonly confirmed: readonly PendingSweep[];
  readonly alive: readonly PendingSweep[];
  /** Those of them that the node does not have. */
  readonly out: ReadonlySet<PendingSweep>;
  /** Those of them whose coins nothing in the mempool spends. */
  readonly lenders: ReadonlySet<PendingSweep>;
  readonly dead: readonly PendingSweep[];
}

/** What is left for the units that come. */
interface Round {
  readonly free: readonly WalletCoin[];
  /** Rivals, by txid. */
  readonly outbid: ReadonlySet<string>;
}

interface Step {
  readonly outcomes: readonly Outcome[];
  readonly round: Round;
}

export function carryOut(input: SweepPlanInput, planning: Planning): SweepPlan {
  const { units, coins, confirmed, alive, lenders, dead } = planning;
  // Coins that nothing in the mempool spends are whoever's needs them most.
  const held = new Set(alive.flatMap((one) => (lenders.has(one) ? [] : one.walletInputs.map(outPointKeyOf))));
  let round: Round = {
    free: [...coins].flatMap(([key, coin]) => (held.has(key) ? [] : [coin])),
    outbid: new Set(),
  };
  const outcomes: Outcome[] = [];
  for (const unit of units) {
    const step = stepOf(input, planning, unit, round);
    outcomes.push(...step.outcomes);
    round = step.round;
  }
  const holders = new Map(
    alive.flatMap((one) =>
      [...one.claims, ...one.walletInputs].map((at) => [outPointKeyOf(at), one] as const),
    ),
  );
  const sweeps = outcomes.flatMap((one) => plannedOf(one, holders));
  const gone = new Set(sweeps.flatMap(({ replaces }) => replaces));
  const kept = alive.filter((one) => !gone.has(one));
  const renewed = new Set(sweeps.map(({ sweepId }) => toHex(sweepId)));
  return {
    sweeps,
    kept: [...confirmed, ...kept],
    dropped: dead.filter(({ sweepId }) => !renewed.has(toHex(sweepId))),
    claims: [...claimPlans(input, outcomes, kept), ...waitingPlans(input)],
  };
}

function stepOf(input: SweepPlanInput, { coins, out, lenders }: Planning, unit: Unit, round: Round): Step {
  const { group, sweepId, pending, split } = unit;
  const own = (pending?.walletInputs ?? []).flatMap((at) => coins.get(outPointKeyOf(at)) ?? []);
  // Without its coins it stands for nothing.
  const isRobbed =
    pending !== undefined && lenders.has(pending) && !own.every((one) => round.free.includes(one));
  const held = isRobbed ? [] : own;
  const left = { ...round, free: round.free.filter((one) => !held.includes(one)) };
  const whole = isRobbed ? undefined : pending;
  if (split !== undefined) {
    const others = pending !== undefined && out.has(pending) ? 'go_at_once' : 'follow';
    const apart = takeApart(input, split, { whole, held, others }, left);
    if (apart !== undefined) return apart;
  }
  const job: Job = {
    group,
    pending: whole,
    makesRoomFor: undefined,
    held,
    available: left.free,
    outbid: round.outbid,
  };
  const price = priceJob(input, job);
  return {
    outcomes: [{ group, sweepId, price, pending, goes: 'at_once' }],
    round: roundAfter(input, job, price, left),
  };
}

interface Whole {
  readonly whole: PendingSweep | undefined;
  readonly held: readonly WalletCoin[];
  /** follow: the first part must take the place of the whole before. */
  readonly others: 'follow' | 'go_at_once';
}

/** Undefined: as fees and coins are, it is better left together. */
function takeApart(
  input: SweepPlanInput,
  { parts, when }: Split,
  { whole, held, others }: Whole,
  round: Round,
): Step | undefined {
  const outcomes: Outcome[] = [];
  let left = round;
  for (const [at, group] of parts.entries()) {
    const isFirst = at === 0;
    const isRaise = isFirst && when === 'raised';
    // Those of the whole's coins that the first part does not use are free then.
    const free = isFirst && !isRaise ? [...held, ...left.free] : left.free;
    const job: Job = {
      group,
      pending: isRaise ? whole : undefined,
      makesRoomFor: isFirst ? whole : undefined,
      held: isRaise ? held : [],
      available: when === 'now' ? ampleCoins(input, group, free) : free,
      outbid: left.outbid,
    };
    const price = priceJob(input, job);
    if (isFirst && price.type !== 'send') return undefined;
    // Each with a coin of its own, or all with one: none shall wait for another's change.
    if (when === 'now' && price.type === 'wait_for_coins') return undefined;
    const goes = isFirst || others === 'go_at_once' ? 'at_once' : 'after_another_part';
    outcomes.push({ group, sweepId: sweepIdOf(group.members), price, pending: undefined, goes });
    left = roundAfter(input, job, price, { ...left, free });
  }
  return { outcomes, round: left };
}

/** Coins that pay for a part by themselves, also when fees rise from what is urgent now. */
function ampleCoins(
  { feerates }: SweepPlanInput,
  { members }: ClaimGroup,
  coins: readonly WalletCoin[],
): readonly WalletCoin[] {
  return coins.filter((coin) => isAmple(coin, urgentFeeSat(members, [coin], feerates)));
}

function roundAfter(input: SweepPlanInput, job: Job, price: Price, { free, outbid }: Round): Round {
  if (price.type !== 'send') return { free, outbid };
  return {
    free: free.filter((one) => !price.sweep.coins.includes(one)),
    outbid: new Set([...outbid, ...outbidBy(input, job, price.sweep)]),
  };
}

/** `holders`: what waits, by the claims and the coins that it spends. */
function plannedOf(
  { group, sweepId, price, pending, goes }: Outcome,
  holders: ReadonlyMap<string, PendingSweep>,
): readonly PlannedSweep[] {
  if (price.type !== 'send') return [];
  const { coins, ...sweep } = price.sweep;
  const holdersOf = (spent: readonly { readonly outPoint: OutPoint }[]): readonly PendingSweep[] =>
    spent.flatMap(({ outPoint }) => holders.get(outPointKeyOf(outPoint)) ?? []);
  const before = holdersOf(group.members.map(({ claim }) => claim));
  const partOf = before.find((one) => toHex(one.sweepId) !== toHex(sweepId));
  const replaces = new Set([...before, ...holdersOf(coins)]);
  if (goes === 'after_another_part' && partOf !== undefined) replaces.delete(partOf);
  return [
    {
      ...sweep,
      sweepId,
      replaces: [...replaces],
      partOf,
      homeScript: group.shape === 'fixed' ? undefined : pending?.tx.outputs.at(-1)?.script,
    },
  ];
}
