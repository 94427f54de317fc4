/**
 * Transactions of channels that close, and are in no block: what the last look
 * into the mempool found, and the holder's own commitments. By their txids: two
 * commitments of a channel may be alike in all that can be seen from outside,
 * and only one of them be revoked.
 */
import type { Tx } from '@fulmen/bitcoin';
import type { ChainSource } from '@fulmen/chain';
import type { ChainView } from '../state/view.ts';
import { MempoolSpends, type UnconfirmedByChannel, type WatchedOutPoint } from './mempool-spends.ts';
import { OwnCommitments, type UnseenFundings, unseenFundings } from './own-commitments.ts';

export type MempoolSource = Pick<ChainSource, 'getMempoolSpends' | 'getMempoolTransaction' | 'getUtxo'>;

/** What a look asks for. */
export interface MempoolQuestions {
  readonly outPoints: readonly WatchedOutPoint[];
  readonly fundings: UnseenFundings;
}

export class Unconfirmed {
  readonly #mempool: MempoolSpends;
  readonly #own: OwnCommitments;
  #found: UnconfirmedByChannel = new Map();

  constructor(source: MempoolSource) {
    this.#mempool = new MempoolSpends(source);
    this.#own = new OwnCommitments(source);
  }

  questions(view: ChainView, outPoints: readonly WatchedOutPoint[]): MempoolQuestions {
    return { outPoints, fundings: unseenFundings(view) };
  }

  /** One look; `next` as of `MempoolSpends`. @throws ChainSourceError */
  async look(
    { outPoints, fundings }: MempoolQuestions,
    next: (found: UnconfirmedByChannel) => Promise<readonly WatchedOutPoint[]>,
  ): Promise<void> {
    const found = await this.#mempool.look(outPoints, next);
    await this.#own.look(fundings);
    this.#found = found;
  }

  of(view: ChainView): UnconfirmedByChannel {
    return merged([this.#found, this.#own.of(view)]);
  }
}

function merged(parts: readonly UnconfirmedByChannel[]): UnconfirmedByChannel {
  const all = new Map<string, ReadonlyMap<string, Tx>>();
  for (const part of parts)
    for (const [id, transactions] of part) all.set(id, new Map([...(all.get(id) ?? []), ...transactions]));
  return all;
}
