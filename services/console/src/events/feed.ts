/**
 * The event log for many subscribers. Each has a cursor of its own and reads
 * from the database, so a slow one costs nothing and misses nothing. A hint on
 * the bus wakes them at once, and a clock twice a second when no hint comes.
 * Subscribers that wait at the same position share one query.
 */
import type { Runtime, Task } from '@fulmen/service';
import type { EventReader, StoredEvent } from './reader.ts';

export const POLL_INTERVAL_MS = 500;
/** Events read at once for one subscriber: the most that waits in memory for a slow one. */
const PAGE = 128;

export class EventFeed {
  readonly #reader: EventReader;
  readonly #ticker: Task;
  readonly #waiting = new Set<() => void>();
  readonly #reads = new Map<bigint, { version: number; page: Promise<readonly StoredEvent[]> }>();
  #version = 0;
  #closed = false;

  constructor(reader: EventReader, runtime: Runtime) {
    this.#reader = reader;
    this.#ticker = runtime.spawn('event poll', async (signal) => {
      for (;;) {
        await runtime.sleep(POLL_INTERVAL_MS, signal);
        this.wake();
      }
    });
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Changes with every wake-up: taken before a read, it tells `changed` what was seen. */
  get version(): number {
    return this.#version;
  }

  /** There may be new events. */
  wake(): void {
    this.#version += 1;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }

  /** Events after a position, at most a page. */
  read(afterPosition: bigint): Promise<readonly StoredEvent[]> {
    const shared = this.#reads.get(afterPosition);
    // A read that began before the last wake-up may have missed what woke us.
    if (shared?.version === this.#version) return shared.page;
    const page = this.#reader.readEvents(afterPosition, PAGE);
    const entry = { version: this.#version, page };
    this.#reads.set(afterPosition, entry);
    const forget = (): void => {
      if (this.#reads.get(afterPosition) === entry) this.#reads.delete(afterPosition);
    };
    page.then(forget, forget);
    return page;
  }

  /** Resolves at the first wake-up after `version` was current, when the signal fires, or when the feed closes. */
  changed(version: number, signal: AbortSignal): Promise<void> {
    if (this.#closed || signal.aborted || this.#version !== version) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        signal.removeEventListener('abort', done);
        this.#waiting.delete(done);
        resolve();
      };
      this.#waiting.add(done);
      signal.addEventListener('abort', done, { once: true });
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.wake();
    await this.#ticker.stop();
  }
}
