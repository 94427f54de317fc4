/**
 * The port for time, chance and background work. Services and shell libraries
 * use no other clock, timer or randomness, so that a simulation can replay a
 * run from one seed and kill an incarnation at any await.
 */

/** Background work that a service owns. */
export interface Task {
  readonly name: string;
  /** Settles when the work ended; rejects with what it threw. */
  readonly done: Promise<void>;
  /** Aborts the task's signal and waits for its end. */
  stop(): Promise<void>;
}

export interface Runtime {
  /** Unix time in milliseconds. May jump; use for what people and invoices see. */
  wallClockMs(): number;
  /** Monotonic milliseconds; use for leases, deadlines and intervals. */
  monotonicMs(): number;
  /** Resolves after at least `ms`; rejects with `AbortedError` when the signal fires. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Cryptographically strong in production; from the seed in a simulation. */
  randomBytes(length: number): Uint8Array;
  /** Starts background work of this incarnation. A rejection is reported through `onFailure`. */
  spawn(name: string, work: (signal: AbortSignal) => Promise<void>): Task;
}

/** Thrown by waits whose signal fired. */
export class AbortedError extends Error {
  override readonly name = 'AbortedError';
}
