import type { Invoice, ListInvoicesRequest, ListInvoicesResponse } from '@fulmen/proto/manager/v1/manager';
import type { ManagerDeps } from './deps.ts';
import { invoiceMessage } from './messages.ts';
import { requireLimit } from './validate.ts';

/** Invoices of this node, newest first. */
export async function listInvoices(
  { store, runtime }: ManagerDeps,
  request: ListInvoicesRequest,
): Promise<ListInvoicesResponse> {
  const rows = await store.listPayments('inbound', requireLimit(request.limit));
  const invoices: Invoice[] = [];
  for (const { paymentHash, row } of rows)
    if (row.type === 'inbound') invoices.push(invoiceMessage(paymentHash, row, runtime.wallClockMs()));
  return { invoices };
}
