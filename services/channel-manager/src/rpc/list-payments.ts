import type { ListPaymentsRequest, ListPaymentsResponse, Payment } from '@fulmen/proto/manager/v1/manager';
import type { ManagerDeps } from './deps.ts';
import { listedPaymentMessage } from './payment-message.ts';
import { requireLimit } from './validate.ts';

/** Payments made by this node, newest first, without their HTLCs: a thousand of them must fit into an answer. */
export async function listPayments(
  { store }: ManagerDeps,
  request: ListPaymentsRequest,
): Promise<ListPaymentsResponse> {
  const found = await store.listPayments('outbound', requireLimit(request.limit));
  const payments: Payment[] = [];
  for (const { paymentHash, row } of found)
    if (row.type === 'outbound') payments.push(listedPaymentMessage(paymentHash, row));
  return { payments };
}
