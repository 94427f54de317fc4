/** InvoiceService: what others owe this node. */
import type { InvoiceServiceService } from '@fulmen/proto/node/v1/node';
import type { Handlers } from '@fulmen/rpc';
import { refuse } from '../errors.ts';
import { idempotencyKey, listLimit, requireBytes, requireLength } from '../validate.ts';
import { describeInvoice, requireInvoice } from './bolt11.ts';
import { command, type ConsoleContext, query } from './context.ts';

/** BOLT 11: a field holds at most 1023 words of 5 bits. */
const MAX_DESCRIPTION_BYTES = 639;
const MAX_METADATA_BYTES = 256;

export function invoiceService(context: ConsoleContext): Handlers<typeof InvoiceServiceService> {
  const { guard, managers, runtime, curve } = context;
  return {
    createInvoice: guard.unary(
      {
        name: 'InvoiceService.CreateInvoice',
        scope: 'invoices',
        // The preimage is the one field that must not be told.
        audit: ({ amountMsat, expirySeconds, idempotencyKey: key }, response) => ({
          amountMsat,
          expirySeconds,
          key,
          paymentHash: response?.paymentHash,
        }),
      },
      (request, call) => {
        if (Buffer.byteLength(request.description, 'utf8') > MAX_DESCRIPTION_BYTES)
          throw refuse('invalid_argument', `description is longer than ${MAX_DESCRIPTION_BYTES} bytes.`);
        if (request.preimage !== undefined) requireBytes('preimage', request.preimage, 32);
        if (request.descriptionHash !== undefined)
          requireBytes('description_hash', request.descriptionHash, 32);
        if ((request.paymentMetadata?.length ?? 0) > MAX_METADATA_BYTES)
          throw refuse('invalid_argument', `payment_metadata is longer than ${MAX_METADATA_BYTES} bytes.`);
        const keyed = {
          ...request,
          idempotencyKey: idempotencyKey(request.idempotencyKey, runtime.randomBytes),
        };
        return managers.run((client, options) => client.createInvoice(keyed, options), command(call));
      },
    ),
    lookupInvoice: guard.unary({ name: 'InvoiceService.LookupInvoice', scope: 'read' }, (request, call) => {
      requireBytes('payment_hash', request.paymentHash, 32);
      return managers.run((client, options) => client.lookupInvoice(request, options), query(call));
    }),
    listInvoices: guard.unary({ name: 'InvoiceService.ListInvoices', scope: 'read' }, ({ limit }, call) => {
      const bounded = { limit: listLimit(limit) };
      return managers.run((client, options) => client.listInvoices(bounded, options), query(call));
    }),
    decodeInvoice: guard.unary({ name: 'InvoiceService.DecodeInvoice', scope: 'read' }, ({ bolt11 }) => {
      requireLength('bolt11', bolt11, 10_000);
      return Promise.resolve(describeInvoice(requireInvoice(curve, bolt11)));
    }),
  };
}
