/**
 * The mailbox of a channel actor: bounded, drained by one turn at a time. What
 * arrives while a turn is under way batches into the next.
 */
import type { Item } from './items.ts';

/** Items waiting for one channel; a peer that outruns it is disconnected by credit long before. */
const MAX_MAILBOX = 20_000;
/** Items of one turn: bounds the time the core holds the event loop. */
const MAX_ITEMS_PER_TURN = 512;

export class Mailbox {
  readonly #turn: (items: readonly Item[]) => Promise<void>;
  readonly #failed: (error: unknown) => void;
  #items: Item[] = [];
  #running = false;
  #stopped = false;
  #draining = false;
  #idleWaiters: (() => void)[] = [];

  /** `turn` works on a batch; what it throws ends the run and goes to `failed`. */
  constructor(turn: (items: readonly Item[]) => Promise<void>, failed: (error: unknown) => void) {
    this.#turn = turn;
    this.#failed = failed;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** Whether nothing more can be queued. */
  isClosed(): boolean {
    return this.#stopped || this.#items.length >= MAX_MAILBOX;
  }

  push(item: Item): void {
    this.#items.push(item);
    if (!this.#running && !this.#draining) {
      this.#running = true;
      void this.#run();
    }
  }

  /**
   * No turn begins any more: one that is under way ends, and what lies here waits for `stop`. Peers and blocks never pause,
   * so that a mailbox which went on would perhaps never be empty.
   */
  drain(): void {
    this.#draining = true;
  }

  /** Forgets everything. Commands waiting hear that the shard moved. Returns the frames that nobody will work on. */
  stop(): readonly bigint[] {
    this.#stopped = true;
    const waiting = this.#items;
    this.#items = [];
    for (const item of waiting) {
      if (item.kind === 'command')
        item.settle({
          ok: false,
          error: { code: 'invalid_command', message: 'the channel moved to another replica: try again' },
        });
    }
    this.#wakeIdle();
    return waiting.flatMap((item) => (item.kind === 'message' ? [item.frame] : []));
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    while (this.#running && !this.#stopped)
      await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
  }

  #wakeIdle(): void {
    const waiters = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const wake of waiters) wake();
  }

  async #run(): Promise<void> {
    try {
      while (this.#items.length > 0 && !this.#stopped && !this.#draining)
        await this.#turn(this.#items.splice(0, MAX_ITEMS_PER_TURN));
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#running = false;
      this.#wakeIdle();
    }
  }
}

/** The connection that is current once the items before `until` (or all of them) have been worked on. */
export function generationAfter(
  items: readonly Item[],
  current: bigint | undefined,
  until?: Item,
): bigint | undefined {
  let generation = current;
  for (const item of items) {
    if (item === until) break;
    if (item.kind === 'connected') generation = item.generation;
    if (item.kind === 'disconnected' && item.generation === generation) generation = undefined;
  }
  return generation;
}

/** Frames of an older connection, and of the future one, must not mix within a core step's order. */
export function withoutStaleMessages(drained: readonly Item[], current: bigint | undefined): readonly Item[] {
  return drained.filter(
    (item) => item.kind !== 'message' || item.generation === generationAfter(drained, current, item),
  );
}
