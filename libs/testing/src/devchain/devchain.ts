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
import type { PackageVerdict } from './packages.ts';
import { Packages } from './packages.ts';
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

/** The header, the coinbase and what a pool might add. */
const RESERVED_WEIGHT = 8000;

/** A regtest chain with a mempool. */
export class DevChain {
  readonly chain: ChainState;
  readonly mempool: Mempool;
  readonly #packages: Packages;
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
    this.#packages = new Packages(this.chain, this.mempool, (candidates) => this.#commit(candidates));
    this.#journal =
      options.dataDir === undefined
        ? undefined
        : new Journal(options.dataDir, (record) => this.#replay(record));
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
      const conflicts = stored.tx.inputs.map(({ txid, vout }) =>
        this.mempool.spender(coinKey(displayHash(txid), vout)),
      );
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
      this.mempool.rebuild(
        returning.filter(({ txid }) => this.chain.transaction(txid) === undefined),
        this.time,
      );
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
    const coinbase = createCoinbase(
      height,
      script,
      this.#feesOf(transactions),
      transactions,
      this.#extraNonce++,
    );
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
      return {
        entry,
        ancestors,
        score: Number(this.mempool.feesOf(ancestors)) / this.mempool.vsizeOf(ancestors),
      };
    });
    scored.sort((a, b) => b.score - a.score);
    const order = new Map(entries.map((entry, index) => [entry.stored.txid, index]));
    const chosen = new Set<string>();
    const transactions: StoredTx[] = [];
    let weight = RESERVED_WEIGHT;
    for (const { ancestors } of scored) {
      const wanted = [...ancestors]
        .filter((txid) => !chosen.has(txid))
        .sort((a, b) => (order.get(a) ?? 0) - (order.get(b) ?? 0));
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
    return this.#commit([this.mempool.judge(stored)]);
  }

  /** Judges a package without adding anything (`testmempoolaccept`). */
  test(transactions: readonly StoredTx[]): PackageVerdict {
    return this.#packages.test(transactions);
  }

  /** Submits a child with its unconfirmed parents (`submitpackage`). */
  submitPackage(transactions: readonly StoredTx[]): PackageVerdict {
    return this.#packages.submit(transactions);
  }

  #commit(candidates: readonly Candidate[]): readonly StoredTx[] {
    this.#journal?.append({ kind: 'transactions', raws: candidates.map(({ stored }) => stored.raw) });
    return candidates.flatMap((candidate) => this.mempool.add(candidate, this.time));
  }
}
