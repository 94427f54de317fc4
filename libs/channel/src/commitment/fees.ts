/**
 * The arithmetic of commitments without building them: fees, trimming,
 * balances, exposure to dust. The builder takes its amounts from here, so that
 * what the state machine checks is what the transaction pays.
 */
import { feeForWeightSat } from '@fulmen/bitcoin';
import type { CommitmentHtlc, CommitmentSpec } from '../commitment-spec.ts';
import { MIN_FEERATE_SAT_PER_KW } from '../config.ts';
import type { HtlcDirection } from '../htlc.ts';
import type { CommitmentFormatName } from '../parameters.ts';
import { commitmentFormat } from './format.ts';
import type { CommitmentOwner, CommitmentParameters, HtlcSide } from './types.ts';

/** BOLT 3's offered or received: an HTLC's direction (seen from the holder) as the commitment's owner sees it. */
export function htlcSide(owner: CommitmentOwner, direction: HtlcDirection): HtlcSide {
  return (direction === 'outbound') === (owner === 'holder') ? 'offered' : 'received';
}

/**
 * Fee of an HTLC-timeout (`offered`) or HTLC-success (`received`) transaction, in satoshis.
 * BOLT 3: "Multiply `feerate_per_kw` by 663 [703] and divide by 1000 (rounding down)"; anchors: 0.
 */
export function htlcTransactionFeeSat(
  format: CommitmentFormatName,
  side: HtlcSide,
  feerateSatPerKw: number,
): bigint {
  const strategy = commitmentFormat(format);
  const weight = side === 'offered' ? strategy.htlcTimeoutWeight : strategy.htlcSuccessWeight;
  return feeForWeightSat(weight, strategy.htlcTransactionFeerateSatPerKw(feerateSatPerKw));
}

/** What decides whether an HTLC has an output. */
export interface TrimmingCase {
  /** By the owner of the commitment. */
  readonly offered: boolean;
  readonly amountMsat: bigint;
  /** The owner's. */
  readonly dustLimitSat: bigint;
  readonly feerateSatPerKw: number;
}

/**
 * BOLT 3, "Trimmed Outputs": "if the HTLC amount minus the HTLC-timeout
 * [HTLC-success] fee would be less than `dust_limit_satoshis` set by the
 * transaction owner: MUST NOT contain that output." Amounts are rounded down
 * to whole satoshis first; an equal amount stays.
 */
export function isTrimmed(format: CommitmentFormatName, htlc: TrimmingCase): boolean {
  const feeSat = htlcTransactionFeeSat(format, htlc.offered ? 'offered' : 'received', htlc.feerateSatPerKw);
  return htlc.amountMsat / 1000n - feeSat < htlc.dustLimitSat;
}

/** Base fee of a commitment, in satoshis (BOLT 3, "Fee Calculation"); the funder pays it. */
export function commitmentFeeSat(
  format: CommitmentFormatName,
  feerateSatPerKw: number,
  untrimmedHtlcs: number,
): bigint {
  const { commitmentBaseWeight, htlcOutputWeight } = commitmentFormat(format);
  return feeForWeightSat(commitmentBaseWeight + htlcOutputWeight * untrimmedHtlcs, feerateSatPerKw);
}

/** Value of both anchors, in satoshis; the funder pays them, whether or not both exist. */
export function anchorsSat(format: CommitmentFormatName): bigint {
  return 2n * commitmentFormat(format).anchorSat;
}

/** All that the funder pays for a commitment, in satoshis: base fee and anchors. */
export function funderCommitmentCostSat(
  format: CommitmentFormatName,
  feerateSatPerKw: number,
  untrimmedHtlcs: number,
): bigint {
  return commitmentFeeSat(format, feerateSatPerKw, untrimmedHtlcs) + anchorsSat(format);
}

/** Base fee of a commitment on which no HTLC would be trimmed: the most that this many can cost. */
export function maxCommitmentFeeSat(
  format: CommitmentFormatName,
  feerateSatPerKw: number,
  htlcs: number,
): bigint {
  return commitmentFeeSat(format, feerateSatPerKw, htlcs);
}

/** The highest feerate at which the funder affords a commitment with this many untrimmed HTLCs out of `availableSat`; 0 when none. */
export function maxAffordableFeerateSatPerKw(
  format: CommitmentFormatName,
  availableSat: bigint,
  untrimmedHtlcs: number,
): number {
  const { commitmentBaseWeight, htlcOutputWeight } = commitmentFormat(format);
  const forFeeSat = availableSat - anchorsSat(format);
  if (forFeeSat < 0n) return 0;
  // The fee is rounded down, so the remainder below one more satoshi is free.
  const weight = BigInt(commitmentBaseWeight + htlcOutputWeight * untrimmedHtlcs);
  return Number(((forFeeSat + 1n) * 1000n - 1n) / weight);
}

/** HTLCs, and what is needed to tell which of them a commitment trims. */
export interface HtlcsOnCommitment {
  readonly owner: CommitmentOwner;
  readonly htlcs: readonly Pick<CommitmentHtlc, 'direction' | 'amountMsat'>[];
  readonly ownerDustLimitSat: bigint;
  readonly feerateSatPerKw: number;
}

/** How many of the HTLCs have an output. */
export function countUntrimmed(format: CommitmentFormatName, commitment: HtlcsOnCommitment): number {
  let count = 0;
  for (const htlc of commitment.htlcs) if (!trimmedOn(format, commitment, htlc)) count += 1;
  return count;
}

/** BOLT 2, "Bounding exposure to trimmed in-flight HTLCs": the sum of the HTLCs without output, in msat. */
export function dustExposureMsat(format: CommitmentFormatName, commitment: HtlcsOnCommitment): bigint {
  let exposureMsat = 0n;
  for (const htlc of commitment.htlcs)
    if (trimmedOn(format, commitment, htlc)) exposureMsat += htlc.amountMsat;
  return exposureMsat;
}

function trimmedOn(
  format: CommitmentFormatName,
  commitment: HtlcsOnCommitment,
  htlc: Pick<CommitmentHtlc, 'direction' | 'amountMsat'>,
): boolean {
  return isTrimmed(format, {
    offered: htlcSide(commitment.owner, htlc.direction) === 'offered',
    amountMsat: htlc.amountMsat,
    dustLimitSat: commitment.ownerDustLimitSat,
    feerateSatPerKw: commitment.feerateSatPerKw,
  });
}

/** A commitment, as far as its amounts depend on it. */
interface CommitmentCase {
  readonly parameters: CommitmentParameters;
  readonly owner: CommitmentOwner;
  readonly spec: CommitmentSpec;
}

/** Who gets what from a commitment, in satoshis. */
export interface CommitmentAmounts {
  readonly untrimmedHtlcs: readonly CommitmentHtlc[];
  readonly baseFeeSat: bigint;
  /** The owner's output; undefined: there is none. */
  readonly toLocalSat: bigint | undefined;
  /** The other party's output; undefined: there is none. */
  readonly toRemoteSat: bigint | undefined;
  readonly ownerAnchor: 'present' | 'absent';
  readonly otherAnchor: 'present' | 'absent';
  /** What miners get: all that no output holds. */
  readonly feeSat: bigint;
}

/**
 * BOLT 3, "Commitment Transaction Construction", steps 2 to 8. A funder that
 * cannot pay the whole fee has no output; the fee is then what there is.
 */
export function commitmentAmounts(inputs: CommitmentCase): CommitmentAmounts {
  const { parameters, owner, spec } = inputs;
  const format = parameters.commitmentFormat;
  const { anchorSat } = commitmentFormat(format);
  const dustLimitSat = parameters[owner].dustLimitSat;
  const on: HtlcsOnCommitment = {
    owner,
    htlcs: spec.htlcs,
    ownerDustLimitSat: dustLimitSat,
    feerateSatPerKw: spec.feerateSatPerKw,
  };
  const untrimmedHtlcs = spec.htlcs.filter((htlc) => !trimmedOn(format, on, htlc));
  const baseFeeSat = commitmentFeeSat(format, spec.feerateSatPerKw, untrimmedHtlcs.length);
  const outputSat = (party: CommitmentOwner, balanceMsat: bigint): bigint | undefined => {
    const valueSat = balanceMsat / 1000n - (parameters.funder === party ? baseFeeSat + 2n * anchorSat : 0n);
    // A party's dust limit may be 0 in a test chain; an output of nothing never exists.
    return valueSat > 0n && valueSat >= dustLimitSat ? valueSat : undefined;
  };
  const holderSat = outputSat('holder', spec.toHolderMsat);
  const counterpartySat = outputSat('counterparty', spec.toCounterpartyMsat);
  const [toLocalSat, toRemoteSat] =
    owner === 'holder' ? [holderSat, counterpartySat] : [counterpartySat, holderSat];
  const anchor = (outputSat: bigint | undefined): 'present' | 'absent' =>
    anchorSat > 0n && (outputSat !== undefined || untrimmedHtlcs.length > 0) ? 'present' : 'absent';
  const ownerAnchor = anchor(toLocalSat);
  const otherAnchor = anchor(toRemoteSat);

  let totalMsat = spec.toHolderMsat + spec.toCounterpartyMsat;
  for (const htlc of spec.htlcs) totalMsat += htlc.amountMsat;
  let outputsSat = (toLocalSat ?? 0n) + (toRemoteSat ?? 0n);
  for (const htlc of untrimmedHtlcs) outputsSat += htlc.amountMsat / 1000n;
  if (ownerAnchor === 'present') outputsSat += anchorSat;
  if (otherAnchor === 'present') outputsSat += anchorSat;
  return {
    untrimmedHtlcs,
    baseFeeSat,
    toLocalSat,
    toRemoteSat,
    ownerAnchor,
    otherAnchor,
    feeSat: totalMsat / 1000n - outputsSat,
  };
}

/**
 * Whether a commitment pays enough to be relayed, whatever its feerate says and its funder has. One that does not is worth
 * nothing to its owner: no miner hears of it, and with anchors, too, the parent must pay this much by itself.
 */
export function paysForRelay(inputs: CommitmentCase): boolean {
  const { feeSat, untrimmedHtlcs } = commitmentAmounts(inputs);
  const { commitmentFormat: format } = inputs.parameters;
  return feeSat >= commitmentFeeSat(format, MIN_FEERATE_SAT_PER_KW, untrimmedHtlcs.length);
}
