/** Asks chain-monitor for funding outputs: few at a time, a bounded queue behind them, refusals remembered. */
import { equalBytes, toHex } from '@fulmen/codec';
import type { UtxoLookup } from '@fulmen/graph';
import { RpcError } from '@fulmen/rpc';
import type { RouterContext } from '../ports.ts';

/** LDK asks for at most so many at once. */
const MAX_PENDING = 32;
const MAX_WAITING = 2_000;
const ATTEMPTS = 4;
const RETRY_MS = 500;
const DEADLINE_MS = 5_000;
const MAX_REFUSALS = 10_000;
const REFUSAL_MS = 3_600_000;
/** An output of the latest blocks may be one that chain-monitor has not seen yet. */
const RECENT_BLOCKS = 36;
const RECENT_REFUSAL_MS = 20_000;

export type UtxoOutcome =
  | { readonly kind: 'found'; readonly capacitySat: bigint; readonly confirmations: number }
  /** No such unspent output. */
  | { readonly kind: 'not_found' }
  | { readonly kind: 'wrong_script' }
  /** chain-monitor does not answer. */
  | { readonly kind: 'unavailable' };

/** Names a question: the same scid with other keys is another one. */
export const lookupKey = (lookup: UtxoLookup): string =>
  `${lookup.shortChannelId}:${toHex(lookup.expectedScript)}`;

export class UtxoLookups {
  readonly #context: RouterContext;
  readonly #signal: AbortSignal;
  readonly #waiting: (() => Promise<void>)[] = [];
  readonly #refusedUntilMs = new Map<string, number>();
  #pending = 0;
  #wake: (() => void)[] = [];

  constructor(context: RouterContext, signal: AbortSignal) {
    this.#context = context;
    this.#signal = signal;
  }

  /** True if this was asked not long ago, and the chain said no. */
  isRefused(lookup: UtxoLookup): boolean {
    const key = lookupKey(lookup);
    const until = this.#refusedUntilMs.get(key);
    if (until === undefined) return false;
    if (until > this.#context.runtime.monotonicMs()) return true;
    this.#refusedUntilMs.delete(key);
    return false;
  }

  /** Resolves when one more question fits. */
  async room(): Promise<void> {
    while (this.#waiting.length >= MAX_WAITING) {
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }

  /** Asks in turn; `done` is called once, unless the router stops first. Ask `room` before. */
  submit(lookup: UtxoLookup, done: (outcome: UtxoOutcome) => void): void {
    this.#waiting.push(async () => {
      const outcome = await this.ask(lookup);
      if (!this.#signal.aborted) done(outcome);
    });
    this.#pump();
  }

  /** Asks at once, outside the queue. */
  async ask(lookup: UtxoLookup): Promise<UtxoOutcome> {
    const { chain, runtime, logger } = this.#context;
    for (let attempt = 0; attempt < ATTEMPTS && !this.#signal.aborted; attempt++) {
      try {
        if (attempt > 0) await runtime.sleep(RETRY_MS * 2 ** attempt, this.#signal);
        const { found, valueSat, scriptPubkey, confirmations } = await chain.getUtxo(
          { shortChannelId: lookup.shortChannelId },
          { deadlineMs: DEADLINE_MS, signal: this.#signal },
        );
        if (found && equalBytes(scriptPubkey, lookup.expectedScript)) {
          return { kind: 'found', capacitySat: valueSat, confirmations };
        }
        this.#refuse(lookup);
        return { kind: found ? 'wrong_script' : 'not_found' };
      } catch (error) {
        if (!(error instanceof RpcError)) break;
        logger.debug({ err: error }, 'a funding output was not looked up');
      }
    }
    return { kind: 'unavailable' };
  }

  #pump(): void {
    const { metrics } = this.#context;
    while (this.#pending < MAX_PENDING) {
      const next = this.#waiting.shift();
      if (next === undefined) break;
      this.#pending += 1;
      void next().finally(() => {
        this.#pending -= 1;
        this.#pump();
      });
    }
    metrics.lookupsPending.set(this.#pending);
    metrics.lookupsWaiting.set(this.#waiting.length);
    if (this.#waiting.length < MAX_WAITING) for (const wake of this.#wake.splice(0)) wake();
  }

  #refuse(lookup: UtxoLookup): void {
    const { runtime, state } = this.#context;
    const key = lookupKey(lookup);
    const isRecent = lookup.position.blockHeight > (state.bestHeight ?? 0) - RECENT_BLOCKS;
    this.#refusedUntilMs.delete(key);
    this.#refusedUntilMs.set(key, runtime.monotonicMs() + (isRecent ? RECENT_REFUSAL_MS : REFUSAL_MS));
    if (this.#refusedUntilMs.size <= MAX_REFUSALS) return;
    for (const oldest of this.#refusedUntilMs.keys()) {
      this.#refusedUntilMs.delete(oldest);
      return;
    }
  }
}
