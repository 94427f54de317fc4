/** The queried columns of a channel, from its state. */
import {
  type ChannelSummary,
  decodeChannelType,
  type EstablishedChannel,
  primaryFunding,
} from '@fulmen/channel';
import { txid } from '@fulmen/bitcoin';
import { buildClosingTransaction } from '@fulmen/channel/commitment/index';
import type { ChannelRow } from '@fulmen/store';

export function channelRow(state: EstablishedChannel, summary: ChannelSummary, shard: number): ChannelRow {
  const funding = primaryFunding(state);
  const { phase, parameters } = state;
  return {
    channelId: state.channelId,
    shard,
    counterpartyNodeId: parameters.counterpartyNodeId,
    channelKeysId: parameters.channelKeysId,
    phase: phase.type,
    capacitySat: summary.capacitySat,
    holderBalanceMsat: summary.holderBalanceMsat,
    counterpartyBalanceMsat: summary.counterpartyBalanceMsat,
    outboundCapacityMsat: summary.outboundLiquidityMsat,
    inboundCapacityMsat: summary.inboundLiquidityMsat,
    htlcsInFlight: summary.pendingInboundHtlcs + summary.pendingOutboundHtlcs,
    fundingTxid: funding.fundingTxid,
    fundingOutputIndex: funding.fundingOutputIndex,
    ...(summary.shortChannelId === undefined ? {} : { shortChannelId: summary.shortChannelId }),
    ...(summary.aliasScid === undefined ? {} : { holderAliasScid: summary.aliasScid }),
    announce: parameters.announce,
    holderIsFunder: parameters.funder === 'holder',
    channelType: channelTypeName(state),
    ...('reason' in phase ? { closingReason: phase.reason } : {}),
    ...closingOf(state),
  };
}

/** As the API names it. */
function channelTypeName({ parameters }: EstablishedChannel): string {
  const meaning = decodeChannelType(parameters.channelType);
  if (meaning === undefined) return parameters.commitmentFormat;
  return [
    meaning.commitmentFormat,
    ...(meaning.scidAlias === 'scid_alias' ? ['scid_alias'] : []),
    ...(meaning.confirmations === 'zero_conf' ? ['zero_conf'] : []),
  ].join('+');
}

function closingOf(state: EstablishedChannel): { closingReason?: string; closingTxid?: Uint8Array } {
  if (state.phase.type !== 'closing_mutual') return {};
  const built = buildClosingTransaction({
    funding: primaryFunding(state),
    closing: state.phase.closing,
    dustLimitSat: state.parameters.holder.dustLimitSat,
  });
  return {
    closingReason: 'cooperative',
    ...(built.ok ? { closingTxid: txid(built.value.transaction) } : {}),
  };
}
