/** Broadcast orders against blocks: what confirmed, what a conflict made pointless, and what is buried. */
import { toHex } from '@fulmen/codec';
import type { Block } from '@fulmen/bitcoin';
import type { Draft } from '../state/draft.ts';
import { outPointKey } from '../state/keys.ts';

/** Blocks on top after which an order is done. */
export const BURIAL_DEPTH = 100;

export function scanOrders(draft: Draft, block: Block, height: number): void {
  const { view } = draft;
  for (const [txIndex, tx] of block.transactions.entries()) {
    const txid = toHex(block.txids[txIndex] as Uint8Array);
    for (const id of view.ordersByTxid.get(txid) ?? []) confirmOrder(draft, id, txid, height);
    for (const input of tx.inputs) {
      for (const id of view.ordersByInput.get(outPointKey(input.txid, input.vout)) ?? []) {
        const order = draft.broadcast(id);
        if (order === undefined || view.orderTxids.get(id)?.includes(txid) === true) continue;
        draft.putBroadcast({ ...order, conflictHeight: height });
      }
    }
  }
}

/** Notes that a transaction of an order is in the block of this height. */
export function confirmOrder(draft: Draft, orderId: string, txid: string, height: number): void {
  const order = draft.broadcast(orderId);
  const txids = draft.view.orderTxids.get(orderId) ?? [];
  if (order === undefined) return;
  const { rejectReason: _, ...rest } = order;
  draft.putBroadcast({
    ...rest,
    confirmedHeights: order.confirmedHeights.map((known, at) => (txids[at] === txid ? height : known)),
  });
}

export function unscanOrders(draft: Draft, height: number): void {
  for (const order of draft.view.broadcasts.values()) {
    const { conflictHeight, ...rest } = order;
    if (conflictHeight !== height && !order.confirmedHeights.includes(height)) continue;
    draft.putBroadcast({
      ...rest,
      confirmedHeights: order.confirmedHeights.map((known) => (known === height ? undefined : known)),
      ...(conflictHeight !== undefined && conflictHeight !== height && { conflictHeight }),
    });
  }
}

/** Ends the orders that no reorg will revive. */
export function finishOrders(draft: Draft, bestHeight: number): void {
  for (const [id] of draft.view.broadcasts) {
    const order = draft.broadcast(id);
    if (order === undefined) continue;
    const confirmed = order.confirmedHeights.every(
      (height) => height !== undefined && bestHeight - height + 1 >= BURIAL_DEPTH,
    );
    const conflicted =
      order.conflictHeight !== undefined && bestHeight - order.conflictHeight + 1 >= BURIAL_DEPTH;
    if (confirmed || conflicted) draft.finishBroadcast(order.orderId);
  }
}
