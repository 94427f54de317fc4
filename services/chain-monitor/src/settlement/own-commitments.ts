/**
 * Holder commitments that were ordered and are in no block yet. A node may not
 * even take them while their fee is below its minimum: the one who pays for
 * them must know of them all the same.
 */
import { type Tx, decodeTx } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/codec';
import type { ChainView } from '../state/view.ts';

export class OwnCommitments {
  #decoded = new Map<string, readonly Tx[]>();

  /** By channel id. */
  of(view: ChainView): ReadonlyMap<string, readonly Tx[]> {
    const decoded = new Map<string, readonly Tx[]>();
    const result = new Map<string, Tx[]>();
    for (const [orderId, order] of view.broadcasts) {
      const isWaiting =
        order.kind === 'force_close' &&
        order.conflictHeight === undefined &&
        order.confirmedHeights.includes(undefined);
      if (!isWaiting || order.channelId === undefined) continue;
      const transactions = this.#decoded.get(orderId) ?? decode(order.transactions);
      decoded.set(orderId, transactions);
      const id = toHex(order.channelId);
      result.set(id, [...(result.get(id) ?? []), ...transactions]);
    }
    this.#decoded = decoded;
    return result;
  }
}

function decode(raws: readonly Uint8Array[]): readonly Tx[] {
  return raws.flatMap((raw) => {
    const tx = decodeTx(raw);
    return tx.ok ? [tx.value] : [];
  });
}
