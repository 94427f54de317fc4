/** A payment of ours as the API shows it: what it came to, and what each of its HTLCs came to. */
import { assertNever } from '@fulmen/codec';
import { failureCode, type FailureMessage } from '@fulmen/onion';
import { type AttemptFailure, partsInFlight, type Route } from '@fulmen/payment';
import type { Payment, PaymentAttempt, PaymentAttemptFailure } from '@fulmen/proto/manager/v1/manager';
import { RpcError } from '@fulmen/rpc';
import { decodePaymentRecord } from '../payments/codec.ts';
import { type OutboundRecord, type OutboundRow, outboundRow } from '../payments/record.ts';

const NONE = new Uint8Array(0);

/** @param nodeId this node's, which is to blame for what its own channels refuse. */
export function paymentMessage(paymentHash: Uint8Array, record: OutboundRecord, nodeId: Uint8Array): Payment {
  return {
    ...listedPaymentMessage(paymentHash, outboundRow(record)),
    attemptRecords: attemptsOf(record, nodeId),
  };
}

/** Without its HTLCs. */
export function listedPaymentMessage(paymentHash: Uint8Array, row: OutboundRow): Payment {
  return {
    paymentHash,
    status: row.status,
    amountMsat: row.amountMsat,
    feeMsat: row.feeMsat,
    preimage: row.preimage ?? NONE,
    failureReason: row.failureReason,
    createdUnixMs: BigInt(row.createdUnixMs),
    bolt11: row.bolt11,
    attempts: row.attempts,
    attemptRecords: [],
  };
}

/** @throws RpcError for a stored state that cannot be read. */
export function storedPaymentMessage(
  paymentHash: Uint8Array,
  state: Uint8Array,
  nodeId: Uint8Array,
): Payment | undefined {
  const record = decodePaymentRecord(state);
  if (!record.ok)
    throw new RpcError('internal', `the stored payment cannot be read: ${record.error.message}`);
  return record.value.kind === 'outbound' ? paymentMessage(paymentHash, record.value, nodeId) : undefined;
}

function attemptsOf({ state }: OutboundRecord, nodeId: Uint8Array): PaymentAttempt[] {
  const records = state.ended.map(({ attemptNumber, route, failure }): PaymentAttempt =>
    failure === undefined
      ? attemptMessage(attemptNumber, route, 'succeeded')
      : {
          ...attemptMessage(attemptNumber, route, 'failed'),
          failure: failureMessageOf(failure, route, nodeId),
        },
  );
  for (const { attemptNumber, route } of partsInFlight(state))
    records.push(attemptMessage(attemptNumber, route, 'in_flight'));
  return records;
}

function attemptMessage(
  attemptNumber: number,
  { amountMsat, feeMsat, hops }: Route,
  status: 'in_flight' | 'succeeded' | 'failed',
): PaymentAttempt {
  return {
    attemptNumber,
    status,
    amountMsat,
    feeMsat,
    route: hops.map((hop) => ({
      nodeId: hop.nodeId,
      shortChannelId: hop.shortChannelId,
      amountMsat: hop.amountMsat,
      cltvExpiryHeight: hop.cltvExpiryHeight,
    })),
    failure: undefined,
  };
}

function failureMessageOf(
  failure: AttemptFailure,
  { hops }: Route,
  nodeId: Uint8Array,
): PaymentAttemptFailure {
  const said = (code: FailureMessage | undefined, index: number): PaymentAttemptFailure => ({
    code: code?.kind ?? 'not_sent',
    failureCode: code === undefined ? 0 : failureCode(code),
    nodeId: index === 0 ? nodeId : (hops[index - 1]?.nodeId ?? NONE),
    sourceIndex: index,
    shortChannelId: hops[index]?.shortChannelId ?? 0n,
  });
  switch (failure.kind) {
    case 'failure':
      return said(failure.failure, failure.hopIndex + 1);
    case 'not_added':
      return said(failure.failure, 0);
    case 'undecodable':
      return { code: 'unreadable', failureCode: 0, nodeId: NONE, sourceIndex: 0, shortChannelId: 0n };
  }
  return assertNever(failure);
}
