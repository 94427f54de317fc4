// A subscriber of the fleet's events, as a program of an operator: it keeps its cursor and subscribes again
// whenever its stream ends.
import { setTimeout as pause } from 'node:timers/promises';
import type { Event } from '@fulmen/proto/node/v1/node';
import type { NodeClient } from '../support/node-client.ts';

/** A stream is renewed after this long even when it stands. */
const STREAM_MS = 600_000;
const RETRY_MS = 200;

export class EventFollower {
  /** Everything that came, in the order in which it came. */
  readonly events: Event[] = [];
  /** How often the stream ended and was made anew. */
  resumed = 0;
  readonly #node: NodeClient;
  #running: Promise<void> | undefined;
  #stopping: AbortController | undefined;

  constructor(node: NodeClient) {
    this.#node = node;
  }

  start(): void {
    const stopping = new AbortController();
    this.#stopping = stopping;
    this.#running = this.#follow(stopping.signal);
  }

  async stop(): Promise<void> {
    this.#stopping?.abort();
    await this.#running;
  }

  get position(): bigint {
    return this.events.at(-1)?.position ?? 0n;
  }

  async #follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const stream = this.#node.events.subscribe(
          { afterPosition: this.position, types: [] },
          { ...this.#node.auth(STREAM_MS), signal },
        );
        for await (const event of stream) this.events.push(event);
      } catch {
        // The console or its database is away: the cursor is what counts.
      }
      if (signal.aborted) return;
      this.resumed += 1;
      await pause(RETRY_MS);
    }
  }
}
