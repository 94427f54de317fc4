/**
 * This replica's part: the writer, while it holds the lease, or a reader who
 * follows what the writer saves. The store fences a writer that lost its
 * lease; this loop only makes it notice.
 */
import type { Task } from '@fulmen/service';
import { StoreError } from '@fulmen/store';
import { Writer } from './gossip/writer.ts';
import { followGraph, loadGraph, loadScores } from './jobs/load.ts';
import { periodically } from './jobs/periodically.ts';
import { sleepUntilHint } from './jobs/sleep-until-hint.ts';
import type { RouterContext } from './ports.ts';

const FOLLOW_MS = 2_000;
const READER_SCORES_MS = 300_000;

export interface ReplicaOptions {
  readonly replicaId: string;
  readonly address: string;
  readonly leaseMs: number;
}

export class Replica {
  readonly #context: RouterContext;
  readonly #options: ReplicaOptions;
  #writer: Writer | undefined;
  /** Where the writer listens, when it is not this replica. */
  #writerAddress = '';
  /** From which to follow; undefined: the graph holds what was never saved, and is read anew. */
  #revision: bigint | undefined;
  /** Monotonic time at which the lease, if not renewed, may be another's. */
  #leaseEndMs = Number.NEGATIVE_INFINITY;
  readonly #tasks: Task[] = [];
  /** Changes of role happen one after the other. */
  #turn: Promise<void> = Promise.resolve();

  constructor(context: RouterContext, options: ReplicaOptions, revision: bigint) {
    this.#context = context;
    this.#options = options;
    this.#revision = revision;
  }

  get writer(): Writer | undefined {
    return this.#writer;
  }

  get writerAddress(): string {
    return this.#writerAddress;
  }

  /** Asks for the lease once, and from then on now and then. */
  async start(): Promise<void> {
    const { runtime } = this.#context;
    await this.#renewOrWait();
    this.#tasks.push(
      periodically(this.#context, 'lease', this.#options.leaseMs / 3, () => this.#renewOrWait()),
      periodically(this.#context, 'scores of the writer', READER_SCORES_MS, async () => {
        if (this.#writer === undefined) await loadScores(this.#context);
      }),
      runtime.spawn('follow', (signal) => this.#follow(signal)),
    );
  }

  async stop(): Promise<void> {
    await Promise.all(this.#tasks.map((task) => task.stop()));
    // Its error was that of the task that waited for it.
    await this.#turn.catch(() => undefined);
    const writer = this.#writer;
    this.#writer = undefined;
    await writer?.stop('save');
    try {
      await this.#context.store.releaseLease(this.#options.replicaId);
    } catch (error) {
      // It ends by itself.
      if (!(error instanceof StoreError)) throw error;
    }
  }

  #renewOrWait(): Promise<void> {
    this.#turn = this.#turn
      .then(() => this.#renew())
      .catch((error: unknown) => {
        if (!(error instanceof StoreError)) throw error;
        this.#context.logger.warn({ err: error }, 'the lease was not renewed');
      });
    return this.#turn;
  }

  async #renew(): Promise<void> {
    const { runtime, store } = this.#context;
    const { replicaId, address, leaseMs } = this.#options;
    const askedAtMs = runtime.monotonicMs();
    if (this.#writer !== undefined && askedAtMs > this.#leaseEndMs) await this.#stepDown();
    const outcome = await store.acquireLease(replicaId, address, leaseMs);
    if (outcome.kind === 'taken') {
      this.#writerAddress = outcome.address;
      await this.#stepDown();
      return;
    }
    this.#leaseEndMs = askedAtMs + leaseMs;
    if (this.#writer?.epoch === outcome.epoch) return;
    await this.#stepDown();
    // What the writer before wrote last.
    await this.#catchUp();
    await loadScores(this.#context);
    const writer = new Writer(this.#context, outcome.epoch, () => {
      this.#leaseEndMs = Number.NEGATIVE_INFINITY;
      // An error that lasts is met by the next renewal, too: all turns after it fail.
      this.#renewOrWait().catch(() => undefined);
    });
    writer.start();
    this.#writer = writer;
    this.#context.metrics.isWriter.set(1);
    this.#context.logger.info({ epoch: outcome.epoch }, 'this replica writes');
  }

  /** From writer to reader. What was not saved is another's to learn, or this one's once more: the graph is not to have it. */
  async #stepDown(): Promise<void> {
    const writer = this.#writer;
    if (writer === undefined) return;
    this.#writer = undefined;
    this.#context.metrics.isWriter.set(0);
    this.#context.logger.warn({ epoch: writer.epoch }, 'this replica no longer writes');
    this.#revision = undefined;
    await writer.stop('abandon');
  }

  /** Brings the graph to what is in the store. */
  async #catchUp(): Promise<void> {
    const revision = this.#revision;
    this.#revision =
      revision === undefined ? await loadGraph(this.#context) : await followGraph(this.#context, revision);
  }

  async #follow(signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleepUntilHint(this.#context, 'fulmen.gossip', FOLLOW_MS, signal);
      this.#turn = this.#turn
        .then(async () => {
          if (this.#writer === undefined) await this.#catchUp();
        })
        .catch((error: unknown) => {
          if (!(error instanceof StoreError)) throw error;
          this.#context.logger.warn({ err: error }, 'the writer was not followed');
        });
      await this.#turn;
    }
  }
}
