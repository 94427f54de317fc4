/** invoice create, lookup, list, decode. */
import type { Command } from 'commander';
import type { Invoice } from '@fulmen/proto/manager/v1/manager';
import { type CliContext, examples } from '../context.ts';
import { clip, grouped, hex, msat, short, time } from '../format.ts';
import { usage } from '../io.ts';
import { card, type Column, table } from '../output.ts';
import * as parse from '../parse.ts';

interface CreateFlags {
  readonly amountMsat?: string;
  readonly description: string;
  readonly descriptionHash?: string;
  readonly metadata?: string;
  readonly routeHints?: string;
  readonly expiry?: string;
  readonly preimage?: string;
  readonly idempotencyKey?: string;
}

/** One year. */
const MAX_EXPIRY_SECONDS = 31_536_000;

export function invoiceCommands(program: Command, context: CliContext): void {
  const invoice = program
    .command('invoice')
    .alias('invoices')
    .description('Invoices: what others pay to this node');
  examples(invoice, [
    ['invoice create 25000 -d "two coffees"', ''],
    ['invoice decode lnbc…', ''],
  ]);
  createCommand(invoice, context);

  const lookup = invoice
    .command('lookup')
    .argument('<payment_hash>', '64 hex digits')
    .description('One invoice, and whether it was paid')
    .action(async (hash: string) => {
      const request = { paymentHash: parse.bytes('<payment_hash>', hash, 32) };
      const session = await context.session();
      const answer = await session.call(
        (d) => d.InvoiceServiceService,
        (client, call) => client.lookupInvoice(request, call),
      );
      context.print(answer, invoiceCard);
    });
  examples(lookup, [['invoice lookup 9c1f…', 'with all 64 digits']]);

  const list = invoice
    .command('list')
    .option('--limit <n>', 'how many, the newest first', '100')
    .description('The latest invoices')
    .action(async (options: { limit: string }) => {
      const request = { limit: parse.whole('--limit', options.limit, 1, 1000) };
      const session = await context.session();
      const answer = await session.call(
        (d) => d.InvoiceServiceService,
        (client, call) => client.listInvoices(request, call),
      );
      context.print(answer, (found) =>
        table(found.invoices, INVOICES, 'No invoices. Make one with: fulmen invoice create'),
      );
    });
  examples(list, [['invoice list --limit 20', '']]);

  const decode = invoice
    .command('decode')
    .argument('<bolt11>', 'an invoice')
    .description('What an invoice says')
    .action(async (bolt11: string) => {
      const request = { bolt11: parse.bolt11(bolt11) };
      const session = await context.session();
      const answer = await session.call(
        (d) => d.InvoiceServiceService,
        (client, call) => client.decodeInvoice(request, call),
      );
      context.print(answer, (says) =>
        card([
          ['pay to', hex(says.payeeNodeId)],
          ['amount', says.amountMsat === 0n ? 'any' : msat(says.amountMsat)],
          ['description', says.description],
          ['payment hash', hex(says.paymentHash)],
          ['created', time(says.createdUnixSeconds * 1000n)],
          ['expires', time((says.createdUnixSeconds + says.expirySeconds) * 1000n)],
          ['final delta', `${grouped(says.minFinalCltvExpiryDelta)} blocks`],
          ['network', says.network],
        ]),
      );
    });
  examples(decode, [['invoice decode lnbc250u1p…', '']]);
}

function createCommand(invoice: Command, context: CliContext): void {
  const create = invoice
    .command('create')
    .argument('[amount_sat]', 'without it the payer chooses')
    .option('--amount-msat <msat>', 'the amount in millisatoshis instead')
    .option('-d, --description <text>', 'what is paid for', '')
    .option('--description-hash <hex>', 'SHA-256 of a description given elsewhere, instead of it')
    .option('--metadata <hex>', 'what the payer must give back, at most 256 bytes')
    .option('--route-hints <when>', 'always or never tell of unannounced channels')
    .option('--expiry <seconds>', 'default 3600')
    .option('--preimage <hex>', '32 bytes; drawn by the node otherwise')
    .option('--idempotency-key <text>', 'asking twice with one key makes one invoice')
    .description('Make an invoice')
    .action(async (amount: string | undefined, options: CreateFlags) => {
      if (amount !== undefined && options.amountMsat !== undefined)
        throw usage('Give the amount once: in satoshis, or with --amount-msat.');
      const request = {
        amountMsat:
          amount !== undefined
            ? parse.amountSat('<amount_sat>', amount) * 1000n
            : options.amountMsat !== undefined
              ? parse.amountMsat('--amount-msat', options.amountMsat)
              : 0n,
        description: options.description,
        ...(options.descriptionHash === undefined
          ? {}
          : { descriptionHash: parse.bytes('--description-hash', options.descriptionHash, 32) }),
        ...(options.metadata === undefined
          ? {}
          : { paymentMetadata: parse.anyBytes('--metadata', options.metadata) }),
        ...(options.routeHints === undefined ? {} : { routeHints: options.routeHints }),
        ...(options.expiry === undefined
          ? {}
          : { expirySeconds: parse.whole('--expiry', options.expiry, 1, MAX_EXPIRY_SECONDS) }),
        ...(options.preimage === undefined
          ? {}
          : { preimage: parse.bytes('--preimage', options.preimage, 32) }),
        idempotencyKey: options.idempotencyKey ?? '',
      };
      const session = await context.session();
      const answer = await session.call(
        (d) => d.InvoiceServiceService,
        (client, call) => client.createInvoice(request, call),
      );
      context.print(answer, ({ bolt11, paymentHash }) =>
        card([
          ['invoice', bolt11],
          ['payment hash', hex(paymentHash)],
        ]),
      );
    });
  examples(create, [
    ['invoice create 25000 -d "two coffees"', '25,000 sat'],
    ['invoice create --amount-msat 1500 --expiry 600', '1.5 sat, for ten minutes'],
    ['invoice create -d donation', 'the payer chooses the amount'],
  ]);
}

function invoiceCard(invoice: Invoice): string {
  return card([
    ['status', invoice.status],
    ['amount', invoice.amountMsat === 0n ? 'any' : msat(invoice.amountMsat)],
    ['received', invoice.receivedMsat === 0n ? '' : msat(invoice.receivedMsat)],
    ['description', invoice.description],
    ['payment hash', hex(invoice.paymentHash)],
    ['created', time(invoice.createdUnixMs)],
    ['expires', time(invoice.expiresUnixMs)],
    ['paid', time(invoice.paidUnixMs ?? 0n)],
    ['invoice', invoice.bolt11],
  ]);
}

const INVOICES: readonly Column<Invoice>[] = [
  { title: 'CREATED', value: ({ createdUnixMs }) => time(createdUnixMs) },
  { title: 'PAYMENT HASH', value: ({ paymentHash }) => short(hex(paymentHash)) },
  {
    title: 'AMOUNT',
    value: ({ amountMsat }) => (amountMsat === 0n ? 'any' : msat(amountMsat)),
    align: 'right',
  },
  {
    title: 'RECEIVED',
    value: ({ receivedMsat }) => (receivedMsat === 0n ? '' : msat(receivedMsat)),
    align: 'right',
  },
  { title: 'STATUS', value: ({ status }) => status },
  { title: 'DESCRIPTION', value: ({ description }) => clip(description, 40) },
];
