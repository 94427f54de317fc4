/**
 * Whether the chain is known as it is. While it is not (chain-monitor does
 * not believe its source, is behind, or does not answer), an HTLC taken on
 * could expire unseen, or have expired: none is added, and none is taken for
 * an invoice. Those that were are settled as always.
 */
import type { Logger, Runtime } from '@fulmen/service';

/** What chain-monitor says of itself with each best block. */
export interface ChainWord {
  readonly halted: boolean;
  readonly haltReason: string;
}

/** Less than blocks take, of which one comes in ten minutes on average. */
const SHORTEST_BLOCK_MS = 60_000;

export class ChainWatch {
  readonly #runtime: Pick<Runtime, 'monotonicMs'>;
  readonly #logger: Logger;
  readonly #staleMs: number;
  #heardMs: number;
  /** When chain-monitor last answered and believed its source. */
  #knownMs: number;
  #haltReason: string | undefined;
  #told: string | undefined;

  /** Silence of more than `staleMs` counts as not knowing. Starts as just heard. */
  constructor(runtime: Pick<Runtime, 'monotonicMs'>, logger: Logger, staleMs: number) {
    this.#runtime = runtime;
    this.#logger = logger;
    this.#staleMs = staleMs;
    this.#heardMs = runtime.monotonicMs();
    this.#knownMs = this.#heardMs;
  }

  /** chain-monitor answered. */
  heard({ halted, haltReason }: ChainWord): void {
    this.#heardMs = this.#runtime.monotonicMs();
    if (!halted) this.#knownMs = this.#heardMs;
    this.#haltReason = halted ? haltReason : undefined;
    this.#tell();
  }

  /** Why the chain is not known as it is; undefined while it is. */
  doubt(): string | undefined {
    const silentMs = this.#runtime.monotonicMs() - this.#heardMs;
    if (silentMs > this.#staleMs)
      return `chain-monitor has not answered for ${Math.floor(silentMs / 1000)} seconds`;
    return this.#haltReason;
  }

  /** How many blocks may have come, at most, since the height that is known was the best. */
  blocksUnseen(): number {
    return Math.floor((this.#runtime.monotonicMs() - this.#knownMs) / SHORTEST_BLOCK_MS);
  }

  /** To be called now and then: the log hears when the doubt begins and when it ends. */
  #tell(): void {
    const doubt = this.doubt();
    if (doubt === this.#told) return;
    this.#told = doubt;
    if (doubt === undefined) this.#logger.info({}, 'the chain is followed again: HTLCs are added');
    else this.#logger.error({ reason: doubt }, 'the chain is not followed: no HTLC is added');
  }
}
