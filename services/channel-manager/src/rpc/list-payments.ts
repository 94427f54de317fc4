import type { ListPaymentsRequest, ListPaymentsResponse, Payment } from '@fulmen/proto/manager/v1/manager';
import type { ManagerDeps } from './deps.ts';
import { storedPaymentMessage } from './payment-message.ts';
import { requireLimit } from './validate.ts';

/** Payments made by this node, newest first. */
export async function listPayments(
  { store, node }: ManagerDeps,
  request: ListPaymentsRequest,
): Promise<ListPaymentsResponse> {
  const found = await store.listPayments('outbound', requireLimit(request.limit));
  const payments: Payment[] = [];
  for (const { paymentHash, state } of found) {
    const payment = storedPaymentMessage(paymentHash, state, node.nodeId);
    if (payment !== undefined) payments.push(payment);
  }
  return { payments };
}
