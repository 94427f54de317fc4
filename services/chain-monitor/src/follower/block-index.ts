/**
 * Where recent transactions are, and what they spent: for questions that are
 * asked after the answer was mined. A few blocks, packed; blocks not there are
 * fetched again.
 */
import { type Block, decodeBlock, displayHash } from '@fulmen/bitcoin';
import type { ChainSource } from '@fulmen/chain';
import { equalBytes, toHex } from '@fulmen/codec';
import type { StoredBlock } from '@fulmen/store/chain/chain-store';
import { outPointKey } from '../state/keys.ts';

/** Blocks looked back into. */
export const LOOKBACK_BLOCKS = 6;

interface IndexedBlock {
  readonly height: number;
  readonly txIndexes: ReadonlyMap<string, number>;
  /** Spending txids by outpoint. */
  readonly spends: ReadonlyMap<string, Uint8Array>;
}

export class BlockIndex {
  readonly #source: Pick<ChainSource, 'getBlock'>;
  readonly #blocks = new Map<string, IndexedBlock>();

  constructor(source: Pick<ChainSource, 'getBlock'>) {
    this.#source = source;
  }

  add(block: Block, height: number): void {
    this.#blocks.set(toHex(block.hash), indexBlock(block, height));
    while (this.#blocks.size > LOOKBACK_BLOCKS * 2) {
      const oldest = this.#blocks.keys().next();
      if (oldest.done === true) return;
      this.#blocks.delete(oldest.value);
    }
  }

  /** Finds a transaction, and who spent an outpoint, in the last of these blocks. */
  async find(
    blocks: readonly StoredBlock[],
    txid: Uint8Array,
    outputIndex: number,
  ): Promise<{
    readonly seen?: { readonly height: number; readonly txIndex: number };
    readonly spent?: { readonly txid: Uint8Array; readonly height: number };
  }> {
    let seen: { height: number; txIndex: number } | undefined;
    let spent: { txid: Uint8Array; height: number } | undefined;
    for (const stored of blocks.slice(-LOOKBACK_BLOCKS)) {
      const indexed = await this.#load(stored);
      const txIndex = indexed?.txIndexes.get(toHex(txid));
      const spender = indexed?.spends.get(outPointKey(txid, outputIndex));
      if (txIndex !== undefined) seen = { height: stored.height, txIndex };
      if (spender !== undefined) spent = { txid: spender, height: stored.height };
    }
    return { ...(seen !== undefined && { seen }), ...(spent !== undefined && { spent }) };
  }

  async #load(stored: StoredBlock): Promise<IndexedBlock | undefined> {
    const known = this.#blocks.get(toHex(stored.hash));
    if (known !== undefined) return known;
    const raw = await this.#source.getBlock(displayHash(stored.hash));
    const block = raw === undefined ? undefined : decodeBlock(raw);
    if (block === undefined || !block.ok || !equalBytes(block.value.hash, stored.hash)) return undefined;
    this.add(block.value, stored.height);
    return this.#blocks.get(toHex(stored.hash));
  }
}

function indexBlock(block: Block, height: number): IndexedBlock {
  const txIndexes = new Map<string, number>();
  const spends = new Map<string, Uint8Array>();
  for (const [txIndex, tx] of block.transactions.entries()) {
    const txid = block.txids[txIndex] as Uint8Array;
    txIndexes.set(toHex(txid), txIndex);
    for (const input of tx.inputs) spends.set(outPointKey(input.txid, input.vout), txid);
  }
  return { height, txIndexes, spends };
}
