/** Messages bounded in bytes, the oldest dropped first; peers' comings, goings and grants among them are kept. */
import type { GossipFromPeer } from '@fulmen/proto/router/v1/router';

/** What an entry costs beside its message: without it, tiny messages would fill memory. */
const ENTRY_OVERHEAD_BYTES = 128;

interface Entry {
  readonly item: GossipFromPeer;
  /** 0 for what must not be dropped. */
  readonly bytes: number;
  dropped: boolean;
}

export class GossipQueue {
  readonly #limitBytes: number;
  #entries: Entry[] = [];
  #head = 0;
  /** Where the oldest message may be: entries before it are events or dropped. */
  #oldest = 0;
  #bytes = 0;
  #live = 0;
  #events = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Entries that are no messages: nothing drops them. */
  get events(): number {
    return this.#events;
  }

  pushEvent(item: GossipFromPeer): void {
    this.#entries.push({ item, bytes: 0, dropped: false });
    this.#live += 1;
    this.#events += 1;
  }

  /** Adds a message; gives how many older ones were dropped for it. */
  pushMessage(item: GossipFromPeer, messageBytes: number): number {
    const bytes = messageBytes + ENTRY_OVERHEAD_BYTES;
    this.#entries.push({ item, bytes, dropped: false });
    this.#bytes += bytes;
    this.#live += 1;
    let dropped = 0;
    this.#oldest = Math.max(this.#oldest, this.#head);
    while (this.#bytes > this.#limitBytes) {
      const entry = this.#entries[this.#oldest];
      if (entry === undefined) break;
      this.#oldest += 1;
      if (entry.bytes === 0) continue;
      entry.dropped = true;
      this.#bytes -= entry.bytes;
      this.#live -= 1;
      dropped += 1;
    }
    // Dropped entries must not outlive their message by much when nobody takes from the front.
    if (this.#entries.length - this.#head > 2 * this.#live + 1024) {
      this.#entries = this.#entries.slice(this.#head).filter((entry) => !entry.dropped);
      this.#head = 0;
      this.#oldest = 0;
    }
    return dropped;
  }

  shift(): GossipFromPeer | undefined {
    for (;;) {
      const entry = this.#entries[this.#head];
      if (entry === undefined) {
        this.clear();
        return undefined;
      }
      this.#head += 1;
      this.#compact();
      if (entry.dropped) continue;
      this.#bytes -= entry.bytes;
      this.#live -= 1;
      if (entry.bytes === 0) this.#events -= 1;
      return entry.item;
    }
  }

  clear(): void {
    this.#entries = [];
    this.#head = 0;
    this.#oldest = 0;
    this.#bytes = 0;
    this.#live = 0;
    this.#events = 0;
  }

  #compact(): void {
    if (this.#head < 1024 || this.#head * 2 < this.#entries.length) return;
    this.#entries.splice(0, this.#head);
    this.#oldest = Math.max(0, this.#oldest - this.#head);
    this.#head = 0;
  }
}
