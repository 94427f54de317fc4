/**
 * Holder commitments that were ordered and are in no block yet. A node may not
 * even take them while their fee is below its minimum: the one who pays for
 * them must know of them all the same. Of use they are only once their funding
 * is published. A counterparty that never publishes it would otherwise have
 * the wallet's coins wait for nothing, and it costs it nothing.
 */
import { type Tx, decodeTx, displayHash, txid as txidOf } from '@fulmen/bitcoin';
import type { ChainSource } from '@fulmen/chain';
import { equalBytes, toHex } from '@fulmen/codec';
import type { BroadcastRecord, FundingRecord } from '@fulmen/store/chain/chain-store';
import { fundingFault } from '../follower/fundings.ts';
import type { ChainView } from '../state/view.ts';
import type { UnconfirmedByChannel } from './mempool-spends.ts';

type Source = Pick<ChainSource, 'getMempoolTransaction' | 'getUtxo'>;

/** What the source said of a funding that no block has shown. */
interface Answer {
  /** The best block of then. */
  readonly tip: string;
  readonly isPublished: boolean;
}

/** Fundings of ordered commitments that no block has shown, by channel id. */
export interface UnseenFundings {
  readonly tip: string;
  readonly records: ReadonlyMap<string, FundingRecord>;
}

export class OwnCommitments {
  readonly #source: Source;
  /** By order id. */
  #decoded = new Map<string, ReadonlyMap<string, Tx>>();
  /** By channel id. */
  #answers: ReadonlyMap<string, Answer> = new Map();

  constructor(source: Source) {
    this.#source = source;
  }

  /** Asks for fundings, each once a block, for strangers can bring about many. @throws ChainSourceError */
  async look({ tip, records }: UnseenFundings): Promise<void> {
    const answers = new Map<string, Answer>();
    for (const [id, record] of records) {
      const known = this.#answers.get(id);
      answers.set(id, known?.tip === tip ? known : { tip, isPublished: await this.#ask(record) });
    }
    this.#answers = answers;
  }

  async #ask(record: FundingRecord): Promise<boolean> {
    const { fundingTxid, fundingOutputIndex, fundingValueSat, scriptPubKey } = record;
    const raw = await this.#source.getMempoolTransaction(displayHash(fundingTxid));
    const tx = raw === undefined ? undefined : decodeTx(raw);
    if (tx?.ok === true) return fundingFault(record, tx.value) === undefined;
    // In a block that was never read: before a late watch, of a node that has pruned it.
    const utxo = await this.#source.getUtxo(displayHash(fundingTxid), fundingOutputIndex);
    return utxo?.valueSat === fundingValueSat && equalBytes(utxo.script, scriptPubKey);
  }

  of(view: ChainView): UnconfirmedByChannel {
    const decoded = new Map<string, ReadonlyMap<string, Tx>>();
    const result = new Map<string, ReadonlyMap<string, Tx>>();
    for (const [orderId, id, { transactions }] of waitingOrders(view)) {
      const known = this.#decoded.get(orderId) ?? decode(transactions);
      decoded.set(orderId, known);
      if (this.#isPublished(view.fundings.get(id), id))
        result.set(id, new Map([...(result.get(id) ?? []), ...known]));
    }
    this.#decoded = decoded;
    return result;
  }

  #isPublished(record: FundingRecord | undefined, id: string): boolean {
    if (record === undefined) return false;
    return record.seen === undefined
      ? this.#answers.get(id)?.isPublished === true
      : record.seen.fault === undefined;
  }
}

/** Each with its order's id and its channel's. */
function* waitingOrders({ broadcasts }: ChainView): Iterable<readonly [string, string, BroadcastRecord]> {
  for (const [orderId, order] of broadcasts) {
    const isWaiting =
      order.kind === 'force_close' &&
      order.conflictHeight === undefined &&
      order.confirmedHeights.includes(undefined);
    if (isWaiting && order.channelId !== undefined) yield [orderId, toHex(order.channelId), order];
  }
}

export function unseenFundings(view: ChainView): UnseenFundings {
  const records = new Map<string, FundingRecord>();
  for (const [, id] of waitingOrders(view)) {
    const record = view.fundings.get(id);
    if (record !== undefined && record.seen === undefined && record.spent === undefined)
      records.set(id, record);
  }
  return { tip: toHex(view.tip?.hash ?? new Uint8Array(0)), records };
}

function decode(raws: readonly Uint8Array[]): ReadonlyMap<string, Tx> {
  return new Map(
    raws.flatMap((raw) => {
      const tx = decodeTx(raw);
      return tx.ok ? [[displayHash(txidOf(tx.value)), tx.value] as const] : [];
    }),
  );
}
