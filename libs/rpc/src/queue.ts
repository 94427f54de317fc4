import { RpcError } from './transport.ts';

/**
 * A bounded queue between a producer that may wait and one consumer that
 * iterates: the building block of every stream. `push` resolves when there is
 * room again, so a slow reader slows its writer instead of filling memory.
 */
export class BoundedQueue<T> implements AsyncIterable<T> {
  readonly #limit: number;
  readonly #items: T[] = [];
  #head = 0;
  #ended = false;
  #error: RpcError | undefined;
  #wakeReader: (() => void) | undefined;
  #wakeWriters: (() => void)[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#items.length - this.#head;
  }

  get closed(): boolean {
    return this.#ended;
  }

  /** Adds an item; resolves once the queue is below its limit. Rejects after `fail`, and after `end`. */
  async push(item: T): Promise<void> {
    if (this.#ended) throw this.#error ?? new RpcError('cancelled', 'the stream has ended');
    this.#items.push(item);
    this.#wakeReader?.();
    if (this.size >= this.#limit) {
      await new Promise<void>((resolve) => this.#wakeWriters.push(resolve));
      if (this.#error) throw this.#error;
    }
  }

  /** Adds without waiting; false when full (the item is not added). */
  offer(item: T): boolean {
    if (this.#ended || this.size >= this.#limit) return false;
    this.#items.push(item);
    this.#wakeReader?.();
    return true;
  }

  /** No more items; the reader still gets those queued. */
  end(): void {
    this.#ended = true;
    this.#wakeReader?.();
    this.#releaseWriters();
  }

  /** Breaks the queue: the reader gets the error at once, and writers too. */
  fail(error: RpcError): void {
    if (this.#error !== undefined) return;
    this.#ended = true;
    this.#error = error;
    this.#items.length = 0;
    this.#head = 0;
    this.#wakeReader?.();
    this.#releaseWriters();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      const item = await this.#next();
      if (item === undefined) return;
      yield item.value;
    }
  }

  async #next(): Promise<{ value: T } | undefined> {
    for (;;) {
      if (this.#error) throw this.#error;
      if (this.#head < this.#items.length) {
        const value = this.#items[this.#head] as T;
        this.#head += 1;
        if (this.#head > 1024 || this.#head === this.#items.length) {
          this.#items.splice(0, this.#head);
          this.#head = 0;
        }
        if (this.size < this.#limit) this.#releaseWriters();
        return { value };
      }
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wakeReader = resolve;
      });
      this.#wakeReader = undefined;
    }
  }

  #releaseWriters(): void {
    const writers = this.#wakeWriters;
    this.#wakeWriters = [];
    for (const wake of writers) wake();
  }
}
