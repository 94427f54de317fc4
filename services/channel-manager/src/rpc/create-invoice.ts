import type { CreateInvoiceRequest, CreateInvoiceResponse } from '@fulmen/proto/manager/v1/manager';
import type { ManagerDeps } from './deps.ts';
import { atOwner } from './owner.ts';
import {
  MAX_MSAT,
  require32,
  requireAmount,
  requireDescription,
  requireIdempotencyKey,
  requireRange,
} from './validate.ts';

/** Ten years. */
const MAX_EXPIRY_SECONDS = 315_360_000;

/** Makes an invoice. Without a preimage any replica makes one in a shard of its own. */
export async function createInvoice(
  { engine, payments }: ManagerDeps,
  request: CreateInvoiceRequest,
): Promise<CreateInvoiceResponse> {
  const { amountMsat, expirySeconds, preimage } = request;
  const invoice = {
    amountMsat: amountMsat === 0n ? undefined : requireAmount('amount_msat', amountMsat, 1n, MAX_MSAT),
    description: requireDescription(request.description),
    expirySeconds:
      expirySeconds === undefined
        ? undefined
        : requireRange('expiry_seconds', expirySeconds, 1, MAX_EXPIRY_SECONDS),
    preimage: preimage === undefined ? undefined : require32('preimage', preimage),
    idempotencyKey: requireIdempotencyKey(request.idempotencyKey),
  };
  return atOwner(engine, () => payments.createInvoice(invoice));
}
