/** New questions of the manager: what is known of the output at once, the rest as blocks come. */
import { decodeTx, displayHash } from '@fulmen/bitcoin';
import type { ChainSource } from '@fulmen/chain';
import { equalBytes, toHex } from '@fulmen/codec';
import type { Logger } from '@fulmen/service';
import type { FundingWatch } from '@fulmen/store';
import type { FundingRecord, StoredBlock } from '@fulmen/store/chain/chain-store';
import type { Writer } from '../state/writer.ts';
import type { BlockIndex } from './block-index.ts';
import { fundingFault, fundingStatus } from './fundings.ts';

/** Watches taken up in one turn. */
export const WATCH_BATCH = 64;

export interface WatchPorts {
  readonly source: ChainSource;
  readonly writer: Writer;
  readonly index: BlockIndex;
  readonly logger: Logger;
}

/** Takes up new watches. Runs between blocks, so that no block falls between the look back and the watch. */
export async function takeWatches(ports: WatchPorts): Promise<number> {
  const watches = await ports.writer.store.newWatches(WATCH_BATCH);
  if (watches.length === 0) return 0;
  const blocks = await ports.writer.exclusive(async (view) => view.blocks);
  const tip = blocks.at(-1);
  if (tip === undefined) return 0;
  const records: FundingRecord[] = [];
  const searches: number[] = [];
  for (const watch of watches) {
    const record = await look(ports, watch, blocks);
    records.push(record);
    const from = searchFrom(record, watch);
    if (from !== undefined) searches.push(from);
  }
  await ports.writer.turn((draft) => {
    if (searches.length > 0)
      draft.rescanFrom = Math.min(draft.view.rescanFrom ?? tip.height, tip.height, ...searches);
    for (const record of records) {
      draft.putFunding(sinceBefore(record, draft.funding(toHex(record.channelId))));
      const { channelId, fundingTxid, fundingOutputIndex } = record;
      draft.report({ channelId, fundingTxid, fundingOutputIndex, status: fundingStatus(record, tip.height) });
    }
  });
  for (const { channelId, seen } of records)
    ports.logger.debug({ channelId, height: seen?.height ?? 'none' }, 'funding output watched');
  return records.length;
}

/** A watch that is taken up again has had some of its time already. */
function sinceBefore(record: FundingRecord, before: FundingRecord | undefined): FundingRecord {
  const isSame =
    before !== undefined &&
    equalBytes(before.fundingTxid, record.fundingTxid) &&
    before.fundingOutputIndex === record.fundingOutputIndex;
  return isSame && before.watchedHeight !== undefined
    ? { ...record, watchedHeight: before.watchedHeight }
    : record;
}

/**
 * Where old blocks must be scanned for a watch that comes late: when its channel comes from a backup and the output is
 * nowhere to be seen, it was spent since. Of a spend that is known, `MissingFacts` reads what followed.
 */
function searchFrom({ seen, spent }: FundingRecord, { searchFromHeight }: FundingWatch): number | undefined {
  return seen === undefined && spent === undefined ? searchFromHeight : undefined;
}

async function look(
  ports: WatchPorts,
  watch: FundingWatch,
  blocks: readonly StoredBlock[],
): Promise<FundingRecord> {
  const { source, index } = ports;
  const { channelId, fundingTxid, fundingOutputIndex, fundingValueSat, scriptPubKey, minimumDepth, funder } =
    watch;
  const tip = blocks.at(-1) as StoredBlock;
  const record: FundingRecord = {
    channelId,
    fundingTxid,
    fundingOutputIndex,
    fundingValueSat,
    scriptPubKey,
    minimumDepth,
    // What a backup asks for was mined long ago, wherever it is.
    ...(watch.searchFromHeight === undefined && { watchedHeight: tip.height }),
    ...(funder !== undefined && { funder }),
  };
  const recent = await index.find(blocks, fundingTxid, fundingOutputIndex);
  const seen = recent.seen ?? (await findUnspent(ports, watch, tip));
  if (seen === undefined) return recent.spent === undefined ? record : { ...record, spent: recent.spent };
  const found = await source.getTxByBlockAndIndex(seen.height, seen.txIndex);
  const tx = found === undefined || found.txid !== displayHash(fundingTxid) ? undefined : decodeTx(found.tx);
  // A reorg came between: the blocks to come will tell.
  if (tx === undefined || !tx.ok) return record;
  const fault = fundingFault(record, tx.value);
  return {
    ...record,
    seen: { ...seen, ...(fault !== undefined && { fault }) },
    ...(recent.spent !== undefined && { spent: recent.spent }),
  };
}

/** An output confirmed long ago and not spent: the node's set of unspent outputs knows its height. */
async function findUnspent(
  { source, index }: WatchPorts,
  { fundingTxid, fundingOutputIndex }: FundingWatch,
  tip: StoredBlock,
): Promise<{ readonly height: number; readonly txIndex: number } | undefined> {
  const txid = displayHash(fundingTxid);
  const before = await source.getBestBlock();
  const utxo = await source.getUtxo(txid, fundingOutputIndex);
  const after = await source.getBestBlock();
  if (utxo === undefined || before.hash !== after.hash) return undefined;
  const height = before.height - utxo.confirmations + 1;
  // Blocks above our tip are scanned when they are connected.
  if (height > tip.height) return undefined;
  const hash = await source.getBlockHash(height);
  const txIndex = hash === undefined ? undefined : await index.positionOf({ hash, height }, fundingTxid);
  return txIndex === undefined ? undefined : { height, txIndex };
}
