/** Rows of Postgres as the port's types, and nothing else. */
import type { HtlcBody, HtlcDirection, HtlcRemoval } from '@fulmen/channel';
import { StoreError } from '../../error.ts';
import type {
  ChannelPolicyRow,
  ChannelRow,
  ForwardRow,
  RouteHintRow,
  FundingStatus,
  Intent,
  PaymentRow,
  PeerPresence,
  Resolution,
} from '../manager-store.ts';
import { decodeSource } from '../source.ts';

type Nullable<T> = T | null;

// prettier-ignore
export interface ChannelColumns extends WatchColumns {
  channel_id: Uint8Array; counterparty_node_id: Uint8Array; channel_keys_id: Uint8Array; shard: number; capacity_sat: bigint;
  funding_txid: Nullable<Uint8Array>; funding_output_index: Nullable<number>; short_channel_id: Nullable<bigint>;
  holder_alias_scid: Nullable<bigint>; announce: boolean; holder_is_funder: boolean; channel_type: string; phase: string;
  closing_reason: Nullable<string>; closing_txid: Nullable<Uint8Array>; version: bigint; monitor_update_id: bigint;
  holder_balance_msat: bigint; counterparty_balance_msat: bigint; outbound_capacity_msat: bigint; inbound_capacity_msat: bigint;
  htlcs_in_flight: number; hot: Uint8Array; cold: Nullable<Uint8Array>; signatures: Nullable<Uint8Array>;
  fulfilled_late_msat: Nullable<bigint>;
}

// prettier-ignore
export interface WatchColumns {
  channel_id: Uint8Array; watch_status: Nullable<string>; watch_height: Nullable<bigint>; watch_tx_index: Nullable<number>;
  watch_depth: Nullable<number>; watch_reason: Nullable<string>; watch_txid: Nullable<Uint8Array>;
  watch_settlement: Nullable<string>; closing_decision: Nullable<string>;
}

// prettier-ignore
export interface HtlcColumns {
  channel_id: Uint8Array; direction: number; htlc_id: bigint; amount_msat: bigint; cltv_expiry: bigint; payment_hash: Uint8Array;
  onion: Uint8Array; path_key: Nullable<Uint8Array>;
}

// prettier-ignore
export interface RemovalColumns {
  channel_id: Uint8Array; direction: number; htlc_id: bigint; kind: number; code: Nullable<number>; body: Uint8Array;
  attribution: Nullable<Uint8Array>;
}

// prettier-ignore
export interface IntentColumns {
  source: Uint8Array; target_shard: number; source_shard: number; target_scid: Nullable<bigint>; target_payment_hash: Nullable<Uint8Array>;
  payment_hash: Uint8Array; incoming_amount_msat: bigint; incoming_cltv_expiry: bigint; outgoing_amount_msat: bigint;
  outgoing_cltv_expiry: bigint; created_unix_ms: bigint; onion: Uint8Array; shared_secret: Uint8Array;
}

// prettier-ignore
export interface ResolutionColumns {
  source: Uint8Array; source_shard: number; kind: number; code: Nullable<number>; body: Uint8Array;
}

// prettier-ignore
export interface PaymentColumns {
  payment_hash: Uint8Array; direction: 'inbound' | 'outbound'; bolt11: string; description: string; created_unix_ms: bigint;
  expires_unix_ms: bigint; amount_msat: bigint; status: string; version: bigint; received_msat: bigint; fee_msat: bigint;
  attempts: number; paid_unix_ms: Nullable<bigint>; preimage: Nullable<Uint8Array>; failure_reason: string; state: Uint8Array;
  finished: boolean;
}

// prettier-ignore
export interface PolicyColumns {
  fee_base_msat: bigint; fee_proportional_millionths: bigint; cltv_expiry_delta: number; htlc_minimum_msat: bigint;
  htlc_maximum_msat: bigint; updated_unix_ms: bigint; previous_fee_base_msat: Nullable<bigint>;
  previous_fee_proportional_millionths: Nullable<bigint>; previous_cltv_expiry_delta: Nullable<number>;
}

// prettier-ignore
export interface RouteHintColumns {
  counterparty_node_id: Uint8Array; short_channel_id: bigint; fee_base_msat: bigint; fee_proportional_millionths: bigint;
  cltv_expiry_delta: number;
}

// prettier-ignore
export interface ForwardColumns {
  inbound_channel_id: Uint8Array; inbound_htlc_id: bigint; outbound_channel_id: Nullable<Uint8Array>; inbound_amount_msat: bigint;
  outbound_amount_msat: bigint; status: ForwardRow['status']; created_unix_ms: bigint;
}

// prettier-ignore
export interface PeerColumns {
  peer_node_id: Uint8Array; host: Nullable<string>; port: Nullable<number>; wanted: boolean; gateway_id: Nullable<string>;
  generation: Nullable<bigint>; features: Nullable<Uint8Array>; channels: number; zero_conf_trusted: boolean;
}

export const unsigned = (value: bigint): bigint => BigInt.asUintN(64, value);
export const direction = (value: number): HtlcDirection => (value === 0 ? 'inbound' : 'outbound');

/** A row that no release of ours wrote. */
function foreign(what: string): never {
  throw new StoreError('unavailable', `the database holds an unknown ${what}`);
}

export function channelRow(row: ChannelColumns): ChannelRow {
  return {
    channelId: row.channel_id,
    shard: row.shard,
    counterpartyNodeId: row.counterparty_node_id,
    channelKeysId: row.channel_keys_id,
    phase: row.phase,
    capacitySat: row.capacity_sat,
    holderBalanceMsat: row.holder_balance_msat,
    counterpartyBalanceMsat: row.counterparty_balance_msat,
    outboundCapacityMsat: row.outbound_capacity_msat,
    inboundCapacityMsat: row.inbound_capacity_msat,
    htlcsInFlight: row.htlcs_in_flight,
    ...(row.funding_txid !== null && { fundingTxid: row.funding_txid }),
    ...(row.funding_output_index !== null && { fundingOutputIndex: row.funding_output_index }),
    ...(row.short_channel_id !== null && { shortChannelId: unsigned(row.short_channel_id) }),
    ...(row.holder_alias_scid !== null && { holderAliasScid: unsigned(row.holder_alias_scid) }),
    announce: row.announce,
    holderIsFunder: row.holder_is_funder,
    channelType: row.channel_type,
    ...(row.closing_reason !== null && { closingReason: row.closing_reason }),
    ...(row.closing_txid !== null && { closingTxid: row.closing_txid }),
  };
}

export function closingDecision(row: WatchColumns): { readonly closingDecision?: string } {
  return row.closing_decision === null ? {} : { closingDecision: row.closing_decision };
}

export function fundingStatus(row: WatchColumns): FundingStatus | undefined {
  switch (row.watch_status) {
    case null:
      return undefined;
    case 'unconfirmed':
      return { type: 'unconfirmed' };
    case 'confirmed':
      return {
        type: 'confirmed',
        height: Number(row.watch_height),
        txIndex: row.watch_tx_index ?? 0,
        depth: row.watch_depth ?? 0,
      };
    case 'mismatch':
      return { type: 'mismatch', reason: row.watch_reason ?? '' };
    case 'lost':
      return { type: 'lost', reason: row.watch_reason ?? '' };
    case 'spend_seen':
      return { type: 'spend_seen', txid: row.watch_txid ?? new Uint8Array() };
    case 'spent':
      return {
        type: 'spent',
        txid: row.watch_txid ?? new Uint8Array(),
        height: Number(row.watch_height),
        depth: row.watch_depth ?? 0,
        ...(row.watch_settlement === 'resolved' && { settlement: 'resolved' }),
      };
    default:
      return foreign(`funding status ${row.watch_status}`);
  }
}

export function htlcBody(row: HtlcColumns): HtlcBody {
  return {
    direction: direction(row.direction),
    id: unsigned(row.htlc_id),
    amountMsat: row.amount_msat,
    paymentHash: row.payment_hash,
    cltvExpiryHeight: Number(row.cltv_expiry),
    onionRoutingPacket: row.onion,
    ...(row.path_key !== null && { pathKey: row.path_key }),
  };
}

export function htlcRemoval(row: RemovalColumns): HtlcRemoval {
  const attribution = row.attribution === null ? {} : { attributionData: row.attribution };
  if (row.kind === 1) return { type: 'fulfilled', preimage: row.body, ...attribution };
  if (row.kind === 2) return { type: 'failed', reason: row.body, ...attribution };
  if (row.kind === 3)
    return { type: 'failed_malformed', sha256OfOnion: row.body, failureCode: row.code ?? 0 };
  return foreign(`removal ${row.kind}`);
}

export function intent(row: IntentColumns): Intent {
  return {
    source: decodeSource(row.source),
    target:
      row.target_payment_hash === null
        ? { type: 'scid', shortChannelId: unsigned(row.target_scid ?? 0n) }
        : { type: 'local', paymentHash: row.target_payment_hash },
    targetShard: row.target_shard,
    sourceShard: row.source_shard,
    paymentHash: row.payment_hash,
    incomingAmountMsat: row.incoming_amount_msat,
    incomingCltvExpiryHeight: Number(row.incoming_cltv_expiry),
    outgoingAmountMsat: row.outgoing_amount_msat,
    outgoingCltvExpiryHeight: Number(row.outgoing_cltv_expiry),
    onion: row.onion,
    sharedSecret: row.shared_secret,
    createdUnixMs: Number(row.created_unix_ms),
  };
}

export function resolution(row: ResolutionColumns): Resolution {
  return { source: decodeSource(row.source), sourceShard: row.source_shard, outcome: outcome(row) };
}

function outcome(row: ResolutionColumns): Resolution['outcome'] {
  if (row.kind === 1) return { type: 'fulfilled', preimage: row.body };
  if (row.kind === 2) return { type: 'failed', reason: row.body };
  if (row.kind === 3)
    return { type: 'failed_malformed', sha256OfOnion: row.body, failureCode: row.code ?? 0 };
  if (row.kind === 4) return { type: 'failed_here', failure: row.body };
  return foreign(`resolution ${row.kind}`);
}

export function paymentRow(row: PaymentColumns): PaymentRow {
  const common = {
    bolt11: row.bolt11,
    amountMsat: row.amount_msat,
    createdUnixMs: Number(row.created_unix_ms),
  };
  if (row.direction === 'inbound') {
    return {
      ...common,
      type: 'inbound',
      status: row.status as 'open' | 'claimable' | 'paid' | 'expired',
      description: row.description,
      receivedMsat: row.received_msat,
      expiresUnixMs: Number(row.expires_unix_ms),
      ...(row.paid_unix_ms !== null && { paidUnixMs: Number(row.paid_unix_ms) }),
    };
  }
  return {
    ...common,
    type: 'outbound',
    status: row.status as 'pending' | 'succeeded' | 'failed',
    feeMsat: row.fee_msat,
    ...(row.preimage !== null && { preimage: row.preimage }),
    failureReason: row.failure_reason,
    attempts: row.attempts,
    finished: row.finished,
  };
}

export function policyRow(row: PolicyColumns): ChannelPolicyRow {
  return {
    feeBaseMsat: Number(row.fee_base_msat),
    feeProportionalMillionths: Number(row.fee_proportional_millionths),
    cltvExpiryDelta: row.cltv_expiry_delta,
    htlcMinimumMsat: row.htlc_minimum_msat,
    htlcMaximumMsat: row.htlc_maximum_msat,
    updatedUnixMs: Number(row.updated_unix_ms),
    ...(row.previous_fee_base_msat !== null && {
      previous: {
        feeBaseMsat: Number(row.previous_fee_base_msat),
        feeProportionalMillionths: Number(row.previous_fee_proportional_millionths),
        cltvExpiryDelta: row.previous_cltv_expiry_delta ?? 0,
      },
    }),
  };
}

export function routeHintRow(row: RouteHintColumns): RouteHintRow {
  return {
    counterpartyNodeId: row.counterparty_node_id,
    shortChannelId: unsigned(row.short_channel_id),
    feeBaseMsat: Number(row.fee_base_msat),
    feeProportionalMillionths: Number(row.fee_proportional_millionths),
    cltvExpiryDelta: row.cltv_expiry_delta,
  };
}

export function forwardRow(row: ForwardColumns): ForwardRow {
  return {
    inboundChannelId: row.inbound_channel_id,
    inboundHtlcId: unsigned(row.inbound_htlc_id),
    outboundChannelId: row.outbound_channel_id ?? undefined,
    inboundAmountMsat: row.inbound_amount_msat,
    outboundAmountMsat: row.outbound_amount_msat,
    status: row.status,
    createdUnixMs: Number(row.created_unix_ms),
  };
}

export function peerPresence(row: PeerColumns): PeerPresence {
  return {
    peerNodeId: row.peer_node_id,
    ...(row.host !== null && row.port !== null && { host: row.host, port: row.port }),
    wanted: row.wanted,
    ...(row.gateway_id !== null &&
      row.generation !== null && {
        connected: {
          gatewayId: row.gateway_id,
          generation: row.generation,
          features: row.features ?? new Uint8Array(0),
        },
      }),
    channels: row.channels,
    zeroConf: row.zero_conf_trusted ? 'trusted' : 'refused',
  };
}
