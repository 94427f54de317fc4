/** Gossip's question: which unspent output a short channel id names. Bounded in what runs, waits and is kept. */
import { decodeTx } from '@fulmen/bitcoin';
import type { ChainSource } from '@fulmen/chain';

export interface FoundUtxo {
  readonly valueSat: bigint;
  readonly script: Uint8Array;
  readonly confirmations: number;
}

/** Too many questions wait already. */
export class LookupOverloadError extends Error {
  override readonly name = 'LookupOverloadError';
}

const MAX_CONCURRENT = 32;
const MAX_WAITING = 4096;
const MAX_CACHED = 20_000;

export class UtxoLookup {
  readonly #source: ChainSource;
  readonly #cache = new Map<bigint, FoundUtxo | undefined>();
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  #generation = 0;

  constructor(source: ChainSource) {
    this.#source = source;
  }

  /** A new block may have spent anything. */
  forget(): void {
    this.#cache.clear();
    this.#generation += 1;
  }

  /** @throws LookupOverloadError, ChainSourceError */
  async find(shortChannelId: bigint): Promise<FoundUtxo | undefined> {
    if (this.#cache.has(shortChannelId)) return this.#cache.get(shortChannelId);
    await this.#enter();
    try {
      const generation = this.#generation;
      const found = await this.#ask(shortChannelId);
      if (this.#cache.size >= MAX_CACHED) this.#cache.clear();
      // A block that came meanwhile may have changed the answer.
      if (generation === this.#generation) this.#cache.set(shortChannelId, found);
      return found;
    } finally {
      this.#leave();
    }
  }

  async #enter(): Promise<void> {
    if (this.#running < MAX_CONCURRENT) {
      this.#running += 1;
      return;
    }
    if (this.#waiting.length >= MAX_WAITING) throw new LookupOverloadError('too many lookups wait');
    // The one that leaves hands its place over.
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#running -= 1;
    else next();
  }

  async #ask(shortChannelId: bigint): Promise<FoundUtxo | undefined> {
    // BOLT 7: "the most significant 3 bytes: indicating the block height, the next 3 bytes: indicating the transaction
    // index within the block, the least significant 2 bytes: indicating the output index that pays to the channel."
    const height = Number(shortChannelId >> 40n);
    const txIndex = Number((shortChannelId >> 16n) & 0xff_ffffn);
    const outputIndex = Number(shortChannelId & 0xffffn);
    const found = await this.#source.getTxByBlockAndIndex(height, txIndex);
    const tx = found === undefined ? undefined : decodeTx(found.tx);
    if (found === undefined || tx === undefined || !tx.ok || tx.value.outputs[outputIndex] === undefined)
      return undefined;
    const utxo = await this.#source.getUtxo(found.txid, outputIndex);
    return utxo === undefined
      ? undefined
      : { valueSat: utxo.valueSat, script: utxo.script, confirmations: utxo.confirmations };
  }
}
