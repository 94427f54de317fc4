/** What every resolver works with: one confirmed close, the facts about it, and the shapes of their answers. */
import type { CommitmentFormat } from '@fulmen/channel/commitment/format';
import type { CommitmentOwner } from '@fulmen/channel/commitment/types';
import { constantTimeEqual, sha256 } from '@fulmen/crypto';
import { htlcKey } from '@fulmen/monitor';
import type { ChannelMonitor, MonitorHtlc } from '@fulmen/monitor';
import { ANTI_REORG_DELAY_BLOCKS } from './constants.ts';
import { outPointKey } from './spends.ts';
import type { ConfirmedInput, ConfirmedInputs, UnconfirmedInputs } from './spends.ts';
import type {
  Claim,
  ConfirmedSpend,
  OutPoint,
  OutputStatus,
  SettlementFacts,
  SettlementOutput,
} from './types.ts';
import { claimWitnessWeight } from './witness.ts';

export interface CloseScope {
  readonly monitor: ChannelMonitor;
  readonly facts: SettlementFacts;
  readonly format: CommitmentFormat;
  /** The transaction that spent the funding output. */
  readonly close: ConfirmedSpend;
  readonly confirmed: ConfirmedInputs;
  readonly unconfirmed: UnconfirmedInputs;
}

/** What became, so far, of the output of an HTLC that the holder offered. */
export type HtlcEnd =
  | { readonly type: 'unspent'; readonly untilHeight: number }
  /** Seen in a block or in the mempool. */
  | { readonly type: 'preimage'; readonly preimage: Uint8Array }
  /** Spent in the block of `height`, and not by the counterparty's preimage. */
  | {
      readonly type: 'without_preimage';
      readonly reason: 'timeout' | 'justice';
      readonly height: number;
    };

/** What a resolver says of a close. */
export interface Resolution {
  /** Those in which the holder has a part, in their order; second stages after them. */
  readonly outputs: readonly SettlementOutput[];
  /** By `htlcKey`: outbound HTLCs with an output. */
  readonly ends: ReadonlyMap<string, HtlcEnd>;
  /** By `htlcKey`: HTLCs that the commitment has without an output. */
  readonly trimmed: ReadonlySet<string>;
  /** Whether an HTLC without an end certainly has no output in the close. */
  readonly content: 'known' | 'unknown';
  /** Watched besides the outputs. */
  readonly alsoWatched: readonly OutPoint[];
}

export function depthOf(scope: Pick<CloseScope, 'facts'>, height: number): number {
  return scope.facts.bestHeight - height + 1;
}

export function finalityOf(scope: Pick<CloseScope, 'facts'>, height: number): 'final' | 'young' {
  return depthOf(scope, height) >= ANTI_REORG_DELAY_BLOCKS ? 'final' : 'young';
}

/** The confirmed input that spends an output, if any. */
export function spenderOf(scope: CloseScope, outPoint: OutPoint): ConfirmedInput | undefined {
  return scope.confirmed.get(outPointKey(outPoint));
}

type Spent = Extract<OutputStatus, { type: 'spent' }>;

export function spentStatus(
  scope: CloseScope,
  { txid, height }: ConfirmedInput,
  by: CommitmentOwner,
  how: Spent['how'],
): Spent {
  return { type: 'spent', txid, height, by, how, finality: finalityOf(scope, height) };
}

/** An output as a claim names it, with the script behind it. */
export interface ClaimableOutput extends Pick<Claim, 'outPoint' | 'valueSat' | 'scriptPubKey'> {
  /** Undefined for P2WPKH. */
  readonly witnessScript: Uint8Array | undefined;
}

/** A claim with its weight. */
export function claimOf(
  { outPoint, valueSat, scriptPubKey, witnessScript }: ClaimableOutput,
  rest: Pick<Claim, 'kind' | 'sequence' | 'locktimeHeight' | 'deadlineHeight'>,
): Claim {
  const witnessWeight = claimWitnessWeight(rest.kind, witnessScript?.length);
  return { outPoint, valueSat, scriptPubKey, witnessWeight, ...rest };
}

/** Claimable in the next block, or maturing: `firstHeight` is the first block that may contain the claim. */
export function whenMature(scope: CloseScope, firstHeight: number, claim: Claim): OutputStatus {
  return scope.facts.bestHeight + 1 >= firstHeight
    ? { type: 'claimable', claim }
    : { type: 'maturing', height: firstHeight };
}

/** The preimage of an HTLC, known by its identity and never by its hash alone; one that is not its hash's is none. */
export function knownPreimage(
  { monitor, facts }: Pick<CloseScope, 'monitor' | 'facts'>,
  htlc: MonitorHtlc,
): Uint8Array | undefined {
  const key = htlcKey(htlc);
  for (const preimage of [monitor.preimages.get(key), facts.preimages.get(key)])
    if (preimage !== undefined && constantTimeEqual(sha256(preimage), htlc.paymentHash)) return preimage;
  return undefined;
}

/** Signals that the claim may be replaced, and locks nothing. */
export const SEQUENCE_REPLACEABLE = 0xffff_fffd;
