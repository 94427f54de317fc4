/**
 * The long-lived SignBatch stream to the signer. A request is sent again,
 * identically, until it is answered: the signer answers an identical retry
 * identically, so a broken stream or a restarted signer costs time and nothing
 * else. Channels wait on it; nothing else does.
 */
import {
  SignBatchRequest,
  type SignBatchResponse,
  type SignItem,
  type SignResult,
  type SignerServiceService,
} from '@fulmen/proto/signer/v1/signer';
import type { Client, DuplexStream } from '@fulmen/rpc';
import { AbortedError, type Logger, type Runtime, type Task } from '@fulmen/service';
import { batchesOf } from './batches.ts';

/** Requests in flight at once; more wait for their turn. */
const MAX_IN_FLIGHT = 64;
const FIRST_BACKOFF_MS = 20;
const LAST_BACKOFF_MS = 1_000;

interface Batch {
  readonly items: SignItem[];
  readonly resolve: (results: readonly SignResult[]) => void;
  readonly reject: (error: Error) => void;
}

interface Pending extends Batch {
  readonly request: SignBatchRequest;
}

export class SignLane {
  readonly #client: Client<SignerServiceService>;
  readonly #runtime: Runtime;
  readonly #logger: Logger;
  readonly #pending = new Map<bigint, Pending>();
  readonly #queue: Batch[] = [];
  readonly #task: Task;
  #stream: DuplexStream<SignBatchResponse, SignBatchRequest> | undefined;
  #wake: (() => void) | undefined;
  #nextId = 1n;
  #closed = false;
  /** Calls made, for the budget of one per step. */
  calls = 0;

  constructor(client: Client<SignerServiceService>, runtime: Runtime, logger: Logger) {
    this.#client = client;
    this.#runtime = runtime;
    this.#logger = logger;
    this.#task = runtime.spawn('sign lane', (signal) => this.#run(signal));
  }

  /**
   * One result per item, in order; one message, unless it would be too long. Waits as long as the signer is away; rejects
   * with AbortedError after `close`.
   */
  async sign(items: readonly SignItem[]): Promise<readonly SignResult[]> {
    if (this.#closed) throw new AbortedError('the sign lane is closed');
    const answers = batchesOf(items).map(
      (batch) =>
        new Promise<readonly SignResult[]>((resolve, reject) => {
          this.#queue.push({ items: batch, resolve, reject });
        }),
    );
    this.#fill();
    return (await Promise.all(answers)).flat();
  }

  /** Sends what waits, in its order, as far as there is room: a channel's items reach the signer as they were given. */
  #fill(): void {
    while (this.#pending.size < MAX_IN_FLIGHT) {
      const batch = this.#queue.shift();
      if (batch === undefined) return;
      const batchId = this.#nextId;
      this.#nextId += 1n;
      this.calls += 1;
      const request = SignBatchRequest.fromPartial({ batchId, items: batch.items });
      this.#pending.set(batchId, { ...batch, request });
      this.#transmit(request);
      this.#wake?.();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#stream?.cancel('closing');
    this.#wake?.();
    const error = new AbortedError('the sign lane is closed');
    for (const { reject } of [...this.#pending.values(), ...this.#queue.splice(0)]) reject(error);
    this.#pending.clear();
    await this.#task.stop();
  }

  #transmit(request: SignBatchRequest): void {
    // A failed send breaks the stream; the run loop sends everything pending again on the next one.
    this.#stream?.send(request).catch(() => undefined);
  }

  async #run(signal: AbortSignal): Promise<void> {
    let backoffMs = FIRST_BACKOFF_MS;
    while (!this.#closed && !signal.aborted) {
      if (this.#pending.size === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
          if (this.#pending.size > 0 || this.#closed) resolve();
        });
        this.#wake = undefined;
        continue;
      }
      const stream = this.#client.signBatch();
      this.#stream = stream;
      for (const { request } of this.#pending.values()) this.#transmit(request);
      try {
        for await (const response of stream) {
          backoffMs = FIRST_BACKOFF_MS;
          this.#answer(response);
        }
      } catch (error) {
        if (!this.#closed)
          this.#logger.warn({ err: error, waiting: this.#pending.size }, 'the signer stream broke; retrying');
      }
      this.#stream = undefined;
      if (this.#closed) return;
      await this.#runtime.sleep(backoffMs, signal);
      backoffMs = Math.min(backoffMs * 2, LAST_BACKOFF_MS);
    }
  }

  #answer(response: SignBatchResponse): void {
    const pending = this.#pending.get(response.batchId);
    // An answer to a request that was sent on two streams comes twice.
    if (pending === undefined) return;
    this.#pending.delete(response.batchId);
    this.#fill();
    if (response.results.length === pending.items.length) pending.resolve(response.results);
    else pending.reject(new AbortedError('the signer answered another number of items than asked'));
  }
}
