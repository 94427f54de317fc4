/**
 * Transactions of the mempool that spend what settlements watch, by channel.
 * Nothing is concluded from them but preimages, and that a commitment waits
 * to be helped into a block.
 */
import { type Tx, decodeTx, displayHash, txid as txidOf } from '@fulmen/bitcoin';
import type { ChainSource } from '@fulmen/chain';
import type { OutPoint } from '@fulmen/settlement';

/** Transactions taken from the mempool for one channel: an attacker can chain many. */
const MAX_FOR_CHANNEL = 1_000;
/** Outputs of what waits are asked for in turn: commitment, second stage, what follows. */
const MAX_ROUNDS = 3;

export interface WatchedOutPoint extends OutPoint {
  readonly channelId: string;
}

/** By channel id, and in it by txid in display order. */
export type UnconfirmedByChannel = ReadonlyMap<string, ReadonlyMap<string, Tx>>;

export class MempoolSpends {
  readonly #source: Pick<ChainSource, 'getMempoolSpends' | 'getMempoolTransaction'>;
  /** By txid in display order: what was fetched before is not fetched again while it waits. */
  #transactions: ReadonlyMap<string, Tx> = new Map();

  constructor(source: Pick<ChainSource, 'getMempoolSpends' | 'getMempoolTransaction'>) {
    this.#source = source;
  }

  /**
   * One look. `next` says what to ask for once some spends are known: it is called until it names nothing new.
   * @throws ChainSourceError
   */
  async look(
    outPoints: readonly WatchedOutPoint[],
    next: (found: UnconfirmedByChannel) => Promise<readonly WatchedOutPoint[]>,
  ): Promise<UnconfirmedByChannel> {
    const found = new Map<string, Map<string, Tx>>();
    const kept = new Map<string, Tx>();
    const asked = new Set<string>();
    let wanted = outPoints;
    for (let round = 0; round < MAX_ROUNDS && wanted.length > 0; round++) {
      const channels = new Map<string, string[]>();
      const questions: { txid: string; vout: number }[] = [];
      for (const { channelId, txid, outputIndex } of wanted) {
        const key = `${displayHash(txid)}:${outputIndex}`;
        const waiting = channels.get(key);
        if (waiting !== undefined) waiting.push(channelId);
        else if (!asked.has(key)) {
          channels.set(key, [channelId]);
          questions.push({ txid: displayHash(txid), vout: outputIndex });
        }
        asked.add(key);
      }
      let isNew = false;
      for (const { txid, vout, spendingTxid } of await this.#source.getMempoolSpends(questions)) {
        const tx = kept.get(spendingTxid) ?? (await this.#fetch(spendingTxid));
        if (tx === undefined) continue;
        kept.set(spendingTxid, tx);
        for (const channelId of channels.get(`${txid}:${vout}`) ?? []) {
          const ofChannel = found.get(channelId) ?? new Map<string, Tx>();
          if (ofChannel.size >= MAX_FOR_CHANNEL || ofChannel.has(spendingTxid)) continue;
          found.set(channelId, ofChannel.set(spendingTxid, tx));
          isNew = true;
        }
      }
      if (!isNew) break;
      wanted = await next(found);
    }
    this.#transactions = kept;
    return found;
  }

  async #fetch(txid: string): Promise<Tx | undefined> {
    const known = this.#transactions.get(txid);
    if (known !== undefined) return known;
    const raw = await this.#source.getMempoolTransaction(txid);
    const tx = raw === undefined ? undefined : decodeTx(raw);
    // Another transaction than was named proves nothing.
    return tx?.ok === true && displayHash(txidOf(tx.value)) === txid ? tx.value : undefined;
  }
}
