/** From the writer's memory to the planner, and from its plan to rows. */
import { decodeTx } from '@fulmen/bitcoin';
import { InternalError, toHex } from '@fulmen/codec';
import {
  type ChannelClaims,
  type ClaimPlan,
  type ClaimProgress,
  type PendingSweep,
  type SweepFeerates,
  type SweepPlanInput,
  type SweepPolicy,
  type WalletCoin,
  outPointKeyOf,
} from '@fulmen/settlement/sweep/index';
import type { ClaimRecord, SweepRecord, UtxoRecord } from '@fulmen/store/chain/chain-store';
import { outPointKey } from '../state/keys.ts';
import type { ChainView } from '../state/view.ts';
import { isMature } from '../wallet/spendable.ts';
import type { Contests } from './rivals.ts';

export interface PlanningParts {
  readonly view: ChainView;
  readonly channels: readonly ChannelClaims[];
  readonly feerates: SweepFeerates;
  readonly policy: SweepPolicy;
  readonly contests: Contests;
  /** By `outPointKeyOf`. */
  readonly unsignable: ReadonlySet<string>;
}

export function planInputOf(parts: PlanningParts): SweepPlanInput {
  const { view, channels, feerates, policy, contests, unsignable } = parts;
  return {
    bestHeight: view.tip?.height ?? 0,
    feerates,
    policy,
    claims: channels.flatMap(({ channelId, channelKeysId, claims }) =>
      claims.map((claim) => ({ channelId, channelKeysId, claim })),
    ),
    commitments: channels.flatMap(({ channelId, channelKeysId, commitments }) =>
      commitments.map((commitment) => ({ channelId, channelKeysId, ...commitment })),
    ),
    progress: new Map(
      [...view.claims.values()].map((claim) => [outPointKeyOf(claim.outPoint), progressOf(claim)]),
    ),
    pending: [...view.sweeps.values()].map(pendingOf),
    coins: coinsOf(view),
    ...contests,
    unsignable,
  };
}

function progressOf(claim: ClaimRecord): ClaimProgress {
  const { feerateSatPerKw, requestedFeerateSatPerKw, attempts, firstHeight } = claim;
  return {
    feerateSatPerKw,
    attempts,
    firstHeight,
    ...(requestedFeerateSatPerKw !== undefined && { requestedFeerateSatPerKw }),
  };
}

function pendingOf(sweep: SweepRecord): PendingSweep {
  const tx = decodeTx(sweep.transaction);
  // It was read back before it was stored.
  if (!tx.ok) throw new InternalError('a stored sweep does not decode');
  return { ...sweep, tx: tx.value };
}

/**
 * Coins that may pay fees: confirmed (BIP 125, rule 2: "The replacement transaction may only include an unconfirmed
 * input if that input was included in one of the original transactions."), mature and not set apart for something else.
 */
function coinsOf(view: ChainView): readonly WalletCoin[] {
  const reserved = new Set<string>();
  for (const { inputs } of view.reservations.values())
    for (const { txid, outputIndex } of inputs) reserved.add(outPointKey(txid, outputIndex));
  const sweepTxids = new Set(
    [...view.sweeps.values()]
      .filter((sweep) => sweep.confirmedHeight === undefined)
      .map(({ txid }) => toHex(txid)),
  );
  const isFree = (utxo: UtxoRecord): boolean =>
    utxo.spentBy === undefined ||
    (utxo.spentBy.height === undefined && sweepTxids.has(toHex(utxo.spentBy.txid)));
  return [...view.utxos.values()]
    .filter(
      (utxo) =>
        isMature(view, utxo) && isFree(utxo) && !reserved.has(outPointKey(utxo.txid, utxo.outputIndex)),
    )
    .map(({ txid, outputIndex, valueSat, script }) => ({
      outPoint: { txid, outputIndex },
      valueSat,
      script,
    }));
}

/** The row of a planned claim; `words` instead of the plan's, when it went otherwise. */
export function claimRecordOf(plan: ClaimPlan, words = plan.nextAction): ClaimRecord {
  const { outPoint, channelId, kind, valueSat, budgetSat, feerateSatPerKw, attempts, firstHeight } = plan;
  const { deadlineHeight, requestedFeerateSatPerKw, sweepId } = plan;
  return {
    outPoint,
    channelId,
    kind,
    valueSat,
    budgetSat,
    feerateSatPerKw,
    attempts,
    firstHeight,
    nextAction: words,
    ...(deadlineHeight !== undefined && { deadlineHeight }),
    ...(requestedFeerateSatPerKw !== undefined && { requestedFeerateSatPerKw }),
    ...(sweepId !== undefined && { sweepId }),
  };
}

export function isSameClaim(a: ClaimRecord, b: ClaimRecord): boolean {
  return (
    a.nextAction === b.nextAction &&
    a.feerateSatPerKw === b.feerateSatPerKw &&
    a.attempts === b.attempts &&
    a.budgetSat === b.budgetSat &&
    a.kind === b.kind &&
    a.valueSat === b.valueSat &&
    a.firstHeight === b.firstHeight &&
    a.deadlineHeight === b.deadlineHeight &&
    a.requestedFeerateSatPerKw === b.requestedFeerateSatPerKw &&
    toHex(a.sweepId ?? new Uint8Array(0)) === toHex(b.sweepId ?? new Uint8Array(0))
  );
}
