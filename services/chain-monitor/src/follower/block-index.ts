/**
 * Where recent transactions are, and what they spent: for questions that are
 * asked after the answer was mined. A few blocks, packed; blocks not there are
 * fetched again.
 */
import type { Network } from '@fulmen/bitcoin';
import { displayHash } from '@fulmen/bitcoin';
import { type ChainBlock, type ChainSource, Registrations, readBlock } from '@fulmen/chain';
import { equalBytes, toHex } from '@fulmen/codec';
import type { StoredBlock } from '@fulmen/store/chain/chain-store';
import { outPointKey } from '../state/keys.ts';

/** Blocks looked back into. */
export const LOOKBACK_BLOCKS = 6;

interface IndexedBlock {
  readonly txIndexes: ReadonlyMap<string, number>;
  /** Spending txids by outpoint. */
  readonly spends: ReadonlyMap<string, Uint8Array>;
}

export class BlockIndex {
  readonly #source: ChainSource;
  readonly #network: Network;
  /** Whole blocks alone: what was registered for one question says nothing about the next. */
  readonly #blocks = new Map<string, IndexedBlock>();

  constructor(source: ChainSource, network: Network) {
    this.#source = source;
    this.#network = network;
  }

  add(block: ChainBlock): void {
    if (block.coverage !== 'whole') return;
    this.#blocks.set(toHex(block.hash), indexBlock(block));
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
    const filter = new Registrations();
    filter.registerTx(txid);
    filter.registerOutput(txid, outputIndex);
    let seen: { height: number; txIndex: number } | undefined;
    let spent: { txid: Uint8Array; height: number } | undefined;
    for (const stored of blocks.slice(-LOOKBACK_BLOCKS)) {
      const indexed = await this.#load(stored, filter);
      const txIndex = indexed?.txIndexes.get(toHex(txid));
      const spender = indexed?.spends.get(outPointKey(txid, outputIndex));
      if (txIndex !== undefined) seen = { height: stored.height, txIndex };
      if (spender !== undefined) spent = { txid: spender, height: stored.height };
    }
    return { ...(seen !== undefined && { seen }), ...(spent !== undefined && { spent }) };
  }

  /** Position of a transaction in a block of the source's chain, whether it is stored or not. */
  async positionOf(
    at: { readonly hash: string; readonly height: number },
    txid: Uint8Array,
  ): Promise<number | undefined> {
    const filter = new Registrations();
    filter.registerTx(txid);
    const reading = await readBlock(this.#source, this.#network, at, () => filter);
    if (reading.kind !== 'block') return undefined;
    const found = reading.block.txids.findIndex((id) => equalBytes(id, txid));
    return reading.block.txIndexes[found];
  }

  async #load(stored: StoredBlock, filter: Registrations): Promise<IndexedBlock | undefined> {
    const known = this.#blocks.get(toHex(stored.hash));
    if (known !== undefined) return known;
    const at = { hash: displayHash(stored.hash), height: stored.height };
    const reading = await readBlock(this.#source, this.#network, at, () => filter);
    if (reading.kind !== 'block') return undefined;
    this.add(reading.block);
    return this.#blocks.get(toHex(stored.hash)) ?? indexBlock(reading.block);
  }
}

function indexBlock(block: ChainBlock): IndexedBlock {
  const txIndexes = new Map<string, number>();
  const spends = new Map<string, Uint8Array>();
  for (const [at, tx] of block.transactions.entries()) {
    const txid = block.txids[at] as Uint8Array;
    txIndexes.set(toHex(txid), block.txIndexes[at] as number);
    for (const input of tx.inputs) spends.set(outPointKey(input.txid, input.vout), txid);
  }
  return { txIndexes, spends };
}
