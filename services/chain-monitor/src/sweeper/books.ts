/** The rows of sweeps and claims, written under the writer's lock: what a plan says, as far as it still holds. */
import { displayHash } from '@fulmen/bitcoin';
import { equalBytes, toHex } from '@fulmen/codec';
import {
  type ChannelClaims,
  type PlannedSweep,
  type SweepPlan,
  outPointKeyOf,
} from '@fulmen/settlement/sweep/index';
import type { ClaimRecord, SweepRecord, WalletOutPoint } from '@fulmen/store/chain/chain-store';
import { chainEvent } from '../settlement/events.ts';
import type { Draft } from '../state/draft.ts';
import type { ChainView } from '../state/view.ts';
import { forgetTransaction } from '../wallet/observe.ts';
import { claimRecordOf, isSameClaim } from './planning.ts';

/** Everything of a plan that needs no signature. */
export function keepBooks(draft: Draft, plan: SweepPlan): void {
  const signed = new Set(plan.sweeps.map(({ sweepId }) => toHex(sweepId)));
  for (const { sweepId, txid, confirmedHeight } of plan.dropped) {
    draft.settlement.dropSweep(sweepId);
    if (confirmedHeight === undefined) forgetUnconfirmed(draft, txid);
  }
  const planned = new Set<string>();
  for (const claim of plan.claims) {
    planned.add(outPointKeyOf(claim.outPoint));
    // Written with its transaction.
    if (claim.sweepId !== undefined && signed.has(toHex(claim.sweepId))) continue;
    putClaim(draft, claimRecordOf(claim));
  }
  forgetOthers(draft, planned);
}

/** What an operator asked for meanwhile is not lost. */
function putClaim(draft: Draft, record: ClaimRecord): void {
  const known = draft.settlement.claim(outPointKeyOf(record.outPoint));
  const requested = Math.max(known?.requestedFeerateSatPerKw ?? 0, record.requestedFeerateSatPerKw ?? 0);
  const merged = requested === 0 ? record : { ...record, requestedFeerateSatPerKw: requested };
  if (known === undefined || !isSameClaim(known, merged)) draft.settlement.putClaim(merged);
}

export interface SignedSweep {
  readonly plan: SweepPlan;
  readonly planned: PlannedSweep;
  readonly record: SweepRecord;
  readonly timeUnixMs: number;
}

/** Stores a signed sweep; overtaken: what it spends went elsewhere meanwhile, or what it replaces did. */
export function storeSweep(
  draft: Draft,
  { plan, planned, record, timeUnixMs }: SignedSweep,
): 'stored' | 'overtaken' {
  if (isOvertaken(draft, planned, record)) return 'overtaken';
  const { settlement } = draft;
  for (const old of planned.replaces) {
    if (!equalBytes(old.txid, record.txid)) forgetUnconfirmed(draft, old.txid);
    if (!equalBytes(old.sweepId, record.sweepId)) settlement.dropSweep(old.sweepId);
  }
  settlement.putSweep(record);
  const channels = new Map<string, Uint8Array>();
  for (const claim of plan.claims) {
    if (claim.sweepId === undefined || !equalBytes(claim.sweepId, record.sweepId)) continue;
    putClaim(draft, claimRecordOf(claim));
    channels.set(toHex(claim.channelId), claim.channelId);
  }
  const body = {
    txid: displayHash(record.txid),
    height: record.createdHeight,
    feeSat: record.feeSat,
    feerateSatPerKw: record.feerateSatPerKw,
    outputs: record.claims.length,
    reason: reasonOf(planned, record),
  };
  for (const channelId of channels.values())
    settlement.event(chainEvent('sweep_broadcast', { channelId, timeUnixMs }, body));
  return 'stored';
}

function isOvertaken({ settlement, view }: Draft, planned: PlannedSweep, record: SweepRecord): boolean {
  if (settlement.sweep(toHex(record.sweepId))?.confirmedHeight !== undefined) return true;
  const others = [...settlement.sweeps()].filter(
    (other) =>
      !equalBytes(other.sweepId, record.sweepId) &&
      !planned.replaces.some((old) => equalBytes(old.sweepId, other.sweepId)),
  );
  const held = [
    ...others.flatMap(({ walletInputs }) => walletInputs),
    ...[...view.reservations.values()].flatMap(({ inputs }) => inputs),
  ];
  if (record.walletInputs.some((mine) => held.some((at) => isSame(at, mine)))) return true;
  // The whole that this is a part of still stands: the part that takes its place could not be stored.
  const whole = planned.partOf;
  return whole !== undefined && others.some((other) => equalBytes(other.sweepId, whole.sweepId));
}

/** A sweep could not be signed: its claims say so, and no attempt is counted. */
export function tellUnsigned(draft: Draft, plan: SweepPlan, planned: PlannedSweep, words: string): void {
  for (const claim of plan.claims) {
    if (claim.sweepId === undefined || !equalBytes(claim.sweepId, planned.sweepId)) continue;
    const known = draft.settlement.claim(outPointKeyOf(claim.outPoint));
    // What the last attempt paid stands.
    const { sweepId: _, ...rest } = claimRecordOf(claim, words);
    putClaim(draft, {
      ...rest,
      attempts: known?.attempts ?? 0,
      feerateSatPerKw: known?.feerateSatPerKw ?? 0,
      ...(known?.sweepId !== undefined && { sweepId: known.sweepId }),
    });
  }
}

/** Why it is broadcast, for people. */
function reasonOf({ replaces, partOf, parent }: PlannedSweep, record: SweepRecord): string {
  if (partOf !== undefined) return 'taken_apart';
  if (replaces.some((old) => equalBytes(old.sweepId, record.sweepId))) return 'fee_raised';
  return parent === undefined ? 'claim' : 'commitment_fee';
}

function isSame(a: WalletOutPoint, b: WalletOutPoint): boolean {
  return a.outputIndex === b.outputIndex && equalBytes(a.txid, b.txid);
}

/** The wallet forgets a sweep that another takes the place of; one in a block stays. */
function forgetUnconfirmed(draft: Draft, txid: Uint8Array): void {
  const outputs = [...draft.utxos()].filter((utxo) => equalBytes(utxo.txid, txid));
  if (outputs.every(({ height }) => height === undefined)) forgetTransaction(draft, txid);
}

/** Claims that cannot be made any more, unless a sweep that is not buried holds them. */
function forgetOthers(draft: Draft, planned: ReadonlySet<string>): void {
  const held = new Map([...draft.settlement.sweeps()].map((sweep) => [toHex(sweep.sweepId), sweep]));
  for (const claim of [...draft.settlement.claims()]) {
    if (planned.has(outPointKeyOf(claim.outPoint))) continue;
    const sweep = claim.sweepId === undefined ? undefined : held.get(toHex(claim.sweepId));
    if (sweep?.confirmedHeight === undefined) {
      draft.settlement.dropClaim(claim.outPoint);
      continue;
    }
    const nextAction = `confirmed in block ${sweep.confirmedHeight}; done when it is buried`;
    if (claim.nextAction !== nextAction) draft.settlement.putClaim({ ...claim, nextAction });
  }
}

/** All that a plan depends on, but for fees, which count at each block. */
export function stateOf(view: ChainView, channels: readonly ChannelClaims[]): string {
  const claims = channels.flatMap(({ claims: some, commitments }) => [
    ...some.map(
      (claim) => `${outPointKeyOf(claim.outPoint)} ${claim.deadlineHeight ?? ''} ${claim.kind.type}`,
    ),
    ...commitments.map(
      ({ commitment }) =>
        `pay ${outPointKeyOf(commitment.anchor.outPoint)} ${commitment.anchor.deadlineHeight ?? ''}`,
    ),
  ]);
  const held = view.reservedOutPoints();
  const coins = [...view.utxos].map(
    ([key, { height, spentBy }]) =>
      `${key} ${height ?? ''} ${spentBy === undefined ? '' : toHex(spentBy.txid)} ${held.has(key) ? 'held' : ''}`,
  );
  const sweeps = [...view.sweeps].map(
    ([id, { txid, confirmedHeight, rejectReason }]) =>
      `${id} ${toHex(txid)} ${confirmedHeight ?? ''} ${rejectReason === undefined ? '' : 'refused'}`,
  );
  const asked = [...view.claims].map(([key, claim]) => `${key} ${claim.requestedFeerateSatPerKw ?? ''}`);
  return [toHex(view.tip?.hash ?? new Uint8Array(0)), ...claims, ...coins, ...sweeps, ...asked].join('\n');
}
