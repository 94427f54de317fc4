/** Reading and naming invoices. */
import { secp256k1 } from '@fulmen/crypto/default';
import { decodeInvoice, type Invoice } from '@fulmen/invoice';
import { ensure } from '../../../e2e/main-job/waiting.ts';

export function decoded(bolt11: string): Invoice {
  const invoice = decodeInvoice(secp256k1, bolt11);
  ensure(invoice.ok, 'the invoice cannot be read');
  return invoice.value;
}

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

let keys = 0;

/** A new idempotency key. */
export function nextKey(): string {
  keys += 1;
  return `interop-${process.pid}-${Date.now()}-${keys}`;
}
