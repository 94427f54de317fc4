/** Funding outputs against blocks: where they are, whether they are the ones asked for, and how deep. */
import { equalBytes, toHex } from '@fulmen/codec';
import type { Tx } from '@fulmen/bitcoin';
import type { ChainBlock } from '@fulmen/chain';
import type { FundingStatus } from '@fulmen/store';
import type { FundingRecord } from '@fulmen/store/chain/chain-store';
import type { Draft } from '../state/draft.ts';
import { outPointKey } from '../state/keys.ts';

/** Depths are told up to here: what is deeper no reorg changes, and a row a block is not written for ever. */
export const REPORTED_DEPTH = 144;

/** BOLT 2: the fundee "SHOULD forget the channel if it does not see the correct funding transaction after a timeout of 2016 blocks". */
const FUNDING_TIMEOUT_BLOCKS = 2016;
/** Blocks after which a transaction that took a funding's inputs is there to stay; LDK's ANTI_REORG_DELAY. */
const CONFLICT_DEPTH = 6;

/** Why this transaction's output is not the one asked for; undefined when it is. */
export function fundingFault(record: FundingRecord, tx: Tx): string | undefined {
  const output = tx.outputs[record.fundingOutputIndex];
  if (output === undefined) return `the transaction has no output ${record.fundingOutputIndex}`;
  // BOLT 2: the funding output's script and amount are what the channel was agreed on.
  if (!equalBytes(output.script, record.scriptPubKey)) return 'the output pays another script';
  if (output.valueSat !== record.fundingValueSat)
    return `the output is of ${output.valueSat} sat, not ${record.fundingValueSat}`;
  return undefined;
}

/** What the manager is told at this best height. */
export function fundingStatus(record: FundingRecord, bestHeight: number): FundingStatus {
  const { seen, spent } = record;
  const depthOf = (height: number): number => Math.min(bestHeight - height + 1, REPORTED_DEPTH);
  if (seen?.fault !== undefined) return { type: 'mismatch', reason: seen.fault };
  if (spent !== undefined)
    return {
      type: 'spent',
      txid: spent.txid,
      height: spent.height,
      depth: depthOf(spent.height),
      ...(record.settledHeight !== undefined && { settlement: 'resolved' }),
    };
  if (seen !== undefined)
    return { type: 'confirmed', height: seen.height, txIndex: seen.txIndex, depth: depthOf(seen.height) };
  return { type: 'unconfirmed' };
}

/** Notes the fundings that this block confirms or spends. */
export function scanFundings(draft: Draft, block: ChainBlock, height: number): void {
  const { view } = draft;
  for (const [at, tx] of block.transactions.entries()) {
    const txid = block.txids[at] as Uint8Array;
    const txIndex = block.txIndexes[at] as number;
    for (const id of view.fundingsByTxid.get(toHex(txid)) ?? []) {
      const record = draft.funding(id);
      if (record === undefined) continue;
      const fault = fundingFault(record, tx);
      draft.putFunding({ ...record, seen: { height, txIndex, ...(fault !== undefined && { fault }) } });
    }
    for (const input of tx.inputs) {
      for (const id of view.fundingsByOutPoint.get(outPointKey(input.txid, input.vout)) ?? []) {
        const record = draft.funding(id);
        if (record !== undefined) draft.putFunding({ ...record, spent: { txid, height } });
      }
    }
  }
}

/** Takes back what a disconnected block said. */
export function unscanFundings(draft: Draft, height: number): void {
  for (const record of draft.view.fundings.values()) {
    const { seen, spent, settledHeight, ...rest } = record;
    if (seen?.height !== height && spent?.height !== height) continue;
    draft.putFunding({
      ...rest,
      ...(seen !== undefined && seen.height !== height && { seen }),
      ...(spent !== undefined && spent.height !== height && { spent }),
      ...(settledHeight !== undefined && spent?.height !== height && { settledHeight }),
    });
  }
}

/** Tells the manager every status that may differ from what it was told at the block before. */
export function reportFundings(draft: Draft, bestHeight: number): void {
  for (const record of draft.fundings()) {
    const latest = Math.max(record.seen?.height ?? 0, record.spent?.height ?? 0);
    // One block more than is told, so that the last step of a reorg back is told too.
    const isYoung = latest > 0 && bestHeight - latest <= REPORTED_DEPTH;
    if (!isYoung && !draft.isChangedFunding(record.channelId)) continue;
    const { channelId, fundingTxid, fundingOutputIndex } = record;
    draft.report({ channelId, fundingTxid, fundingOutputIndex, status: fundingStatus(record, bestHeight) });
  }
}

/** Tells the manager of fundings that never confirm, once it is certain. */
export function reportLostFundings(draft: Draft, bestHeight: number): void {
  const conflictHeights = new Map<string, number>();
  for (const id of draft.view.broadcasts.keys()) {
    const order = draft.broadcast(id);
    if (order?.kind === 'funding' && order.channelId !== undefined && order.conflictHeight !== undefined)
      conflictHeights.set(toHex(order.channelId), order.conflictHeight);
  }
  for (const record of draft.fundings()) {
    if (record.seen !== undefined || record.spent !== undefined || record.settledHeight !== undefined)
      continue;
    const reason = whyLost(record, bestHeight, conflictHeights.get(toHex(record.channelId)));
    const { channelId, fundingTxid, fundingOutputIndex } = record;
    if (reason !== undefined)
      draft.report({ channelId, fundingTxid, fundingOutputIndex, status: { type: 'lost', reason } });
  }
}

/**
 * Whether the counterparty's funding has had all its time. Its own the node broadcasts for as long as it takes, once it
 * may: the order can wait for towers until then.
 */
export function isTimedOut({ funder, watchedHeight }: FundingRecord, bestHeight: number): boolean {
  return (
    funder === 'counterparty' &&
    watchedHeight !== undefined &&
    bestHeight - watchedHeight >= FUNDING_TIMEOUT_BLOCKS
  );
}

/**
 * Said again at each block until the funding is settled: it may have been in a block meanwhile, or a conflict be found
 * late.
 */
function whyLost(
  record: FundingRecord,
  bestHeight: number,
  conflictHeight: number | undefined,
): string | undefined {
  if (conflictHeight !== undefined)
    return bestHeight - conflictHeight + 1 >= CONFLICT_DEPTH
      ? 'another transaction spent what the funding transaction spends'
      : undefined;
  return isTimedOut(record, bestHeight)
    ? `the funding transaction was not seen in ${FUNDING_TIMEOUT_BLOCKS} blocks`
    : undefined;
}
