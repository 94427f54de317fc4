/**
 * The signing lane: one loop that evaluates requests in order of arrival and
 * makes their effects durable together before anyone is answered. Requests
 * that arrive while a commit is under way share the next one. Claims have a
 * queue of their own that is always served first.
 *
 * A request is evaluated synchronously against the state that all earlier ones
 * leave behind; nothing of it is kept when the commit fails.
 */
import { equalBytes, toHex } from '@fulmen/codec';
import type { Runtime, Task } from '@fulmen/service';
import { StoreError } from '@fulmen/store/error';
import { encodeAuditEntries, nextAuditRow } from './audit.ts';
import type { AuditEntry } from './audit.ts';
import type { Refusal, SignerChannelState } from './enforcement/types.ts';
import type { SignerMetrics } from './metrics.ts';
import type { RefusalLog } from './refusal-log.ts';
import type { CommitBatch, SignerHead, SignerStore, Velocity } from './store/port.ts';

/** What a request sees. */
export interface LaneView {
  /** The request's channel, if it is registered. */
  readonly channel: SignerChannelState | undefined;
  /** The lowest epoch that may sign for a shard. */
  fenceOf(shard: number): bigint;
  readonly velocity: Velocity;
}

/** What a request leaves behind. */
export interface Evaluation<T> {
  readonly answer: T;
  /** Only when it changed. */
  readonly channel?: SignerChannelState;
  readonly fence?: { readonly shard: number; readonly epoch: bigint };
  readonly velocity?: Velocity;
  readonly audit?: AuditEntry;
}

export interface LaneRequest<T> {
  readonly priority: 'claim' | 'channel';
  readonly channelKeysId: Uint8Array | undefined;
  /** What it costs to evaluate: HTLCs to sign and to verify for, and ECDHs. Default 1. */
  readonly weight?: number;
  readonly evaluate: (view: LaneView) => Evaluation<T>;
}

/** Not done, and nothing was kept: the identical request may be repeated. */
export class LaneUnavailableError extends Error {
  override readonly name = 'LaneUnavailableError';
}

export interface LaneOptions {
  readonly store: SignerStore;
  readonly instance: Uint8Array;
  readonly runtime: Runtime;
  readonly metrics: SignerMetrics;
  readonly head: SignerHead;
  readonly refusals: RefusalLog;
  /** The database is not ours any more, or cannot be used: the process must end. */
  readonly onFatal: (error: Error) => void;
  readonly onCommitted: (generation: bigint) => void;
  /** Requests evaluated in one turn. */
  readonly maxTurn?: number;
  readonly maxQueued?: number;
  readonly maxCachedChannels?: number;
}

interface Queued {
  readonly request: LaneRequest<unknown>;
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: Error) => void;
}

const RELOAD_PAUSE_MS = 200;
/**
 * HTLCs and ECDHs of one turn, which bounds how long the event loop is held: a few tenths of a second at some 0.3 ms each.
 * A minute of them, which 64 channels full of HTLCs take, would let keepalives and handshakes time out: the connections
 * break, and the same requests come again.
 */
const MAX_TURN_WEIGHT = 1_000;

export class SigningLane {
  readonly #options: LaneOptions;
  readonly #claims: Queued[] = [];
  readonly #channel: Queued[] = [];
  readonly #cache = new Map<string, SignerChannelState>();
  #head: SignerHead;
  /** What the last commit leaves behind, while nobody knows whether it happened. */
  #uncertain: SignerHead | undefined;
  #leastGeneration: bigint;
  #mustReload = false;
  #wake: (() => void) | undefined;
  #stopped = false;
  #task: Task | undefined;

  constructor(options: LaneOptions) {
    this.#options = options;
    this.#head = options.head;
    this.#leastGeneration = options.head.generation;
  }

  start(): void {
    this.#task = this.#options.runtime.spawn('signing lane', () => this.#run());
  }

  /** Ends after the turn in flight; what is queued is refused as unavailable. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wake?.();
    await this.#task?.done.catch(() => undefined);
  }

  /** A database that has less was set back. Never falls. */
  get leastGeneration(): bigint {
    return this.#leastGeneration;
  }

  /** Rejects with LaneUnavailableError when the queue is full, the commit failed, or the lane stops. */
  submit<T>(request: LaneRequest<T>): Promise<T> {
    const queue = request.priority === 'claim' ? this.#claims : this.#channel;
    if (this.#stopped || queue.length >= (this.#options.maxQueued ?? 10_000))
      return Promise.reject(
        new LaneUnavailableError(this.#stopped ? 'stopping' : 'too many requests are waiting'),
      );
    return new Promise<T>((resolve, reject) => {
      queue.push({ request, resolve: resolve as (answer: unknown) => void, reject });
      this.#wake?.();
    });
  }

  async #run(): Promise<void> {
    try {
      while (!this.#stopped) {
        const turn = this.#take();
        if (turn.length > 0) await this.#serve(turn);
        else if (this.#options.refusals.pending === 0) await this.#idle();
        else await this.#commitRefusals();
      }
    } finally {
      this.#stopped = true;
      for (const { reject } of [...this.#claims.splice(0), ...this.#channel.splice(0)])
        reject(new LaneUnavailableError('stopping'));
    }
  }

  #idle(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        resolve();
      };
    });
  }

  /** Claims, then the others, as many as a turn holds; one that is heavier than a turn has one of its own. */
  #take(): Queued[] {
    const limit = this.#options.maxTurn ?? 64;
    const turn: Queued[] = [];
    let weight = 0;
    for (const queue of [this.#claims, this.#channel]) {
      for (let next = queue[0]; next !== undefined && turn.length < limit; next = queue[0]) {
        weight += next.request.weight ?? 1;
        if (turn.length > 0 && weight > MAX_TURN_WEIGHT) return turn;
        turn.push(next);
        queue.shift();
      }
    }
    return turn;
  }

  async #serve(turn: readonly Queued[]): Promise<void> {
    let done: (() => void)[] = [];
    let committed = false;
    try {
      if (this.#mustReload) await this.#reload();
      await this.#load(turn);
      const effects = new Effects(this.#cache, this.#head);
      done = turn.map((queued) => this.#evaluate(queued, effects));
      this.#options.metrics.batchSize.observe(turn.length);
      if (effects.any) {
        await this.#commit(effects);
        committed = true;
      }
    } catch (error) {
      this.#fail(turn, error);
      return;
    }
    for (const answer of done) answer();
    // A turn without a commit waits for nothing: the next one would begin before anything else of the process did.
    if (!committed) await this.#options.runtime.sleep(0);
  }

  #fail(turn: readonly Queued[], error: unknown): void {
    const expected = error instanceof StoreError;
    if (expected && error.code === 'unknown') this.#mustReload = true;
    const reason = new LaneUnavailableError(error instanceof Error ? error.message : String(error));
    for (const { reject } of turn) reject(reason);
    // A definite no of the database to a commit, or a state that does not decode, does not get better by itself.
    if (expected) return;
    this.#stopped = true;
    this.#options.onFatal(error instanceof Error ? error : reason);
  }

  /** Channels of the turn that are not in memory. */
  async #load(turn: readonly Queued[]): Promise<void> {
    const missing = new Map<string, Uint8Array>();
    for (const { request } of turn) {
      if (request.channelKeysId === undefined) continue;
      const key = toHex(request.channelKeysId);
      const cached = this.#cache.get(key);
      if (cached === undefined) missing.set(key, request.channelKeysId);
      else {
        // Moved to the end: the cache forgets what was not used for longest.
        this.#cache.delete(key);
        this.#cache.set(key, cached);
      }
    }
    if (missing.size > 0) {
      for (const channel of await this.#options.store.loadChannels([...missing.values()]))
        this.#cache.set(toHex(channel.registration.channelKeysId), channel);
    }
    const limit = (this.#options.maxCachedChannels ?? 100_000) + turn.length;
    for (const key of this.#cache.keys()) {
      if (this.#cache.size <= limit) break;
      this.#cache.delete(key);
    }
  }

  #evaluate({ request, resolve, reject }: Queued, effects: Effects): () => void {
    try {
      const evaluation = request.evaluate(effects.view(request.channelKeysId));
      effects.add(evaluation);
      return () => resolve(evaluation.answer);
    } catch (error) {
      // A defect in one request's evaluation leaves nothing behind and hurts no other.
      return () => reject(error instanceof Error ? error : new LaneUnavailableError(String(error)));
    }
  }

  async #commit(effects: Effects): Promise<void> {
    const { store, instance, runtime, metrics, refusals } = this.#options;
    const generation = this.#head.generation + 1n;
    const audit =
      effects.audit.length === 0
        ? undefined
        : nextAuditRow(
            this.#head.audit,
            generation,
            encodeAuditEntries(runtime.wallClockMs(), effects.audit),
          );
    const batch: CommitBatch = {
      generation,
      registered: effects.registered,
      channels: [...effects.channels.values()],
      fences: effects.fences,
      velocity: effects.velocity,
      audit,
      refusals: refusals.take(),
    };
    const head: SignerHead = {
      generation,
      audit: audit === undefined ? this.#head.audit : { sequence: audit.sequence, hash: audit.hash },
      fences:
        effects.fences.size === 0 ? this.#head.fences : new Map([...this.#head.fences, ...effects.fences]),
      velocity: effects.velocity ?? this.#head.velocity,
    };
    this.#uncertain = head;
    const startedMs = runtime.monotonicMs();
    const outcome = await store.commitBatch(instance, batch);
    metrics.commitSeconds.observe((runtime.monotonicMs() - startedMs) / 1000);
    if (outcome === 'not_owner') throw new OwnershipLostError();
    for (const [key, channel] of effects.channels) this.#cache.set(key, channel);
    this.#moveTo(head);
    this.#options.onCommitted(generation);
  }

  /** Refusals alone never make a request wait; they are lost when the database is. */
  async #commitRefusals(): Promise<void> {
    try {
      if (this.#mustReload) await this.#reload();
      await this.#commit(new Effects(this.#cache, this.#head));
    } catch (error) {
      this.#fail([], error);
    }
  }

  /**
   * After an unknown outcome: the database says whether the commit happened.
   * It cannot say anything else. A server that came back older, or with another
   * history, would have numbers signed again that were given up already.
   */
  async #reload(): Promise<void> {
    this.#cache.clear();
    let found: SignerHead;
    try {
      found = await this.#options.store.loadHead();
    } catch (error) {
      await this.#options.runtime.sleep(RELOAD_PAUSE_MS);
      throw error;
    }
    const { generation } = this.#head;
    if (!isSame(found, this.#head) && (this.#uncertain === undefined || !isSame(found, this.#uncertain))) {
      if (found.generation > generation) throw new OwnershipLostError();
      // One with as many commits shows by its number only when it is told that one more is known.
      if (found.generation === generation) this.#leastGeneration = generation + 1n;
      throw new DatabaseSetBackError(found.generation, generation);
    }
    this.#moveTo(found);
    this.#mustReload = false;
  }

  #moveTo(head: SignerHead): void {
    this.#head = head;
    this.#leastGeneration = head.generation;
    this.#uncertain = undefined;
  }

  /** Wakes the loop so that refusals reach the store. */
  flush(): void {
    this.#wake?.();
  }
}

function isSame(one: SignerHead, other: SignerHead): boolean {
  return one.generation === other.generation && equalBytes(one.audit.hash, other.audit.hash);
}

/** The database forgot commits of this process. */
export class DatabaseSetBackError extends Error {
  override readonly name = 'DatabaseSetBackError';
  /** Both are generations. */
  constructor(found: bigint, known: bigint) {
    super(
      `the database was set back: it has other commits at ${found} than this process made up to ${known}`,
    );
  }
}

/** Another process took the database. */
export class OwnershipLostError extends Error {
  override readonly name = 'OwnershipLostError';
  constructor() {
    super('another signer process owns this database');
  }
}

/** What a turn's requests leave behind so far, over what is durable. */
class Effects {
  readonly channels = new Map<string, SignerChannelState>();
  readonly fences = new Map<number, bigint>();
  readonly registered: SignerChannelState['registration'][] = [];
  readonly audit: AuditEntry[] = [];
  velocity: Velocity | undefined;
  readonly #cache: ReadonlyMap<string, SignerChannelState>;
  readonly #head: SignerHead;

  constructor(cache: ReadonlyMap<string, SignerChannelState>, head: SignerHead) {
    this.#cache = cache;
    this.#head = head;
  }

  get any(): boolean {
    return (
      this.channels.size > 0 || this.fences.size > 0 || this.audit.length > 0 || this.velocity !== undefined
    );
  }

  view(channelKeysId: Uint8Array | undefined): LaneView {
    const key = channelKeysId === undefined ? undefined : toHex(channelKeysId);
    return {
      channel: key === undefined ? undefined : (this.channels.get(key) ?? this.#cache.get(key)),
      fenceOf: (shard) => this.fences.get(shard) ?? this.#head.fences.get(shard) ?? 0n,
      velocity: this.velocity ?? this.#head.velocity,
    };
  }

  add(evaluation: Evaluation<unknown>): void {
    const { channel, fence, velocity, audit } = evaluation;
    if (channel !== undefined) {
      const key = toHex(channel.registration.channelKeysId);
      if (!this.channels.has(key) && !this.#cache.has(key)) this.registered.push(channel.registration);
      this.channels.set(key, channel);
    }
    if (fence !== undefined) this.fences.set(fence.shard, fence.epoch);
    if (velocity !== undefined) this.velocity = velocity;
    if (audit !== undefined) this.audit.push(audit);
  }
}

/** The refusal that an unavailable lane becomes in a batch's results. */
export function unavailableRefusal(error: LaneUnavailableError): Refusal {
  return { kind: 'unavailable', policy: 'policy-unavailable', reason: error.message };
}
