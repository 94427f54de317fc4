/**
 * What is kept of fundings that never confirmed. The manager has closed their
 * channels. One of its own is certain, and its other orders end. Of the
 * counterparty's nobody can be: it may publish its funding years later. Where the holder has nothing in the channel, that is nobody's
 * loss, and its orders end. Where it has (it was pushed an amount, or was paid
 * before confirmations), forgetting would leave its money to the counterparty:
 * the output is watched and the commitment broadcast for good.
 */
import { toHex } from '@fulmen/codec';
import type { ChannelMonitor } from '@fulmen/monitor';
import type { Logger } from '@fulmen/service';
import type { FundingRecord, LoadedMonitor } from '@fulmen/store/chain/chain-store';
import { eachMonitor } from '@fulmen/store/chain/chain-store';
import { MonitorFaultError, monitorOf } from '../monitors/drain.ts';
import type { ChainView } from '../state/view.ts';
import type { Writer } from '../state/writer.ts';
import { isTimedOut } from './fundings.ts';

/** Settles what is over; resolves with how many. To be called once a block. */
export async function settleLostFundings(writer: Writer, logger: Pick<Logger, 'info'>): Promise<number> {
  const lost = await writer.exclusive(async (view) => {
    const height = view.tip?.height ?? 0;
    const ordered = fundingsOrdered(view);
    return [...view.fundings.values()].filter((record) => isOver(record, height, ordered));
  });
  if (lost.length === 0) return 0;
  const closed = await writer.store.closedChannels(lost.map(({ channelId }) => channelId));
  const own = new Set(
    lost.flatMap(({ funder, channelId }) => (funder === 'holder' ? [toHex(channelId)] : [])),
  );
  const over = new Map<string, Uint8Array>();
  for await (const loaded of eachMonitor(writer.store, closed)) {
    const id = toHex(loaded.channelId);
    // What waits for the signer would be ordered afterwards.
    if (loaded.closeState === 'pending') continue;
    if (own.has(id) || isWorthless(loaded)) over.set(id, loaded.channelId);
  }
  if (over.size === 0) return 0;
  await writer.turn((draft) => {
    const height = draft.view.tip?.height ?? 0;
    for (const id of over.keys()) {
      const record = draft.funding(id);
      if (record !== undefined && record.seen === undefined && record.spent === undefined)
        draft.putFunding({ ...record, settledHeight: height });
      else over.delete(id);
    }
    for (const order of draft.view.broadcasts.values())
      if (order.channelId !== undefined && over.has(toHex(order.channelId)))
        draft.finishBroadcast(order.orderId);
  });
  for (const channelId of over.values()) logger.info({ channelId }, 'a funding that was lost is forgotten');
  return over.size;
}

/** Channels whose funding is still ours to broadcast. */
function fundingsOrdered(view: ChainView): ReadonlySet<string> {
  const ids = new Set<string>();
  for (const { kind, channelId } of view.broadcasts.values())
    if (kind === 'funding' && channelId !== undefined) ids.add(toHex(channelId));
  return ids;
}

/** Of its own the order has ended: a conflict is buried, or it was never taken, and nobody else has the transaction. */
function isOver(record: FundingRecord, height: number, ordered: ReadonlySet<string>): boolean {
  const { seen, spent, settledHeight, watchedHeight, funder } = record;
  if (seen !== undefined || spent !== undefined || settledHeight !== undefined) return false;
  if (funder === 'holder') return watchedHeight !== undefined && !ordered.has(toHex(record.channelId));
  return isTimedOut(record, height);
}

/** The holder has nothing in any commitment that could confirm. What cannot be read is kept. */
function isWorthless(loaded: LoadedMonitor): boolean {
  // The first update brings a commitment.
  if (loaded.snapshot === undefined) return false;
  try {
    return !hasStake(monitorOf(loaded));
  } catch (error) {
    if (error instanceof MonitorFaultError) return false;
    throw error;
  }
}

function hasStake(monitor: ChannelMonitor): boolean {
  return [
    monitor.holderCommitment,
    monitor.previousHolderCommitment,
    monitor.counterpartyCommitment,
    monitor.nextCounterpartyCommitment,
  ].some(
    (commitment) =>
      commitment !== undefined &&
      (commitment.content.toHolderMsat > 0n || commitment.content.htlcs.length > 0),
  );
}
