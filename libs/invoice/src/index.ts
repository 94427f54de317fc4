/** Invoices (BOLT 11): read from anybody, written in two phases around a signer. */
export { decodeInvoice, MAX_INVOICE_LENGTH } from './decode.ts';
export { assembleInvoice, encodeInvoice, invoiceSigningHash } from './encode.ts';
export type { InvoiceSigningHash } from './encode.ts';
export type { FieldLetter, InvoiceError } from './errors.ts';
export { INVOICE_FEATURES } from './fields.ts';
export * from './invoice.ts';
