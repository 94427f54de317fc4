/** What closing channels have to be brought home, from their settlements. */
import { equalBytes } from '@fulmen/codec';
import { type ChannelMonitor, type CommitmentContent, htlcKey } from '@fulmen/monitor';
import type { Settlement, UnconfirmedCommitment } from '@fulmen/settlement';
import type { ChannelClaims } from '@fulmen/settlement/sweep/index';

export interface ClosingChannel {
  readonly channelId: Uint8Array;
  readonly monitor: ChannelMonitor;
  readonly settlement: Settlement;
}

/** Channels without anything to claim or to pay for are left out. */
export function channelClaimsOf(closing: Iterable<ClosingChannel>): readonly ChannelClaims[] {
  const result: ChannelClaims[] = [];
  for (const { channelId, monitor, settlement } of closing) {
    // What is left of it is not worth a claim, and will not be.
    if (settlement.stage === 'resolved') continue;
    const claims = settlement.outputs.flatMap(({ status }) =>
      status.type === 'claimable' ? [status.claim] : [],
    );
    const commitments = payable(monitor, settlement.unconfirmedCommitments);
    if (claims.length > 0 || commitments.length > 0)
      result.push({ channelId, channelKeysId: monitor.parameters.channelKeysId, claims, commitments });
  }
  return result;
}

/**
 * Commitments that the holder can pay for. Only one can confirm: while the mempool has the counterparty's, that one is
 * paid for, for the holder's would have to replace it first.
 */
function payable(
  monitor: ChannelMonitor,
  unconfirmed: readonly UnconfirmedCommitment[],
): ChannelClaims['commitments'] {
  const theirs = unconfirmed.filter(({ owner }) => owner === 'counterparty');
  return (theirs.length > 0 ? theirs : unconfirmed).flatMap((commitment) => {
    const { anchor, tx } = commitment;
    const funding = monitor.parameters.fundings.find(({ fundingTxid, fundingOutputIndex }) =>
      tx.inputs.some((input) => equalBytes(input.txid, fundingTxid) && input.vout === fundingOutputIndex),
    );
    if (anchor === undefined || funding === undefined) return [];
    const parentFeeSat = tx.outputs.reduce((left, { valueSat }) => left - valueSat, funding.fundingValueSat);
    return [
      { commitment: { ...commitment, anchor }, parentFeeSat, stakeSat: stakeSat(monitor, commitment.owner) },
    ];
  });
}

/** What the holder has, or may have, on that side's commitment. */
function stakeSat(monitor: ChannelMonitor, owner: UnconfirmedCommitment['owner']): bigint {
  const commitment =
    owner === 'holder'
      ? monitor.holderCommitment
      : (monitor.counterpartyCommitment ?? monitor.nextCounterpartyCommitment);
  return commitment === undefined ? 0n : contentStakeSat(monitor, commitment.content);
}

function contentStakeSat({ htlcs }: ChannelMonitor, content: CommitmentContent): bigint {
  const inFlightMsat = content.htlcs.reduce(
    (sum, ref) => sum + (htlcs.get(htlcKey(ref))?.htlc.amountMsat ?? 0n),
    0n,
  );
  return (content.toHolderMsat + inFlightMsat) / 1000n;
}
