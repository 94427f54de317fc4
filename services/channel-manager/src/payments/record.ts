/** What a payment actor keeps of one payment hash, and the queried row that goes with it. */
import { assertNever, type TlvRecord } from '@fulmen/codec';
import { partsInFlight, type PaymentFailureReason, type PaymentState } from '@fulmen/payment';
import type { PaymentRow } from '@fulmen/store';

/** An invoice of ours, or a payment that came without one. Its HTLCs are not part of it: they stay intents until all are claimed in one commit. */
export interface InboundRecord {
  readonly kind: 'inbound';
  readonly preimage: Uint8Array;
  readonly paymentSecret: Uint8Array;
  /** undefined: the payer chooses. */
  readonly amountMsat: bigint | undefined;
  readonly minFinalCltvExpiryDelta: number;
  readonly createdUnixMs: number;
  readonly expiresUnixMs: number;
  readonly bolt11: string;
  readonly description: string;
  readonly status: 'open' | 'paid' | 'expired';
  readonly receivedMsat: bigint;
  readonly paidUnixMs: number | undefined;
  /** BOLT 11, field `m`: what the payer must give back. */
  readonly paymentMetadata: Uint8Array | undefined;
  /** keysend: the payer chose the preimage; there is no invoice. */
  readonly origin: 'invoice' | 'keysend';
  /** What a keysend carried beside its amount (odd types from 65536 on), as long as an onion holds. */
  readonly customRecords: readonly TlvRecord[];
}

/** A payment of ours, with the parts that are under way. */
export interface OutboundRecord {
  readonly kind: 'outbound';
  readonly bolt11: string;
  readonly createdUnixMs: number;
  /** One for each attempt in flight of the state, in its order. */
  readonly parts: readonly PartName[];
  readonly state: PaymentState;
}

/** Names the intent of an attempt in flight. */
export interface PartName {
  readonly attemptNumber: number;
  readonly attemptId: Uint8Array;
  readonly startedUnixMs: number;
}

export type PaymentRecord = InboundRecord | OutboundRecord;
export type InboundRow = Extract<PaymentRow, { type: 'inbound' }>;
export type OutboundRow = Extract<PaymentRow, { type: 'outbound' }>;

/** The queried columns of a record. */
export function rowOf(record: PaymentRecord): PaymentRow {
  return record.kind === 'inbound' ? inboundRow(record) : outboundRow(record);
}

export function inboundRow(record: InboundRecord): InboundRow {
  return {
    type: 'inbound',
    status: record.status,
    bolt11: record.bolt11,
    description: record.description,
    amountMsat: record.amountMsat ?? 0n,
    receivedMsat: record.receivedMsat,
    createdUnixMs: record.createdUnixMs,
    expiresUnixMs: record.expiresUnixMs,
    ...(record.paidUnixMs === undefined ? {} : { paidUnixMs: record.paidUnixMs }),
  };
}

export function outboundRow(record: OutboundRecord): OutboundRow {
  const { state } = record;
  return {
    type: 'outbound',
    status: state.type === 'sent' ? 'succeeded' : state.type === 'failed' ? 'failed' : 'pending',
    bolt11: record.bolt11,
    amountMsat: state.parameters.amountMsat,
    feeMsat:
      state.type === 'sent'
        ? state.feeMsat
        : partsInFlight(state).reduce((sum, { route }) => sum + route.feeMsat, 0n),
    ...(state.type === 'sent' ? { preimage: state.preimage } : {}),
    failureReason: state.type === 'failed' ? failureReason(state.reason) : '',
    createdUnixMs: record.createdUnixMs,
    attempts: state.lessons.attempts,
    finished: isFinished(record),
  };
}

/** Nothing more will happen to it by itself. */
export function isFinished(record: PaymentRecord): boolean {
  if (record.kind === 'inbound') return record.status !== 'open';
  const { state } = record;
  return state.type === 'failed' || (state.type === 'sent' && state.parts.length === 0);
}

/** One word for the operator. */
export function failureReason(reason: PaymentFailureReason): string {
  switch (reason.kind) {
    case 'refused_by_payee':
      return 'recipient_rejected';
    case 'route_not_found': {
      const { error } = reason;
      if (error.kind !== 'no_route')
        return error.kind === 'no_first_hop' ? 'insufficient_outbound' : error.kind;
      if (error.exceeded.includes('fee')) return 'fee_limit';
      return error.exceeded.includes('cltv') ? 'cltv_limit' : 'no_route';
    }
    case 'retries_exhausted':
    case 'abandoned':
      return reason.kind;
    case 'deadline_passed':
      return 'timeout';
  }
  return assertNever(reason);
}
