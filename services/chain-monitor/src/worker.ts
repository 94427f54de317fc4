/**
 * The one writer's life: it holds the lease, and turns (monitors, orders,
 * watches, blocks, broadcasts, wallet) until it loses it; the others stand by.
 */
import { ChainSourceError } from '@fulmen/chain';
import type { Logger, Runtime, Task } from '@fulmen/service';
import { StatementError, StoreError } from '@fulmen/store';
import { ChainConflictError, ChainFenceLostError } from '@fulmen/store/chain/chain-store';
import { RpcError } from '@fulmen/rpc';
import { type Broadcaster, ORDER_BATCH } from './broadcast/broadcaster.ts';
import type { BlockIndex } from './follower/block-index.ts';
import type { Follower } from './follower/follower.ts';
import type { ChainHealth, Halt } from './follower/health.ts';
import { settleLostFundings } from './follower/lost-fundings.ts';
import { type Rescan, dropScan } from './follower/rescan.ts';
import { WATCH_BATCH, takeWatches } from './follower/watches.ts';
import type { ChainMetrics } from './metrics.ts';
import type { Closer } from './monitors/closer.ts';
import type { MonitorDrain } from './monitors/drain.ts';
import type { ChainMonitorConfig, ChainMonitorPorts } from './ports.ts';
import type { DeadlineKeeper } from './settlement/deadline-keeper.ts';
import type { MissingFacts } from './settlement/missing-facts.ts';
import type { Settler } from './settlement/settler.ts';
import { NotWriterError, type Writer } from './state/writer.ts';
import { channelClaimsOf } from './sweeper/claims.ts';
import type { Sweeper } from './sweeper/sweeper.ts';
import { AddressBook } from './wallet/address-book.ts';
import type { FundingSignatures } from './wallet/funding-signatures.ts';
import type { Housekeeping } from './wallet/housekeeping.ts';

/** Blocks between two looks at everything else. */
const BLOCKS_A_TURN = 20;
/** Blocks must not wait for a signer that is slow to tell what the wallet is. */
const DESCRIPTORS_DEADLINE_MS = 2_000;
/** After a turn that failed. */
const RETRY_MS = 500;

/** The longest of its words that standbys are told. */
const MAX_DOUBT_LENGTH = 500;

/** What another replica, which writes, said at its last renewal of the lease. */
export interface Leader {
  /** Where it listens. */
  readonly address: string;
  /** Why it does not know the chain as it is; absent: it knows it. */
  readonly doubt?: string;
}

/** What a node's own chain-monitor does, and a tower does not. */
export interface OwnDuties {
  readonly signer: ChainMonitorPorts['signer'];
  readonly broadcaster: Broadcaster;
  readonly fundingSignatures: FundingSignatures;
  readonly deadlines: DeadlineKeeper;
  readonly closer: Closer;
  readonly housekeeping: Housekeeping;
  readonly rescan: Rescan;
  readonly setBook: (book: AddressBook) => void;
  readonly book: () => AddressBook | undefined;
}

export interface WorkerParts {
  readonly config: ChainMonitorConfig;
  readonly ports: Omit<ChainMonitorPorts, 'signer'>;
  readonly writer: Writer;
  readonly metrics: ChainMetrics;
  readonly index: BlockIndex;
  readonly health: ChainHealth;
  readonly follower: Follower;
  readonly drain: MonitorDrain;
  readonly settler: Settler;
  readonly missingFacts: MissingFacts;
  readonly sweeper: Pick<Sweeper, 'run'>;
  /** Absent in a tower. */
  readonly ownDuties: OwnDuties | undefined;
}

export class Worker {
  readonly #parts: WorkerParts;
  readonly #runtime: Runtime;
  readonly #logger: Logger;
  readonly #holder: string;
  #address = '';
  #leader: Leader | undefined;
  #leaseUntilMs = Number.NEGATIVE_INFINITY;
  #nextMempoolMs = Number.NEGATIVE_INFINITY;
  #expiredAtHeight = -1;
  #wake: (() => void) | undefined;
  #woken = false;
  #yieldedFor: Halt | undefined;
  #tasks: readonly Task[] = [];

  constructor(parts: WorkerParts) {
    this.#parts = parts;
    this.#runtime = parts.ports.runtime;
    this.#logger = parts.ports.logger;
    this.#holder = `${parts.config.replicaId}-${Buffer.from(this.#runtime.randomBytes(6)).toString('hex')}`;
  }

  /** The writer, when it is another replica. */
  get leader(): Leader | undefined {
    return this.#leader;
  }

  /** Begins. Its tasks are essential: what ends one ends the service. */
  start(address: string): void {
    this.#address = address;
    this.#tasks = [
      this.#runtime.spawn('chain-lease', (signal) => this.#keepLease(signal)),
      this.#runtime.spawn('chain-turns', (signal) => this.#turns(signal)),
    ];
  }

  async stop(): Promise<void> {
    await Promise.all(this.#tasks.map((task) => task.stop()));
    const { lease } = this.#parts.writer;
    if (lease === undefined) return;
    this.#stepDown();
    // Unreleased, it expires by itself.
    await this.#parts.ports.store.releaseLease(lease).catch(() => undefined);
  }

  /** There may be something to do. */
  wake(): void {
    this.#woken = true;
    this.#wake?.();
  }

  /** The lease is gone, as a turn found out. */
  stepDown(): void {
    this.#stepDown();
  }

  #stepDown(): void {
    this.#parts.writer.setLease(undefined);
    this.#parts.metrics.writer.set(0);
    this.#leaseUntilMs = Number.NEGATIVE_INFINITY;
  }

  /** A source that lied never writes again; for one that is only in trouble another replica gets one chance. */
  #shallYield(): boolean {
    const { halt } = this.#parts.health;
    if (halt === undefined || halt.type === 'chain_stale' || halt.type === 'deep_reorg') return false;
    if (halt.type === 'source_contradicts') return true;
    const isNew = halt !== this.#yieldedFor;
    this.#yieldedFor = halt;
    return isNew;
  }

  async #keepLease(signal: AbortSignal): Promise<void> {
    const { config, writer, metrics, health } = this.#parts;
    while (!signal.aborted) {
      // Counted from before the question: the database's lease ends later than ours.
      const askedMs = this.#runtime.monotonicMs();
      try {
        if (this.#shallYield()) {
          // Another replica may have a better source.
          const { lease } = writer;
          this.#stepDown();
          if (lease !== undefined) await this.#parts.ports.store.releaseLease(lease);
        } else {
          const outcome = await this.#parts.ports.store.acquireLease({
            holder: this.#holder,
            address: this.#address,
            leaseMs: config.leaseMs,
            doubt: health.doubt?.slice(0, MAX_DOUBT_LENGTH),
          });
          if (outcome.type === 'acquired') {
            const isNew = writer.lease === undefined;
            this.#leaseUntilMs = askedMs + config.leaseMs;
            this.#leader = undefined;
            writer.setLease(outcome.lease);
            metrics.writer.set(1);
            if (isNew) {
              this.#logger.info({ epoch: outcome.lease.epoch }, 'this replica writes');
              this.wake();
            }
          } else {
            this.#stepDown();
            this.#leader = outcome;
          }
        }
      } catch (error) {
        if (!(error instanceof StoreError) && !(error instanceof StatementError)) throw error;
        this.#logger.warn({ reason: error.message }, 'the lease could not be renewed');
        if (this.#leader !== undefined) this.#leader = { ...this.#leader, doubt: 'the writer is not heard' };
        if (this.#runtime.monotonicMs() >= this.#leaseUntilMs) this.#stepDown();
      }
      await this.#runtime.sleep(config.leaseMs / 3, signal);
    }
  }

  async #turns(signal: AbortSignal): Promise<void> {
    const { config, writer } = this.#parts;
    while (!signal.aborted) {
      let pauseMs = config.pollMs;
      if (writer.lease !== undefined) {
        try {
          if ((await this.#turn()) === 'more') pauseMs = 0;
        } catch (error) {
          this.#report(error);
          pauseMs = RETRY_MS;
        }
      }
      if (pauseMs > 0) await this.#pause(pauseMs, signal);
    }
  }

  /** Expected failures are logged and tried again; anything else ends the service. */
  #report(error: unknown): void {
    this.#parts.metrics.turnErrors.inc();
    const isExpected =
      error instanceof ChainSourceError ||
      error instanceof StoreError ||
      error instanceof StatementError ||
      error instanceof ChainConflictError ||
      error instanceof ChainFenceLostError ||
      error instanceof NotWriterError ||
      error instanceof RpcError;
    if (!isExpected) throw error;
    this.#logger.warn({ error: error.name, reason: error.message }, 'a turn failed and is repeated');
  }

  /** Sleeps, until somebody wakes it. */
  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    // Stopped in the middle of a turn.
    if (signal.aborted) return;
    if (this.#woken) {
      this.#woken = false;
      return;
    }
    const woken = new Promise<void>((resolve) => (this.#wake = resolve));
    const timer = new AbortController();
    const onAbort = (): void => timer.abort();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await Promise.race([woken, this.#runtime.sleep(ms, timer.signal).catch(() => undefined)]);
    } finally {
      signal.removeEventListener('abort', onAbort);
      timer.abort();
      this.#wake = undefined;
      this.#woken = false;
    }
  }

  async #turn(): Promise<'more' | 'idle'> {
    const { drain, follower, config, settler, sweeper, ownDuties, writer } = this.#parts;
    if (ownDuties === undefined) await dropScan(writer);
    else await this.#learnDescriptors(ownDuties);
    await drain.run();
    await ownDuties?.closer.run();
    const orders = (await ownDuties?.broadcaster.takeOrders()) ?? 0;
    const watches = await takeWatches({
      ...this.#parts.ports,
      writer: this.#parts.writer,
      index: this.#parts.index,
    });
    const followed = await follower.catchUp(BLOCKS_A_TURN);
    if (followed === 'more') return 'more';
    const isMempoolDue = followed === 'at_tip' && this.#runtime.monotonicMs() >= this.#nextMempoolMs;
    if (isMempoolDue) await settler.lookIntoMempool();
    const missing = followed === 'at_tip' ? await this.#parts.missingFacts.run() : 'done';
    await settler.run();
    // What it closes is drained and signed by the next turn: the monitor must have all that was committed before.
    const closed = followed === 'at_tip' ? ((await ownDuties?.deadlines.run()) ?? 0) : 0;
    await ownDuties?.broadcaster.run();
    await sweeper.run(channelClaimsOf(settler.closing.values()));
    const signed = (await ownDuties?.fundingSignatures.run()) ?? 0;
    if (closed > 0 || signed > 0 || missing === 'more') return 'more';
    if (orders === ORDER_BATCH || watches === WATCH_BATCH) return 'more';
    const height = this.#parts.writer.view?.tip?.height ?? -1;
    if (isMempoolDue) {
      this.#nextMempoolMs = this.#runtime.monotonicMs() + config.mempoolPollMs;
      await ownDuties?.housekeeping.lookIntoMempool();
    }
    if (height !== this.#expiredAtHeight) {
      await ownDuties?.housekeeping.expireReservations();
      await ownDuties?.housekeeping.forgetReservations();
      if (ownDuties !== undefined) await settleLostFundings(writer, this.#logger);
      this.#expiredAtHeight = height;
    }
    // Last of all: nothing that is due waits for old blocks.
    const scanned = followed === 'at_tip' ? await ownDuties?.rescan.run() : 'done';
    return scanned === 'more' ? 'more' : 'idle';
  }

  /** The wallet waits for the signer; the rest does not. */
  async #learnDescriptors({ signer, book, setBook }: OwnDuties): Promise<void> {
    const { ports, config, writer } = this.#parts;
    if (book() !== undefined) return;
    try {
      const descriptors = await signer.getWalletDescriptors({}, { deadlineMs: DESCRIPTORS_DEADLINE_MS });
      const made = new AddressBook(ports.secp, config.network, descriptors);
      await writer.turn((draft) => made.introduce(draft));
      setBook(made);
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      this.#logger.warn(
        { code: error.code, reason: error.message },
        'the signer did not tell the wallet’s descriptors yet',
      );
    }
  }
}
