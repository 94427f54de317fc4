/**
 * Virtual time. Whatever a simulated process waits for is an event in one heap;
 * the loop settles one of them, lets every microtask run that follows, and takes
 * the next. Events of the same moment are ordered by the seed. Without real I/O
 * the order of everything is a function of the seed, and a hash over the events
 * shows that it was.
 */
import type { Prng } from './prng.ts';

interface Event {
  readonly atMs: number;
  readonly tie: number;
  readonly sequence: number;
  readonly label: string;
  run: (() => void) | undefined;
}

/** An event that may still be taken back. */
export interface Scheduled {
  cancel(): void;
}

/** Nothing is left to happen, or more happened than a run may have. */
export class SimulationError extends Error {
  override readonly name = 'SimulationError';
}

export class Scheduler {
  readonly #random: Prng;
  readonly #heap: Event[] = [];
  readonly #onEvent: ((nowMs: number, label: string) => void) | undefined;
  #nowMs = 0;
  #sequence = 0;
  #events = 0;
  #hashA = 0x811c9dc5;
  #hashB = 0x9e3779b9;

  constructor(random: Prng, onEvent?: (nowMs: number, label: string) => void) {
    this.#random = random;
    this.#onEvent = onEvent;
  }

  /** Milliseconds since the simulation began; never goes back. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Events so far. */
  get events(): number {
    return this.#events;
  }

  /** Over time and name of every event so far. */
  get traceHash(): string {
    return (
      (this.#hashA >>> 0).toString(16).padStart(8, '0') + (this.#hashB >>> 0).toString(16).padStart(8, '0')
    );
  }

  /** Runs something later. */
  schedule(delayMs: number, label: string, run: () => void): Scheduled {
    const event: Event = {
      atMs: this.#nowMs + Math.max(0, delayMs),
      tie: this.#random.uint32(),
      sequence: this.#sequence++,
      label,
      run,
    };
    this.#push(event);
    return {
      cancel: () => {
        event.run = undefined;
      },
    };
  }

  /** A promise that resolves later. */
  delay(delayMs: number, label: string): Promise<void> {
    return new Promise((resolve) => this.schedule(delayMs, label, resolve));
  }

  /** Adds words of the caller's to the trace. */
  note(label: string): void {
    this.#mix(label);
    this.#onEvent?.(this.#nowMs, label);
  }

  /** Lets things happen until the condition holds. Throws SimulationError when it cannot, or not within `maxEvents`. */
  async runUntil(done: () => boolean, maxEvents: number): Promise<void> {
    await microtasks();
    const limit = this.#events + maxEvents;
    while (!done()) {
      const event = this.#pop();
      if (event === undefined) throw new SimulationError('nothing is left to happen');
      const { run } = event;
      if (run === undefined) continue;
      if (this.#events >= limit) throw new SimulationError(`not done after ${maxEvents} events`);
      this.#events += 1;
      this.#nowMs = event.atMs;
      this.note(event.label);
      run();
      await microtasks();
    }
  }

  #mix(label: string): void {
    let a = this.#hashA ^ Math.floor(this.#nowMs * 1024);
    let b = this.#hashB;
    for (let i = 0; i < label.length; i += 1) {
      const code = label.charCodeAt(i);
      a = Math.imul(a ^ code, 0x01000193);
      b = Math.imul(b ^ code, 0x85ebca6b) ^ (b >>> 13);
    }
    this.#hashA = a;
    this.#hashB = b;
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(event);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || !isBefore(event, above)) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      const right = heap[child + 1];
      let next = heap[child];
      if (next === undefined) break;
      if (right !== undefined && isBefore(right, next)) {
        next = right;
        child += 1;
      }
      if (!isBefore(next, last)) break;
      heap[index] = next;
      index = child;
    }
    heap[index] = last;
    return first;
  }
}

function isBefore(a: Event, b: Event): boolean {
  if (a.atMs !== b.atMs) return a.atMs < b.atMs;
  return a.tie === b.tie ? a.sequence < b.sequence : a.tie < b.tie;
}

/** Resolves after every microtask that is ready, and those that they make ready. */
function microtasks(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
