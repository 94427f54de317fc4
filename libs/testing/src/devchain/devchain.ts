/**
 * The development chain: regtest without bitcoind. Real blocks with proof of
 * work, scripts run by an interpreter that is not ours, a mempool with
 * today's policy, reorgs on demand.
 *
 * This class is the whole of it without HTTP: tests use it in process, the
 * RPC server speaks for it. Time comes in as `now`, so a simulation may give
 * its own clock; nothing here is random.
 */
import { MAX_BLOCK_WEIGHT, displayHash, parseDisplayHash, merkleRoot } from '@fulmen/bitcoin';
import type { ChainChange } from './chain-state.ts';
import { ChainState } from './chain-state.ts';
import { REGTEST_BITS, createCoinbase, encodeBlock, mineHeader } from './consensus.ts';
import { Journal } from './journal.ts';
import type { JournalRecord } from './journal.ts';
import type { Candidate, MempoolEntry } from './mempool.ts';
import { Mempool } from './mempool.ts';
import type { BlockNode, ScriptVerifier, StoredTx } from './model.ts';
import { Rejection, coinKey, storeRawTx } from './model.ts';
import type { MempoolPolicy } from './policy.ts';
import { DEFAULT_POLICY } from './policy.ts';
import { verifyScripts } from './script-check.ts';

/** How to set up a chain. */
export interface DevChainOptions {
  /** Folder for the journal; without one everything is in memory. */
  readonly dataDir?: string;
  /** Seconds since 1970. */
  readonly now?: () => number;
  readonly policy?: Partial<MempoolPolicy>;
  /** `verifyScripts` unless given; `trustScripts` for simulations whose signatures are fakes. */
  readonly verify?: ScriptVerifier;
  /** Largest weight of a mined block; lower it to simulate full blocks. */
  readonly minedBlockWeight?: number;
}

/** Verdict on one transaction of a package. */
export interface TransactionVerdict {
  readonly stored: StoredTx;
  /** Undefined when accepted. */
  readonly rejection: Rejection | undefined;
  /** It was in the mempool before. */
  readonly known: boolean;
  readonly feeSat: bigint | undefined;
  /** Transactions whose fees counted together for the feerate: ids of the witness kind. */
  readonly paidWith: readonly string[];
  /** sat per 1000 vbytes, over `paidWith`. */
  readonly effectiveFeerate: number;
}

/** Verdict on a package. */
export interface PackageVerdict {
  /** `success`, `transaction failed`, or why the package as such is refused. */
  readonly message: string;
  readonly verdicts: readonly TransactionVerdict[];
  /** Txids that were replaced. */
  readonly replaced: readonly string[];
}

const MAX_PACKAGE_COUNT = 25;
const MAX_PACKAGE_WEIGHT = 404_000;
/** The header, the coinbase and what a pool might add. */
const RESERVED_WEIGHT = 8000;

/** True for one transaction, or parents that do not depend on each other followed by their child. */
export function isChildWithParents(transactions: readonly StoredTx[]): boolean {
  const child = transactions.at(-1);
  if (child === undefined) return false;
  const parentsOf = ({ tx }: StoredTx): Set<string> => new Set(tx.inputs.map(({ txid }) => displayHash(txid)));
  const wanted = parentsOf(child);
  const parents = transactions.slice(0, -1);
  return parents.every((parent) => wanted.has(parent.txid) && parents.every(({ txid }) => !parentsOf(parent).has(txid)));
}

/** A regtest chain with a mempool. */
export class DevChain {
  readonly chain: ChainState;
  readonly mempool: Mempool;
  readonly #journal: Journal | undefined;
  readonly #now: () => number;
  readonly #minedBlockWeight: number;
  readonly #listeners = new Set<() => void>();
  #mockTime = 0;
  #extraNonce = 0;
  /** What `estimatesmartfee` answers, in satoshis per 1000 vbytes. */
  feerateEstimateSatPerKvb: number | undefined;

  constructor(options: DevChainOptions = {}) {
    const verify = options.verify ?? verifyScripts;
    this.#now = options.now ?? (() => Math.floor(Date.now() / 1000));
    this.#minedBlockWeight = Math.min(options.minedBlockWeight ?? MAX_BLOCK_WEIGHT, MAX_BLOCK_WEIGHT);
    this.chain = new ChainState(verify);
    this.mempool = new Mempool(this.chain, verify, { ...DEFAULT_POLICY, ...options.policy });
    this.#journal = options.dataDir === undefined ? undefined : new Journal(options.dataDir, (record) => this.#replay(record));
  }

  /** Seconds since 1970, or the time set by `setMockTime`. */
  get time(): number {
    return this.#mockTime === 0 ? this.#now() : this.#mockTime;
  }

  /** Fixes the time; 0 lets it run again. */
  setMockTime(seconds: number): void {
    this.#mockTime = seconds;
  }

  /** Calls back after every change of the tip; returns a function that stops it. */
  onTipChanged(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#journal?.close();
  }

  #replay(record: JournalRecord): void {
    try {
      switch (record.kind) {
        case 'block':
          this.#apply(this.chain.addBlock(record.raw, { trusted: true }).change);
          return;
        case 'transactions':
          this.#replayTransactions(record.raws);
          return;
        case 'invalidate':
        case 'reconsider': {
          const node = this.chain.node(record.hash);
          if (node !== undefined) this.#apply(this.chain[record.kind](node));
          return;
        }
      }
    } catch (error) {
      // A side chain that fails when it becomes the best one fails again, with the same effect.
      if (!(error instanceof Rejection)) throw error;
    }
  }

  #replayTransactions(raws: readonly Uint8Array[]): void {
    for (const raw of raws) {
      const stored = storeRawTx(raw);
      if (stored === undefined) continue;
      // What was in decided then; limits and scripts are not judged a second time, conflicts are dropped.
      const conflicts = stored.tx.inputs.map(({ txid, vout }) => this.mempool.spender(coinKey(displayHash(txid), vout)));
      this.mempool.remove(this.mempool.withDescendants(conflicts.filter((txid) => txid !== undefined)));
      try {
        this.mempool.add(this.mempool.judge(stored, { bypassLimits: true, trusted: true }), this.time);
      } catch (error) {
        if (!(error instanceof Rejection)) throw error;
      }
    }
  }

  #apply(change: ChainChange): void {
    const { disconnected, connected } = change;
    if (disconnected.length > 0) {
      const returning = disconnected.toReversed().flatMap(({ transactions }) => transactions.slice(1));
      this.mempool.rebuild(returning.filter(({ txid }) => this.chain.transaction(txid) === undefined), this.time);
    }
    for (const { transactions } of connected) this.mempool.onConnected(transactions);
    if (disconnected.length + connected.length > 0) for (const listener of this.#listeners) listener();
  }

  /** Mines blocks on the best chain, each with what fits of the mempool; rewards go to `script`. */
  mine(count: number, script: Uint8Array): readonly BlockNode[] {
    const mined: BlockNode[] = [];
    for (let i = 0; i < count; i++) mined.push(this.mineWith(this.#template(), script));
    return mined;
  }

  /** Mines one block of exactly these transactions. @throws Rejection when they are not valid together. */
  mineWith(transactions: readonly StoredTx[], script: Uint8Array): BlockNode {
    return this.submitBlock(this.assembleBlock(transactions, script));
  }

  /** A valid-to-be block of exactly these transactions, mined but not submitted. */
  assembleBlock(transactions: readonly StoredTx[], script: Uint8Array): Uint8Array {
    const { tip } = this.chain;
    const height = tip.height + 1;
    const coinbase = createCoinbase(height, script, this.#feesOf(transactions), transactions, this.#extraNonce++);
    const all = [coinbase, ...transactions];
    const header = mineHeader({
      version: 0x2000_0000,
      prevHash: parseDisplayHash(tip.hash),
      merkleRoot: merkleRoot(all.map(({ txid }) => parseDisplayHash(txid))),
      time: Math.max(this.time, tip.medianTime + 1),
      bits: REGTEST_BITS,
      nonce: 0,
    });
    return encodeBlock(header, all);
  }

  /** Adds a block from outside. @throws Rejection */
  submitBlock(raw: Uint8Array): BlockNode {
    const { node, change } = this.chain.addBlock(raw, { trusted: false });
    // Afterwards, so that a refused block is never trusted by a restart.
    this.#journal?.append({ kind: 'block', raw });
    this.#apply(change);
    return node;
  }

  #feesOf(transactions: readonly StoredTx[]): bigint {
    const own = new Map(transactions.map((stored) => [stored.txid, stored]));
    let fees = 0n;
    for (const { tx } of transactions) {
      for (const { txid, vout } of tx.inputs) {
        const id = displayHash(txid);
        fees += (own.get(id)?.tx.outputs[vout] ?? this.chain.coin(coinKey(id, vout)))?.valueSat ?? 0n;
      }
      for (const { valueSat } of tx.outputs) fees -= valueSat;
    }
    return fees < 0n ? 0n : fees;
  }

  /** What to mine: best feerate first, counting a transaction together with its unmined ancestors. */
  #template(): readonly StoredTx[] {
    const entries = this.mempool.entries();
    const scored = entries.map((entry) => {
      const ancestors = this.mempool.withAncestors([entry.stored.txid]);
      return { entry, ancestors, score: Number(this.mempool.feesOf(ancestors)) / this.mempool.vsizeOf(ancestors) };
    });
    scored.sort((a, b) => b.score - a.score);
    const order = new Map(entries.map((entry, index) => [entry.stored.txid, index]));
    const chosen = new Set<string>();
    const transactions: StoredTx[] = [];
    let weight = RESERVED_WEIGHT;
    for (const { ancestors } of scored) {
      const wanted = [...ancestors].filter((txid) => !chosen.has(txid)).sort((a, b) => (order.get(a) ?? 0) - (order.get(b) ?? 0));
      const group = wanted.map((txid) => (this.mempool.get(txid) as MempoolEntry).stored);
      const added = group.reduce((sum, stored) => sum + stored.weight, 0);
      if (weight + added > this.#minedBlockWeight) continue;
      weight += added;
      for (const stored of group) {
        chosen.add(stored.txid);
        transactions.push(stored);
      }
    }
    return transactions;
  }

  /** Takes a block and all after it out of the best chain. */
  invalidate(node: BlockNode): void {
    this.#journal?.append({ kind: 'invalidate', hash: node.hash });
    this.#apply(this.chain.invalidate(node));
  }

  /** Undoes `invalidate`. */
  reconsider(node: BlockNode): void {
    this.#journal?.append({ kind: 'reconsider', hash: node.hash });
    this.#apply(this.chain.reconsider(node));
  }

  /** Replaces the last `depth` blocks by `depth + 1` empty ones; their transactions wait again. */
  reorg(depth: number, script: Uint8Array): readonly BlockNode[] {
    const from = this.chain.at(this.chain.tip.height - depth + 1);
    if (from === undefined || depth < 1) throw new Rejection('bad-reorg-depth');
    this.invalidate(from);
    return Array.from({ length: depth + 1 }, () => this.mineWith([], script));
  }

  /** Accepts one transaction into the mempool. @throws Rejection */
  submit(stored: StoredTx): readonly StoredTx[] {
    const candidate = this.mempool.judge(stored);
    this.#journal?.append({ kind: 'transactions', raws: [stored.raw] });
    return this.mempool.add(candidate, this.time);
  }

  /** Judges a package without adding anything (`testmempoolaccept`). */
  test(transactions: readonly StoredTx[]): PackageVerdict {
    const [only] = transactions;
    if (transactions.length === 1 && only !== undefined) {
      try {
        return this.#verdict('success', [this.#accepted(this.mempool.judge(only))]);
      } catch (error) {
        return this.#verdict('transaction failed', [this.#rejected(only, error)]);
      }
    }
    const malformed = this.#malformedPackage(transactions);
    if (malformed !== undefined) return this.#verdict(malformed, transactions.map((stored) => this.#rejected(stored, new Rejection(malformed))));
    const earlier = new Map<string, Candidate>();
    const verdicts: TransactionVerdict[] = [];
    for (const stored of transactions) {
      try {
        const candidate = this.mempool.judge(stored, { earlier });
        // A package that is only tested may not replace anything.
        if (candidate.conflicts.size > 0) throw new Rejection('bip125-replacement-disallowed');
        earlier.set(stored.txid, candidate);
        verdicts.push(this.#accepted(candidate));
      } catch (error) {
        return this.#verdict('transaction failed', [...verdicts, this.#rejected(stored, error)]);
      }
    }
    return this.#verdict('success', verdicts);
  }

  #verdict(message: string, verdicts: readonly TransactionVerdict[], replaced: readonly string[] = []): PackageVerdict {
    return { message, verdicts, replaced };
  }

  #accepted(candidate: Candidate, group: readonly Candidate[] = [candidate]): TransactionVerdict {
    const { stored, feeSat } = candidate;
    const fees = group.reduce((sum, other) => sum + other.feeSat, 0n);
    const vsize = group.reduce((sum, other) => sum + other.stored.vsize, 0);
    const paidWith = group.map((other) => other.stored.wtxid);
    return { stored, rejection: undefined, known: false, feeSat, paidWith, effectiveFeerate: Math.floor((Number(fees) * 1000) / vsize) };
  }

  #rejected(stored: StoredTx, error: unknown): TransactionVerdict {
    if (!(error instanceof Rejection)) throw error;
    return { stored, rejection: error, known: false, feeSat: undefined, paidWith: [], effectiveFeerate: 0 };
  }

  #malformedPackage(transactions: readonly StoredTx[]): string | undefined {
    if (transactions.length > MAX_PACKAGE_COUNT) return 'package-too-many-transactions';
    if (transactions.reduce((sum, { weight }) => sum + weight, 0) > MAX_PACKAGE_WEIGHT && transactions.length > 1) return 'package-too-large';
    const ids = new Set(transactions.map(({ txid }) => txid));
    if (ids.size !== transactions.length) return 'package-contains-duplicates';
    const seen = new Set<string>();
    const spent = new Set<string>();
    for (const { tx, txid } of transactions) {
      for (const input of tx.inputs) {
        const parent = displayHash(input.txid);
        if (ids.has(parent) && !seen.has(parent)) return 'package-not-sorted';
      }
      seen.add(txid);
    }
    for (const { tx } of transactions) {
      const keys = tx.inputs.map((input) => coinKey(displayHash(input.txid), input.vout));
      if (keys.some((key) => spent.has(key))) return 'conflict-in-package';
      for (const key of keys) spent.add(key);
    }
    return undefined;
  }

  /** Submits a child with its unconfirmed parents (`submitpackage`). */
  submitPackage(transactions: readonly StoredTx[]): PackageVerdict {
    const topology = isChildWithParents(transactions) ? undefined : 'package-not-child-with-parents';
    const malformed = topology ?? this.#malformedPackage(transactions) ?? this.#missingParents(transactions);
    if (malformed !== undefined) return this.#verdict(malformed, transactions.map((stored) => this.#rejected(stored, new Rejection('package-not-validated'))));
    const verdicts = new Map<string, TransactionVerdict>();
    const replaced: string[] = [];
    const pending: StoredTx[] = [];
    let failed = false;
    for (const stored of transactions) {
      const same = this.mempool.get(stored.txid);
      if (same !== undefined) {
        verdicts.set(stored.txid, { ...this.#accepted({ ...same, coins: [], conflicts: new Set(), evicted: new Set(), evictsSibling: false }), known: true });
        continue;
      }
      // While an earlier one waits for its child to pay, the child cannot stand alone.
      if (pending.length > 0 && this.#dependsOn(stored, pending)) {
        pending.push(stored);
        continue;
      }
      try {
        const candidate = this.mempool.judge(stored);
        this.#journal?.append({ kind: 'transactions', raws: [stored.raw] });
        replaced.push(...this.mempool.add(candidate, this.time).map(({ txid }) => txid));
        verdicts.set(stored.txid, this.#accepted(candidate));
      } catch (error) {
        verdicts.set(stored.txid, this.#rejected(stored, error));
        const reason = error instanceof Rejection ? error.reason : '';
        if (reason === 'min relay fee not met' || reason.startsWith('insufficient fee') || reason === 'missing-ephemeral-spends') pending.push(stored);
        else failed = true;
      }
    }
    if (pending.length > 0 && !failed) {
      const group = this.#submitGroup(pending);
      for (const verdict of group.verdicts) verdicts.set(verdict.stored.txid, verdict);
      replaced.push(...group.replaced);
    }
    const all = transactions.map((stored) => verdicts.get(stored.txid) ?? this.#rejected(stored, new Rejection('bad-txns-inputs-missingorspent')));
    return this.#verdict(all.every(({ rejection }) => rejection === undefined) ? 'success' : 'transaction failed', all, replaced);
  }

  #dependsOn(stored: StoredTx, others: readonly StoredTx[]): boolean {
    const ids = new Set(others.map(({ txid }) => txid));
    return stored.tx.inputs.some(({ txid }) => ids.has(displayHash(txid)));
  }

  /** Parents may also be missing: then the child is judged by what is known and refused for its inputs. */
  #missingParents(transactions: readonly StoredTx[]): string | undefined {
    const child = transactions.at(-1);
    if (child === undefined) return 'package-empty';
    const given = new Set(transactions.map(({ txid }) => txid));
    const complete = child.tx.inputs.every(({ txid, vout }) => {
      const id = displayHash(txid);
      return given.has(id) || this.mempool.get(id) !== undefined || this.chain.coin(coinKey(id, vout)) !== undefined;
    });
    return complete || transactions.length === 1 ? undefined : 'package-not-child-with-unconfirmed-parents';
  }

  /** Parents too poor for themselves, and the child that pays for them: judged by their common feerate. */
  #submitGroup(group: readonly StoredTx[]): { verdicts: readonly TransactionVerdict[]; replaced: readonly string[] } {
    const earlier = new Map<string, Candidate>();
    for (const stored of group) {
      try {
        earlier.set(stored.txid, this.mempool.judge(stored, { earlier, packageFeerate: true }));
      } catch (error) {
        return { verdicts: [this.#rejected(stored, error)], replaced: [] };
      }
    }
    const candidates = [...earlier.values()];
    try {
      const fees = candidates.reduce((sum, { feeSat }) => sum + feeSat, 0n);
      this.mempool.checkFeerate(fees, candidates.reduce((sum, { stored }) => sum + stored.vsize, 0));
      this.mempool.checkReplacement(candidates);
      this.mempool.checkEphemeral(candidates);
    } catch (error) {
      return { verdicts: candidates.map(({ stored }) => this.#rejected(stored, error)), replaced: [] };
    }
    this.#journal?.append({ kind: 'transactions', raws: candidates.map(({ stored }) => stored.raw) });
    const replaced = candidates.flatMap((candidate) => this.mempool.add(candidate, this.time)).map(({ txid }) => txid);
    return { verdicts: candidates.map((candidate) => this.#accepted(candidate, candidates)), replaced };
  }
}
