import type { LookupPaymentRequest, Payment } from '@fulmen/proto/manager/v1/manager';
import { RpcError } from '@fulmen/rpc';
import type { ManagerDeps } from './deps.ts';
import { storedPaymentMessage } from './payment-message.ts';
import { require32 } from './validate.ts';

/** One payment made by this node. */
export async function lookupPayment(
  { store, node }: ManagerDeps,
  request: LookupPaymentRequest,
): Promise<Payment> {
  const paymentHash = require32('payment_hash', request.paymentHash);
  const state = await store.getPaymentState(paymentHash);
  const payment = state && storedPaymentMessage(paymentHash, state, node.nodeId);
  if (payment === undefined) throw new RpcError('not_found', 'no payment of this node has this payment hash');
  return payment;
}
