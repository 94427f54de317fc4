/**
 * PaymentService: what this node pays. The payment hash is the payment's key in
 * the fleet: sending an invoice that is on its way, or was paid, pays nothing
 * more and returns that payment. So a caller who lost the connection may ask
 * again.
 */
import type { Payment, SendKeysendRequest, SendPaymentRequest } from '@fulmen/proto/manager/v1/manager';
import type { PaymentServiceService } from '@fulmen/proto/node/v1/node';
import { type Handlers, RpcError } from '@fulmen/rpc';
import type { Call } from '../auth/guard.ts';
import { refuse } from '../errors.ts';
import { idempotencyKey, listLimit, requireBytes, requireNodeId, requirePositive } from '../validate.ts';
import { requireInvoice } from './bolt11.ts';
import { command, type ConsoleContext, query } from './context.ts';

export const DEFAULT_TIMEOUT_SECONDS = 60;
const MAX_TIMEOUT_SECONDS = 3_600;
/** Most HTLCs of one payment at a time. */
const MAX_PARTS = 16;
/** After the payment's own time limit: for HTLCs that are failing back. */
const WAIT_MARGIN_MS = 30_000;
const LOOKUP_INTERVAL_MS = 250;

export function paymentService(context: ConsoleContext): Handlers<typeof PaymentServiceService> {
  const { guard, managers } = context;
  return {
    sendPayment: guard.unary(
      {
        name: 'PaymentService.SendPayment',
        scope: 'pay',
        audit: ({ bolt11, amountMsat, maxFeeMsat, timeoutSeconds, maxParts, wait }, response) => ({
          bolt11,
          amountMsat,
          maxFeeMsat,
          timeoutSeconds,
          maxParts,
          wait,
          paymentHash: response?.paymentHash,
          status: response?.status,
          feeMsat: response?.feeMsat,
        }),
      },
      (request, call) => sendPayment(context, request, call),
    ),
    sendKeysend: guard.unary(
      {
        name: 'PaymentService.SendKeysend',
        scope: 'pay',
        audit: (
          { payeeNodeId, amountMsat, maxFeeMsat, timeoutSeconds, wait, idempotencyKey: key },
          response,
        ) => ({
          payeeNodeId,
          amountMsat,
          maxFeeMsat,
          timeoutSeconds,
          wait,
          key,
          paymentHash: response?.paymentHash,
          status: response?.status,
          feeMsat: response?.feeMsat,
        }),
      },
      (request, call) => sendKeysend(context, request, call),
    ),
    lookupPayment: guard.unary({ name: 'PaymentService.LookupPayment', scope: 'read' }, (request, call) => {
      requireBytes('payment_hash', request.paymentHash, 32);
      return managers.run((client, options) => client.lookupPayment(request, options), query(call));
    }),
    listPayments: guard.unary({ name: 'PaymentService.ListPayments', scope: 'read' }, ({ limit }, call) => {
      const bounded = { limit: listLimit(limit) };
      return managers.run((client, options) => client.listPayments(bounded, options), query(call));
    }),
  };
}

async function sendPayment(
  context: ConsoleContext,
  request: SendPaymentRequest,
  call: Call,
): Promise<Payment> {
  const { paymentHash, amountMsat } = requireInvoice(context.curve, request.bolt11);
  if (amountMsat === undefined && request.amountMsat === undefined)
    throw refuse('invalid_argument', 'This invoice names no amount: amount_msat must.');
  if (amountMsat !== undefined && request.amountMsat !== undefined && request.amountMsat !== amountMsat)
    throw refuse('invalid_argument', `This invoice asks for ${amountMsat} msat: leave amount_msat out.`);
  if (request.amountMsat !== undefined) requirePositive('amount_msat', request.amountMsat);
  const { maxParts } = request;
  if (maxParts !== undefined && (maxParts < 1 || maxParts > MAX_PARTS))
    throw refuse('invalid_argument', `max_parts must be 1 to ${MAX_PARTS}.`);
  const { managers } = context;
  const timing = timingOf(context, request, call);
  const timed = { ...request, timeoutSeconds: timing.timeoutSeconds };
  const payment = await managers.run(
    (client, options) =>
      client.sendPayment(timed, options).catch((error: unknown) => {
        if (!(error instanceof RpcError) || error.code !== 'already_exists') throw error;
        return client.lookupPayment({ paymentHash }, options);
      }),
    { deadlineMs: timing.deadlineMs, signal: call.signal },
  );
  return request.wait ? outcome(context, payment, timing.endMs, call) : payment;
}

async function sendKeysend(
  context: ConsoleContext,
  request: SendKeysendRequest,
  call: Call,
): Promise<Payment> {
  requireNodeId(request.payeeNodeId);
  requirePositive('amount_msat', request.amountMsat);
  const timing = timingOf(context, request, call);
  const keyed = {
    ...request,
    timeoutSeconds: timing.timeoutSeconds,
    idempotencyKey: idempotencyKey(request.idempotencyKey, context.runtime.randomBytes),
  };
  const payment = await context.managers.run((client, options) => client.sendKeysend(keyed, options), {
    deadlineMs: timing.deadlineMs,
    signal: call.signal,
  });
  return request.wait ? outcome(context, payment, timing.endMs, call) : payment;
}

interface Timing {
  readonly timeoutSeconds: number;
  readonly deadlineMs: number;
  readonly endMs: number;
}

function timingOf(
  { runtime }: ConsoleContext,
  request: Pick<SendPaymentRequest, 'timeoutSeconds' | 'wait'>,
  call: Call,
): Timing {
  const timeoutSeconds = request.timeoutSeconds ?? DEFAULT_TIMEOUT_SECONDS;
  if (timeoutSeconds < 1 || timeoutSeconds > MAX_TIMEOUT_SECONDS)
    throw refuse('invalid_argument', `timeout_seconds must be 1 to ${MAX_TIMEOUT_SECONDS}.`);
  const deadlineMs = request.wait ? timeoutSeconds * 1000 + WAIT_MARGIN_MS : command(call).deadlineMs;
  return { timeoutSeconds, deadlineMs, endMs: runtime.monotonicMs() + deadlineMs };
}

async function outcome(
  { managers, runtime }: ConsoleContext,
  begun: Payment,
  endMs: number,
  call: Call,
): Promise<Payment> {
  const { paymentHash } = begun;
  let payment = begun;
  // The payment outlives the replica that began it: whoever has it now knows the outcome.
  while (payment.status === 'pending' && runtime.monotonicMs() < endMs) {
    await runtime.sleep(LOOKUP_INTERVAL_MS, call.signal);
    payment = await managers.run(
      (client, options) => client.lookupPayment({ paymentHash }, options),
      query(call),
    );
  }
  return payment;
}
