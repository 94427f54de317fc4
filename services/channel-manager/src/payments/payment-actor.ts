/**
 * The one writer of a payment hash: work runs strictly one after the other,
 * and what is in memory moves only after its commit. Whatever leaves the
 * outcome of a commit in doubt ends the actor; the shard is loaded again.
 */
import { InternalError, assertNever, toHex } from '@fulmen/codec';
import { RpcError } from '@fulmen/rpc';
import type { CommitUnit, Fence, HtlcSource, LoadedPayment } from '@fulmen/store';
import { emptyForwarding, type GrowingForwarding } from '../engine/forwarding.ts';
import { decodePaymentRecord, encodePaymentRecord } from './codec.ts';
import type { PaymentHost } from './payment-host.ts';
import { type PaymentRecord, rowOf } from './record.ts';

/** What a commit of a payment may answer its actor; everything else ends the actor. */
export type PaymentVerdict =
  | { readonly type: 'committed' }
  /** Somebody else claimed this intent: go on without it. */
  | { readonly type: 'intent_lost'; readonly source: HtlcSource }
  /** A resolution is another one by now: read it again. */
  | { readonly type: 'resolution_changed'; readonly source: HtlcSource };

/** Pieces of work waiting for one payment hash; what exceeds it is refused, or comes again from the store. */
const MAX_QUEUED = 1_024;

export class PaymentActor {
  readonly host: PaymentHost;
  readonly fence: Fence;
  readonly paymentHash: Uint8Array;
  /** As committed; undefined while there is none, and before the first piece of work of an actor not loaded yet. */
  record: PaymentRecord | undefined;
  #version = 0n;
  #loaded = false;
  #gone: RpcError | undefined;
  #tail: Promise<unknown> = Promise.resolve();
  #queued = 0;
  readonly #whenIdle: () => void;

  /** @param whenIdle called when nothing is queued any more. */
  constructor(
    host: PaymentHost,
    fence: Fence,
    paymentHash: Uint8Array,
    loaded: LoadedPayment | undefined,
    whenIdle: () => void,
  ) {
    this.host = host;
    this.fence = fence;
    this.paymentHash = paymentHash;
    this.#whenIdle = whenIdle;
    if (loaded !== undefined) this.#take(loaded);
  }

  get queued(): number {
    return this.#queued;
  }

  /** Settles when the work queued so far has ended. */
  get idle(): Promise<unknown> {
    return this.#tail;
  }

  get isGone(): boolean {
    return this.#gone !== undefined;
  }

  /** Refuses all further work. */
  end(reason: RpcError): void {
    this.#gone ??= reason;
  }

  /** Runs one piece of work after all before it. Rejects when the actor ended meanwhile. */
  run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    if (this.#queued >= MAX_QUEUED) {
      return Promise.reject(
        new RpcError('resource_exhausted', 'too many requests for this payment hash; try again later'),
      );
    }
    this.#queued += 1;
    const result = this.#tail.then(async () => {
      this.#assertHere();
      await this.#load();
      return work();
    });
    this.#tail = result
      .catch(() => undefined)
      .then(() => {
        this.#queued -= 1;
        if (this.#queued === 0) this.#whenIdle();
      });
    return result;
  }

  /** The same for work whose outcome nobody waits for; never rejects. */
  runDetached(what: string, work: () => Promise<void>): Promise<void> {
    return this.run(work).catch((error: unknown) => {
      if (this.#gone !== undefined) return;
      this.host.ports.logger.error({ err: error, paymentHash: toHex(this.paymentHash) }, `${what} failed`);
    });
  }

  /**
   * Commits the next record with its forwarding rows, then takes it up and
   * hands the rows over. Rejects when the actor ended.
   *
   * @param record undefined: there is none, and the rows go alone
   */
  async commit(
    record: PaymentRecord | undefined,
    forwarding: GrowingForwarding = emptyForwarding(),
  ): Promise<PaymentVerdict> {
    this.#assertHere();
    const { paymentHash } = this;
    const { verdict } = await this.host.ports.committer
      .submit(this.#unitOf(record, forwarding))
      .catch((error: unknown) => {
        this.host.ports.logger.error(
          { err: error, paymentHash: toHex(paymentHash) },
          'nobody knows whether a payment was committed',
        );
        throw this.#lose('the outcome of a commit is unknown');
      });
    switch (verdict.type) {
      case 'committed':
        if (record !== undefined) this.#version += 1n;
        this.record = record;
        this.host.deliver(forwarding);
        return verdict;
      case 'intent_lost':
      case 'resolution_changed':
        return verdict;
      case 'fence_lost':
        throw this.#lose('the fence is lost');
      case 'version_mismatch':
        throw this.#lose('a second writer exists');
      case 'bad_data':
        throw this.#fault(`the store refuses its data: ${verdict.reason}`);
      case 'onion_replay':
      case 'closing_decided':
        throw this.#fault(`a payment was refused as a channel would be: ${verdict.type}`);
    }
    return assertNever(verdict);
  }

  #unitOf(record: PaymentRecord | undefined, forwarding: GrowingForwarding): CommitUnit {
    const { paymentHash, fence } = this;
    if (record === undefined) return { kind: 'shard', commit: { fence, forwarding } };
    const expectedVersion = this.#version;
    const state = encodePaymentRecord(record);
    const row = rowOf(record);
    return { kind: 'payment', commit: { fence, paymentHash, expectedVersion, state, row, forwarding } };
  }

  #assertHere(): void {
    if (this.#gone !== undefined) throw this.#gone;
  }

  async #load(): Promise<void> {
    if (this.#loaded) return;
    const loaded = await this.host.ports.store.loadPayment(this.fence, this.paymentHash);
    if (loaded !== undefined) this.#take(loaded);
    this.#loaded = true;
    this.#assertHere();
  }

  #take(loaded: LoadedPayment): void {
    this.#loaded = true;
    const record = decodePaymentRecord(loaded.state);
    if (!record.ok) {
      this.#fault(`its stored state cannot be read: ${record.error.message}`);
      return;
    }
    this.record = record.value;
    this.#version = loaded.version;
  }

  #lose(reason: string): RpcError {
    const gone = movedError();
    this.#gone ??= gone;
    this.host.dropShard(this.fence, `payment ${toHex(this.paymentHash)}: ${reason}`);
    return gone;
  }

  /** Out of service, with an alarm; its row stays as it is. */
  #fault(reason: string): RpcError {
    const { message } = new InternalError(`payment ${toHex(this.paymentHash)} is out of service: ${reason}`);
    this.host.ports.logger.error(
      { paymentHash: toHex(this.paymentHash), reason },
      'a payment is out of service',
    );
    this.#gone ??= new RpcError('internal', message);
    return this.#gone;
  }
}

/** What callers hear when the shard leaves this replica while they wait. */
export function movedError(): RpcError {
  return new RpcError(
    'unavailable',
    'the shard of this payment is changing hands; look the payment up again in a moment',
  );
}
