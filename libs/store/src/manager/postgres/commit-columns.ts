/**
 * Turns the units of a group commit into the arrays of the server-side call:
 * one Buffer per column. The table below is the functions' parameter list (see
 * migrations 0002, 0003, 0014 and 0022); the call's text and its types come from it.
 */
import type { HtlcDirection, HtlcRemoval } from '@fulmen/channel';
import { boolArray, byteaArray, int4Array, int8Array, textArray } from '../../pg/binary.ts';
import type { Statement } from '../../pg/database.ts';
import type {
  ChannelCommit,
  CommitUnit,
  ForwardingWrites,
  PaymentCommit,
  Resolution,
} from '../manager-store.ts';
import { encodeSource, identityOf } from '../source.ts';

// prettier-ignore
const CHANNEL_COLUMNS = {
  f_unit: 'int4', f_shard: 'int4', f_epoch: 'int8', f_owner: 'text',
  c_unit: 'int4', c_id: 'bytea', c_fence_shard: 'int4', c_expected: 'int8', c_shard: 'int4', c_node_id: 'bytea', c_keys_id: 'bytea',
  c_phase: 'text', c_capacity: 'int8', c_holder_balance: 'int8', c_counterparty_balance: 'int8', c_outbound: 'int8', c_inbound: 'int8',
  c_htlcs: 'int4', c_funding_txid: 'bytea', c_funding_index: 'int4', c_scid: 'int8', c_alias: 'int8', c_announce: 'bool',
  c_funder: 'bool', c_type: 'text', c_closing_reason: 'text', c_closing_txid: 'bytea', c_monitor_first: 'int8', c_monitor_last: 'int8',
  c_generation: 'int8', c_number: 'int8', c_hot: 'bytea',
  s_id: 'bytea', s_scid: 'int8', s_kind: 'text',
  cold_id: 'bytea', cold_blob: 'bytea',
  sig_id: 'bytea', sig_blob: 'bytea',
  sb_id: 'bytea', sb_bucket: 'int4', sb_index: 'int8', sb_secret: 'bytea',
  h_id: 'bytea', h_direction: 'int4', h_htlc: 'int8', h_amount: 'int8', h_cltv: 'int8', h_hash: 'bytea', h_onion: 'bytea', h_path_key: 'bytea',
  r_id: 'bytea', r_direction: 'int4', r_htlc: 'int8', r_kind: 'int4', r_code: 'int4', r_body: 'bytea', r_attribution: 'bytea',
  d_id: 'bytea', d_direction: 'int4', d_htlc: 'int8',
  b_id: 'bytea', b_parameters: 'bytea',
  m_id: 'bytea', m_update: 'int8', m_payload: 'bytea',
  bc_id: 'bytea', bc_order: 'int4', bc_kind: 'text', bc_tx: 'bytea',
  w_id: 'bytea', w_txid: 'bytea', w_index: 'int4', w_value: 'int8', w_script: 'bytea', w_depth: 'int4',
} as const;

// prettier-ignore
const PAYMENT_COLUMNS = {
  p_unit: 'int4', p_hash: 'bytea', p_expected: 'int8', p_shard: 'int4', p_direction: 'text', p_status: 'text', p_finished: 'bool',
  p_bolt11: 'text', p_description: 'text', p_created: 'int8', p_expires: 'int8', p_amount: 'int8', p_received: 'int8', p_fee: 'int8',
  p_attempts: 'int4', p_paid: 'int8', p_preimage: 'bytea', p_failure: 'text', p_state: 'bytea',
  i_source: 'bytea', i_target_shard: 'int4', i_source_shard: 'int4', i_scid: 'int8', i_target_hash: 'bytea', i_hash: 'bytea',
  i_in_amount: 'int8', i_in_cltv: 'int8', i_out_amount: 'int8', i_out_cltv: 'int8', i_created: 'int8', i_onion: 'bytea', i_secret: 'bytea',
  ic_unit: 'int4', ic_source: 'bytea', ic_outcome: 'text', ic_claimer: 'bytea',
  rs_source: 'bytea', rs_shard: 'int4', rs_kind: 'int4', rs_code: 'int4', rs_body: 'bytea',
  rt_unit: 'int4', rt_source: 'bytea', rt_kind: 'int4',
  pre_id: 'bytea', pre_htlc: 'int8', pre_value: 'bytea',
  o_id: 'bytea', o_htlc: 'int8', o_source: 'bytea', o_shard: 'int4', o_amount: 'int8',
  or_unit: 'int4', or_hash: 'bytea', or_id: 'bytea', or_htlc: 'int8',
  e_shard: 'int4', e_type: 'text', e_time: 'int8', e_body: 'text',
} as const;

const LATE_COLUMNS = { l_id: 'bytea', l_amount: 'int8' } as const;

const COLUMNS = { ...CHANNEL_COLUMNS, ...PAYMENT_COLUMNS, ...LATE_COLUMNS };

interface Elements {
  int4: number;
  int8: bigint;
  text: string;
  bytea: Uint8Array;
  bool: boolean;
}

type Values = { -readonly [K in keyof typeof COLUMNS]: (Elements[(typeof COLUMNS)[K]] | null)[] };

const ENCODERS = {
  int4: int4Array,
  int8: int8Array,
  text: textArray,
  bytea: byteaArray,
  bool: boolArray,
} as const;

function parameters(columns: object, from: number): string {
  return Object.keys(columns)
    .map((_, index) => `$${from + index}`)
    .join(', ');
}

const numberOf = (column: keyof typeof COLUMNS): number => 1 + Object.keys(COLUMNS).indexOf(column);

/** One statement, so one transaction, for all parts; they run in this order. */
export const COMMIT_STATEMENT: Statement = {
  name: 'commit_steps',
  text: `SELECT commit_channels(${parameters(CHANNEL_COLUMNS, 1)}), commit_payments(${parameters(PAYMENT_COLUMNS, 1 + Object.keys(CHANNEL_COLUMNS).length)}), require_intents($${numberOf('ic_unit')}, $${numberOf('ic_source')}), add_late_fulfilments(${parameters(LATE_COLUMNS, numberOf('l_id'))})`,
};

/** Numbers of removals and outcomes in rows. */
export const KIND = { fulfilled: 1, failed: 2, failed_malformed: 3, failed_here: 4 } as const;
export const DIRECTION: Readonly<Record<HtlcDirection, number>> = { inbound: 0, outbound: 1 };

/** u64 → the signed integer of the same bits. */
export const signed = (value: bigint): bigint => BigInt.asIntN(64, value);

/** The call's parameters for valid units (see validate.ts), one channel or payment at most once; `units` is sorted by key. */
export function commitParameters(units: readonly CommitUnit[]): Buffer[] {
  const values = Object.fromEntries(Object.keys(COLUMNS).map((name) => [name, []])) as unknown as Values;
  const fences = new Set<string>();
  units.forEach((entry, unit) => {
    const { fence, forwarding } = entry.commit;
    const key = `${fence.shard} ${fence.epoch} ${fence.replicaId}`;
    if (!fences.has(key)) {
      fences.add(key);
      values.f_unit.push(unit);
      values.f_shard.push(fence.shard);
      values.f_epoch.push(fence.epoch);
      values.f_owner.push(fence.replicaId);
    }
    if (entry.kind === 'channel') addChannel(values, unit, entry.commit);
    if (entry.kind === 'payment') addPayment(values, unit, entry.commit);
    addForwarding(values, unit, identityOf(entry), fence.shard, forwarding);
  });
  return Object.entries(COLUMNS).map(([name, type]) => {
    const encode = ENCODERS[type] as (elements: readonly unknown[]) => Buffer;
    return encode(values[name as keyof Values]);
  });
}

function addChannel(v: Values, unit: number, commit: ChannelCommit): void {
  const { channelId, row, delta } = commit;
  v.c_unit.push(unit);
  v.c_id.push(channelId);
  v.c_fence_shard.push(commit.fence.shard);
  v.c_expected.push(commit.expectedVersion);
  v.c_shard.push(row.shard);
  v.c_node_id.push(row.counterpartyNodeId);
  v.c_keys_id.push(row.channelKeysId);
  v.c_phase.push(row.phase);
  v.c_capacity.push(row.capacitySat);
  v.c_holder_balance.push(row.holderBalanceMsat);
  v.c_counterparty_balance.push(row.counterpartyBalanceMsat);
  v.c_outbound.push(row.outboundCapacityMsat);
  v.c_inbound.push(row.inboundCapacityMsat);
  v.c_htlcs.push(row.htlcsInFlight);
  v.c_funding_txid.push(row.fundingTxid ?? null);
  v.c_funding_index.push(row.fundingOutputIndex ?? null);
  v.c_scid.push(row.shortChannelId === undefined ? null : signed(row.shortChannelId));
  v.c_alias.push(row.holderAliasScid === undefined ? null : signed(row.holderAliasScid));
  v.c_announce.push(row.announce);
  v.c_funder.push(row.holderIsFunder);
  v.c_type.push(row.channelType);
  v.c_closing_reason.push(row.closingReason ?? null);
  v.c_closing_txid.push(row.closingTxid ?? null);
  v.c_monitor_first.push(commit.monitorUpdates[0]?.updateId ?? null);
  v.c_monitor_last.push(commit.monitorUpdates.at(-1)?.updateId ?? null);
  v.c_generation.push(commit.consumedThrough?.generation ?? null);
  v.c_number.push(commit.consumedThrough?.number ?? null);
  v.c_hot.push(delta.hot);
  if (row.holderAliasScid !== undefined) {
    v.s_id.push(channelId);
    v.s_scid.push(signed(row.holderAliasScid));
    v.s_kind.push('alias');
  }
  if (delta.cold !== undefined) {
    v.cold_id.push(channelId);
    v.cold_blob.push(delta.cold);
  }
  if (delta.holderSignatures !== undefined) {
    v.sig_id.push(channelId);
    v.sig_blob.push(delta.holderSignatures);
  }
  for (const { bucket, index, secret } of delta.secretBuckets) {
    v.sb_id.push(channelId);
    v.sb_bucket.push(bucket);
    v.sb_index.push(index);
    v.sb_secret.push(secret);
  }
  addHtlcs(v, commit);
  if (commit.monitorBirth !== undefined) {
    v.b_id.push(channelId);
    v.b_parameters.push(commit.monitorBirth);
  }
  for (const { updateId, payload } of commit.monitorUpdates) {
    v.m_id.push(channelId);
    v.m_update.push(updateId);
    v.m_payload.push(payload);
  }
  if (commit.fulfilledLateMsat !== undefined) {
    v.l_id.push(channelId);
    v.l_amount.push(commit.fulfilledLateMsat);
  }
  commit.broadcasts.forEach((order, index) => {
    for (const transaction of order.transactions) {
      v.bc_id.push(order.channelId);
      v.bc_order.push(unit * 1_000 + index);
      v.bc_kind.push(order.kind);
      v.bc_tx.push(transaction);
    }
  });
  for (const watch of commit.watches) {
    v.w_id.push(watch.channelId);
    v.w_txid.push(watch.fundingTxid);
    v.w_index.push(watch.fundingOutputIndex);
    v.w_value.push(watch.fundingValueSat);
    v.w_script.push(watch.scriptPubKey);
    v.w_depth.push(watch.minimumDepth);
  }
}

function addHtlcs(v: Values, { channelId, delta }: ChannelCommit): void {
  for (const htlc of delta.newHtlcs) {
    v.h_id.push(channelId);
    v.h_direction.push(DIRECTION[htlc.direction]);
    v.h_htlc.push(signed(htlc.id));
    v.h_amount.push(htlc.amountMsat);
    v.h_cltv.push(BigInt(htlc.cltvExpiryHeight));
    v.h_hash.push(htlc.paymentHash);
    v.h_onion.push(htlc.onionRoutingPacket);
    v.h_path_key.push(htlc.pathKey ?? null);
  }
  for (const { direction, id, removal } of delta.newRemovals) {
    v.r_id.push(channelId);
    v.r_direction.push(DIRECTION[direction]);
    v.r_htlc.push(signed(id));
    v.r_kind.push(KIND[removal.type]);
    v.r_code.push(removal.type === 'failed_malformed' ? removal.failureCode : null);
    v.r_body.push(outcomeBody(removal));
    v.r_attribution.push(removal.type === 'failed_malformed' ? null : (removal.attributionData ?? null));
  }
  for (const { direction, id } of delta.settledHtlcs) {
    v.d_id.push(channelId);
    v.d_direction.push(DIRECTION[direction]);
    v.d_htlc.push(signed(id));
  }
}

function outcomeBody(outcome: HtlcRemoval | Resolution['outcome']): Uint8Array {
  switch (outcome.type) {
    case 'fulfilled':
      return outcome.preimage;
    case 'failed':
      return outcome.reason;
    case 'failed_here':
      return outcome.failure;
    case 'failed_malformed':
      return outcome.sha256OfOnion;
  }
}

function addPayment(
  v: Values,
  unit: number,
  { paymentHash, expectedVersion, fence, row, state }: PaymentCommit,
): void {
  const inbound = row.type === 'inbound';
  v.p_unit.push(unit);
  v.p_hash.push(paymentHash);
  v.p_expected.push(expectedVersion);
  v.p_shard.push(fence.shard);
  v.p_direction.push(row.type);
  v.p_status.push(row.status);
  v.p_finished.push(
    row.type === 'outbound' ? row.finished : row.status === 'paid' || row.status === 'expired',
  );
  v.p_bolt11.push(row.bolt11);
  v.p_description.push(inbound ? row.description : '');
  v.p_created.push(BigInt(row.createdUnixMs));
  v.p_expires.push(inbound ? BigInt(row.expiresUnixMs) : 0n);
  v.p_amount.push(row.amountMsat);
  v.p_received.push(inbound ? row.receivedMsat : 0n);
  v.p_fee.push(inbound ? 0n : row.feeMsat);
  v.p_attempts.push(inbound ? 0 : row.attempts);
  v.p_paid.push(inbound && row.paidUnixMs !== undefined ? BigInt(row.paidUnixMs) : null);
  v.p_preimage.push(inbound ? null : (row.preimage ?? null));
  v.p_failure.push(inbound ? '' : row.failureReason);
  v.p_state.push(state);
}

function addForwarding(
  v: Values,
  unit: number,
  claimer: Uint8Array,
  shard: number,
  writes: ForwardingWrites,
): void {
  for (const intent of writes.intents) {
    v.i_source.push(encodeSource(intent.source));
    v.i_target_shard.push(intent.targetShard);
    v.i_source_shard.push(intent.sourceShard);
    v.i_scid.push(intent.target.type === 'scid' ? signed(intent.target.shortChannelId) : null);
    v.i_target_hash.push(intent.target.type === 'local' ? intent.target.paymentHash : null);
    v.i_hash.push(intent.paymentHash);
    v.i_in_amount.push(intent.incomingAmountMsat);
    v.i_in_cltv.push(BigInt(intent.incomingCltvExpiryHeight));
    v.i_out_amount.push(intent.outgoingAmountMsat);
    v.i_out_cltv.push(BigInt(intent.outgoingCltvExpiryHeight));
    v.i_created.push(BigInt(intent.createdUnixMs));
    v.i_onion.push(intent.onion);
    v.i_secret.push(intent.sharedSecret);
  }
  for (const { source, outcome } of writes.intentClaims) {
    v.ic_unit.push(unit);
    v.ic_source.push(encodeSource(source));
    v.ic_outcome.push(outcome);
    v.ic_claimer.push(claimer);
  }
  for (const { source, sourceShard, outcome } of writes.resolutions) {
    v.rs_source.push(encodeSource(source));
    v.rs_shard.push(sourceShard);
    v.rs_kind.push(KIND[outcome.type]);
    v.rs_code.push(outcome.type === 'failed_malformed' ? outcome.failureCode : null);
    v.rs_body.push(outcomeBody(outcome));
  }
  for (const { source, outcome } of writes.resolutionsTaken) {
    v.rt_unit.push(unit);
    v.rt_source.push(encodeSource(source));
    v.rt_kind.push(KIND[outcome]);
  }
  for (const { channelId, htlcId, preimage } of writes.preimages) {
    v.pre_id.push(channelId);
    v.pre_htlc.push(signed(htlcId));
    v.pre_value.push(preimage);
  }
  for (const link of writes.outgoing) {
    v.o_id.push(link.channelId);
    v.o_htlc.push(signed(link.htlcId));
    v.o_source.push(encodeSource(link.source));
    v.o_shard.push(link.sourceShard);
    v.o_amount.push(link.incomingAmountMsat);
  }
  for (const { sharedSecretHash, channelId, htlcId } of writes.onionReplays) {
    v.or_unit.push(unit);
    v.or_hash.push(sharedSecretHash);
    v.or_id.push(channelId);
    v.or_htlc.push(signed(htlcId));
  }
  for (const event of writes.events) {
    v.e_shard.push(shard);
    v.e_type.push(event.type);
    v.e_time.push(BigInt(event.timeUnixMs));
    v.e_body.push(event.body);
  }
}
