/**
 * Peers that managers want connected: dialled, and dialled again with
 * exponential back-off and jitter for as long as they are wanted. It knows
 * nothing of sockets: `attempt` does the dialling, `tick` is its clock.
 */
import {
  MAX_CONCURRENT_DIALS,
  MAX_PENDING_REQUESTS,
  QUICK_REDIALS,
  REDIAL_MAX_MS,
  REDIAL_MIN_MS,
  STABLE_CONNECTION_MS,
} from '../limits.ts';

export interface DialTarget {
  readonly key: string;
  readonly nodeId: Uint8Array;
  readonly host: string;
  readonly port: number;
}

export interface DialerPorts<R> {
  monotonicMs(): number;
  /** A number in [0, 1). */
  random(): number;
  /** Whether a connection of the peer stands, accepted or not. */
  hasConnection(key: string): boolean;
  /** Dials; `dialFailed` or a connection follows. */
  attempt(target: DialTarget): void;
  /** Answers a request; an empty error means connected. */
  answer(request: R, target: DialTarget, error: string): void;
}

interface Wanted<R> {
  target: DialTarget;
  failures: number;
  nextAttemptMs: number;
  dialing: boolean;
  acceptedAtMs: number | undefined;
  requests: R[];
}

function isBefore(a: Wanted<unknown>, b: Wanted<unknown>): boolean {
  const [aFailed, bFailed] = [a.failures > 0, b.failures > 0];
  return aFailed === bFailed ? a.nextAttemptMs < b.nextAttemptMs : bFailed;
}

/** Milliseconds before the next dial after so many failures in a row; `random` in [0, 1). */
export function redialDelayMs(failures: number, random: number): number {
  if (failures === 0) return 0;
  const doublings = Math.max(0, failures - QUICK_REDIALS);
  const base = Math.min(REDIAL_MAX_MS, REDIAL_MIN_MS * 2 ** Math.min(doublings, 16));
  // Half fixed, half chance: peers of a gateway that restarted must not return all at once.
  return Math.round(base * (0.5 + 0.5 * random));
}

export class Dialer<R> {
  readonly #ports: DialerPorts<R>;
  readonly #limit: number;
  readonly #wanted = new Map<string, Wanted<R>>();
  #dialing = 0;

  constructor(ports: DialerPorts<R>, limit: number) {
    this.#ports = ports;
    this.#limit = limit;
  }

  get size(): number {
    return this.#wanted.size;
  }

  isWanted(key: string): boolean {
    return this.#wanted.has(key);
  }

  /** Keeps a peer connected from now on; a new address is tried at once. */
  want(target: DialTarget, request: R): void {
    const known = this.#wanted.get(target.key);
    if (known === undefined && this.#wanted.size >= this.#limit) {
      this.#ports.answer(request, target, 'too many wanted peers');
      return;
    }
    const wanted: Wanted<R> = known ?? {
      target,
      failures: 0,
      nextAttemptMs: this.#ports.monotonicMs(),
      dialing: false,
      acceptedAtMs: undefined,
      requests: [],
    };
    this.#wanted.set(target.key, wanted);
    if (wanted.acceptedAtMs !== undefined) {
      wanted.target = target;
      this.#ports.answer(request, target, '');
      return;
    }
    if (wanted.requests.length >= MAX_PENDING_REQUESTS) {
      this.#ports.answer(request, target, 'too many requests for this peer');
      return;
    }
    wanted.requests.push(request);
    if (target.host !== wanted.target.host || target.port !== wanted.target.port) {
      wanted.target = target;
      wanted.nextAttemptMs = this.#ports.monotonicMs();
    }
    this.tick();
  }

  forget(key: string): void {
    const wanted = this.#wanted.get(key);
    if (wanted === undefined) return;
    this.#wanted.delete(key);
    this.#answer(wanted, 'no longer wanted');
  }

  /** A manager accepted a connection of the peer, whoever made it. */
  accepted(key: string): void {
    const wanted = this.#wanted.get(key);
    if (wanted === undefined) return;
    wanted.acceptedAtMs = this.#ports.monotonicMs();
    this.#answer(wanted, '');
  }

  /** The dial ended; with an error, or with a connection that has been handed on. */
  dialled(target: DialTarget, error: string | undefined): void {
    this.#dialing -= 1;
    const wanted = this.#wanted.get(target.key);
    if (wanted !== undefined) {
      wanted.dialing = false;
      if (error !== undefined && !this.#ports.hasConnection(target.key)) this.#fail(wanted, error);
    }
    this.tick();
  }

  /** A connection of the peer ended. `at_once` when the cause was ours and the peer is well. */
  disconnected(key: string, when: 'at_once' | 'back_off', detail: string): void {
    const wanted = this.#wanted.get(key);
    if (wanted === undefined) return;
    const nowMs = this.#ports.monotonicMs();
    const livedMs = wanted.acceptedAtMs === undefined ? 0 : nowMs - wanted.acceptedAtMs;
    wanted.acceptedAtMs = undefined;
    if (when === 'at_once' || livedMs >= STABLE_CONNECTION_MS) {
      wanted.failures = 0;
      wanted.nextAttemptMs = nowMs;
    } else {
      this.#fail(wanted, detail);
    }
    this.tick();
  }

  /** Starts what is due. */
  tick(): void {
    while (this.#dialing < MAX_CONCURRENT_DIALS) {
      const wanted = this.#next();
      if (wanted === undefined) return;
      wanted.dialing = true;
      this.#dialing += 1;
      this.#ports.attempt(wanted.target);
    }
  }

  /** Who has not failed goes before who has, and then whoever is due longest: those that cannot be reached starve nobody. */
  #next(): Wanted<R> | undefined {
    const nowMs = this.#ports.monotonicMs();
    let first: Wanted<R> | undefined;
    for (const [key, wanted] of this.#wanted) {
      if (wanted.dialing || wanted.nextAttemptMs > nowMs) continue;
      if (first !== undefined && !isBefore(wanted, first)) continue;
      if (!this.#ports.hasConnection(key)) first = wanted;
    }
    return first;
  }

  #fail(wanted: Wanted<R>, error: string): void {
    wanted.failures += 1;
    wanted.nextAttemptMs = this.#ports.monotonicMs() + redialDelayMs(wanted.failures, this.#ports.random());
    this.#answer(wanted, error);
  }

  #answer(wanted: Wanted<R>, error: string): void {
    const { requests } = wanted;
    wanted.requests = [];
    for (const request of requests) this.#ports.answer(request, wanted.target, error);
  }
}
