/** The tree of blocks, the best chain and its unspent outputs; connecting and disconnecting blocks. */
import { bytesEqual, compareBytes } from '@fulmen/bitcoin/bytes';
import { MAX_BLOCK_WEIGHT, decodeBlock, displayHash, isCoinbase, meetsProofOfWork } from '@fulmen/bitcoin';
import {
  COINBASE_MATURITY,
  REGTEST_BITS,
  anyWitness,
  blockWeight,
  checkTransaction,
  genesisBlock,
  heightScript,
  isFinalTx,
  sequenceLocksMet,
  subsidySat,
  sumSat,
  witnessCommitment,
} from './consensus.ts';
import type { BlockNode, Coin, ScriptVerifier, StoredTx } from './model.ts';
import { Rejection, coinKey, storeTx } from './model.ts';

/** Where a confirmed transaction is. */
export interface TxLocation {
  readonly node: BlockNode;
  readonly index: number;
}

/** What changed when the best chain did. */
export interface ChainChange {
  readonly disconnected: readonly BlockNode[];
  readonly connected: readonly BlockNode[];
}

interface Undo {
  /** Outputs spent by the block, with their keys. */
  readonly spent: readonly (readonly [string, Coin])[];
}

/** Blocks and coins. Fails with `Rejection`, whose reason is Bitcoin Core's. */
export class ChainState {
  readonly #nodes = new Map<string, BlockNode>();
  readonly #children = new Map<string, BlockNode[]>();
  readonly #active: BlockNode[] = [];
  readonly #coins = new Map<string, Coin>();
  readonly #transactions = new Map<string, TxLocation>();
  readonly #undo = new Map<string, Undo>();
  /** Transactions (by wtxid) whose scripts passed already. */
  readonly #verified = new Set<string>();
  readonly #verify: ScriptVerifier;
  /** Why a block is marked as failed. */
  readonly #failures = new Map<string, string>();
  #sequence = 0;

  constructor(verify: ScriptVerifier) {
    this.#verify = verify;
    const genesis = this.#index(genesisBlock());
    this.#active.push(genesis);
    // The genesis coinbase is no coin: it cannot be spent (consensus).
  }

  get tip(): BlockNode {
    return this.#active.at(-1) as BlockNode;
  }

  get blockCount(): number {
    return this.#nodes.size;
  }

  at(height: number): BlockNode | undefined {
    return this.#active[height];
  }

  node(hash: string): BlockNode | undefined {
    return this.#nodes.get(hash);
  }

  isActive(node: BlockNode): boolean {
    return this.#active[node.height] === node;
  }

  coin(key: string): Coin | undefined {
    return this.#coins.get(key);
  }

  coins(): IterableIterator<[string, Coin]> {
    return this.#coins.entries();
  }

  transaction(txid: string): TxLocation | undefined {
    return this.#transactions.get(txid);
  }

  /** Outputs that an active block spent, by key. */
  spentBy(node: BlockNode): ReadonlyMap<string, Coin> {
    return new Map(this.#undo.get(node.hash)?.spent ?? []);
  }

  medianTimeAt(height: number): number {
    return this.#active[height]?.medianTime ?? this.tip.medianTime;
  }

  /** Remembers that a transaction's scripts are valid, so that mining it does not run them again. */
  markVerified(wtxid: string): void {
    this.#verified.add(wtxid);
  }

  tips(): readonly BlockNode[] {
    return [...this.#nodes.values()].filter((node) => (this.#children.get(node.hash) ?? []).length === 0);
  }

  /**
   * Adds a block and makes it the tip if its chain is the longest.
   *
   * @param trusted skips scripts: the block passed before and comes from our own file.
   */
  addBlock(
    raw: Uint8Array,
    options: { readonly trusted: boolean },
  ): { node: BlockNode; change: ChainChange } {
    const node = this.#index(raw);
    const change = this.activateBest(options);
    if (node.failed) throw new Rejection(this.#failures.get(node.hash) ?? 'invalid');
    return { node, change };
  }

  #index(raw: Uint8Array): BlockNode {
    const decoded = decodeBlock(raw);
    if (!decoded.ok)
      throw new Rejection(
        decoded.error.code === 'bad-merkle-root' ? 'bad-txnmrklroot' : 'bad-block-encoding',
        decoded.error.message,
      );
    const { header } = decoded.value;
    const hash = displayHash(decoded.value.hash);
    if (this.#nodes.has(hash)) throw new Rejection('duplicate');
    const prev = this.#nodes.get(displayHash(header.prevHash));
    if (prev === undefined && this.#nodes.size > 0) throw new Rejection('prev-blk-not-found');
    if (prev?.failed === true || prev?.invalidated === true) throw new Rejection('bad-prevblk');
    if (header.bits !== REGTEST_BITS) throw new Rejection('bad-diffbits');
    if (!meetsProofOfWork(header)) throw new Rejection('high-hash', 'proof of work failed');
    if (prev !== undefined && header.time <= prev.medianTime) throw new Rejection('time-too-old');
    const times = [header.time];
    for (let at = prev; at !== undefined && times.length < 11; at = at.prev) times.push(at.header.time);
    times.sort((a, b) => a - b);
    const node: BlockNode = {
      hash,
      header,
      raw,
      transactions: decoded.value.transactions.map(storeTx),
      height: prev === undefined ? 0 : prev.height + 1,
      prev,
      medianTime: times[Math.floor(times.length / 2)] as number,
      sequence: this.#sequence++,
      invalidated: false,
      failed: false,
    };
    if (prev !== undefined) this.#checkBlock(node, prev);
    this.#nodes.set(hash, node);
    if (prev !== undefined) this.#children.set(prev.hash, [...(this.#children.get(prev.hash) ?? []), node]);
    return node;
  }

  /** Rules that need only the block and its place. */
  #checkBlock(node: BlockNode, prev: BlockNode): void {
    const { transactions } = node;
    const coinbase = transactions[0];
    if (coinbase === undefined || !isCoinbase(coinbase.tx)) throw new Rejection('bad-cb-missing');
    if (transactions.slice(1).some(({ tx }) => isCoinbase(tx))) throw new Rejection('bad-cb-multiple');
    if (blockWeight(transactions) > MAX_BLOCK_WEIGHT) throw new Rejection('bad-blk-weight');
    for (const { tx } of transactions) {
      checkTransaction(tx);
      if (!isFinalTx(tx, node.height, prev.medianTime)) throw new Rejection('bad-txns-nonfinal');
    }
    const scriptSig = coinbase.tx.inputs[0]?.scriptSig ?? new Uint8Array();
    const expected = heightScript(node.height);
    if (!bytesEqual(scriptSig.subarray(0, expected.length), expected)) throw new Rejection('bad-cb-height');
    const commitment = coinbase.tx.outputs.findLast(
      ({ script }) =>
        script.length >= 38 &&
        compareBytes(script.subarray(0, 6), witnessCommitment([coinbase]).subarray(0, 6)) === 0,
    );
    if (commitment !== undefined) {
      if (!bytesEqual(commitment.script, witnessCommitment(transactions)))
        throw new Rejection('bad-witness-merkle-match');
    } else if (anyWitness(transactions)) {
      throw new Rejection('unexpected-witness');
    }
  }

  #better(a: BlockNode, b: BlockNode): boolean {
    return a.height > b.height || (a.height === b.height && a.sequence < b.sequence);
  }

  /** No mark on the way down to the active chain. (`invalidate` marks descendants, so an active block speaks for its ancestors.) */
  #isCandidate(node: BlockNode): boolean {
    for (let at: BlockNode | undefined = node; at !== undefined; at = at.prev) {
      if (at.failed || at.invalidated) return false;
      if (this.isActive(at)) return true;
    }
    return true;
  }

  /** Moves the best chain to the longest one of valid blocks. */
  activateBest(options: { readonly trusted: boolean }): ChainChange {
    const disconnected: BlockNode[] = [];
    const connected: BlockNode[] = [];
    for (;;) {
      const best = this.#bestCandidate();
      if (best === this.tip) return { disconnected, connected };
      const path: BlockNode[] = [];
      let fork = best;
      while (!this.isActive(fork)) {
        path.unshift(fork);
        fork = fork.prev as BlockNode;
      }
      while (this.tip !== fork) disconnected.push(this.#disconnectTip());
      for (const node of path) {
        try {
          this.#connect(node, options.trusted);
          connected.push(node);
        } catch (error) {
          if (!(error instanceof Rejection)) throw error;
          node.failed = true;
          this.#failures.set(node.hash, error.message);
          break;
        }
      }
    }
  }

  #bestCandidate(): BlockNode {
    let best = this.#active[0] as BlockNode;
    for (const node of this.#nodes.values())
      if (this.#better(node, best) && this.#isCandidate(node)) best = node;
    return best;
  }

  #connect(node: BlockNode, trusted: boolean): void {
    const spent: [string, Coin][] = [];
    const created: string[] = [];
    const prevMedianTime = node.prev?.medianTime ?? 0;
    let feesSat = 0n;
    try {
      for (const stored of node.transactions) {
        const coinbase = isCoinbase(stored.tx);
        if (!coinbase) feesSat += this.#spendInputs(stored, node, prevMedianTime, spent, trusted);
        for (const [vout, output] of stored.tx.outputs.entries()) {
          if (output.script[0] === 0x6a) continue;
          const key = coinKey(stored.txid, vout);
          if (this.#coins.has(key)) throw new Rejection('bad-txns-BIP30');
          this.#coins.set(key, { ...output, height: node.height, coinbase });
          created.push(key);
        }
      }
      const reward = sumSat(node.transactions[0]?.tx.outputs ?? []);
      if (reward > subsidySat(node.height) + feesSat) throw new Rejection('bad-cb-amount');
    } catch (error) {
      // Spent coins first: a coin both created and spent by this block must vanish.
      for (const [key, coin] of spent) this.#coins.set(key, coin);
      for (const key of created) this.#coins.delete(key);
      throw error;
    }
    this.#undo.set(node.hash, { spent });
    this.#active.push(node);
    for (const [index, { txid }] of node.transactions.entries())
      this.#transactions.set(txid, { node, index });
  }

  #spendInputs(
    stored: StoredTx,
    node: BlockNode,
    prevMedianTime: number,
    spent: [string, Coin][],
    trusted: boolean,
  ): bigint {
    const coins: Coin[] = [];
    for (const { txid, vout } of stored.tx.inputs) {
      const key = coinKey(displayHash(txid), vout);
      const coin = this.#coins.get(key);
      if (coin === undefined) throw new Rejection('bad-txns-inputs-missingorspent');
      if (coin.coinbase && node.height - (coin.height ?? 0) < COINBASE_MATURITY)
        throw new Rejection('bad-txns-premature-spend-of-coinbase');
      coins.push(coin);
      this.#coins.delete(key);
      spent.push([key, coin]);
    }
    const fee = sumSat(coins) - sumSat(stored.tx.outputs);
    if (fee < 0n) throw new Rejection('bad-txns-in-belowout');
    const heights = coins.map(({ height }) => height ?? node.height);
    const medianTimeAt = (height: number): number => this.medianTimeAt(height);
    if (!sequenceLocksMet(stored.tx, heights, node.height, prevMedianTime, medianTimeAt))
      throw new Rejection('bad-txns-nonfinal');
    if (!trusted && !this.#verified.has(stored.wtxid)) {
      const failure = this.#verify(stored, coins, 'consensus');
      if (failure !== undefined)
        throw new Rejection(`mandatory-script-verify-flag-failed (${failure.error})`);
    }
    this.#verified.add(stored.wtxid);
    return fee;
  }

  #disconnectTip(): BlockNode {
    const node = this.#active.pop() as BlockNode;
    for (const { txid, tx } of node.transactions) {
      this.#transactions.delete(txid);
      for (const vout of tx.outputs.keys()) this.#coins.delete(coinKey(txid, vout));
    }
    for (const [key, coin] of this.#undo.get(node.hash)?.spent ?? []) {
      // A coin of this very block existed only while the block did.
      if (coin.height !== node.height) this.#coins.set(key, coin);
    }
    this.#undo.delete(node.hash);
    return node;
  }

  /** Takes a block and its descendants out (invalidateblock). */
  invalidate(node: BlockNode): ChainChange {
    const pending = [node];
    for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
      at.invalidated = true;
      pending.push(...(this.#children.get(at.hash) ?? []));
    }
    return this.activateBest({ trusted: false });
  }

  /** Forgets every mark on a block, its ancestors and descendants (reconsiderblock). */
  reconsider(node: BlockNode): ChainChange {
    for (let at: BlockNode | undefined = node; at !== undefined; at = at.prev) {
      at.invalidated = false;
      at.failed = false;
    }
    const pending = [node];
    for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
      at.invalidated = false;
      at.failed = false;
      pending.push(...(this.#children.get(at.hash) ?? []));
    }
    return this.activateBest({ trusted: false });
  }
}
