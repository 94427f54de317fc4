/** Everything that only the replica with the lease does: it learns gossip, keeps it, answers peers and relays. */
import { StoreError } from '@fulmen/store';
import type { GossipFromPeer, GossipToPeer } from '@fulmen/proto/router/v1/router';
import type { DuplexStream } from '@fulmen/rpc';
import type { Task } from '@fulmen/service';
import { pruneStale } from '@fulmen/graph';
import { periodically } from '../jobs/periodically.ts';
import { ChainWatch } from '../jobs/chain-watch.ts';
import { showSize } from '../jobs/load.ts';
import type { RouterContext } from '../ports.ts';
import { nowSeconds } from '../ports.ts';
import { AnswerMemory } from './answer-memory.ts';
import { Journal } from './journal.ts';
import { Persister } from './persister.ts';
import { Pipeline } from './pipeline.ts';
import { Relay } from './relay.ts';
import { GatewaySession } from './session.ts';
import { GossipSync } from './sync.ts';
import { UtxoLookups } from './utxo-lookups.ts';

const SYNC_TICK_MS = 5_000;
const EARLY_MS = 2_000;
const PRUNE_MS = 3_600_000;
/** LDK saves its scorer as often. */
const SCORES_MS = 300_000;

export class Writer {
  readonly epoch: bigint;
  readonly journal = new Journal();
  readonly pipeline: Pipeline;
  readonly lookups: UtxoLookups;
  readonly persister: Persister;
  readonly #context: RouterContext;
  readonly #relay = new Relay();
  readonly #sync: GossipSync;
  readonly #answerMemory: AnswerMemory;
  /** Messages of our own that are in the graph, and perhaps not yet in the store: durable before heard. */
  readonly #unheard: Uint8Array[] = [];
  readonly #sessions = new Set<GatewaySession>();
  readonly #stopping = new AbortController();
  readonly #tasks: Task[] = [];

  /** @param onFenced another replica took the lease: this one is to be stopped. */
  constructor(context: RouterContext, epoch: bigint, onFenced: () => void) {
    this.epoch = epoch;
    this.#context = context;
    this.#sync = new GossipSync(context);
    this.#answerMemory = new AnswerMemory(context.metrics);
    this.lookups = new UtxoLookups(context, this.#stopping.signal);
    this.persister = new Persister(context, this.journal, epoch, () => this.#relayOwn(), onFenced);
    this.pipeline = new Pipeline(context, this.journal, this.#relay, this.lookups, (peer) =>
      this.#sync.heard(peer),
    );
  }

  start(): void {
    const { runtime, relayMs } = this.#context;
    const chainWatch = new ChainWatch(this.#context, this.journal, this.lookups);
    this.#tasks.push(
      runtime.spawn('gossip pipeline', (signal) => this.pipeline.run(signal)),
      runtime.spawn('gossip persister', (signal) => this.persister.run(signal)),
      runtime.spawn('spent channels', (signal) => chainWatch.run(signal)),
      periodically(this.#context, 'gossip flush', relayMs, () => this.flush()),
      periodically(this.#context, 'gossip sync', SYNC_TICK_MS, () => this.#sync.tick()),
      periodically(this.#context, 'early announcements', EARLY_MS, () => this.pipeline.retryEarly()),
      periodically(this.#context, 'prune', PRUNE_MS, () => this.prune()),
      periodically(this.#context, 'scores', SCORES_MS, () => this.saveScores()),
    );
    this.prune();
  }

  /** Serves one gateway until its stream ends. */
  async serve(stream: DuplexStream<GossipFromPeer, GossipToPeer>): Promise<void> {
    const session = new GatewaySession(this.#context, stream, this.pipeline, this.#sync, this.#answerMemory);
    this.#sessions.add(session);
    try {
      await session.run();
    } finally {
      this.#sessions.delete(session);
    }
  }

  /** Relays what was accepted since the last flush to the peers that want it. */
  flush(): void {
    const items = this.#relay.take(this.#context.state.graph);
    for (const session of this.#sessions) for (const peer of session.peers.values()) peer.relay(items);
    showSize(this.#context);
  }

  /** Sends a message of our own, which the graph has taken, as soon as it is saved: whoever made it need not be there any more. */
  sendOnceSaved(message: Uint8Array): void {
    this.#unheard.push(message);
  }

  #relayOwn(): void {
    const messages = this.#unheard.splice(0);
    for (const session of this.#sessions) for (const peer of session.peers.values()) peer.relayOwn(messages);
  }

  /** Forgets channels of which either side is silent for two weeks. */
  prune(): void {
    const { state, runtime } = this.#context;
    this.journal.removed(pruneStale(state.graph, nowSeconds(runtime)));
    showSize(this.#context);
  }

  async saveScores(): Promise<void> {
    const { state, store, runtime } = this.#context;
    if (!state.scoresChanged) return;
    state.scoresChanged = false;
    state.scorer.prune(nowSeconds(runtime));
    try {
      await store.saveScores(this.epoch, state.scorer.encode());
    } catch (error) {
      state.scoresChanged = true;
      throw error;
    }
  }

  /** Stops; with `save`, what is not in the store yet is written first. */
  async stop(mode: 'save' | 'abandon'): Promise<void> {
    this.#stopping.abort();
    for (const session of this.#sessions) session.cancel('this router is no longer the writer');
    await Promise.all(this.#tasks.map((task) => task.stop()));
    if (mode === 'abandon') return;
    try {
      await this.persister.flush();
      await this.saveScores();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#context.logger.warn({ err: error }, 'the last gossip was not saved');
    }
  }
}
