import { MAX_INVOICE_LENGTH } from '@fulmen/invoice';
import { MAX_SENT_PARTS } from '@fulmen/payment';
import type { Payment, SendKeysendRequest, SendPaymentRequest } from '@fulmen/proto/manager/v1/manager';
import { type CallContext, RpcError } from '@fulmen/rpc';
import type { NodeView } from '../engine/ports.ts';
import { isFinished, type OutboundRecord } from '../payments/record.ts';
import type { ManagerDeps } from './deps.ts';
import { paymentMessage } from './payment-message.ts';
import { atOwner } from './owner.ts';
import {
  invalid,
  MAX_MSAT,
  requireAmount,
  requireIdempotencyKey,
  requireNodeId,
  requireRange,
} from './validate.ts';

const MAX_TIMEOUT_SECONDS = 3_600;

/** Pays an invoice. The payment outlives the call, whether it waits or not. */
export async function sendPayment(
  deps: ManagerDeps,
  request: SendPaymentRequest,
  context: Pick<CallContext, 'signal'>,
): Promise<Payment> {
  const bolt11 = request.bolt11.trim().replace(/^lightning:/i, '');
  if (bolt11 === '' || bolt11.length > MAX_INVOICE_LENGTH)
    throw invalid(`bolt11 must be an invoice of at most ${MAX_INVOICE_LENGTH} characters`);
  const { amountMsat, maxParts } = request;
  const payment = {
    bolt11,
    amountMsat: amountMsat === undefined ? undefined : requireAmount('amount_msat', amountMsat, 1n, MAX_MSAT),
    ...limitsOf(request),
    ...(maxParts === undefined ? {} : { maxParts: requireRange('max_parts', maxParts, 1, MAX_SENT_PARTS) }),
  };
  requireChain(deps.node);
  return atOwner(deps.engine, async () => {
    const begun = await deps.payments.sendPayment(payment);
    return request.wait
      ? ended(deps, begun, context)
      : paymentMessage(begun.paymentHash, begun.record, deps.node.nodeId);
  });
}

/** Pays a node without an invoice. The payment outlives the call, whether it waits or not. */
export async function sendKeysend(
  deps: ManagerDeps,
  request: SendKeysendRequest,
  context: Pick<CallContext, 'signal'>,
): Promise<Payment> {
  const payment = {
    payee: requireNodeId(deps.secp, request.payeeNodeId),
    amountMsat: requireAmount('amount_msat', request.amountMsat, 1n, MAX_MSAT),
    ...limitsOf(request),
    idempotencyKey: requireIdempotencyKey(request.idempotencyKey),
  };
  requireChain(deps.node);
  return atOwner(deps.engine, async () => {
    const begun = await deps.payments.sendKeysend(payment);
    return request.wait
      ? ended(deps, begun, context)
      : paymentMessage(begun.paymentHash, begun.record, deps.node.nodeId);
  });
}

function limitsOf({
  maxFeeMsat,
  timeoutSeconds,
}: Pick<SendPaymentRequest, 'maxFeeMsat' | 'timeoutSeconds'>): {
  readonly maxFeeMsat: bigint | undefined;
  readonly timeoutSeconds: number | undefined;
} {
  return {
    maxFeeMsat:
      maxFeeMsat === undefined ? undefined : requireAmount('max_fee_msat', maxFeeMsat, 0n, MAX_MSAT),
    timeoutSeconds:
      timeoutSeconds === undefined
        ? undefined
        : requireRange('timeout_seconds', timeoutSeconds, 1, MAX_TIMEOUT_SECONDS),
  };
}

/** Payments under way go on; a new one would add HTLCs whose expiry nobody could watch. */
function requireChain(node: NodeView): void {
  const doubt = node.chainDoubt();
  if (doubt !== undefined) throw new RpcError('unavailable', `the chain is not followed: ${doubt}`);
}

async function ended(
  { payments, node }: Pick<ManagerDeps, 'payments' | 'node'>,
  { paymentHash, record }: { readonly paymentHash: Uint8Array; readonly record: OutboundRecord },
  context: Pick<CallContext, 'signal'>,
): Promise<Payment> {
  if (isFinished(record)) return paymentMessage(paymentHash, record, node.nodeId);
  return paymentMessage(paymentHash, await payments.waitFor(paymentHash, context.signal), node.nodeId);
}
