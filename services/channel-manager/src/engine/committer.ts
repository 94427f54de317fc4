/**
 * Group commit. Units of all actors that are ready at the same moment share
 * one call to the store, and their signer items one SignBatch; two lanes keep
 * one call under way while the next fills. A lane is free again as soon as the
 * commit is answered: signing does not hold it.
 */
import type { SignItem, SignResult } from '@fulmen/proto/signer/v1/signer';
import { type Logger, type Runtime } from '@fulmen/service';
import { type CommitUnit, type ManagerStore, StoreError, type Verdict } from '@fulmen/store';
import type { SignLane } from '../signing/sign-lane.ts';

const LANES = 2;
/** Units in one call: bounds the time that a call holds its rows. */
const MAX_UNITS = 64;
const FIRST_RETRY_MS = 50;
const LAST_RETRY_MS = 1_000;
/** Longest wait for a store that is away before the outcome counts as unknown to the actor. */
const STORE_PATIENCE_MS = 60_000;

export interface CommitResult {
  readonly verdict: Verdict;
  /** Present when the unit committed and came with a signer item. */
  readonly signed?: Promise<SignResult>;
}

interface Job {
  readonly unit: CommitUnit;
  readonly signItem: SignItem | undefined;
  readonly resolve: (result: CommitResult) => void;
  readonly reject: (error: unknown) => void;
}

export class Committer {
  readonly #store: ManagerStore;
  readonly #signLane: SignLane;
  readonly #runtime: Runtime;
  readonly #logger: Logger;
  readonly #queue: Job[] = [];
  #busyLanes = 0;
  #scheduled = false;
  /** Calls to the store, for the budget of a step. */
  commits = 0;
  units = 0;

  constructor(store: ManagerStore, signLane: SignLane, runtime: Runtime, logger: Logger) {
    this.#store = store;
    this.#signLane = signLane;
    this.#runtime = runtime;
    this.#logger = logger;
  }

  /**
   * Commits a unit, then signs its item. Rejects with StoreError 'unknown' when
   * nobody can say whether it committed: the shard must be loaded again.
   */
  submit(unit: CommitUnit, signItem?: SignItem): Promise<CommitResult> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ unit, signItem, resolve, reject });
      this.#schedule();
    });
  }

  /** Actors that become ready in one turn of the event loop share a call: collect until the microtasks ran. */
  #schedule(): void {
    if (this.#scheduled || this.#busyLanes >= LANES) return;
    this.#scheduled = true;
    void this.#runtime.sleep(0).then(() => {
      this.#scheduled = false;
      if (this.#queue.length === 0 || this.#busyLanes >= LANES) return;
      this.#busyLanes += 1;
      void this.#runLane().finally(() => {
        this.#busyLanes -= 1;
        if (this.#queue.length > 0) this.#schedule();
      });
    });
  }

  async #runLane(): Promise<void> {
    while (this.#queue.length > 0) {
      const jobs = this.#queue.splice(0, MAX_UNITS);
      this.commits += 1;
      this.units += jobs.length;
      let verdicts: readonly Verdict[];
      try {
        verdicts = await this.#commit(jobs.map((job) => job.unit));
      } catch (error) {
        for (const job of jobs) job.reject(error);
        continue;
      }
      this.#finish(jobs, verdicts);
    }
  }

  async #commit(units: readonly CommitUnit[]): Promise<readonly Verdict[]> {
    const giveUpAt = this.#runtime.monotonicMs() + STORE_PATIENCE_MS;
    for (let pauseMs = FIRST_RETRY_MS; ; pauseMs = Math.min(pauseMs * 2, LAST_RETRY_MS)) {
      try {
        return await this.#store.commitSteps(units);
      } catch (error) {
        // 'unavailable' promises that nothing happened, so the same call may be made again.
        const retriable = error instanceof StoreError && error.code === 'unavailable';
        if (!retriable || this.#runtime.monotonicMs() >= giveUpAt) throw error;
        this.#logger.warn({ err: error, pauseMs }, 'the store is away; retrying the commit');
        await this.#runtime.sleep(pauseMs);
      }
    }
  }

  #finish(jobs: readonly Job[], verdicts: readonly Verdict[]): void {
    const toSign: { job: Job; item: SignItem }[] = [];
    jobs.forEach((job, index) => {
      const verdict = verdicts[index];
      if (verdict?.type === 'committed' && job.signItem !== undefined)
        toSign.push({ job, item: job.signItem });
      else if (verdict === undefined)
        job.reject(new StoreError('unknown', 'the store gave no verdict for a unit'));
      else job.resolve({ verdict });
    });
    if (toSign.length === 0) return;
    const results = this.#signLane.sign(toSign.map(({ item }) => item));
    toSign.forEach(({ job }, index) => {
      const signed = results.then((all) => {
        const result = all[index];
        if (result === undefined) throw new StoreError('unknown', 'the signer gave no result for an item');
        return result;
      });
      signed.catch(() => undefined);
      job.resolve({ verdict: { type: 'committed' }, signed });
    });
  }
}
