/** ECDH with the node key, asked of the signer: few at once, a bounded number waiting. */
import type { GatewayMetrics } from '../metrics.ts';
import { ECDH_DEADLINE_MS, MAX_CONCURRENT_ECDH, MAX_WAITING_ECDH } from '../limits.ts';

/** The signer's call. */
export type EcdhCall = (publicKey: Uint8Array, deadlineMs: number) => Promise<Uint8Array>;

/** Too many handshakes wait for the signer. */
export class EcdhOverloadError extends Error {
  override readonly name = 'EcdhOverloadError';
}

export class EcdhLane {
  readonly #call: EcdhCall;
  readonly #metrics: GatewayMetrics;
  readonly #waiting: (() => void)[] = [];
  #active = 0;

  constructor(call: EcdhCall, metrics: GatewayMetrics) {
    this.#call = call;
    this.#metrics = metrics;
  }

  /** The shared secret, 32 bytes. */
  async ecdh(publicKey: Uint8Array): Promise<Uint8Array> {
    if (this.#active >= MAX_CONCURRENT_ECDH) {
      if (this.#waiting.length >= MAX_WAITING_ECDH) throw new EcdhOverloadError('too many handshakes wait');
      const turn = Promise.withResolvers<void>();
      this.#waiting.push(turn.resolve);
      this.#metrics.ecdhWaiting.set(this.#waiting.length);
      // The turn is handed over with its place: #active does not change in between.
      await turn.promise;
    } else {
      this.#active += 1;
    }
    try {
      return await this.#call(publicKey, ECDH_DEADLINE_MS);
    } finally {
      const next = this.#waiting.shift();
      this.#metrics.ecdhWaiting.set(this.#waiting.length);
      if (next === undefined) this.#active -= 1;
      else next();
    }
  }
}
