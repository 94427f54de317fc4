/**
 * What the sweeper does now, as a function of what can be claimed, what was
 * tried, and what fees are. It is asked again at every block and always starts
 * from the claims that can be made: an output that somebody else spent is not
 * among them, so no transaction goes on waiting with a spent input. What waits
 * in the mempool stays together until it is taken apart; what the node does not
 * have holds nothing, and its claims are put together anew.
 */
import { toHex } from '@fulmen/codec';
import { type Unit, carryOut } from './carry-out.ts';
import { type ClaimGroup, type GroupingRules, deadlineOf, groupClaims, groupOf } from './group.ts';
import { isAllied, isOut } from './job.ts';
import { outPointKeyOf, sweepIdOf } from './keys.ts';
import { isFeeRefusal } from './refusal.ts';
import { splitOf } from './split.ts';
import type {
  PayableCommitment,
  PendingSweep,
  SweepPlan,
  SweepPlanInput,
  SweepableClaim,
  WalletCoin,
} from './types.ts';

export function planSweeps(input: SweepPlanInput): SweepPlan {
  const members = sweepable(input);
  const commitments: Commitments = new Map(
    input.commitments.map((one) => [outPointKeyOf(one.commitment.anchor.outPoint), one]),
  );
  const coins = new Map(input.coins.map((coin) => [outPointKeyOf(coin.outPoint), coin]));
  const { confirmed, alive, dead } = sortPending(input, members, coins);
  const out = new Set(alive.filter((one) => isOut(input, one)));
  const lenders = new Set([...out].filter((one) => !isAllied(input, one)));
  const standing = alive.filter((one) => one.claims.length < 2 || !out.has(one));
  const rules: GroupingRules = { ...input, alone: new Set([...input.unsignable, ...suspectsOf(alive)]) };
  const taken = new Set([...confirmed, ...standing].flatMap(({ claims }) => claims.map(outPointKeyOf)));
  const groups = [
    ...standing.flatMap((pending) => pendingGroup(commitments, pending, members) ?? []),
    ...freshGroups(commitments, rules, members, taken),
  ];
  const byId = new Map(alive.map((one) => [toHex(one.sweepId), one]));
  const units = groups.map((group): Unit => {
    const sweepId = sweepIdOf(group.members);
    const pending = byId.get(toHex(sweepId));
    return { group, sweepId, pending, split: splitOf(rules, group, pending) };
  });
  return carryOut(input, { units: byUrgency(rules, units), coins, confirmed, alive, out, lenders, dead });
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

/** Claims of transactions that the node refuses for anything but their fee: one input may be the reason. */
function suspectsOf(alive: readonly PendingSweep[]): readonly string[] {
  return alive.flatMap(({ rejectReason, claims }) =>
    rejectReason === undefined || isFeeRefusal(rejectReason) ? [] : claims.map(outPointKeyOf),
  );
}

/** The group of a transaction that was made before. */
function pendingGroup(
  commitments: Commitments,
  { claims, walletInputs }: PendingSweep,
  members: ReadonlyMap<string, SweepableClaim>,
): ClaimGroup | undefined {
  const held = claims.flatMap((at) => members.get(outPointKeyOf(at)) ?? []);
  const [first] = held;
  if (first?.claim.kind.type === 'anchor' && (walletInputs.length > 0 || commitmentOf(commitments, first)))
    return { shape: 'child', members: [first], commitment: commitmentOf(commitments, first) };
  return groupOf(held);
}

function freshGroups(
  commitments: Commitments,
  rules: GroupingRules,
  members: ReadonlyMap<string, SweepableClaim>,
  taken: ReadonlySet<string>,
): readonly ClaimGroup[] {
  const free = [...members].flatMap(([key, one]) => (taken.has(key) ? [] : [one]));
  const children = free.flatMap((one): readonly ClaimGroup[] => {
    const commitment = commitmentOf(commitments, one);
    return commitment === undefined ? [] : [{ shape: 'child', members: [one], commitment }];
  });
  const rest = free.filter((one) => commitmentOf(commitments, one) === undefined);
  return [...children, ...groupClaims(rest, rules)];
}

/** The nearest deadline first, for the wallet's coins go round in this order; what may come to nothing comes last. */
function byUrgency(rules: GroupingRules, units: readonly Unit[]): readonly Unit[] {
  const isDoubtful = ({ claim }: SweepableClaim): boolean =>
    [rules.rivals, rules.alone].some((keys) => keys.has(outPointKeyOf(claim.outPoint)));
  const doubt = ({ group }: Unit): number => (group.members.some(isDoubtful) ? 1 : 0);
  const rank = ({ group }: Unit): number => deadlineOf(group.members) ?? Infinity;
  return [...units].sort((a, b) => doubt(a) - doubt(b) || (rank(a) === rank(b) ? 0 : rank(a) - rank(b)));
}
