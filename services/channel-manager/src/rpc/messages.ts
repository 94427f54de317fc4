/** Stored rows as messages of the API. */
import type { Channel, Forward, Invoice } from '@fulmen/proto/manager/v1/manager';
import type { ChannelPolicyRow, ChannelRow, ForwardRow } from '@fulmen/store';
import type { InboundRow } from '../payments/record.ts';

const NONE = new Uint8Array(0);

export function invoiceMessage(paymentHash: Uint8Array, row: InboundRow, nowUnixMs: number): Invoice {
  // The row of an expired invoice follows a moment later.
  const expired = row.status === 'open' && nowUnixMs >= row.expiresUnixMs;
  return {
    paymentHash,
    bolt11: row.bolt11,
    amountMsat: row.amountMsat,
    description: row.description,
    status: expired ? 'expired' : row.status,
    receivedMsat: row.receivedMsat,
    createdUnixMs: BigInt(row.createdUnixMs),
    expiresUnixMs: BigInt(row.expiresUnixMs),
    ...(row.paidUnixMs === undefined ? {} : { paidUnixMs: BigInt(row.paidUnixMs) }),
  };
}

export function forwardMessage(row: ForwardRow): Forward {
  return {
    inboundChannelId: row.inboundChannelId,
    inboundHtlcId: row.inboundHtlcId,
    outboundChannelId: row.outboundChannelId ?? NONE,
    inboundAmountMsat: row.inboundAmountMsat,
    outboundAmountMsat: row.outboundAmountMsat,
    status: row.status,
    createdUnixMs: BigInt(row.createdUnixMs),
  };
}

export interface ChannelCircumstances {
  readonly policy: ChannelPolicyRow | undefined;
  readonly peerConnected: boolean;
  readonly ownerReplicaId: string;
}

export function channelMessage(
  row: ChannelRow,
  { policy, peerConnected, ownerReplicaId }: ChannelCircumstances,
): Channel {
  return {
    channelId: row.channelId,
    counterpartyNodeId: row.counterpartyNodeId,
    phase: row.phase,
    peerConnected,
    capacitySat: row.capacitySat,
    holderBalanceMsat: row.holderBalanceMsat,
    counterpartyBalanceMsat: row.counterpartyBalanceMsat,
    outboundCapacityMsat: row.outboundCapacityMsat,
    inboundCapacityMsat: row.inboundCapacityMsat,
    htlcsInFlight: row.htlcsInFlight,
    fundingTxid: row.fundingTxid ?? NONE,
    fundingOutputIndex: row.fundingOutputIndex ?? 0,
    shortChannelId: row.shortChannelId ?? 0n,
    holderAliasScid: row.holderAliasScid ?? 0n,
    announced: row.announce,
    holderIsFunder: row.holderIsFunder,
    channelType: row.channelType,
    shard: row.shard,
    ownerReplicaId,
    feeBaseMsat: BigInt(policy?.feeBaseMsat ?? 0),
    feeProportionalMillionths: policy?.feeProportionalMillionths ?? 0,
    cltvExpiryDelta: policy?.cltvExpiryDelta ?? 0,
    closingReason: row.closingReason ?? '',
    closingTxid: row.closingTxid ?? NONE,
  };
}
