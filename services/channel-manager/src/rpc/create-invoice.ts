import type { CreateInvoiceRequest, CreateInvoiceResponse } from '@fulmen/proto/manager/v1/manager';
import type { ManagerDeps } from './deps.ts';
import { atOwner } from './owner.ts';
import {
  invalid,
  MAX_MSAT,
  require32,
  requireAmount,
  requireDescription,
  requireIdempotencyKey,
  requireRange,
} from './validate.ts';

/** BOLT 11 has room for 639 bytes; the payer's onion carries them over every hop. */
const MAX_METADATA_BYTES = 256;
/** Ten years. */
const MAX_EXPIRY_SECONDS = 315_360_000;

/** Makes an invoice. Without a preimage any replica makes one in a shard of its own. */
export async function createInvoice(
  { engine, payments }: ManagerDeps,
  request: CreateInvoiceRequest,
): Promise<CreateInvoiceResponse> {
  const { amountMsat, expirySeconds, preimage, descriptionHash, paymentMetadata } = request;
  // BOLT 11: "MUST include either exactly one `d` or exactly one `h` field."
  if (descriptionHash !== undefined && request.description !== '')
    throw invalid('give description or description_hash, not both');
  if (paymentMetadata !== undefined)
    requireRange('length of payment_metadata', paymentMetadata.length, 1, MAX_METADATA_BYTES);
  const invoice = {
    amountMsat: amountMsat === 0n ? undefined : requireAmount('amount_msat', amountMsat, 1n, MAX_MSAT),
    description: requireDescription(request.description),
    descriptionHash:
      descriptionHash === undefined ? undefined : require32('description_hash', descriptionHash),
    paymentMetadata,
    routeHints: requireRouteHints(request.routeHints),
    expirySeconds:
      expirySeconds === undefined
        ? undefined
        : requireRange('expiry_seconds', expirySeconds, 1, MAX_EXPIRY_SECONDS),
    preimage: preimage === undefined ? undefined : require32('preimage', preimage),
    idempotencyKey: requireIdempotencyKey(request.idempotencyKey),
  };
  return atOwner(engine, () => payments.createInvoice(invoice));
}

function requireRouteHints(routeHints: string | undefined): 'always' | 'never' | undefined {
  if (routeHints === undefined || routeHints === 'always' || routeHints === 'never') return routeHints;
  throw invalid('route_hints must be "always" or "never", or left out');
}
