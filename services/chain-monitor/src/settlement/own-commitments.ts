/**
 * Holder commitments that were ordered and are in no block yet. A node may not
 * even take them while their fee is below its minimum: the one who pays for
 * them must know of them all the same.
 */
import { type Tx, decodeTx, displayHash, txid as txidOf } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/codec';
import type { BroadcastRecord } from '@fulmen/store/chain/chain-store';
import type { ChainView } from '../state/view.ts';
import type { UnconfirmedByChannel } from './mempool-spends.ts';

export class OwnCommitments {
  /** By order id. */
  #decoded = new Map<string, ReadonlyMap<string, Tx>>();

  of(view: ChainView): UnconfirmedByChannel {
    const decoded = new Map<string, ReadonlyMap<string, Tx>>();
    const result = new Map<string, ReadonlyMap<string, Tx>>();
    for (const [orderId, id, { transactions }] of waitingOrders(view)) {
      const known = this.#decoded.get(orderId) ?? decode(transactions);
      decoded.set(orderId, known);
      result.set(id, new Map([...(result.get(id) ?? []), ...known]));
    }
    this.#decoded = decoded;
    return result;
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

function decode(raws: readonly Uint8Array[]): ReadonlyMap<string, Tx> {
  return new Map(
    raws.flatMap((raw) => {
      const tx = decodeTx(raw);
      return tx.ok ? [[displayHash(txidOf(tx.value)), tx.value] as const] : [];
    }),
  );
}
