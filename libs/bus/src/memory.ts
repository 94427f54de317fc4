import type { Bus } from './bus.ts';

/** True when a subject matches a pattern that may end in `>`. */
export function subjectMatches(pattern: string, subject: string): boolean {
  return pattern.endsWith('>') ? subject.startsWith(pattern.slice(0, -1)) : pattern === subject;
}

interface Subscriber {
  readonly pattern: string;
  readonly owner: string;
  readonly listener: (subject: string, payload: Uint8Array) => void;
}

/** A hint bus within one heap; `deliver` lets a simulation decide when, and whether, a hint arrives. */
export class MemoryBusHub {
  readonly #listeners = new Set<Subscriber>();
  readonly #deliver: (from: string, to: string, run: () => void) => void;

  constructor(
    deliver: (from: string, to: string, run: () => void) => void = (_from, _to, run) => queueMicrotask(run),
  ) {
    this.#deliver = deliver;
  }

  connect(owner: string): Bus {
    const mine = new Set<Subscriber>();
    return {
      connected: true,
      publish: (subject, payload = new Uint8Array(0)) => {
        for (const entry of this.#listeners) {
          if (!subjectMatches(entry.pattern, subject)) continue;
          this.#deliver(owner, entry.owner, () => {
            if (!this.#listeners.has(entry)) return;
            try {
              entry.listener(subject, payload);
            } catch {
              // A hint is never worth a crash: what it hinted at is in the database.
            }
          });
        }
      },
      subscribe: (pattern, listener) => {
        const entry = { pattern, owner, listener };
        this.#listeners.add(entry);
        mine.add(entry);
        return () => {
          this.#listeners.delete(entry);
          mine.delete(entry);
        };
      },
      close: () => {
        for (const entry of mine) this.#listeners.delete(entry);
        return Promise.resolve();
      },
    };
  }
}
