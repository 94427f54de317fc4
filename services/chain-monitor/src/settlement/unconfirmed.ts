/**
 * Transactions of channels that close, and are in no block: what the last look
 * into the mempool found, the holder's own commitments, and what stored sweeps
 * pay for. By their txids: two commitments of a channel may be alike in all
 * that can be seen from outside, and only one of them be revoked.
 */
import { type Tx, decodeTx, displayHash, txid as txidOf } from '@fulmen/bitcoin';
import type { ChainSource } from '@fulmen/chain';
import { toHex } from '@fulmen/codec';
import { outPointKey } from '../state/keys.ts';
import type { ChainView } from '../state/view.ts';
import { MempoolSpends, type UnconfirmedByChannel, type WatchedOutPoint } from './mempool-spends.ts';
import { OwnCommitments, type UnseenFundings, unseenFundings } from './own-commitments.ts';

export type MempoolSource = Pick<
  ChainSource,
  'getBestBlock' | 'getMempoolSpends' | 'getMempoolTransaction' | 'getUtxo'
>;

/** What a look asks for. */
export interface MempoolQuestions {
  readonly outPoints: readonly WatchedOutPoint[];
  readonly fundings: UnseenFundings;
}

export class Unconfirmed {
  readonly #source: MempoolSource;
  readonly #mempool: MempoolSpends;
  readonly #own: OwnCommitments;
  #found: UnconfirmedByChannel = new Map();
  /** The source's best block, in display order, at the end of the last look. */
  #lookedAt: string | undefined;

  constructor(source: MempoolSource) {
    this.#source = source;
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
    const { hash } = await this.#source.getBestBlock();
    this.#found = found;
    this.#lookedAt = hash;
  }

  /**
   * As of this tip. What nobody saw in the mempool at this very tip may wait there all the same: the process has just
   * begun, or the source is behind and its mempool proves nothing. Until then what stored sweeps pay for is taken to
   * wait, or they, their history and what is due before their deadlines would be given up for nothing.
   */
  of(view: ChainView): UnconfirmedByChannel {
    const isCurrent = view.tip !== undefined && this.#lookedAt === displayHash(view.tip.hash);
    return merged([this.#found, this.#own.of(view), ...(isCurrent ? [] : [paidFor(view)])]);
  }
}

/** Commitments that sweeps which are in no block pay for. */
function paidFor({ sweeps, claims: rows }: ChainView): UnconfirmedByChannel {
  const found = new Map<string, Map<string, Tx>>();
  for (const { confirmedHeight, parents, claims } of sweeps.values()) {
    if (confirmedHeight !== undefined || parents.length === 0) continue;
    const channels = claims.flatMap((at) => rows.get(outPointKey(at.txid, at.outputIndex))?.channelId ?? []);
    for (const raw of parents) {
      const tx = decodeTx(raw);
      if (!tx.ok) continue;
      for (const channelId of channels) {
        const ofChannel = found.get(toHex(channelId)) ?? new Map<string, Tx>();
        found.set(toHex(channelId), ofChannel.set(displayHash(txidOf(tx.value)), tx.value));
      }
    }
  }
  return found;
}

function merged(parts: readonly UnconfirmedByChannel[]): UnconfirmedByChannel {
  const all = new Map<string, ReadonlyMap<string, Tx>>();
  for (const part of parts)
    for (const [id, transactions] of part) all.set(id, new Map([...(all.get(id) ?? []), ...transactions]));
  return all;
}
