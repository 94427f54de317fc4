/** Writes the journal to the store in batches, one at a time, and tells the readers. */
import { StoreError } from '@fulmen/store';
import type { RouterContext } from '../ports.ts';
import type { Journal } from './journal.ts';

/** Pause between looks at the journal. */
const INTERVAL_MS = 250;

export class Persister {
  readonly #context: RouterContext;
  readonly #journal: Journal;
  readonly #epoch: bigint;
  readonly #onSaved: () => void;
  readonly #onFenced: () => void;
  #running: Promise<void> = Promise.resolve();

  /**
   * @param onSaved all that was ever in the journal is in the store.
   * @param onFenced another replica writes.
   */
  constructor(
    context: RouterContext,
    journal: Journal,
    epoch: bigint,
    onSaved: () => void,
    onFenced: () => void,
  ) {
    this.#context = context;
    this.#journal = journal;
    this.#epoch = epoch;
    this.#onSaved = onSaved;
    this.#onFenced = onFenced;
  }

  /** Writes until the journal is empty; rejects with StoreError, what was not written stays in the journal. */
  flush(): Promise<void> {
    const mine = this.#running.then(() => this.#drain());
    // The next one runs whether or not this one fails.
    this.#running = mine.catch(() => undefined);
    return mine;
  }

  /** Flushes now and then until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#context.runtime.sleep(INTERVAL_MS, signal);
      if (this.#journal.size === 0) continue;
      try {
        await this.flush();
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        this.#context.logger.warn({ err: error }, 'gossip is not saved; it will be tried again');
      }
    }
  }

  async #drain(): Promise<void> {
    const { store, state, bus, metrics } = this.#context;
    while (this.#journal.size > 0) {
      metrics.journal.set(this.#journal.size);
      const batch = this.#journal.take(state.graph);
      let outcome: Awaited<ReturnType<typeof store.write>>;
      try {
        outcome = await store.write(this.#epoch, batch.changes);
      } catch (error) {
        // Rows are replaced by what is newest, so an outcome unknown is written once more.
        batch.undo();
        throw error;
      }
      if (outcome.kind === 'fenced') {
        this.#onFenced();
        throw new StoreError('unavailable', 'another replica is the writer');
      }
      bus.publish('fulmen.gossip');
    }
    metrics.journal.set(0);
    this.#onSaved();
  }
}
