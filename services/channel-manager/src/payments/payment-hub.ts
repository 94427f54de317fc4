/**
 * All payments of the shards that this replica owns: finds the actor of a
 * payment hash, brings it what other shards left, and answers the API.
 */
import { concatBytes, equalBytes, Reader, toHex, utf8Encode, Writer } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { decodeInvoice, type InvoiceError } from '@fulmen/invoice';
import {
  invoicePaymentParameters,
  type InvoiceParametersError,
  spontaneousPaymentParameters,
} from '@fulmen/payment';
import { RpcError } from '@fulmen/rpc';
import type { Fence, Intent, LoadedPayment, Resolution } from '@fulmen/store';
import { shardOfPaymentHash } from '../lease/placement.ts';
import {
  currencyOf,
  type InvoiceRequest,
  type InvoiceSeed,
  makeInvoice,
  routeHintsOf,
} from './create-invoice.ts';
import { InboundPayment } from './inbound-payment.ts';
import { type AttemptIndex, OutboundPayment } from './outbound-payment.ts';
import { movedError, PaymentActor } from './payment-actor.ts';
import type { PaymentHost } from './payment-host.ts';
import { isFinished, type OutboundRecord } from './record.ts';

/** A command for a payment whose shard this replica does not own. */
export class ShardElsewhereError extends Error {
  override readonly name = 'ShardElsewhereError';
  readonly shard: number;

  constructor(shard: number) {
    super(`shard ${shard} of this payment is not owned here`);
    this.shard = shard;
  }
}

export interface SendRequest {
  readonly bolt11: string;
  /** For invoices without an amount; others may be overpaid up to twice. */
  readonly amountMsat: bigint | undefined;
  /** undefined: 1 % and at least 10 sat. */
  readonly maxFeeMsat: bigint | undefined;
  /** Seconds after which no attempt begins; undefined: 60. */
  readonly timeoutSeconds: number | undefined;
  /** Most parts at a time, 1 to `MAX_SENT_PARTS`; undefined: as many as that. */
  readonly maxParts?: number;
}

export interface KeysendRequest extends Pick<SendRequest, 'maxFeeMsat' | 'timeoutSeconds'> {
  readonly payee: Uint8Array;
  readonly amountMsat: bigint;
  /** Two requests with one key are one payment; empty: none. */
  readonly idempotencyKey: string;
}

export interface CreatedInvoice {
  readonly bolt11: string;
  readonly paymentHash: Uint8Array;
}

interface Payment {
  readonly actor: PaymentActor;
  readonly inbound: InboundPayment;
  readonly outbound: OutboundPayment;
}

const MIN_DEFAULT_FEE_MSAT = 10_000n;
const DEFAULT_FEE_DIVISOR = 100n;
/** One shard of 256 is found within so many draws but for one case in 10^17. */
const MAX_DRAWS = 10_000;

export class PaymentHub {
  readonly #host: PaymentHost;
  readonly #payments = new Map<string, Payment>();
  readonly #byAttempt = new Map<string, OutboundPayment>();
  readonly #attempts: AttemptIndex = {
    add: (attemptId, payment) => this.#byAttempt.set(toHex(attemptId), payment),
    remove: (attemptId) => this.#byAttempt.delete(toHex(attemptId)),
  };

  constructor(host: PaymentHost) {
    this.#host = host;
  }

  /** Payments in memory: the open invoices and the pending payments of the owned shards. */
  get size(): number {
    return this.#payments.size;
  }

  // --- shards ------------------------------------------------------------------------

  /** Takes up a shard's payments as they were stored. */
  load(fence: Fence, payments: readonly LoadedPayment[]): void {
    this.drop(fence.shard);
    for (const loaded of payments) this.#add(fence, loaded.paymentHash, loaded);
  }

  /** Ends every payment of a shard at once; nothing of it is written any more. */
  drop(shard: number): void {
    for (const [key, payment] of this.#payments) {
      if (payment.actor.fence.shard === shard) this.#end(key, payment);
    }
  }

  /** Resolves when a shard's payments have finished what they were doing. */
  async idle(shard: number): Promise<void> {
    const actors = [...this.#payments.values()].filter(({ actor }) => actor.fence.shard === shard);
    await Promise.all(actors.map(({ actor }) => actor.idle));
  }

  // --- what other shards left --------------------------------------------------------

  /** An HTLC for one of our invoices. May come again and again until it is claimed. */
  onIntent(intent: Intent): void {
    if (intent.target.type === 'local') this.#find(intent.target.paymentHash)?.inbound.offer(intent);
  }

  /** The end of an attempt of ours. May come again and again until it is taken. */
  onResolution(resolution: Resolution): void {
    if (resolution.source.type === 'payment')
      this.#byAttempt.get(toHex(resolution.source.attemptId))?.resolve(resolution);
  }

  /** About once a second: time-outs of parts, invoices and attempts. */
  tick(): void {
    for (const { actor, inbound, outbound } of this.#payments.values()) {
      if (actor.isGone) {
        outbound.end(movedError());
        continue;
      }
      inbound.tick();
      outbound.tick();
    }
  }

  // --- the API -----------------------------------------------------------------------

  /**
   * Makes an invoice and stores it before it is shown to anybody.
   * @throws RpcError; ShardElsewhereError for a preimage of another replica's shard.
   */
  async createInvoice(request: InvoiceRequest): Promise<CreatedInvoice> {
    const { ports, node } = this.#host;
    const seed = await this.#seedOf(request);
    const paymentHash = sha256(seed.preimage);
    const { actor } = this.#require(paymentHash);
    return actor.run(async () => {
      const { record } = actor;
      if (record !== undefined) {
        // The first request under this key got as far as the store.
        if (
          record.kind === 'inbound' &&
          request.idempotencyKey !== '' &&
          equalBytes(record.paymentSecret, seed.paymentSecret)
        ) {
          return { bolt11: record.bolt11, paymentHash };
        }
        throw new RpcError(
          'already_exists',
          'the hash of this preimage is in use by another invoice or payment; give another preimage',
        );
      }
      const hints = await routeHintsOf(ports.store, request);
      const made = await makeInvoice(ports.signer, currencyOf(node.chainHash), request, seed, hints);
      await actor.commit(made);
      return { bolt11: made.bolt11, paymentHash };
    });
  }

  /**
   * Begins to pay an invoice; returns the earlier payment when it is pending or
   * succeeded already.
   * @throws RpcError; ShardElsewhereError when another replica owns the payment's shard.
   */
  async sendPayment(
    request: SendRequest,
  ): Promise<{ readonly paymentHash: Uint8Array; readonly record: OutboundRecord }> {
    const { ports, node } = this.#host;
    const decoded = decodeInvoice(ports.secp, request.bolt11);
    if (!decoded.ok)
      throw new RpcError(
        'invalid_argument',
        `this is no invoice that can be paid: ${invoiceFault(decoded.error)}`,
      );
    const invoice = decoded.value;
    const { paymentHash } = invoice;
    if (equalBytes(invoice.payeeNodeId, node.nodeId)) {
      throw new RpcError('invalid_argument', 'this invoice is this node’s own: it cannot pay itself');
    }
    const payment = this.#require(paymentHash);
    const amountMsat = request.amountMsat ?? invoice.amountMsat ?? 0n;
    const nowSeconds = Math.floor(ports.runtime.wallClockMs() / 1000);
    const parameters = invoicePaymentParameters(
      invoice,
      currencyOf(node.chainHash),
      {
        ...(request.amountMsat === undefined ? {} : { amountMsat: request.amountMsat }),
        maxFeeMsat: request.maxFeeMsat ?? defaultMaxFeeMsat(amountMsat),
        ...(request.timeoutSeconds === undefined ? {} : { timeoutSeconds: request.timeoutSeconds }),
        ...(request.maxParts === undefined ? {} : { maxParts: request.maxParts }),
      },
      nowSeconds,
    );
    if (!parameters.ok) {
      // What became of it is worth more than why it could not begin now.
      const earlier = await this.#earlier(payment);
      if (earlier !== undefined) return { paymentHash, record: earlier };
      throw new RpcError('invalid_argument', PARAMETER_FAULTS[parameters.error]);
    }
    return { paymentHash, record: await payment.outbound.start(request.bolt11, parameters.value) };
  }

  /**
   * Begins to pay a node without an invoice; under the key of an earlier request returns that payment, or tries it
   * anew when it has failed.
   * @throws RpcError; ShardElsewhereError when another replica owns the payment's shard.
   */
  async sendKeysend(
    request: KeysendRequest,
  ): Promise<{ readonly paymentHash: Uint8Array; readonly record: OutboundRecord }> {
    const { ports, node } = this.#host;
    const { payee, amountMsat } = request;
    if (equalBytes(payee, node.nodeId)) throw new RpcError('invalid_argument', 'this node cannot pay itself');
    const preimage = await this.#keysendPreimage(request);
    const parameters = spontaneousPaymentParameters(
      { payee, amountMsat, preimage },
      {
        maxFeeMsat: request.maxFeeMsat ?? defaultMaxFeeMsat(amountMsat),
        ...(request.timeoutSeconds === undefined ? {} : { timeoutSeconds: request.timeoutSeconds }),
      },
      Math.floor(ports.runtime.wallClockMs() / 1000),
    );
    const { paymentHash } = parameters;
    return { paymentHash, record: await this.#require(paymentHash).outbound.start('', parameters) };
  }

  /**
   * Resolves with the payment once it has succeeded or failed.
   * @throws RpcError; ShardElsewhereError when another replica owns the payment's shard.
   */
  async waitFor(paymentHash: Uint8Array, signal?: AbortSignal): Promise<OutboundRecord> {
    const payment = this.#require(paymentHash);
    // Not awaited inside the actor's work, which would stop the payment that is waited for.
    const wait = await payment.actor.run(() => {
      if (payment.actor.record?.kind !== 'outbound')
        throw new RpcError('not_found', 'no payment of this node has this payment hash');
      return Promise.resolve({ outcome: payment.outbound.outcome(signal) });
    });
    return wait.outcome;
  }

  // --- parts ---------------------------------------------------------------------------

  #earlier(payment: Payment): Promise<OutboundRecord | undefined> {
    return payment.actor.run(() => {
      const { record } = payment.actor;
      return Promise.resolve(
        record?.kind === 'outbound' && record.state.type !== 'failed' ? record : undefined,
      );
    });
  }

  /** Draws what an invoice needs, or recalls it by the idempotency key. */
  async #seedOf(request: InvoiceRequest): Promise<InvoiceSeed> {
    const { runtime, store } = this.#host.ports;
    const drawn: InvoiceSeed = {
      preimage: request.preimage ?? this.#drawPreimage(),
      paymentSecret: runtime.randomBytes(32),
      createdUnixMs: runtime.wallClockMs(),
    };
    if (request.idempotencyKey === '') return drawn;
    const digest = requestDigest(request);
    const first = new Reader(
      await store.idempotent(`invoice:${request.idempotencyKey}`, encodeSeed(drawn, digest)),
    );
    const seed: InvoiceSeed = {
      preimage: first.bytes(32),
      paymentSecret: first.bytes(32),
      createdUnixMs: Number(first.u64()),
    };
    if (!equalBytes(first.rest(), digest)) {
      throw new RpcError(
        'invalid_argument',
        'this idempotency key was used for another invoice; use a new key',
      );
    }
    return seed;
  }

  /** Draws the preimage of a payment without an invoice, or recalls it by the idempotency key. */
  async #keysendPreimage({ payee, amountMsat, idempotencyKey }: KeysendRequest): Promise<Uint8Array> {
    const drawn = this.#drawPreimage();
    if (idempotencyKey === '') return drawn;
    const what = new Writer(41).bytes(payee).u64(amountMsat).finish();
    const { store } = this.#host.ports;
    const first = new Reader(await store.idempotent(`keysend:${idempotencyKey}`, concatBytes(drawn, what)));
    const preimage = first.bytes(32);
    if (equalBytes(first.rest(), what)) return preimage;
    throw new RpcError(
      'invalid_argument',
      'this idempotency key was used for another payment; use a new key',
    );
  }

  /** A preimage whose hash falls into a shard owned here spares the caller a redirect. */
  #drawPreimage(): Uint8Array {
    for (let draws = 0; draws < MAX_DRAWS; draws++) {
      const preimage = this.#host.ports.runtime.randomBytes(32);
      if (this.#host.fenceOf(shardOfPaymentHash(sha256(preimage))) !== undefined) return preimage;
    }
    throw new RpcError(
      'unavailable',
      'this replica owns no shard of payments now; ask another one, or try again in a moment',
    );
  }

  #require(paymentHash: Uint8Array): Payment {
    const payment = this.#find(paymentHash);
    if (payment === undefined) throw new ShardElsewhereError(shardOfPaymentHash(paymentHash));
    return payment;
  }

  /** The payment of a hash, taken into memory if need be; undefined when its shard is not owned here. */
  #find(paymentHash: Uint8Array): Payment | undefined {
    const fence = this.#host.fenceOf(shardOfPaymentHash(paymentHash));
    if (fence === undefined) return undefined;
    const key = toHex(paymentHash);
    const payment = this.#payments.get(key);
    if (payment === undefined) return this.#add(fence, paymentHash, undefined);
    // One that ended by itself stays until its shard is dropped, so that nothing works on its row meanwhile.
    return payment.actor.fence.epoch === fence.epoch ? payment : undefined;
  }

  #add(fence: Fence, paymentHash: Uint8Array, loaded: LoadedPayment | undefined): Payment {
    const key = toHex(paymentHash);
    const actor = new PaymentActor(this.#host, fence, paymentHash, loaded, () => this.#whenIdle(key));
    const payment: Payment = {
      actor,
      inbound: new InboundPayment(actor),
      outbound: new OutboundPayment(actor, this.#attempts),
    };
    this.#payments.set(key, payment);
    return payment;
  }

  /** What is finished, or never was, leaves memory; the store keeps it. */
  #whenIdle(key: string): void {
    const payment = this.#payments.get(key);
    if (payment === undefined || payment.actor.isGone || payment.actor.queued > 0) return;
    const { record } = payment.actor;
    if (record !== undefined && !isFinished(record)) return;
    if (!payment.inbound.isHolding && !payment.outbound.isAwaited) this.#payments.delete(key);
  }

  #end(key: string, payment: Payment): void {
    payment.actor.end(movedError());
    payment.outbound.end(movedError());
    this.#payments.delete(key);
  }
}

/** 1 %, and at least what a few hops cost. */
export function defaultMaxFeeMsat(amountMsat: bigint): bigint {
  const share = amountMsat / DEFAULT_FEE_DIVISOR;
  return share > MIN_DEFAULT_FEE_MSAT ? share : MIN_DEFAULT_FEE_MSAT;
}

function encodeSeed(seed: InvoiceSeed, digest: Uint8Array): Uint8Array {
  return new Writer(104)
    .bytes(seed.preimage)
    .bytes(seed.paymentSecret)
    .u64(BigInt(seed.createdUnixMs))
    .bytes(digest)
    .finish();
}

function requestDigest(request: InvoiceRequest): Uint8Array {
  const description = utf8Encode(request.description);
  const header = new Writer(64)
    .u64(request.amountMsat ?? 0n)
    .u32(request.expirySeconds ?? 0)
    .u8(request.preimage === undefined ? 0 : 1)
    .bytes(request.preimage ?? new Uint8Array(0));
  return sha256(concatBytes(header.finish(), description, ...fieldsOf(request)));
}

/** The fields that not every release knew: absent, they leave the digest as it was. */
function fieldsOf({ descriptionHash, paymentMetadata }: InvoiceRequest): Uint8Array[] {
  return [descriptionHash, paymentMetadata].flatMap((field, index) =>
    field === undefined ? [] : [Uint8Array.of(0, index + 1, field.length & 0xff), field],
  );
}

const PARAMETER_FAULTS: Readonly<Record<InvoiceParametersError, string>> = {
  expired: 'this invoice has expired; ask the payee for a new one',
  wrong_network: 'this invoice is for another network',
  amount_required: 'this invoice leaves the amount to the payer; give amount_msat',
  amount_too_low: 'the amount is less than the invoice asks for; leave amount_msat out to pay what it asks',
  amount_too_high:
    'the amount is more than twice what the invoice asks for; leave amount_msat out to pay what it asks',
  unknown_required_feature: 'this invoice requires a feature that this node does not know',
};

function invoiceFault(error: InvoiceError): string {
  return 'field' in error ? `${error.kind} “${error.field}”` : error.kind;
}
