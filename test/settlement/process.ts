/**
 * chain-monitor as a process that can die at any write: the real service on
 * ports that stop answering, for ever, once it is dead. What it wrote stays,
 * and the next process starts from that.
 */
import { MemoryBusHub } from '@fulmen/bus';
import type { BroadcastOutcome, ChainSource } from '@fulmen/chain';
import { type ChainMonitorConfig, type RunningChainMonitor, start } from '@fulmen/chain-monitor/start';
import { TEST_CONFIG } from '@fulmen/chain-monitor/testing/harness';
import { InternalError } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { SettlementServiceService, WalletServiceService } from '@fulmen/proto/chain/v1/chain';
import { type Client, MemoryNetwork } from '@fulmen/rpc';
import { AbortedError, type Logger, Metrics, type Runtime, spawnTask } from '@fulmen/service';
import type { SignerClient } from '@fulmen/signer/testing/harness';
import { type MemoryChainState, MemoryChainStore } from '@fulmen/store/chain/memory';
import { MemoryChainSource, MemoryFilteredSource } from '@fulmen/testing/devchain';
import type { World } from './world.ts';

/** Macrotasks without any call under way, after which nothing moves any more. */
const QUIET_ROUNDS = 4;
const MAX_ROUNDS = 20_000;
const LEASE_MS = 60_000;

/** Operations of the store that write. */
const WRITES: ReadonlySet<string> = new Set([
  'commit',
  'commitMonitors',
  'commitClose',
  'decideClose',
  'takeBroadcasts',
]);

/** A broadcast that the node refused. */
export interface RefusedBroadcast {
  readonly height: number;
  readonly transactions: readonly Uint8Array[];
  readonly outcome: Extract<BroadcastOutcome, { kind: 'rejected' }>;
}

/** What the processes of one case share. */
export interface Machine {
  readonly world: World;
  readonly state: MemoryChainState;
  readonly signer: SignerClient;
  readonly clock: Clock;
  readonly config?: Partial<ChainMonitorConfig>;
  /** What its source shows of a block; absent: all of it. */
  readonly sees?: 'registered';
  /** What its source says, in place of the truth; for processes that start from then on. */
  lies?: (source: ChainSource) => Partial<ChainSource>;
  /** Every transaction that was handed to the node. */
  readonly broadcasts: (readonly Uint8Array[])[];
  readonly refused: RefusedBroadcast[];
  /** Warnings and errors of the log. */
  readonly complaints: string[];
}

/** Time that moves by hand. */
export class Clock {
  nowMs = 1_000_000;
  #sleepers: { readonly atMs: number; readonly wake: () => void }[] = [];

  sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(new AbortedError('aborted'));
      this.#sleepers.push({ atMs: this.nowMs + ms, wake: resolve });
      signal?.addEventListener('abort', () => reject(new AbortedError('aborted')), { once: true });
    });
  }

  advance(ms: number): void {
    this.nowMs += ms;
    const due = this.#sleepers.filter(({ atMs }) => atMs <= this.nowMs).sort((a, b) => a.atMs - b.atMs);
    this.#sleepers = this.#sleepers.filter(({ atMs }) => atMs > this.nowMs);
    for (const { wake } of due) wake();
  }
}

/** One for each who waits: a promise shared by all the dead would keep them all. */
const never = (): Promise<never> => new Promise(() => undefined);
let processes = 0;

export class Process {
  readonly #machine: Machine;
  #service: RunningChainMonitor | undefined;
  #wallet: Client<WalletServiceService> | undefined;
  #settlement: Client<SettlementServiceService> | undefined;
  #isDead = false;
  #underWay = 0;
  #writesLeft = Number.POSITIVE_INFINITY;
  /** What ended a task of the process, which nothing may. */
  readonly failures: unknown[] = [];

  private constructor(machine: Machine) {
    this.#machine = machine;
  }

  static async start(machine: Machine): Promise<Process> {
    const process = new Process(machine);
    await process.#start();
    return process;
  }

  /** It dies with the answer to its next but so many writes; a limit that was set before stands. */
  dieAfter(writes: number): void {
    if (this.#writesLeft === Number.POSITIVE_INFINITY) this.#writesLeft = writes;
  }

  get isDead(): boolean {
    return this.#isDead;
  }

  get wallet(): Client<WalletServiceService> {
    if (this.#wallet === undefined) throw new InternalError('not started');
    return this.#wallet;
  }

  get settlement(): Client<SettlementServiceService> {
    if (this.#settlement === undefined) throw new InternalError('not started');
    return this.#settlement;
  }

  async #start(): Promise<void> {
    const { state, world, signer, sees, lies } = this.#machine;
    const truth: ChainSource =
      sees === 'registered' ? new MemoryFilteredSource(world.chain) : new MemoryChainSource(world.chain);
    const source = Object.assign(truth, lies?.(truth));
    const network = new MemoryNetwork();
    const hub = new MemoryBusHub();
    const starting = start(
      { ...TEST_CONFIG, leaseMs: LEASE_MS, mempoolPollMs: 0, feeCacheMs: 0, ...this.#machine.config },
      {
        runtime: this.#runtime(),
        logger: this.#logger(),
        metrics: new Metrics('chain-monitor'),
        signer: this.#guard(signer),
        bus: hub.connect('chain-monitor'),
        store: this.#guard(new MemoryChainStore(state)),
        source: this.#guard(source),
        secp: secp256k1,
        server: network.server('chain'),
      },
    );
    await this.#quiet();
    // Dead while it starts: nobody waits for it any more.
    if (this.#isDead) return;
    this.#service = await starting;
    this.#wallet = network.connector('test', ['plaintext']).client(WalletServiceService, 'chain');
    this.#settlement = network.connector('test', ['plaintext']).client(SettlementServiceService, 'chain');
    void this.#service.failed.then((error) => this.failures.push(error));
    await this.#quiet();
  }

  /** Lets it look once, and do all that it finds to do. */
  async turn(): Promise<void> {
    this.#service?.wake();
    await this.#quiet();
    if (this.failures.length > 0) throw this.failures[0];
  }

  /** The end, without a chance to do anything. */
  kill(): void {
    this.#isDead = true;
  }

  async stop(): Promise<void> {
    if (this.#isDead || this.#service === undefined) return;
    await this.#service.stop();
    this.#isDead = true;
  }

  async #quiet(): Promise<void> {
    let quiet = 0;
    for (let round = 0; quiet < QUIET_ROUNDS; round++) {
      if (round === MAX_ROUNDS) throw new InternalError('chain-monitor never comes to rest');
      await new Promise((resolve) => setImmediate(resolve));
      quiet = this.#underWay === 0 || this.#isDead ? quiet + 1 : 0;
    }
  }

  /** Counts what is under way, and answers nothing after death. */
  #guard<T extends object>(port: T): T {
    return new Proxy(port, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name);
        if (typeof member !== 'function') return member;
        return (...given: unknown[]) =>
          this.#call(String(name), () => Reflect.apply(member, target, given), given);
      },
    });
  }

  #call(name: string, call: () => unknown, given: readonly unknown[]): unknown {
    if (this.#isDead) return never();
    const answer = call();
    if (!(answer instanceof Promise)) return answer;
    this.#underWay += 1;
    if (name === 'broadcastPackage') this.#watchBroadcast(given[0] as readonly Uint8Array[], answer);
    return answer.then(
      (value: unknown) => {
        this.#ended(name);
        return this.#isDead ? never() : value;
      },
      (error: unknown) => {
        this.#ended(name);
        if (this.#isDead) return never();
        throw error;
      },
    );
  }

  #ended(name: string): void {
    this.#underWay -= 1;
    if (!WRITES.has(name)) return;
    this.#writesLeft -= 1;
    if (this.#writesLeft <= 0) this.kill();
  }

  #watchBroadcast(transactions: readonly Uint8Array[], answer: Promise<unknown>): void {
    const { broadcasts, refused, world } = this.#machine;
    broadcasts.push(transactions);
    (answer as Promise<BroadcastOutcome>).then(
      (outcome) => {
        world.events.push({ type: 'broadcast', transactions, outcome });
        if (outcome.kind === 'rejected') refused.push({ height: world.height, transactions, outcome });
      },
      () => undefined,
    );
  }

  #runtime(): Runtime {
    const { clock } = this.#machine;
    const id = processes++;
    let draws = 0;
    return {
      wallClockMs: () => clock.nowMs,
      monotonicMs: () => clock.nowMs,
      sleep: async (ms, signal) => {
        await clock.sleep(ms, signal);
        if (this.#isDead) await never();
      },
      randomBytes: (length) => {
        const seed = sha256(new TextEncoder().encode(`process ${id} draw ${draws++}`));
        return Uint8Array.from({ length }, (_, i) => seed[i % seed.length] ?? 0);
      },
      spawn: (name, work) => spawnTask(name, work, (_, error) => void this.failures.push(error)),
    };
  }

  #logger(): Logger {
    const complain =
      (level: string) =>
      (fields: object, text: string): void => {
        if (!this.#isDead) this.#machine.complaints.push(`${level}: ${text} ${render(fields)}`);
      };
    const silent = (): void => undefined;
    const logger: Logger = {
      debug: silent,
      info: silent,
      warn: complain('warn'),
      error: complain('error'),
      child: () => logger,
    };
    return logger;
  }
}

function render(fields: object): string {
  return JSON.stringify(fields, (_, value: unknown) => {
    if (typeof value === 'bigint') return value.toString();
    if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
    return value;
  });
}

export { LEASE_MS };
