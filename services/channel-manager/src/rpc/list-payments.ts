import type { ListPaymentsRequest, ListPaymentsResponse, Payment } from '@fulmen/proto/manager/v1/manager';
import type { ManagerDeps } from './deps.ts';
import { paymentMessage } from './messages.ts';
import { requireLimit } from './validate.ts';

/** Payments made by this node, newest first. */
export async function listPayments(
  { store }: ManagerDeps,
  request: ListPaymentsRequest,
): Promise<ListPaymentsResponse> {
  const rows = await store.listPayments('outbound', requireLimit(request.limit));
  const payments: Payment[] = [];
  for (const { paymentHash, row } of rows)
    if (row.type === 'outbound') payments.push(paymentMessage(paymentHash, row));
  return { payments };
}
