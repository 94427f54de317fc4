/** pay, keysend; payments list, lookup. */
import type { Command } from 'commander';
import type { Payment, PaymentAttempt, PaymentAttemptFailure } from '@fulmen/proto/manager/v1/manager';
import { type CliContext, examples } from '../context.ts';
import { hex, msat, scid, short, time } from '../format.ts';
import { CliError, usage } from '../io.ts';
import { card, type Column, table } from '../output.ts';
import * as parse from '../parse.ts';

interface PayFlags {
  readonly amountSat?: string;
  readonly amountMsat?: string;
  readonly maxFeeSat?: string;
  readonly timeout: string;
  readonly maxParts?: string;
  readonly wait: boolean;
  readonly idempotencyKey?: string;
}

/** Beyond the payment's own limit: HTLCs fail back, and the fleet answers. */
const MARGIN_MS = 35_000;

export function paymentCommands(program: Command, context: CliContext): void {
  payCommand(program, context);
  keysendCommand(program, context);
  const payments = program.command('payments').description('What this node paid');
  examples(payments, [
    ['payments list', ''],
    ['payments lookup 9c1f…', ''],
  ]);

  const list = payments
    .command('list')
    .option('--limit <n>', 'how many, the newest first', '100')
    .description('The latest payments')
    .action(async (options: { limit: string }) => {
      const request = { limit: parse.whole('--limit', options.limit, 1, 1000) };
      const session = await context.session();
      const answer = await session.call(
        (d) => d.PaymentServiceService,
        (client, call) => client.listPayments(request, call),
      );
      context.print(answer, (found) => table(found.payments, PAYMENTS, 'No payments.'));
    });
  examples(list, [['payments list --limit 20', '']]);

  const lookup = payments
    .command('lookup')
    .argument('<payment_hash>', '64 hex digits')
    .description('One payment and its outcome')
    .action(async (hash: string) => {
      const request = { paymentHash: parse.bytes('<payment_hash>', hash, 32) };
      const session = await context.session();
      const answer = await session.call(
        (d) => d.PaymentServiceService,
        (client, call) => client.lookupPayment(request, call),
      );
      context.print(answer, paymentCard);
    });
  examples(lookup, [['payments lookup 9c1f…', 'with all 64 digits']]);
}

function payCommand(program: Command, context: CliContext): void {
  const pay = program
    .command('pay')
    .argument('<bolt11>', 'the invoice')
    .option('--amount-sat <sat>', 'for an invoice that names no amount')
    .option('--amount-msat <msat>', 'the same in millisatoshis')
    .option('--max-fee-sat <sat>', 'default: 1 % of the amount, at least 10 sat')
    .option('--timeout <seconds>', 'stop trying after this', '60')
    .option('--max-parts <n>', 'split into at most so many HTLCs when none can carry it: 1 to 16, default 16')
    .option('--no-wait', 'return at once, with the payment pending')
    .description('Pay an invoice')
    .action(async (bolt11: string, options: PayFlags) => {
      const timeoutSeconds = parse.whole('--timeout', options.timeout, 1, 3600);
      const amountMsat = amountOf(options);
      const request = {
        bolt11: parse.bolt11(bolt11),
        ...(amountMsat === undefined ? {} : { amountMsat }),
        ...(options.maxFeeSat === undefined
          ? {}
          : { maxFeeMsat: parse.amountSat('--max-fee-sat', options.maxFeeSat) * 1000n }),
        timeoutSeconds,
        ...(options.maxParts === undefined
          ? {}
          : { maxParts: parse.whole('--max-parts', options.maxParts, 1, 16) }),
        wait: options.wait,
      };
      const session = await context.session();
      await pays(context, options, timeoutSeconds, (deadlineMs) =>
        session.call(
          (d) => d.PaymentServiceService,
          (client, call) => client.sendPayment(request, call),
          deadlineMs,
        ),
      );
    });
  examples(pay, [
    ['pay lnbc250u1p…', 'and wait for the outcome'],
    ['pay lnbc1p… --amount-sat 1000', 'an invoice without an amount'],
    ['pay lnbc250u1p… --max-fee-sat 5 --timeout 20', 'for a small fee, or not at all'],
  ]);
}

function keysendCommand(program: Command, context: CliContext): void {
  const keysend = program
    .command('keysend')
    .argument('<node_id>', 'whom to pay, 66 hex digits')
    .argument('<amount_sat>', 'whole satoshis')
    .option('--max-fee-sat <sat>', 'default: 1 % of the amount, at least 10 sat')
    .option('--timeout <seconds>', 'stop trying after this', '60')
    .option('--no-wait', 'return at once, with the payment pending')
    .option('--idempotency-key <text>', 'asking twice with one key pays once')
    .description('Pay a node without an invoice')
    .action(async (nodeId: string, amount: string, options: PayFlags) => {
      const timeoutSeconds = parse.whole('--timeout', options.timeout, 1, 3600);
      const request = {
        payeeNodeId: parse.nodeId(nodeId),
        amountMsat: parse.amountSat('<amount_sat>', amount) * 1000n,
        ...(options.maxFeeSat === undefined
          ? {}
          : { maxFeeMsat: parse.amountSat('--max-fee-sat', options.maxFeeSat) * 1000n }),
        timeoutSeconds,
        wait: options.wait,
        idempotencyKey: options.idempotencyKey ?? '',
      };
      const session = await context.session();
      await pays(context, options, timeoutSeconds, (deadlineMs) =>
        session.call(
          (d) => d.PaymentServiceService,
          (client, call) => client.sendKeysend(request, call),
          deadlineMs,
        ),
      );
    });
  examples(keysend, [['keysend 03ab… 1000', 'the payee must accept payments without an invoice']]);
}

/** Pays, waits if asked to, and tells the outcome. */
async function pays(
  context: CliContext,
  { wait }: Pick<PayFlags, 'wait'>,
  timeoutSeconds: number,
  send: (deadlineMs: number) => Promise<Payment>,
): Promise<void> {
  if (wait) context.tell('Paying… (Ctrl-C stops waiting, not the payment)');
  const payment = await send((wait ? timeoutSeconds * 1000 : 0) + MARGIN_MS).catch((error: unknown) => {
    if (!context.io.interrupted.aborted) throw error;
    throw new CliError('No longer waiting. The payment may still succeed: see fulmen payments list.');
  });
  context.print(payment, paymentCard);
  if (payment.status === 'failed')
    throw new CliError(`The payment failed: ${FAILURES[payment.failureReason] ?? payment.failureReason}`);
  if (payment.status === 'pending' && wait)
    throw new CliError('The payment is still on its way. See its outcome with fulmen payments lookup.');
}

function amountOf({ amountSat, amountMsat }: PayFlags): bigint | undefined {
  if (amountSat !== undefined && amountMsat !== undefined)
    throw usage('Give the amount once: --amount-sat or --amount-msat.');
  if (amountSat !== undefined) return parse.amountSat('--amount-sat', amountSat) * 1000n;
  return amountMsat === undefined ? undefined : parse.amountMsat('--amount-msat', amountMsat);
}

/** What the reasons mean, and what helps. */
const FAILURES: Readonly<Record<string, string>> = {
  no_route:
    'no route to the payee has room for it. Try a smaller amount, a higher --max-fee-sat, or open a channel.',
  recipient_rejected: 'the payee refused it. Is the invoice unpaid and not expired?',
  timeout: 'no attempt succeeded in time. Try again with a longer --timeout.',
  retries_exhausted: 'every route that was tried failed. Try again later, or with a higher --max-fee-sat.',
  invoice_expired: 'the invoice has expired. Ask the payee for a new one.',
  insufficient_outbound:
    'the channels of this node cannot send that much. See CAN SEND in fulmen channels list.',
  fee_limit: 'every route costs more than the limit. Try a higher --max-fee-sat.',
};

function paymentCard(payment: Payment): string {
  const summary = card([
    ['status', payment.status],
    ['amount', msat(payment.amountMsat)],
    ['fee', payment.status === 'succeeded' ? msat(payment.feeMsat) : ''],
    ['attempts', String(payment.attempts)],
    ['payment hash', hex(payment.paymentHash)],
    ['preimage', hex(payment.preimage)],
    ['failure', payment.failureReason],
    ['last refusal', lastRefusal(payment)],
    ['created', time(payment.createdUnixMs)],
  ]);
  const { attemptRecords } = payment;
  return attemptRecords.length < 2 ? summary : `${summary}\n${table(attemptRecords, ATTEMPTS, '')}`;
}

/** The HTLCs of a payment, by the channel that each left by. */
const ATTEMPTS: readonly Column<PaymentAttempt>[] = [
  { title: 'HTLC', value: ({ attemptNumber }) => String(attemptNumber) },
  { title: 'CHANNEL', value: ({ route }) => (route[0] === undefined ? '' : scid(route[0].shortChannelId)) },
  { title: 'AMOUNT', value: ({ amountMsat }) => msat(amountMsat), align: 'right' },
  { title: 'FEE', value: ({ feeMsat }) => msat(feeMsat), align: 'right' },
  { title: 'STATUS', value: ({ status }) => status },
  { title: 'FAILURE', value: ({ failure }) => refusal(failure) },
];

/** What the latest failed attempt failed with, and where. */
function lastRefusal({ attemptRecords }: Payment): string {
  const failure = attemptRecords.findLast(({ status }) => status === 'failed')?.failure;
  return refusal(failure);
}

function refusal(failure: PaymentAttemptFailure | undefined): string {
  if (failure === undefined) return '';
  return failure.nodeId.length === 0 ? failure.code : `${failure.code} at ${hex(failure.nodeId)}`;
}

const PAYMENTS: readonly Column<Payment>[] = [
  { title: 'CREATED', value: ({ createdUnixMs }) => time(createdUnixMs) },
  { title: 'PAYMENT HASH', value: ({ paymentHash }) => short(hex(paymentHash)) },
  { title: 'AMOUNT', value: ({ amountMsat }) => msat(amountMsat), align: 'right' },
  {
    title: 'FEE',
    value: ({ status, feeMsat }) => (status === 'succeeded' ? msat(feeMsat) : ''),
    align: 'right',
  },
  { title: 'STATUS', value: ({ status }) => status },
  { title: 'FAILURE', value: ({ failureReason }) => failureReason },
];
