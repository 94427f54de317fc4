/**
 * Which transaction spent the funding output. Commitments say their number in
 * locktime and sequence; the number only says where to look, and the rebuilt
 * transaction must be the very one. A revoked commitment is known by its number
 * and scripts instead: whatever the cheater's transaction is, outputs that the
 * revocation opens are taken.
 */
import { dustThresholdSat } from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { decodeCommitmentNumber, obscuringFactor } from '@fulmen/channel/commitment/build';
import { commitmentFormat } from '@fulmen/channel/commitment/format';
import { commitmentParametersOfMonitor } from '@fulmen/channel/commitment/from-monitor';
import { equalBytes } from '@fulmen/codec';
import { rebuildRevoked } from '@fulmen/monitor';
import type { ChannelMonitor, HolderCommitment, MonitorFunding, RevokedCommitment } from '@fulmen/monitor';
import { rebuildCommitment } from './commitments.ts';
import type { RebuiltCommitment } from './commitments.ts';
import { matchRevoked } from './revoked-outputs.ts';
import type { RevokedOutputs } from './revoked-outputs.ts';
import { findLostBalance, mayBeLost } from './resolvers/lost-holder-commitment.ts';
import type { LostHolderCommitment } from './resolvers/lost-holder-commitment.ts';
import type { SettlementContext, SettlementFacts } from './types.ts';

export type FundingSpend =
  | { readonly type: 'mutual' }
  | (RebuiltCommitment & {
      readonly type: 'holder';
      readonly commitmentNumber: bigint;
      /** The counterparty's, in the order of the HTLC outputs. */
      readonly htlcSignatures: readonly Uint8Array[];
    })
  | (RebuiltCommitment & {
      readonly type: 'counterparty' | 'counterparty_next';
      readonly commitmentNumber: bigint;
      readonly perCommitmentPoint: Uint8Array;
    })
  | {
      readonly type: 'revoked';
      readonly commitmentNumber: bigint;
      readonly revoked: RevokedCommitment;
      readonly matched: RevokedOutputs;
    }
  | { readonly type: 'data_loss'; readonly commitmentNumber: bigint }
  | (LostHolderCommitment & { readonly type: 'holder_lost' })
  | { readonly type: 'unknown' };

/** The funding that a transaction spends, if one of the channel's. */
export function spentFunding({ parameters }: ChannelMonitor, tx: Tx): MonitorFunding | undefined {
  return parameters.fundings.find(({ fundingTxid, fundingOutputIndex }) =>
    tx.inputs.some(({ txid, vout }) => vout === fundingOutputIndex && equalBytes(txid, fundingTxid)),
  );
}

/** Recognizes the spend of a funding. */
export function identifySpend(
  ctx: SettlementContext,
  monitor: ChannelMonitor,
  funding: MonitorFunding,
  spend: { readonly tx: Tx; readonly txid: Uint8Array },
): FundingSpend {
  const parameters = commitmentParametersOfMonitor(monitor.parameters);
  const number = decodeCommitmentNumber(spend.tx, obscuringFactor(parameters));
  if (number === undefined)
    return isMutualClose(monitor, funding, spend.tx) ? { type: 'mutual' } : { type: 'unknown' };
  return (
    asHolder(ctx, monitor, funding, spend.txid, number) ??
    asCounterparty(ctx, monitor, funding, spend.txid, number) ??
    asRevoked(ctx, monitor, spend.tx, number) ??
    asLostHolder(ctx, monitor, spend.tx, number) ??
    (isNewerThanKnown(monitor, spend.tx, number)
      ? { type: 'data_loss', commitmentNumber: number }
      : { type: 'unknown' })
  );
}

function asHolder(
  { secp, holderPoint }: SettlementContext,
  monitor: ChannelMonitor,
  funding: MonitorFunding,
  txid: Uint8Array,
  number: bigint,
): FundingSpend | undefined {
  // The one before may have been broadcast while the holder was about to revoke it; older ones the signer never signs.
  const candidates: readonly (HolderCommitment | undefined)[] = [
    monitor.holderCommitment,
    monitor.previousHolderCommitment,
  ];
  const commitment = candidates.find((of) => of?.content.commitmentNumber === number);
  const perCommitmentPoint = commitment?.perCommitmentPoint ?? holderPoint?.(number);
  const signatures = commitment?.signatures.find((of) => equalBytes(of.fundingTxid, funding.fundingTxid));
  if (commitment === undefined || perCommitmentPoint === undefined || signatures === undefined)
    return undefined;
  const { content } = commitment;
  const rebuilt = rebuildCommitment(secp, monitor, { funding, owner: 'holder', content, perCommitmentPoint });
  if (rebuilt === undefined || !equalBytes(rebuilt.built.txid, txid)) return undefined;
  const { htlcSignatures } = signatures;
  return { type: 'holder', commitmentNumber: number, ...rebuilt, htlcSignatures };
}

function asCounterparty(
  { secp }: SettlementContext,
  monitor: ChannelMonitor,
  funding: MonitorFunding,
  txid: Uint8Array,
  number: bigint,
): FundingSpend | undefined {
  const candidates = [
    { type: 'counterparty', commitment: monitor.counterpartyCommitment },
    { type: 'counterparty_next', commitment: monitor.nextCounterpartyCommitment },
  ] as const;
  for (const { type, commitment } of candidates) {
    if (commitment?.content.commitmentNumber !== number) continue;
    const { content, perCommitmentPoint } = commitment;
    const rebuilt = rebuildCommitment(secp, monitor, {
      funding,
      owner: 'counterparty',
      content,
      perCommitmentPoint,
    });
    if (rebuilt !== undefined && equalBytes(rebuilt.built.txid, txid))
      return { type, commitmentNumber: number, ...rebuilt, perCommitmentPoint };
  }
  return undefined;
}

function asRevoked(
  { secp }: SettlementContext,
  monitor: ChannelMonitor,
  tx: Tx,
  number: bigint,
): FundingSpend | undefined {
  const revoked = rebuildRevoked(monitor, number);
  if (revoked === undefined) return undefined;
  const matched = matchRevoked(secp, monitor.parameters, revoked, tx);
  // An old commitment of the holder's own has the same number and none of these scripts.
  return matched === undefined ? undefined : { type: 'revoked', commitmentNumber: number, revoked, matched };
}

function asLostHolder(
  { secp, holderPoint }: SettlementContext,
  monitor: ChannelMonitor,
  tx: Tx,
  number: bigint,
): FundingSpend | undefined {
  const perCommitmentPoint = mayBeLost(monitor, number) ? holderPoint?.(number) : undefined;
  if (perCommitmentPoint === undefined) return undefined;
  const lost = findLostBalance(secp, monitor, tx, { commitmentNumber: number, perCommitmentPoint });
  return lost === undefined ? undefined : { type: 'holder_lost', ...lost };
}

/**
 * The commitments that spends of the funding claim to be, by their numbers: what `settle` rebuilds should they be revoked,
 * and what must therefore be at hand of the monitor's archives.
 */
export function commitmentNumbers(
  monitor: ChannelMonitor,
  { confirmed, unconfirmed }: Pick<SettlementFacts, 'confirmed' | 'unconfirmed'>,
): readonly bigint[] {
  const factor = obscuringFactor(commitmentParametersOfMonitor(monitor.parameters));
  return [...confirmed.map(({ tx }) => tx), ...unconfirmed]
    .filter((tx) => spentFunding(monitor, tx) !== undefined)
    .flatMap((tx) => decodeCommitmentNumber(tx, factor) ?? []);
}

/**
 * The number of the holder commitment that a confirmed close could be, where the monitor knows none of that number: the
 * signer is asked for its point, and `SettlementContext.holderPoint` gives it back.
 */
export function lostHolderNumber(
  monitor: ChannelMonitor,
  confirmed: SettlementFacts['confirmed'],
): bigint | undefined {
  const factor = obscuringFactor(commitmentParametersOfMonitor(monitor.parameters));
  for (const { tx } of confirmed) {
    if (spentFunding(monitor, tx) === undefined) continue;
    const number = decodeCommitmentNumber(tx, factor);
    return number !== undefined && mayBeLost(monitor, number) ? number : undefined;
  }
  return undefined;
}

/** A commitment that the counterparty has and the monitor never heard of; not one of the holder's, which would pay the counterparty undelayed. */
function isNewerThanKnown(monitor: ChannelMonitor, tx: Tx, number: bigint): boolean {
  const newest = monitor.nextCounterpartyCommitment ?? monitor.counterpartyCommitment;
  if (newest !== undefined && number <= newest.content.commitmentNumber) return false;
  const { commitmentFormat: format, holder, counterparty } = monitor.parameters;
  const pays = (paymentBasepoint: Uint8Array): boolean => {
    const { scriptPubKey } = commitmentFormat(format).toRemote(paymentBasepoint);
    return tx.outputs.some(({ script }) => equalBytes(script, scriptPubKey));
  };
  return pays(holder.paymentBasepoint) || !pays(counterparty.paymentBasepoint);
}

/**
 * A transaction of no commitment's form that the holder's funding key signed: the signer signs such only when the
 * channel's shutdown agreed on it, so it pays the agreed script, or nothing because there was too little.
 */
function isMutualClose(monitor: ChannelMonitor, funding: MonitorFunding, tx: Tx): boolean {
  const { shutdownScript, holderCommitment, parameters } = monitor;
  if (shutdownScript === undefined || tx.inputs.length !== 1 || tx.outputs.length > 2) return false;
  if (tx.outputs.some(({ script }) => equalBytes(script, shutdownScript))) return true;
  const outputsSat = tx.outputs.reduce((sum, { valueSat }) => sum + valueSat, 0n);
  const feeSat = parameters.funder === 'holder' ? funding.fundingValueSat - outputsSat : 0n;
  const leftSat = (holderCommitment?.content.toHolderMsat ?? 0n) / 1000n - feeSat;
  const { dustLimitSat } = parameters.holder;
  const thresholdSat = dustThresholdSat(shutdownScript);
  return leftSat < (thresholdSat > dustLimitSat ? thresholdSat : dustLimitSat);
}
