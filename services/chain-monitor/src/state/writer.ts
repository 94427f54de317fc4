/**
 * The writer's memory and its commits, one at a time. A commit whose outcome
 * is unknown, or that met another chain than expected, makes the memory stale:
 * it is loaded again before anything else is done.
 */
import { StoreError } from '@fulmen/store';
import {
  ChainConflictError,
  ChainFenceLostError,
  type ChainLease,
  type ChainStore,
} from '@fulmen/store/chain/chain-store';
import { Draft } from './draft.ts';
import { ChainView } from './view.ts';

/** This replica is not the writer, or not yet. */
export class NotWriterError extends Error {
  override readonly name = 'NotWriterError';
}

export class Writer {
  readonly store: ChainStore;
  readonly #onFenceLost: () => void;
  #lease: ChainLease | undefined;
  #view: ChainView | undefined;
  #tail: Promise<unknown> = Promise.resolve();

  constructor(store: ChainStore, onFenceLost: () => void) {
    this.store = store;
    this.#onFenceLost = onFenceLost;
  }

  get lease(): ChainLease | undefined {
    return this.#lease;
  }

  /** The memory as it is now, for reading; undefined on a standby. */
  get view(): ChainView | undefined {
    return this.#view;
  }

  /** Becomes, stays or stops being the writer. */
  setLease(lease: ChainLease | undefined): void {
    if (lease === undefined || lease.epoch !== this.#lease?.epoch) this.#view = undefined;
    this.#lease = lease;
  }

  /** Runs `work` alone; its draft is committed when it returns, unless it is empty. @throws NotWriterError on a standby. */
  async turn<T>(work: (draft: Draft) => T | Promise<T>): Promise<T> {
    return this.exclusive(async (view, lease) => {
      const draft = new Draft(view);
      const result = await work(draft);
      if (!draft.isEmpty) {
        const turn = draft.turn();
        await this.store.commit(lease, turn);
        view.apply(turn);
      }
      return result;
    });
  }

  /** Runs `work` alone, with the memory loaded. */
  async exclusive<T>(work: (view: ChainView, lease: ChainLease) => Promise<T>): Promise<T> {
    const mine = this.#tail.then(async () => {
      const lease = this.#lease;
      if (lease === undefined) throw new NotWriterError('another replica is the writer');
      try {
        this.#view ??= new ChainView(await this.store.load());
        return await work(this.#view, lease);
      } catch (error) {
        if (error instanceof ChainFenceLostError) {
          this.setLease(undefined);
          this.#onFenceLost();
        }
        const isStale =
          error instanceof ChainConflictError || (error instanceof StoreError && error.code === 'unknown');
        if (isStale) this.#view = undefined;
        throw error;
      }
    });
    this.#tail = mine.catch(() => undefined);
    return mine;
  }
}
