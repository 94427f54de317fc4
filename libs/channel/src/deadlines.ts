/** Which HTLCs demand the chain (LDK's constants). Policy that needs the height alone, for the shell and chain-monitor. */
import { CLTV_CLAIM_BUFFER_BLOCKS, LATENCY_GRACE_PERIOD_BLOCKS } from './config.ts';
import type { HtlcBody, HtlcDirection } from './htlc.ts';
import type { EstablishedChannel } from './state.ts';
import { isFulfilled } from './updates/transitions.ts';

export interface HtlcDeadline {
  readonly direction: HtlcDirection;
  readonly id: bigint;
  readonly amountMsat: bigint;
  /** From this height on the channel is to be force-closed. */
  readonly deadlineHeight: number;
  readonly reason: 'outbound_expired' | 'inbound_preimage_known';
}

/**
 * The HTLCs that demand a force close at `height`, dust included.
 *
 * BOLT 2: "if an HTLC which it offered is in either node's current commitment
 * transaction, AND is past this timeout deadline: MUST fail the channel"; "if an
 * HTLC it has fulfilled is in either node's current commitment transaction, AND
 * is past this fulfillment deadline: MUST fail the channel."
 */
export function htlcDeadlines(state: EstablishedChannel, height: number): readonly HtlcDeadline[] {
  return allDeadlines(state).filter(({ deadlineHeight }) => height >= deadlineHeight);
}

/** The first height at which some HTLC demands a force close, or should be signed no more. */
export function nextDeadlineHeight(state: EstablishedChannel): number | undefined {
  const heights = [
    ...allDeadlines(state).map(({ deadlineHeight }) => deadlineHeight),
    ...unsignedHtlcs(state).map(({ cltvExpiryHeight }) => lateOfferHeight(cltvExpiryHeight)),
  ];
  return heights.length === 0 ? undefined : Math.min(...heights);
}

/**
 * Whether an HTLC with this expiry should be offered no more (LDK, of those in its holding cell). No commitment that has
 * one is a deadline of its own: signed at any height, it could be fulfilled when its sender has been paid back upstream.
 */
export function isTooLateToOffer(cltvExpiryHeight: number, height: number): boolean {
  return height >= lateOfferHeight(cltvExpiryHeight);
}

const lateOfferHeight = (cltvExpiryHeight: number): number => cltvExpiryHeight - LATENCY_GRACE_PERIOD_BLOCKS;

/**
 * The HTLCs that the holder has sent and no commitment_signed covers yet: whatever the height, no commitment demands the
 * chain for them, and the end of the connection takes them back.
 */
export function unsignedHtlcs(state: EstablishedChannel): readonly HtlcBody[] {
  return state.changes.htlcs.flatMap(({ body, state: progress }) =>
    body.direction === 'outbound' && progress === 'add_pending' ? [body] : [],
  );
}

/** Whether an outbound HTLC with this expiry demands the chain at this height. */
export function isPastDeadline(cltvExpiryHeight: number, height: number): boolean {
  return height >= outboundDeadline(cltvExpiryHeight);
}

const outboundDeadline = (cltvExpiryHeight: number): number => cltvExpiryHeight + LATENCY_GRACE_PERIOD_BLOCKS;

function allDeadlines(state: EstablishedChannel): readonly HtlcDeadline[] {
  const deadlines: HtlcDeadline[] = [];
  for (const htlc of state.changes.htlcs) {
    const { direction, id, amountMsat, cltvExpiryHeight } = htlc.body;
    if (direction === 'outbound' && htlc.state !== 'add_pending') {
      deadlines.push({
        direction,
        id,
        amountMsat,
        deadlineHeight: outboundDeadline(cltvExpiryHeight),
        reason: 'outbound_expired',
      });
    } else if (direction === 'inbound' && isFulfilled(htlc)) {
      deadlines.push({
        direction,
        id,
        amountMsat,
        deadlineHeight: cltvExpiryHeight - CLTV_CLAIM_BUFFER_BLOCKS,
        reason: 'inbound_preimage_known',
      });
    }
  }
  return deadlines;
}

/** What going on-chain costs beside the channel itself: a commitment, and for each HTLC its output and one claim (BOLT 3's weights). */
const COMMITMENT_WEIGHT = 1_124n;
const HTLC_WEIGHT = 172n + 706n;

export interface ClosingBalance {
  readonly verdict: 'close' | 'not_worth_it';
  readonly atStakeSat: bigint;
  readonly costSat: bigint;
  /** For people. */
  readonly summary: string;
}

/**
 * Weighs what a force close saves against what it costs. All HTLCs past their deadline count together, those that were
 * not worth it before included, and what the channel ever lost by such: so whatever a peer does, never more is given up
 * than a close costs.
 *
 * @param fulfilledLateMsat of forwards that were fulfilled past their deadline and have left the channel: they may have
 *   failed upstream before. Alone they demand no close.
 */
export function weighClosing(
  htlcs: readonly { readonly amountMsat: bigint }[],
  fulfilledLateMsat: bigint,
  feerateSatPerKw: number,
): ClosingBalance {
  const atStakeSat = htlcs.reduce((sum, { amountMsat }) => sum + amountMsat, fulfilledLateMsat) / 1_000n;
  const weight = COMMITMENT_WEIGHT + HTLC_WEIGHT * BigInt(htlcs.length);
  const costSat = (weight * BigInt(feerateSatPerKw)) / 1_000n;
  const late =
    fulfilledLateMsat > 0n ? ` (${fulfilledLateMsat / 1_000n} of them fulfilled too late before)` : '';
  return {
    verdict: atStakeSat >= costSat ? 'close' : 'not_worth_it',
    atStakeSat,
    costSat,
    summary: `${atStakeSat} sat at stake in ${htlcs.length} HTLCs${late}, about ${costSat} sat to close`,
  };
}
