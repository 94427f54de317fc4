/** One channel's settlement, as this height has it, written into the turn: the row for people, events, ends of HTLCs. */
import { toHex } from '@fulmen/codec';
import { encodeFailureMessage } from '@fulmen/onion';
import type { HtlcOutcome, Settlement } from '@fulmen/settlement';
import { ANTI_REORG_DELAY_BLOCKS, isOverdue, isTooDear } from '@fulmen/settlement';
import type { SettlementRecord } from '@fulmen/store/chain/chain-store';
import { fundingStatus } from '../follower/fundings.ts';
import type { Draft } from '../state/draft.ts';
import { chainEvent, settlementEvents } from './events.ts';
import { encodeSummary, summarize } from './summary.ts';

/** What upstream hears of an HTLC that the chain ended: the channel it was sent through is gone for good (BOLT 4). */
const FAILURE = encodeFailureMessage({ kind: 'permanent_channel_failure' });

export interface ChannelTurn {
  readonly channelId: Uint8Array;
  readonly bestHeight: number;
  readonly timeUnixMs: number;
  /** Of a claim that has a deadline. */
  readonly feerateSatPerKw: number;
  /** HTLCs of the channel that carry payments of the node's own. */
  readonly ownPayments: ReadonlySet<bigint>;
}

/** Writes what is new of a closed channel; the number of HTLCs that are told fulfilled by it. */
export function writeSettlement(draft: Draft, settlement: Settlement, at: ChannelTurn): number {
  const { close } = settlement;
  if (close === undefined) return 0;
  const id = toHex(at.channelId);
  const before = draft.settlement.settlement(id);
  const sweepFees = new Map([...draft.settlement.sweeps()].map(({ txid, feeSat }) => [toHex(txid), feeSat]));
  for (const event of settlementEvents(before, settlement, {
    channelId: at.channelId,
    timeUnixMs: at.timeUnixMs,
    sweepFeeSat: (txid) => sweepFees.get(txid),
  }))
    draft.settlement.event(event);
  const told = tell(draft, outcomesOf(settlement, at), before, at);
  const resolvedHeight =
    settlement.stage === 'resolved' ? (before?.resolvedHeight ?? at.bestHeight) : undefined;
  const record: SettlementRecord = {
    channelId: at.channelId,
    stage: settlement.stage === 'resolved' ? 'resolved' : 'closed',
    closeType: close.type,
    closeTxid: close.txid,
    closeHeight: close.height,
    summary: encodeSummary(summarize(settlement.outputs)),
    toldFulfilled: told.fulfilled,
    toldFailed: told.failed,
    ...(resolvedHeight !== undefined && { resolvedHeight }),
  };
  if (before === undefined || !isSame(before, record)) draft.settlement.putSettlement(record);
  tellManager(draft, settlement, at);
  return told.fulfilled.length - (before?.toldFulfilled.length ?? 0);
}

function isSame(a: SettlementRecord, b: SettlementRecord): boolean {
  return (
    a.stage === b.stage &&
    a.closeType === b.closeType &&
    toHex(a.closeTxid) === toHex(b.closeTxid) &&
    a.closeHeight === b.closeHeight &&
    a.summary === b.summary &&
    a.resolvedHeight === b.resolvedHeight &&
    a.toldFulfilled.length === b.toldFulfilled.length &&
    a.toldFailed.length === b.toldFailed.length
  );
}

interface Told {
  readonly fulfilled: readonly bigint[];
  readonly failed: readonly bigint[];
}

/**
 * How the HTLCs ended, and those that are given up: their claim was needed by now, and costs more than it brings. Before
 * the channel that such an HTLC came from is closed for it, it is failed there; what may be lost is its amount. A payment
 * of the node's own came from no channel: until the output is spent the counterparty may take it, and whoever paid again
 * would have paid twice.
 */
function outcomesOf(
  { htlcs, outputs }: Settlement,
  { bestHeight, feerateSatPerKw, ownPayments }: ChannelTurn,
): readonly HtlcOutcome[] {
  const givenUp = new Set(
    outputs.flatMap(({ kind, htlc, status }) =>
      kind === 'htlc_offered_by_holder' &&
      status.type === 'claimable' &&
      isOverdue(status.claim, bestHeight) &&
      isTooDear(status.claim, feerateSatPerKw)
        ? [htlc?.id]
        : [],
    ),
  );
  return htlcs.map((outcome) =>
    outcome.type === 'pending' && givenUp.has(outcome.htlc.id) && !ownPayments.has(outcome.htlc.id)
      ? { type: 'failed', htlc: outcome.htlc, reason: 'uneconomical' }
      : outcome,
  );
}

/** BOLT 5: a preimage goes upstream at once; a failure only when it is final, and never over a preimage. */
function tell(
  draft: Draft,
  htlcs: readonly HtlcOutcome[],
  before: SettlementRecord | undefined,
  at: ChannelTurn,
): Told {
  const fulfilled = new Set(before?.toldFulfilled ?? []);
  const failed = new Set(before?.toldFailed ?? []);
  for (const outcome of htlcs) {
    if (outcome.type === 'pending' || fulfilled.has(outcome.htlc.id)) continue;
    const { id } = outcome.htlc;
    if (outcome.type === 'failed') {
      if (failed.has(id)) continue;
      failed.add(id);
      draft.settlement.tell({
        channelId: at.channelId,
        htlcId: id,
        outcome: { type: 'failed', failure: FAILURE },
      });
    } else {
      fulfilled.add(id);
      draft.settlement.tell({
        channelId: at.channelId,
        htlcId: id,
        outcome: { type: 'fulfilled', preimage: outcome.preimage },
      });
    }
    draft.settlement.event(outcomeEvent(outcome, at));
  }
  return { fulfilled: [...fulfilled], failed: [...failed] };
}

/** An HTLC whose end is passed upstream. */
export function outcomeEvent(
  outcome: Exclude<HtlcOutcome, { type: 'pending' }>,
  at: ChannelTurn,
): ReturnType<typeof chainEvent> {
  return chainEvent('htlc_settled_upstream', at, {
    htlcId: outcome.htlc.id,
    amountMsat: outcome.htlc.amountMsat,
    outcome: outcome.type,
    reason: outcome.type === 'failed' ? outcome.reason : 'preimage',
    height: at.bestHeight,
  });
}

/**
 * The manager keeps the channel's HTLC rows until it hears that all is settled. A mutual close carries none: it is told
 * as soon as no reorganisation is expected to undo it.
 */
function tellManager(draft: Draft, settlement: Settlement, { channelId, bestHeight }: ChannelTurn): void {
  const record = draft.funding(toHex(channelId));
  if (record === undefined || settlement.close === undefined) return;
  const isBuried = bestHeight - settlement.close.height + 1 >= ANTI_REORG_DELAY_BLOCKS;
  const isSettled = settlement.stage === 'resolved' || (settlement.close.type === 'mutual' && isBuried);
  if (isSettled === (record.settledHeight !== undefined)) return;
  const { settledHeight: _, ...rest } = record;
  const changed = isSettled ? { ...rest, settledHeight: bestHeight } : rest;
  draft.putFunding(changed);
  const { fundingTxid, fundingOutputIndex } = changed;
  draft.report({
    channelId,
    fundingTxid,
    fundingOutputIndex,
    status: fundingStatus(changed, bestHeight),
  });
}
