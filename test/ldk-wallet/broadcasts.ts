// The wallet's transactions on their way into a block.
import { Transaction } from 'bitcoinjs-lib';
import { type ChainFollower, RpcError } from './chain.ts';
import { toHex } from './ldk.ts';

const REBROADCAST_BLOCKS = 300;
// A transaction whose input is gone for this many blocks lost against another one.
const LOST_BLOCKS = 6;

/** One unconfirmed transaction as it is saved: its id, its bytes, and the height at which it was first sent. */
export type SavedBroadcast = readonly [txid: string, hex: string, sinceHeight: number];

export class Broadcasts {
  readonly #chain: ChainFollower;
  readonly #told: (txid: string) => void;
  readonly #log: (line: string) => void;
  readonly #unconfirmed = new Map<string, { readonly hex: string; readonly sinceHeight: number }>();

  /** @param told hears the id of every transaction that is sent for the first time */
  constructor(
    chain: ChainFollower,
    saved: readonly SavedBroadcast[],
    told: (txid: string) => void,
    log: (line: string) => void,
  ) {
    this.#chain = chain;
    this.#told = told;
    this.#log = log;
    for (const [txid, hex, sinceHeight] of saved) this.#unconfirmed.set(txid, { hex, sinceHeight });
  }

  save(): SavedBroadcast[] {
    return [...this.#unconfirmed].map(([txid, one]) => [txid, one.hex, one.sinceHeight] as const);
  }

  /** It is in a block. */
  confirmed(txid: string): void {
    this.#unconfirmed.delete(txid);
  }

  /** Sends one transaction, or a package of LDK's, parents first, and again at every block until one has it. */
  send(transactions: readonly Uint8Array[]): void {
    for (const raw of transactions) {
      const txid = Transaction.fromBuffer(raw).getId();
      this.#unconfirmed.set(txid, { hex: toHex(raw), sinceHeight: this.#chain.tip.height });
      this.#told(txid);
    }
    void this.#send(transactions.map(toHex));
  }

  /** What waits is sent again at the start. */
  sendAll(): void {
    for (const { hex } of this.#unconfirmed.values()) void this.#send([hex]);
  }

  /** A block came. */
  sendAgain(): void {
    for (const [txid, one] of this.#unconfirmed) {
      if (one.sinceHeight < this.#chain.tip.height - REBROADCAST_BLOCKS) this.#unconfirmed.delete(txid);
      else if (one.sinceHeight < this.#chain.tip.height) void this.#send([one.hex]);
    }
  }

  /** Below the mempool's floor a parent enters only with its child. */
  async #send(hexes: readonly string[]): Promise<void> {
    const refused: string[] = [];
    for (const hex of hexes) {
      try {
        await this.#chain.rpc.call('sendrawtransaction', hex);
      } catch (error) {
        refused.push(error instanceof RpcError ? error.message : String(error));
      }
    }
    if (refused.length > 0 && hexes.length > 1) {
      try {
        await this.#chain.rpc.call('submitpackage', hexes);
        return;
      } catch (error) {
        refused.push(error instanceof Error ? error.message : String(error));
      }
    }
    for (const text of refused) this.#log(`INFO broadcast refused: ${text}\n`);
    if (hexes.length === 1 && refused.some((text) => text.includes('missingorspent'))) {
      for (const [txid, one] of this.#unconfirmed) {
        if (one.hex === hexes[0] && one.sinceHeight < this.#chain.tip.height - LOST_BLOCKS)
          this.#unconfirmed.delete(txid);
      }
    }
  }
}
