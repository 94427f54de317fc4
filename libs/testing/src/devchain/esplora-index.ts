/** What an Esplora server keeps of a node's chain and mempool: who spent what, and which transactions concern a script. */
import { type Block, type Tx, decodeBlock, decodeTx, displayHash, encodeTx } from '@fulmen/bitcoin';
import { fromHex, toHex } from '@fulmen/bitcoin/bytes';
import type { BitcoindRpc } from '@fulmen/chain';
import { sha256 } from '@fulmen/crypto';

/** A transaction of the best chain or of the mempool; `block` is absent while it waits. */
export interface IndexedTx {
  readonly txid: string;
  readonly tx: Tx;
  readonly block?: { readonly hash: string; readonly height: number; readonly index: number };
}

/** The node answers what the front cannot use. */
export class EsploraIndexError extends Error {
  override readonly name = 'EsploraIndexError';
}

interface Indexed {
  readonly transactions: Map<string, IndexedTx>;
  /** By `txid:vout`. */
  readonly spends: Map<string, { readonly txid: string; readonly vin: number }>;
  /** By the script's SHA-256, oldest first. */
  readonly histories: Map<string, Set<string>>;
}

const emptyIndex = (): Indexed => ({ transactions: new Map(), spends: new Map(), histories: new Map() });

export class EsploraIndex {
  readonly #rpc: BitcoindRpc;
  #chain: { readonly hash: string; readonly block: Block }[] = [];
  #confirmed = emptyIndex();
  #waiting = emptyIndex();
  #raws = new Map<string, Tx>();
  #tail: Promise<unknown> = Promise.resolve();

  constructor(rpc: BitcoindRpc) {
    this.#rpc = rpc;
  }

  get tip(): { readonly hash: string; readonly height: number } {
    const last = this.#chain.at(-1);
    if (last === undefined) throw new EsploraIndexError('nothing is indexed');
    return { hash: last.hash, height: this.#chain.length - 1 };
  }

  hashAt(height: number): string | undefined {
    return this.#chain[height]?.hash;
  }

  block(hash: string): { readonly block: Block; readonly height: number } | undefined {
    const height = this.#chain.findIndex((one) => one.hash === hash);
    const block = this.#chain[height]?.block;
    return block === undefined ? undefined : { block, height };
  }

  transaction(txid: string): IndexedTx | undefined {
    return this.#confirmed.transactions.get(txid) ?? this.#waiting.transactions.get(txid);
  }

  spend(txid: string, vout: number): { readonly txid: string; readonly vin: number } | undefined {
    const key = `${txid}:${vout}`;
    return this.#confirmed.spends.get(key) ?? this.#waiting.spends.get(key);
  }

  /** Newest first. */
  history(scriptHash: string): readonly IndexedTx[] {
    const txids = [...(this.#confirmed.histories.get(scriptHash) ?? [])];
    return txids.flatMap((txid) => this.#confirmed.transactions.get(txid) ?? []).toReversed();
  }

  waitingHistory(scriptHash: string): readonly IndexedTx[] {
    const txids = [...(this.#waiting.histories.get(scriptHash) ?? [])];
    return txids.flatMap((txid) => this.#waiting.transactions.get(txid) ?? []);
  }

  waitingTxids(): readonly string[] {
    return [...this.#waiting.transactions.keys()];
  }

  /** Takes over what is new at the node. */
  async sync(): Promise<void> {
    const mine = this.#tail.then(() => this.#sync());
    this.#tail = mine.catch(() => undefined);
    return mine;
  }

  async #sync(): Promise<void> {
    const best = (await this.#rpc.call('getbestblockhash')) as string;
    if (this.#chain.at(-1)?.hash !== best) await this.#follow(best);
    const txids = (await this.#rpc.call('getrawmempool')) as string[];
    const known = this.#waiting.transactions;
    if (txids.length === known.size && txids.every((txid) => known.has(txid))) return;
    const raws = new Map<string, Tx>();
    for (const txid of txids) {
      const tx = this.#raws.get(txid) ?? (await this.#fetchWaiting(txid));
      if (tx !== undefined) raws.set(txid, tx);
    }
    this.#raws = raws;
    this.#waiting = emptyIndex();
    // Twice, so that a child listed before its parent finds the output that it spends.
    for (let pass = 0; pass < 2; pass++)
      for (const [txid, tx] of raws) this.#add(this.#waiting, { txid, tx });
  }

  async #fetchWaiting(txid: string): Promise<Tx | undefined> {
    const outcome = await this.#rpc.try('getrawtransaction', txid);
    if (!outcome.ok) return undefined;
    const tx = decodeTx(fromHex(outcome.value as string));
    if (!tx.ok) throw tx.error;
    return tx.value;
  }

  async #follow(best: string): Promise<void> {
    const missing: { hash: string; block: Block }[] = [];
    const heights = new Map(this.#chain.map(({ hash }, height) => [hash, height]));
    let hash = best;
    const genesis = '0'.repeat(64);
    while (hash !== genesis && !heights.has(hash)) {
      const block = decodeBlock(fromHex((await this.#rpc.call('getblock', hash, 0)) as string));
      if (!block.ok) throw block.error;
      missing.push({ hash, block: block.value });
      hash = displayHash(block.value.header.prevHash);
    }
    const kept = hash === genesis ? 0 : (heights.get(hash) ?? -1) + 1;
    const fresh = missing.toReversed();
    if (kept < this.#chain.length) {
      // A reorg: built anew, which is simple and quick enough for the chains of tests.
      const all = [...this.#chain.slice(0, kept), ...fresh];
      this.#chain = [];
      this.#confirmed = emptyIndex();
      for (const one of all) this.#append(one);
    } else {
      for (const one of fresh) this.#append(one);
    }
  }

  #append(one: { readonly hash: string; readonly block: Block }): void {
    const height = this.#chain.length;
    this.#chain.push(one);
    for (const [index, tx] of one.block.transactions.entries()) {
      const txid = displayHash(one.block.txids[index] as Uint8Array);
      this.#add(this.#confirmed, { txid, tx, block: { hash: one.hash, height, index } });
    }
  }

  #add(index: Indexed, entry: IndexedTx): void {
    index.transactions.set(entry.txid, entry);
    const concern = (script: Uint8Array): void => {
      const key = toHex(sha256(script));
      const history = index.histories.get(key);
      if (history === undefined) index.histories.set(key, new Set([entry.txid]));
      else history.add(entry.txid);
    };
    for (const { script } of entry.tx.outputs) concern(script);
    for (const [vin, { txid, vout }] of entry.tx.inputs.entries()) {
      const shown = displayHash(txid);
      index.spends.set(`${shown}:${vout}`, { txid: entry.txid, vin });
      const spent = (this.#confirmed.transactions.get(shown) ?? index.transactions.get(shown))?.tx.outputs[
        vout
      ];
      if (spent !== undefined) concern(spent.script);
    }
  }
}

/** The hashes beside a transaction's way to the merkle root, lowest first, display order. */
export function merkleBranch(
  txids: readonly Uint8Array[],
  index: number,
  hash: (pair: Uint8Array) => Uint8Array,
): readonly string[] {
  const branch: string[] = [];
  let level = txids;
  let position = index;
  while (level.length > 1) {
    const sibling = level[position ^ 1] ?? level[position];
    if (sibling !== undefined) branch.push(displayHash(sibling));
    const next: Uint8Array[] = [];
    for (let at = 0; at < level.length; at += 2) {
      const left = level[at] as Uint8Array;
      next.push(hash(Uint8Array.from([...left, ...(level[at + 1] ?? left)])));
    }
    level = next;
    position >>= 1;
  }
  return branch;
}

/** Hex of a transaction. */
export const rawHex = (tx: Tx): string => toHex(encodeTx(tx));
