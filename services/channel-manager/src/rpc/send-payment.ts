import { MAX_INVOICE_LENGTH } from '@fulmen/invoice';
import type { Payment, SendPaymentRequest } from '@fulmen/proto/manager/v1/manager';
import { type CallContext, RpcError } from '@fulmen/rpc';
import { isFinished } from '../payments/record.ts';
import type { ManagerDeps } from './deps.ts';
import { paymentMessage } from './payment-message.ts';
import { atOwner } from './owner.ts';
import { invalid, MAX_MSAT, requireAmount, requireRange } from './validate.ts';

const MAX_TIMEOUT_SECONDS = 3_600;

/** Pays an invoice. The payment outlives the call, whether it waits or not. */
export async function sendPayment(
  { engine, payments, node }: ManagerDeps,
  request: SendPaymentRequest,
  context: Pick<CallContext, 'signal'>,
): Promise<Payment> {
  const bolt11 = request.bolt11.trim().replace(/^lightning:/i, '');
  if (bolt11 === '' || bolt11.length > MAX_INVOICE_LENGTH)
    throw invalid(`bolt11 must be an invoice of at most ${MAX_INVOICE_LENGTH} characters`);
  const { amountMsat, maxFeeMsat, timeoutSeconds } = request;
  const payment = {
    bolt11,
    amountMsat: amountMsat === undefined ? undefined : requireAmount('amount_msat', amountMsat, 1n, MAX_MSAT),
    maxFeeMsat:
      maxFeeMsat === undefined ? undefined : requireAmount('max_fee_msat', maxFeeMsat, 0n, MAX_MSAT),
    timeoutSeconds:
      timeoutSeconds === undefined
        ? undefined
        : requireRange('timeout_seconds', timeoutSeconds, 1, MAX_TIMEOUT_SECONDS),
  };
  const doubt = node.chainDoubt();
  // Payments under way go on; a new one would add HTLCs whose expiry nobody could watch.
  if (doubt !== undefined) throw new RpcError('unavailable', `the chain is not followed: ${doubt}`);
  return atOwner(engine, async () => {
    const { paymentHash, record } = await payments.sendPayment(payment);
    if (!request.wait || isFinished(record)) return paymentMessage(paymentHash, record, node.nodeId);
    return paymentMessage(paymentHash, await payments.waitFor(paymentHash, context.signal), node.nodeId);
  });
}
