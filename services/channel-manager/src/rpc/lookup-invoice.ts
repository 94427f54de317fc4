import type { Invoice, LookupInvoiceRequest } from '@fulmen/proto/manager/v1/manager';
import { RpcError } from '@fulmen/rpc';
import type { ManagerDeps } from './deps.ts';
import { invoiceMessage } from './messages.ts';
import { require32 } from './validate.ts';

/** One invoice of this node. */
export async function lookupInvoice(
  { store, runtime }: ManagerDeps,
  request: LookupInvoiceRequest,
): Promise<Invoice> {
  const paymentHash = require32('payment_hash', request.paymentHash);
  const row = await store.getPayment(paymentHash);
  if (row?.type !== 'inbound')
    throw new RpcError('not_found', 'no invoice of this node has this payment hash');
  return invoiceMessage(paymentHash, row, runtime.wallClockMs());
}
