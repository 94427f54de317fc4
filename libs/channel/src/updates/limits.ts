/**
 * What may be added to a channel: reserve, fees, counts, value in flight and
 * exposure to dust, on both commitments of every funding.
 *
 * The holder's own updates are checked against a pessimistic view (everything
 * that may turn out to be on a commitment is), so that the counterparty never
 * has a reason to refuse them. The counterparty's are checked against exactly
 * the next holder commitment, and against what it must have known of its own:
 * two honest nodes that add at the same time may dip into the reserve
 * (BOLT 2, "There is a possibility of a race"), and that is tolerated for as
 * long as the holder's commitment is relayed.
 */
import { InternalError } from '@fulmen/codec';
import {
  anchorsSat,
  commitmentFeeSat,
  countUntrimmed,
  dustExposureMsat as trimmedMsat,
  htlcSide,
  isTrimmed,
} from '../commitment/fees.ts';
import type { HtlcsOnCommitment } from '../commitment/fees.ts';
import type { CommitmentSpec } from '../commitment-spec.ts';
import { MAX_DUST_EXPOSURE_SAT } from '../config.ts';
import type { ChannelContext } from '../context.ts';
import type { EstablishedChannel, Funding, Htlc } from '../state.ts';
import type { CommitmentOwner } from '../commitment/types.ts';
import type { Presence } from './spec.ts';
import { nextSpec, presenceOf, specFrom } from './spec.ts';
import { move } from './transitions.ts';

export type Part = Pick<EstablishedChannel, 'changes' | 'fundings' | 'parameters'>;

export const OWNERS: readonly CommitmentOwner[] = ['holder', 'counterparty'];

interface CostOptions {
  readonly extraHtlcs?: number;
  readonly feerateMultiple?: number;
}

/** What the funder pays for a commitment at the feerate of `spec`: fee and anchors, in sat. */
export function funderCostSat(
  state: Part,
  owner: CommitmentOwner,
  spec: CommitmentSpec,
  options?: CostOptions,
): bigint {
  const format = state.parameters.commitmentFormat;
  const untrimmed = countUntrimmed(format, onCommitment(state, owner, spec, spec.feerateSatPerKw));
  const feerate = spec.feerateSatPerKw * (options?.feerateMultiple ?? 1);
  return commitmentFeeSat(format, feerate, untrimmed + (options?.extraHtlcs ?? 0)) + anchorsSat(format);
}

/**
 * The most that the funder may have to pay of what is under way. Each feerate trims for itself: without anchors a lower one
 * gives outputs to more HTLCs, and may be the dearer one.
 */
export function dearestCostSat(
  state: Part,
  owner: CommitmentOwner,
  spec: CommitmentSpec,
  options?: CostOptions,
): bigint {
  let dearestSat = 0n;
  for (const { feerateSatPerKw } of state.changes.feerates) {
    const costSat = funderCostSat(state, owner, { ...spec, feerateSatPerKw }, options);
    if (costSat > dearestSat) dearestSat = costSat;
  }
  return dearestSat;
}

function onCommitment(
  state: Part,
  owner: CommitmentOwner,
  spec: CommitmentSpec,
  feerateSatPerKw: number,
): HtlcsOnCommitment {
  return {
    owner,
    htlcs: spec.htlcs,
    ownerDustLimitSat: state.parameters[owner].dustLimitSat,
    feerateSatPerKw,
  };
}

/** BOLT 3: trimming uses the dust limit of the commitment's owner. */
export function isTrimmedOn(
  state: Part,
  owner: CommitmentOwner,
  htlc: { readonly direction: 'inbound' | 'outbound'; readonly amountMsat: bigint },
  feerateSatPerKw: number,
): boolean {
  return isTrimmed(state.parameters.commitmentFormat, {
    offered: htlcSide(owner, htlc.direction) === 'offered',
    amountMsat: htlc.amountMsat,
    dustLimitSat: state.parameters[owner].dustLimitSat,
    feerateSatPerKw,
  });
}

/** Pessimistic: each update that may come to be on the owner's commitment counts. */
export function pessimisticSpec(state: Part, owner: CommitmentOwner, fundingIndex: number): CommitmentSpec {
  const moved = move(state, owner === 'holder' ? 'counterparty_signs' : 'holder_signs');
  const part: Part = { parameters: state.parameters, changes: moved.changes, fundings: moved.fundings };
  const presence = (htlc: Htlc): Presence => {
    const now = presenceOf(htlc, owner);
    return now === 'absent' ? 'present' : now;
  };
  const spec = specFrom(part, owner, fundingAt(part, fundingIndex), presence);
  return { ...spec, feerateSatPerKw: highestFeerate(state) };
}

/**
 * The counterparty's commitment as the counterparty itself must at least see
 * it: without updates of the holder that it may not know of, and with its own
 * removals done.
 */
export function lenientCounterpartySpec(state: Part, fundingIndex: number): CommitmentSpec {
  const presence = (htlc: Htlc): Presence => {
    if (htlc.body.direction === 'inbound') return 'removal' in htlc ? 'absent' : 'present';
    if (htlc.state === 'add_acked' || htlc.state === 'committed') return 'present';
    return 'removal' in htlc ? 'removed' : 'absent';
  };
  const spec = specFrom(state, 'counterparty', fundingAt(state, fundingIndex), presence);
  const lowest = Math.min(...state.changes.feerates.map((feerate) => feerate.feerateSatPerKw));
  return { ...spec, feerateSatPerKw: lowest };
}

/** The next holder commitment exactly as the counterparty's next signature makes it. */
export function nextHolderSpec(state: Part, fundingIndex: number): CommitmentSpec {
  return nextSpec(state, 'holder', fundingIndex);
}

export function fundingAt(state: Part, index: number): Funding {
  const funding = state.fundings[index];
  if (funding === undefined) throw new InternalError('no such funding');
  return funding;
}

// ---------------------------------------------------------------- dust

/**
 * LDK: the feerate may rise by 25% or 10 sat/vB before the next look, so the
 * exposure is counted at that feerate.
 */
export function dustBufferFeerate(feerateSatPerKw: number): number {
  return Math.max(feerateSatPerKw + 2530, Math.floor((feerateSatPerKw * 5) / 4));
}

/** BOLT 2 "Bounding exposure to trimmed in-flight HTLCs": the sum of trimmed HTLCs on a commitment, with the fee beyond what is sensible on the counterparty's, in msat. */
export function dustExposureMsat(
  ctx: ChannelContext,
  state: Part,
  owner: CommitmentOwner,
  spec: CommitmentSpec,
): bigint {
  const format = state.parameters.commitmentFormat;
  const buffered = onCommitment(state, owner, spec, dustBufferFeerate(spec.feerateSatPerKw));
  const exposure = trimmedMsat(format, buffered);
  const excess = spec.feerateSatPerKw - ctx.feerates.maximumSatPerKw;
  if (owner === 'holder' || excess <= 0) return exposure;
  return exposure + 1000n * commitmentFeeSat(format, excess, countUntrimmed(format, buffered));
}

export function maximumDustExposureMsat(ctx: ChannelContext): bigint {
  const byFeerateMsat = ctx.config.dustExposureFeerateMultiple * BigInt(ctx.feerates.maximumSatPerKw);
  const ceilingMsat = 1000n * MAX_DUST_EXPOSURE_SAT;
  return byFeerateMsat < ceilingMsat ? byFeerateMsat : ceilingMsat;
}

/** The commitment (if any) on which the exposure to dust exceeds the cap. */
export function excessiveDustOn(ctx: ChannelContext, state: Part): CommitmentOwner | undefined {
  return OWNERS.find((owner) =>
    state.fundings.some(
      (_, i) =>
        dustExposureMsat(ctx, state, owner, pessimisticSpec(state, owner, i)) > maximumDustExposureMsat(ctx),
    ),
  );
}

/**
 * Whether an HTLC may be trimmed on either commitment, with LDK's buffer: at the highest feerate that is under way, for an
 * update that nobody signed yet lowers no commitment.
 */
export function isDustAnywhere(
  state: Part,
  htlc: { readonly direction: 'inbound' | 'outbound'; readonly amountMsat: bigint },
): boolean {
  const feerate = dustBufferFeerate(highestFeerate(state));
  return OWNERS.some((owner) => isTrimmedOn(state, owner, htlc, feerate));
}

function highestFeerate({ changes }: Part): number {
  return Math.max(...changes.feerates.map(({ feerateSatPerKw }) => feerateSatPerKw));
}
