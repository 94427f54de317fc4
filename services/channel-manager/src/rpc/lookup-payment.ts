import type { LookupPaymentRequest, Payment } from '@fulmen/proto/manager/v1/manager';
import { RpcError } from '@fulmen/rpc';
import type { ManagerDeps } from './deps.ts';
import { paymentMessage } from './messages.ts';
import { require32 } from './validate.ts';

/** One payment made by this node. */
export async function lookupPayment({ store }: ManagerDeps, request: LookupPaymentRequest): Promise<Payment> {
  const paymentHash = require32('payment_hash', request.paymentHash);
  const row = await store.getPayment(paymentHash);
  if (row?.type !== 'outbound')
    throw new RpcError('not_found', 'no payment of this node has this payment hash');
  return paymentMessage(paymentHash, row);
}
