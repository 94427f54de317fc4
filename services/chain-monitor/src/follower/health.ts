/**
 * Whether the chain is known as it is, and if not, why. A source that lies
 * is not asked again; one that is silent, behind or garbled is forgiven when
 * it answers sense again. Whoever adds HTLCs must hear of either.
 */
import { ChainSourceError } from '@fulmen/chain';
import type { Logger, Runtime } from '@fulmen/service';
import type { ChainMetrics } from '../metrics.ts';

/** Why the chain is not followed. */
export type Halt =
  /** For good: the source lied, or is of another chain. */
  | { readonly type: 'source_contradicts'; readonly reason: string }
  /** Until the source answers sense. */
  | { readonly type: 'source_garbled'; readonly reason: string }
  /** Until the source answers at all. */
  | { readonly type: 'source_silent'; readonly reason: string }
  /** Until the source has caught up. */
  | { readonly type: 'source_behind'; readonly reason: string }
  /** Until the new chain has grown: blocks were replaced that everybody took for final. */
  | { readonly type: 'deep_reorg'; readonly reason: string }
  /** Until there is a young block: the source may be cut off from the network. */
  | { readonly type: 'chain_stale'; readonly reason: string };

/** The source's answers cannot all be true. */
export class ContradictionError extends Error {
  override readonly name = 'ContradictionError';
}

/** Blocks behind the source that are no reason for doubt: they come faster than they are processed for a moment. */
export const MAX_LAG_BLOCKS = 6;

/** Replaced blocks that are ordinary; LDK's ANTI_REORG_DELAY. */
const ORDINARY_REORG_BLOCKS = 6;
/** Blocks that the chain must grow beyond its height before a deep reorganisation. */
const SETTLED_AFTER_BLOCKS = 6;

export interface HealthPorts {
  readonly runtime: Pick<Runtime, 'monotonicMs' | 'wallClockMs'>;
  readonly logger: Logger;
  readonly metrics: ChainMetrics;
  /** How long a source may be behind or silent. */
  readonly behindGraceMs: number;
  /** The best block may be this old; absent: of any age (regtest). */
  readonly maximumBlockAgeMs: number | undefined;
  readonly onChange: (halt: Halt | undefined) => void;
}

export class ChainHealth {
  readonly #ports: HealthPorts;
  #halt: Halt | undefined;
  #stuckSinceMs: number | undefined;
  #lagBlocks: number | undefined;
  #state: 'unread' | 'read' = 'unread';
  /** After a deep reorganisation: the height at which the chain counts as settled. */
  #settledAtHeight: number | undefined;

  constructor(ports: HealthPorts) {
    this.#ports = ports;
  }

  get halt(): Halt | undefined {
    return this.#halt;
  }

  /** Why the stored chain is not the network's; undefined when it is, as far as the source tells. */
  get doubt(): string | undefined {
    if (this.#halt !== undefined) return this.#halt.reason;
    if (this.#state === 'unread') return 'the chain has not been read since the start';
    const lag = this.#lagBlocks ?? 0;
    return lag > MAX_LAG_BLOCKS ? `${lag} blocks are to be processed` : undefined;
  }

  /** The source told its height. */
  heard(lagBlocks: number): void {
    this.#lagBlocks = lagBlocks;
    this.#ports.metrics.lag.set(lagBlocks);
  }

  /** The stored chain moved towards the source's. */
  moved(): void {
    this.#stuckSinceMs = undefined;
    const { type } = this.#halt ?? {};
    if (type === 'source_behind' || type === 'source_garbled' || type === 'source_silent') this.#resume();
  }

  /** The best chain has other blocks in the place of these last ones. */
  replaced(depth: number, tipHeight: number): void {
    if (depth <= ORDINARY_REORG_BLOCKS) return;
    this.#settledAtHeight = Math.max(this.#settledAtHeight ?? 0, tipHeight + SETTLED_AFTER_BLOCKS);
    this.#stop({ type: 'deep_reorg', reason: `the last ${depth} blocks were replaced by others` });
  }

  /** The stored chain is the source's. */
  atTip(tip: { readonly height: number; readonly timeUnixSeconds: number }): void {
    this.#stuckSinceMs = undefined;
    this.#state = 'read';
    this.#lagBlocks = 0;
    if (this.#settledAtHeight !== undefined && tip.height < this.#settledAtHeight) return;
    this.#settledAtHeight = undefined;
    const { maximumBlockAgeMs, runtime } = this.#ports;
    const ageMs = runtime.wallClockMs() - tip.timeUnixSeconds * 1000;
    if (maximumBlockAgeMs !== undefined && ageMs > maximumBlockAgeMs) {
      const minutes = Math.floor(ageMs / 60_000);
      this.#stop({ type: 'chain_stale', reason: `the best block is ${minutes} minutes old` });
    } else if (this.#halt !== undefined) this.#resume();
  }

  /** A source may answer half for a moment, between two states; one that goes on so withholds a block. */
  waited(reason: string): void {
    this.#stuck({ type: 'source_behind', reason });
  }

  /** What reading the chain failed with; false: it is nothing that this judges. */
  failed(error: unknown): boolean {
    if (error instanceof ContradictionError) {
      this.#stop({ type: 'source_contradicts', reason: error.message });
      return true;
    }
    if (!(error instanceof ChainSourceError)) return false;
    if (error.code === 'malformed' || error.code === 'too-large') {
      this.#stop({ type: 'source_garbled', reason: `the source answers nonsense: ${error.message}` });
      return true;
    }
    this.#stuck({ type: 'source_silent', reason: `the source does not answer: ${error.message}` });
    return false;
  }

  #stuck(halt: Halt): void {
    const { runtime, behindGraceMs } = this.#ports;
    const nowMs = runtime.monotonicMs();
    this.#stuckSinceMs ??= nowMs;
    if (nowMs - this.#stuckSinceMs >= behindGraceMs) this.#stop(halt);
  }

  #stop(halt: Halt): void {
    if (this.#halt?.type === halt.type || this.#halt?.type === 'source_contradicts') return;
    this.#halt = halt;
    this.#ports.metrics.halted.set(1);
    this.#ports.logger.error(
      { reason: halt.reason, halt: halt.type },
      'the chain is not known as it is: no HTLC is added until it is',
    );
    this.#ports.onChange(halt);
  }

  #resume(): void {
    if (this.#halt?.type === 'source_contradicts') return;
    this.#halt = undefined;
    this.#ports.metrics.halted.set(0);
    this.#ports.logger.info({}, 'the chain is followed again');
    this.#ports.onChange(undefined);
  }
}
