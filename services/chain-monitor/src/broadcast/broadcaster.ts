/** Broadcasts orders at once, and again at every block and every half minute, until they are buried. */
import { decodeTx, displayHash, txid as txidOf } from '@fulmen/bitcoin';
import { type BroadcastOutcome, type ChainSource, ChainSourceError } from '@fulmen/chain';
import { fromHex, toHex } from '@fulmen/codec';
import type { Logger, Runtime } from '@fulmen/service';
import type { BroadcastRecord } from '@fulmen/store/chain/chain-store';
import { LOOKBACK_BLOCKS, type BlockIndex } from '../follower/block-index.ts';
import { isTimedOut } from '../follower/fundings.ts';
import { confirmOrder } from '../follower/orders.ts';
import type { ChainMetrics } from '../metrics.ts';
import { type Draft } from '../state/draft.ts';
import type { ChainView } from '../state/view.ts';
import type { Writer } from '../state/writer.ts';
import { type AddressBook, observeTransactions } from '../wallet/address-book.ts';
import { unsignedFundings } from '../wallet/funding-signatures.ts';
import { orderIdOf } from './order-id.ts';

/** Orders taken from the manager, and broadcast, in one turn. */
export const ORDER_BATCH = 64;
/** Outputs of a refused transaction that are looked for in the chain. */
const OUTPUTS_LOOKED_FOR = 8;

export interface BroadcasterPorts {
  readonly source: ChainSource;
  readonly writer: Writer;
  readonly runtime: Pick<Runtime, 'monotonicMs'>;
  readonly logger: Logger;
  readonly metrics: ChainMetrics;
  readonly index: BlockIndex;
  readonly rebroadcastMs: number;
  readonly book: () => AddressBook | undefined;
}

interface Attempt {
  readonly atMs: number;
  readonly tip: string;
}

/** A transaction that is not confirmed, as far as is known. */
interface Waiting {
  readonly raw: Uint8Array;
  /** Internal order, hex. */
  readonly txid: string;
}

export class Broadcaster {
  readonly #ports: BroadcasterPorts;
  /** By order id; of this process alone: after a restart everything is due. */
  readonly #attempts = new Map<string, Attempt>();

  constructor(ports: BroadcasterPorts) {
    this.#ports = ports;
  }

  /** Takes the manager's orders over. */
  async takeOrders(): Promise<number> {
    const { writer } = this.#ports;
    return writer.exclusive(async (view, lease) => {
      const fresh = await writer.store.takeBroadcasts(lease, ORDER_BATCH, orderIdOf);
      for (const record of fresh) view.putBroadcast(record);
      return fresh.length;
    });
  }

  /** Broadcasts what is due and signed; those never tried first. @throws ChainSourceError */
  async run(): Promise<void> {
    const { writer, runtime, rebroadcastMs, metrics } = this.#ports;
    const due = await writer.exclusive(async (view) => {
      const tip = toHex(view.tip?.hash ?? new Uint8Array(0));
      metrics.pendingOrders.set(view.broadcasts.size);
      for (const id of this.#attempts.keys()) if (!view.broadcasts.has(id)) this.#attempts.delete(id);
      const nowMs = runtime.monotonicMs();
      const isDue = (id: string, order: BroadcastRecord): boolean => {
        const last = this.#attempts.get(id);
        if (last === undefined || last.tip !== tip) return true;
        return nowMs - last.atMs >= rebroadcastMs && !isOfLostFunding(view, order);
      };
      const unsigned = unsignedFundings(view);
      const orders = [...view.broadcasts].filter(
        ([id, order]) => isOpen(order) && !unsigned.has(id) && isDue(id, order),
      );
      orders.sort(([a], [b]) => (this.#attempts.get(a)?.atMs ?? 0) - (this.#attempts.get(b)?.atMs ?? 0));
      return orders
        .slice(0, ORDER_BATCH)
        .map(([id, order]) => ({ id, order, tip, txids: view.orderTxids.get(id) ?? [] }));
    });
    for (const { id, order, tip, txids } of due) {
      if (this.#attempts.has(id)) metrics.rebroadcasts.inc();
      await this.#broadcast(id, order, txids);
      this.#attempts.set(id, { atMs: runtime.monotonicMs(), tip });
    }
  }

  async #broadcast(id: string, order: BroadcastRecord, txids: readonly string[]): Promise<void> {
    const { writer, logger, metrics } = this.#ports;
    const waiting = order.transactions.flatMap((raw, at) =>
      order.confirmedHeights[at] === undefined ? [{ raw, txid: txids[at] ?? '' }] : [],
    );
    let outcome = await this.#submit(waiting.map(({ raw }) => raw));
    if (outcome.kind === 'rejected' && waiting.length > 1)
      outcome = await this.#oneByOne(
        waiting.map(({ raw }) => raw),
        outcome,
      );
    metrics.broadcasts.inc({ outcome: outcome.kind });
    // What the node knows although it does not wait is in a block already, perhaps in one before the order.
    const found = await this.#locate(outcome.kind === 'rejected' ? waiting : await this.#notWaiting(waiting));
    const rejection =
      outcome.kind === 'rejected' && found.length < waiting.length ? outcome.reason : undefined;
    if (rejection !== undefined && rejection !== order.rejectReason) {
      logger.warn(
        {
          order: id,
          kind: order.kind,
          channelId: order.channelId ?? 'none',
          txids: waiting.map(({ txid }) => txid).join(' '),
          reason: rejection,
        },
        'broadcast refused',
      );
    }
    if (
      rejection === undefined &&
      order.rejectReason === undefined &&
      this.#attempts.has(id) &&
      found.length === 0
    )
      return;
    await writer.turn((draft) => {
      const current = draft.broadcast(id);
      if (current === undefined) return;
      const { rejectReason: _, ...rest } = current;
      if (current.rejectReason !== rejection)
        draft.putBroadcast({ ...rest, ...(rejection !== undefined && { rejectReason: rejection }) });
      for (const { txid, height } of found) confirmOrder(draft, id, txid, height);
      if (outcome.kind === 'accepted')
        this.#observe(
          draft,
          waiting.map(({ raw }) => raw),
        );
    });
  }

  /** Bytes that the node cannot even read refuse their own order, not the others. */
  async #submit(transactions: readonly Uint8Array[]): Promise<BroadcastOutcome> {
    try {
      return await this.#ports.source.broadcastPackage(transactions);
    } catch (error) {
      if (!(error instanceof ChainSourceError) || error.code !== 'refused') throw error;
      return { kind: 'rejected', reason: error.message, rejections: [] };
    }
  }

  async #notWaiting(transactions: readonly Waiting[]): Promise<readonly Waiting[]> {
    const absent: Waiting[] = [];
    for (const one of transactions) {
      const txid = displayHash(fromHex(one.txid));
      if ((await this.#ports.source.getMempoolTransaction(txid)) === undefined) absent.push(one);
    }
    return absent;
  }

  /** A package may be refused as such although each transaction pays for itself. */
  async #oneByOne(transactions: readonly Uint8Array[], refused: BroadcastOutcome): Promise<BroadcastOutcome> {
    let last = refused;
    for (const raw of transactions) {
      last = await this.#submit([raw]);
      if (last.kind === 'rejected') return last;
    }
    return last;
  }

  /** The wallet sees what it pays at once, and may use its change. */
  #observe(draft: Draft, transactions: readonly Uint8Array[]): void {
    const decoded = transactions.flatMap((raw) => {
      const tx = decodeTx(raw);
      return tx.ok ? [{ tx: tx.value, txid: txidOf(tx.value), sighting: { type: 'mempool' as const } }] : [];
    });
    observeTransactions(draft, decoded, this.#ports.book());
  }

  /** Of a refused order: what confirmed before the order came. */
  async #locate(
    waiting: readonly Waiting[],
  ): Promise<readonly { readonly txid: string; readonly height: number }[]> {
    const { source, writer, index } = this.#ports;
    const blocks = await writer.exclusive(async (view) => view.blocks.slice(-LOOKBACK_BLOCKS));
    const tip = blocks.at(-1);
    const found: { txid: string; height: number }[] = [];
    for (const { raw, txid } of waiting) {
      const tx = decodeTx(raw);
      if (!tx.ok || tip === undefined) continue;
      const id = txidOf(tx.value);
      const { seen } = await index.find(blocks, id, 0);
      if (seen !== undefined) {
        found.push({ txid, height: seen.height });
        continue;
      }
      for (let vout = 0; vout < Math.min(tx.value.outputs.length, OUTPUTS_LOOKED_FOR); vout++) {
        const best = await source.getBestBlock();
        const utxo = await source.getUtxo(displayHash(id), vout);
        if (utxo === undefined) continue;
        const height = best.height - utxo.confirmations + 1;
        if (height <= tip.height) found.push({ txid, height });
        break;
      }
    }
    return found;
  }
}

function isOpen(order: BroadcastRecord): boolean {
  return order.conflictHeight === undefined && order.confirmedHeights.includes(undefined);
}

/** It may never be of use: once a block is enough. */
function isOfLostFunding(view: ChainView, { channelId }: BroadcastRecord): boolean {
  const funding = channelId === undefined ? undefined : view.fundings.get(toHex(channelId));
  return funding !== undefined && funding.seen === undefined && isTimedOut(funding, view.tip?.height ?? 0);
}
