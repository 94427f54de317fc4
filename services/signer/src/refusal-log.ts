/** Refusals on their way to the ring in the store: bounded, and never in the way of a signature. */
import type { Logger, Runtime } from '@fulmen/service';
import type { Refusal } from './enforcement/types.ts';
import type { SignerMetrics } from './metrics.ts';
import type { RefusalRow } from './store/port.ts';

const MAX_PENDING = 1_000;
const MAX_PER_COMMIT = 200;
/** Characters of a refusal's reason, as it is stored and as a batch's answer tells it. */
export const MAX_REASON_LENGTH = 200;

export class RefusalLog {
  readonly #runtime: Runtime;
  readonly #logger: Logger;
  readonly #metrics: SignerMetrics;
  #pending: RefusalRow[] = [];
  #next: bigint | undefined;

  /** @param next the number of the next row; undefined when none may be stored. */
  constructor(
    next: bigint | undefined,
    ports: { readonly runtime: Runtime; readonly logger: Logger; readonly metrics: SignerMetrics },
  ) {
    this.#next = next;
    this.#runtime = ports.runtime;
    this.#logger = ports.logger;
    this.#metrics = ports.metrics;
  }

  get pending(): number {
    return this.#pending.length;
  }

  /** Counts, logs and queues a refusal; when too many wait, only the first two. */
  add(operation: string, refusal: Refusal, channelKeysId: Uint8Array | undefined): void {
    this.#metrics.refusals.inc({ policy: refusal.policy });
    // Not a verdict about the request: there is nothing to look into afterwards.
    if (refusal.kind === 'unavailable') return;
    this.#logger.warn(
      { operation, policy: refusal.policy, reason: refusal.reason, channelKeysId },
      'refused',
    );
    if (this.#next === undefined || this.#pending.length >= MAX_PENDING) return;
    this.#pending.push({
      number: this.#next,
      atMs: this.#runtime.wallClockMs(),
      operation,
      policy: refusal.policy,
      kind: refusal.kind,
      reason: refusal.reason.slice(0, MAX_REASON_LENGTH),
      channelKeysId,
    });
    this.#next += 1n;
  }

  /** The rows for one commit. */
  take(): readonly RefusalRow[] {
    return this.#pending.splice(0, MAX_PER_COMMIT);
  }
}
