/**
 * The mempool: acceptance in Bitcoin Core's order of checks and with its
 * reasons, replacement by fee (BIP 125, always on), topologically restricted
 * transactions (BIP 431), packages of a child with its parents, ephemeral
 * dust.
 */
import { displayHash, isCoinbase } from '@fulmen/bitcoin';
import type { ChainState } from './chain-state.ts';
import { COINBASE_MATURITY, checkTransaction, isFinalTx, sequenceLocksMet, sumSat } from './consensus.ts';
import type { Coin, ScriptVerifier, StoredTx } from './model.ts';
import { Rejection, coinKey } from './model.ts';
import type { MempoolPolicy } from './policy.ts';
import {
  TRUC_CHILD_MAX_VSIZE,
  TRUC_MAX_VSIZE,
  TRUC_VERSION,
  checkStandard,
  checkStandardInputs,
  dustOutputs,
  feeAtRateSat,
} from './policy.ts';

/** A transaction that waits. */
export interface MempoolEntry {
  readonly stored: StoredTx;
  readonly feeSat: bigint;
  /** Seconds since 1970 when it came. */
  readonly time: number;
  /** Height of the tip when it came. */
  readonly height: number;
  readonly parents: Set<string>;
  readonly children: Set<string>;
}

/** A transaction that passed every check but is not in yet. */
export interface Candidate {
  readonly stored: StoredTx;
  readonly feeSat: bigint;
  readonly coins: readonly Coin[];
  readonly parents: ReadonlySet<string>;
  /** Waiting transactions that it conflicts with or evicts as a TRUC sibling. */
  readonly conflicts: ReadonlySet<string>;
  /** Those and all their descendants. */
  readonly evicted: ReadonlySet<string>;
  /** It takes the place of a TRUC sibling rather than of a double spend. */
  readonly evictsSibling: boolean;
}

/** How to judge. */
export interface AcceptOptions {
  /** Earlier transactions of the same package, accepted for the sake of judging. */
  readonly earlier?: ReadonlyMap<string, Candidate>;
  /** The fee is judged for the package as a whole. */
  readonly packageFeerate?: boolean;
  /** Takes back what a reorg or a restart brings: no fee or size limits. */
  readonly bypassLimits?: boolean;
  /** Scripts passed before. */
  readonly trusted?: boolean;
}

const MAX_REPLACED = 100;
/** A small child may exceed the descendant limit by one: what the two anchors of a commitment relied on. */
const CARVE_OUT_VSIZE = 10_000;

/** Transactions that wait for a block. */
export class Mempool {
  readonly #chain: ChainState;
  readonly #verify: ScriptVerifier;
  readonly #entries = new Map<string, MempoolEntry>();
  readonly #spends = new Map<string, string>();
  /** Transactions (by wtxid) whose scripts passed: clients test before they send. */
  readonly #passed = new Set<string>();
  readonly policy: MempoolPolicy;

  constructor(chain: ChainState, verify: ScriptVerifier, policy: MempoolPolicy) {
    this.#chain = chain;
    this.#verify = verify;
    this.policy = policy;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(txid: string): MempoolEntry | undefined {
    return this.#entries.get(txid);
  }

  /** Entries, parents before children. */
  entries(): readonly MempoolEntry[] {
    return [...this.#entries.values()];
  }

  /** Txid of the waiting transaction that spends an outpoint. */
  spender(key: string): string | undefined {
    return this.#spends.get(key);
  }

  #related(start: Iterable<string>, next: (entry: MempoolEntry) => Iterable<string>): Set<string> {
    const found = new Set<string>();
    const pending = [...start];
    for (let txid = pending.pop(); txid !== undefined; txid = pending.pop()) {
      const entry = this.#entries.get(txid);
      if (entry === undefined || found.has(txid)) continue;
      found.add(txid);
      pending.push(...next(entry));
    }
    return found;
  }

  /** The transactions themselves and everything in the mempool that they build on. */
  withAncestors(txids: Iterable<string>): Set<string> {
    return this.#related(txids, ({ parents }) => parents);
  }

  /** The transactions themselves and everything that builds on them. */
  withDescendants(txids: Iterable<string>): Set<string> {
    return this.#related(txids, ({ children }) => children);
  }

  /** Sum of virtual sizes. */
  vsizeOf(txids: Iterable<string>): number {
    let total = 0;
    for (const txid of txids) total += this.#entries.get(txid)?.stored.vsize ?? 0;
    return total;
  }

  /** Sum of fees. */
  feesOf(txids: Iterable<string>): bigint {
    let total = 0n;
    for (const txid of txids) total += this.#entries.get(txid)?.feeSat ?? 0n;
    return total;
  }

  #coinFor(
    txid: string,
    vout: number,
    earlier: ReadonlyMap<string, Candidate> | undefined,
  ): Coin | undefined {
    const parent = earlier?.get(txid)?.stored ?? this.#entries.get(txid)?.stored;
    const output = parent?.tx.outputs[vout];
    if (parent !== undefined)
      return output === undefined ? undefined : { ...output, height: undefined, coinbase: false };
    return this.#chain.coin(coinKey(txid, vout));
  }

  /** Judges one transaction without adding it. @throws Rejection with Bitcoin Core's reason. */
  judge(stored: StoredTx, options: AcceptOptions = {}): Candidate {
    const { tx } = stored;
    const { earlier } = options;
    const tip = this.#chain.tip;
    const height = tip.height + 1;
    checkTransaction(tx);
    if (isCoinbase(tx)) throw new Rejection('coinbase');
    checkStandard(stored, this.policy);
    if (!isFinalTx(tx, height, tip.medianTime)) throw new Rejection('non-final');
    const same = this.#entries.get(stored.txid);
    if (same !== undefined) {
      throw new Rejection(
        same.stored.wtxid === stored.wtxid ? 'txn-already-in-mempool' : 'txn-same-nonwitness-data-in-mempool',
      );
    }
    const conflicts = new Set<string>();
    const parents = new Set<string>();
    const coins: Coin[] = [];
    for (const { txid: hash, vout } of tx.inputs) {
      const txid = displayHash(hash);
      const spender = this.#spends.get(coinKey(txid, vout));
      if (spender !== undefined) conflicts.add(spender);
      if (this.#entries.has(txid) || earlier?.has(txid) === true) parents.add(txid);
      const coin = this.#coinFor(txid, vout, earlier);
      if (coin === undefined) {
        const known = tx.outputs.some(
          (_, index) => this.#chain.coin(coinKey(stored.txid, index)) !== undefined,
        );
        throw new Rejection(known ? 'txn-already-known' : 'bad-txns-inputs-missingorspent');
      }
      coins.push(coin);
    }
    const heights = coins.map((coin) => coin.height ?? height);
    if (!sequenceLocksMet(tx, heights, height, tip.medianTime, (at) => this.#chain.medianTimeAt(at)))
      throw new Rejection('non-BIP68-final');
    for (const coin of coins) {
      if (coin.coinbase && height - (coin.height ?? 0) < COINBASE_MATURITY) {
        throw new Rejection(
          'bad-txns-premature-spend-of-coinbase',
          `tried to spend coinbase at depth ${height - (coin.height ?? 0)}`,
        );
      }
    }
    const feeSat = sumSat(coins) - sumSat(tx.outputs);
    if (feeSat < 0n) throw new Rejection('bad-txns-in-belowout', `value in < value out`);
    checkStandardInputs(stored, coins);
    if (options.bypassLimits !== true) {
      // A transaction with dust must leave it to its child to pay: nobody mines it alone.
      if (feeSat !== 0n && dustOutputs(tx, this.policy).length > 0)
        throw new Rejection('dust', 'tx with dust output must be 0-fee');
      if (options.packageFeerate !== true) this.checkFeerate(feeSat, stored.vsize);
    }
    const candidate: Candidate = {
      stored,
      feeSat,
      coins,
      parents,
      conflicts,
      evicted: new Set(),
      evictsSibling: false,
    };
    const siblings = this.#checkTruc(candidate, earlier, options.bypassLimits === true);
    const allConflicts = new Set([...conflicts, ...siblings]);
    const evicted = this.withDescendants(allConflicts);
    if (options.bypassLimits !== true) this.#checkLimits(candidate, evicted, earlier);
    const ancestors = this.withAncestors(parents);
    for (const txid of allConflicts)
      if (ancestors.has(txid))
        throw new Rejection(
          'bad-txns-spends-conflicting-tx',
          `${stored.txid} spends conflicting transaction ${txid}`,
        );
    const judged = { ...candidate, conflicts: allConflicts, evicted, evictsSibling: siblings.length > 0 };
    if (allConflicts.size > 0 && options.packageFeerate !== true) this.checkReplacement([judged]);
    if (options.bypassLimits !== true && options.packageFeerate !== true) this.checkEphemeral([judged]);
    if (options.trusted !== true) this.verify(judged);
    return judged;
  }

  /** Runs the scripts of a judged transaction. */
  verify({ stored, coins }: Candidate): void {
    // A witness id commits to the scripts, to what they sign and to the outputs spent.
    if (this.#passed.has(stored.wtxid)) return;
    const failure = this.#verify(stored, coins, 'policy');
    if (failure !== undefined) {
      const { txid, vout } = stored.tx.inputs[failure.input] as (typeof stored.tx.inputs)[number];
      const where = `input ${failure.input} of ${stored.txid} (wtxid ${stored.wtxid}), spending ${displayHash(txid)}:${vout}`;
      throw new Rejection(`mempool-script-verify-flag-failed (${failure.error})`, where);
    }
    this.#passed.add(stored.wtxid);
    this.#chain.markVerified(stored.wtxid);
  }

  /** Minimum relay fee. */
  checkFeerate(feeSat: bigint, vsize: number): void {
    const needed = feeAtRateSat(this.policy.minRelayFeerateSatPerKvb, vsize);
    if (feeSat < needed) throw new Rejection('min relay fee not met', `${feeSat} < ${needed}`);
  }

  /** BIP 431 for one transaction; returns the sibling that it may replace. */
  #checkTruc(
    candidate: Candidate,
    earlier: ReadonlyMap<string, Candidate> | undefined,
    bypass: boolean,
  ): readonly string[] {
    const { stored, parents, conflicts } = candidate;
    const isTruc = stored.tx.version === TRUC_VERSION;
    const violation = (details: string): Rejection => new Rejection('TRUC-violation', details);
    for (const txid of parents) {
      const parent = earlier?.get(txid)?.stored ?? this.#entries.get(txid)?.stored;
      const parentIsTruc = parent?.tx.version === TRUC_VERSION;
      if (isTruc && !parentIsTruc)
        throw violation(
          `version=3 tx ${stored.txid} (wtxid=${stored.wtxid}) cannot spend from non-version=3 tx ${txid}`,
        );
      if (!isTruc && parentIsTruc)
        throw violation(
          `non-version=3 tx ${stored.txid} (wtxid=${stored.wtxid}) cannot spend from version=3 tx ${txid}`,
        );
    }
    if (!isTruc || bypass) return [];
    if (stored.vsize > TRUC_MAX_VSIZE)
      throw violation(
        `version=3 tx ${stored.txid} is too big: ${stored.vsize} > ${TRUC_MAX_VSIZE} virtual bytes`,
      );
    const [parentId] = parents;
    if (parentId === undefined) return [];
    const grandparents = earlier?.get(parentId)?.parents ?? this.#entries.get(parentId)?.parents ?? new Set();
    if (parents.size > 1 || grandparents.size > 0)
      throw violation(`tx ${stored.txid} would have too many ancestors`);
    if (stored.vsize > TRUC_CHILD_MAX_VSIZE)
      throw violation(
        `version=3 child tx ${stored.txid} is too big: ${stored.vsize} > ${TRUC_CHILD_MAX_VSIZE} virtual bytes`,
      );
    const siblings = [...(this.#entries.get(parentId)?.children ?? [])].filter(
      (txid) => !conflicts.has(txid),
    );
    const inPackage = [...(earlier?.values() ?? [])].some((other) => other.parents.has(parentId));
    if (inPackage || siblings.length > 1)
      throw violation(`tx ${parentId} would exceed descendant count limit`);
    return siblings;
  }

  #checkLimits(
    candidate: Candidate,
    evicted: ReadonlySet<string>,
    earlier: ReadonlyMap<string, Candidate> | undefined,
  ): void {
    const { maxRelatives, maxRelativesVsize } = this.policy;
    const { stored } = candidate;
    const inPackage = [...candidate.parents].filter((txid) => earlier?.has(txid) === true);
    const ancestors = this.withAncestors([
      ...candidate.parents,
      ...inPackage.flatMap((txid) => [...(earlier?.get(txid)?.parents ?? [])]),
    ]);
    const ancestorCount = ancestors.size + inPackage.length + 1;
    const tooLong = (details: string): Rejection => new Rejection('too-long-mempool-chain', details);
    if (ancestorCount > maxRelatives)
      throw tooLong(`too many unconfirmed ancestors [limit: ${maxRelatives}]`);
    const packageVsize = inPackage.reduce(
      (sum, txid) => sum + (earlier?.get(txid)?.stored.vsize ?? 0),
      stored.vsize,
    );
    if (this.vsizeOf(ancestors) + packageVsize > maxRelativesVsize)
      throw tooLong(`exceeds ancestor size limit [limit: ${maxRelativesVsize}]`);
    const carveOut = stored.vsize <= CARVE_OUT_VSIZE && ancestorCount <= 2;
    for (const txid of ancestors) {
      const descendants = [...this.withDescendants([txid])].filter((other) => !evicted.has(other));
      if (descendants.length + 1 > maxRelatives + (carveOut ? 1 : 0))
        throw tooLong(`too many descendants for tx ${txid} [limit: ${maxRelatives}]`);
      if (this.vsizeOf(descendants) + stored.vsize > maxRelativesVsize + (carveOut ? CARVE_OUT_VSIZE : 0)) {
        throw tooLong(`exceeds descendant size limit for tx ${txid} [limit: ${maxRelativesVsize}]`);
      }
    }
  }

  /** BIP 125's rules 2 to 5 for transactions that pay together (one, or a package). */
  checkReplacement(candidates: readonly Candidate[]): void {
    const conflicts = new Set(candidates.flatMap((candidate) => [...candidate.conflicts]));
    if (conflicts.size === 0) return;
    const evicted = this.withDescendants(conflicts);
    const last = candidates.at(-1) as Candidate;
    const name = last.stored.txid;
    const insufficient = `insufficient fee${last.evictsSibling ? ' (including sibling eviction)' : ''}`;
    if (evicted.size > MAX_REPLACED)
      throw new Rejection(
        'too many potential replacements',
        `rejecting replacement ${name}; too many potential replacements (${evicted.size} > ${MAX_REPLACED})`,
      );
    const allowed = new Set([...conflicts].flatMap((txid) => [...(this.#entries.get(txid)?.parents ?? [])]));
    const own = new Set(candidates.map(({ stored }) => stored.txid));
    for (const { parents } of candidates) {
      for (const parent of parents) {
        // A sibling eviction keeps the parent that both share.
        if (!allowed.has(parent) && !own.has(parent))
          throw new Rejection('replacement-adds-unconfirmed', `replacement ${name} adds unconfirmed input`);
      }
    }
    const feeSat = candidates.reduce((sum, candidate) => sum + candidate.feeSat, 0n);
    const vsize = candidates.reduce((sum, candidate) => sum + candidate.stored.vsize, 0);
    for (const txid of conflicts) {
      const old = this.#entries.get(txid);
      if (old !== undefined && feeSat * BigInt(old.stored.vsize) <= old.feeSat * BigInt(vsize)) {
        throw new Rejection(
          insufficient,
          `rejecting replacement ${name}; new feerate is not above the feerate of ${txid}`,
        );
      }
    }
    const oldFees = this.feesOf(evicted);
    if (feeSat < oldFees)
      throw new Rejection(
        insufficient,
        `rejecting replacement ${name}, less fees than conflicting txs; ${feeSat} < ${oldFees}`,
      );
    const relay = feeAtRateSat(this.policy.incrementalRelayFeerateSatPerKvb, vsize);
    if (feeSat - oldFees < relay)
      throw new Rejection(
        insufficient,
        `rejecting replacement ${name}, not enough additional fees to relay; ${feeSat - oldFees} < ${relay}`,
      );
  }

  /** Every child spends all dust of its unconfirmed parents, or the dust would stay for good. */
  checkEphemeral(candidates: readonly Candidate[]): void {
    const inPackage = new Map(candidates.map((candidate) => [candidate.stored.txid, candidate.stored]));
    for (const { stored, parents } of candidates) {
      const spent = new Set(stored.tx.inputs.map(({ txid, vout }) => coinKey(displayHash(txid), vout)));
      for (const txid of parents) {
        const parent = inPackage.get(txid) ?? this.#entries.get(txid)?.stored;
        if (
          parent !== undefined &&
          dustOutputs(parent.tx, this.policy).some((vout) => !spent.has(coinKey(txid, vout)))
        ) {
          throw new Rejection(
            'missing-ephemeral-spends',
            `tx ${stored.txid} did not spend parent's ephemeral dust`,
          );
        }
      }
    }
  }

  /** Adds a judged transaction and drops what it replaces; returns the dropped ones. */
  add(candidate: Candidate, time: number): readonly StoredTx[] {
    const replaced = this.remove(this.withDescendants(candidate.conflicts));
    const { stored } = candidate;
    for (const parent of candidate.parents) this.#entries.get(parent)?.children.add(stored.txid);
    const { feeSat, parents } = candidate;
    this.#entries.set(stored.txid, {
      stored,
      feeSat,
      time,
      height: this.#chain.tip.height,
      parents: new Set(parents),
      children: new Set(),
    });
    for (const { txid, vout } of stored.tx.inputs)
      this.#spends.set(coinKey(displayHash(txid), vout), stored.txid);
    return replaced;
  }

  /** Takes out exactly these. */
  remove(txids: Iterable<string>): StoredTx[] {
    const removed: StoredTx[] = [];
    for (const txid of txids) {
      const entry = this.#entries.get(txid);
      if (entry === undefined) continue;
      this.#entries.delete(txid);
      removed.push(entry.stored);
      for (const parent of entry.parents) this.#entries.get(parent)?.children.delete(txid);
      for (const child of entry.children) {
        this.#entries.get(child)?.parents.delete(txid);
      }
      for (const { txid: hash, vout } of entry.stored.tx.inputs) {
        const key = coinKey(displayHash(hash), vout);
        if (this.#spends.get(key) === txid) this.#spends.delete(key);
      }
    }
    return removed;
  }

  /** A block came: its transactions leave, and what conflicts with them. */
  onConnected(transactions: readonly StoredTx[]): void {
    this.remove(transactions.map(({ txid }) => txid));
    const conflicting = new Set<string>();
    for (const { tx } of transactions) {
      for (const { txid, vout } of tx.inputs) {
        const spender = this.#spends.get(coinKey(displayHash(txid), vout));
        if (spender !== undefined) conflicting.add(spender);
      }
    }
    this.remove(this.withDescendants(conflicting));
  }

  /** Blocks left the chain: their transactions come back in front of the waiting ones, each judged anew. */
  rebuild(returning: readonly StoredTx[], time: number): void {
    const waiting = this.entries();
    this.remove(waiting.map(({ stored }) => stored.txid));
    for (const [stored, at] of [
      ...returning.map((stored) => [stored, time] as const),
      ...waiting.map((entry) => [entry.stored, entry.time] as const),
    ]) {
      try {
        this.add(this.judge(stored, { bypassLimits: true, trusted: true }), at);
      } catch (error) {
        if (!(error instanceof Rejection)) throw error;
      }
    }
  }
}
