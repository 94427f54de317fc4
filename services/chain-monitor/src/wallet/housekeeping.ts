/** What the wallet learns between blocks: payments that wait in the mempool, and reservations that are over. */
import { decodeTx, displayHash, txid as txidOf } from '@fulmen/bitcoin';
import type { ChainSource } from '@fulmen/chain';
import { equalBytes, toHex } from '@fulmen/codec';
import type { Logger } from '@fulmen/service';
import type { ReservationRecord } from '@fulmen/store/chain/chain-store';
import { registerWallet, registered } from '../follower/registered.ts';
import { Draft } from '../state/draft.ts';
import { outPointKey } from '../state/keys.ts';
import type { ChainView } from '../state/view.ts';
import type { Writer } from '../state/writer.ts';
import { type AddressBook, observeTransactions } from './address-book.ts';
import { type Sighting, forgetTransaction } from './observe.ts';
import { isSpentByItself, releaseReservation } from './wallet.ts';

/** A payment is remembered for so long at least: until then the same idempotency key does not pay again. */
const REMEMBERED_BLOCKS = 2_016;

export interface HousekeepingPorts {
  readonly source: ChainSource;
  readonly writer: Writer;
  readonly logger: Logger;
  readonly book: () => AddressBook | undefined;
  readonly mempoolScanLimit: number;
  readonly reservationExpiryBlocks: number;
}

export class Housekeeping {
  readonly #ports: HousekeepingPorts;
  /** Transactions that wait in the mempool, and of which the wallet took note. */
  #seen: ReadonlySet<string> = new Set();

  constructor(ports: HousekeepingPorts) {
    this.#ports = ports;
  }

  /**
   * One look into the mempool; to be called when the follower is at the tip. A mempool larger than the limit is not
   * looked into: payments then show when they confirm.
   */
  async lookIntoMempool(): Promise<void> {
    const { source, writer, mempoolScanLimit } = this.#ports;
    const { raws, seen } = await this.#unseen(source, mempoolScanLimit);
    const fresh = raws.flatMap((raw) => {
      const tx = decodeTx(raw);
      const sighting: Sighting = { type: 'mempool' };
      return tx.ok ? [{ tx: tx.value, txid: txidOf(tx.value), sighting }] : [];
    });
    const vanished = await this.#vanished();
    const best = await source.getBestBlock();
    const outcome = await writer.turn((draft) => {
      // A block came meanwhile: what left the mempool may be in it.
      if (draft.view.tip === undefined || displayHash(draft.view.tip.hash) !== best.hash) return 'overtaken';
      for (const txid of vanished) forgetTransaction(draft, txid);
      observeTransactions(draft, fresh, this.#ports.book());
      return 'noted';
    });
    if (outcome === 'noted') this.#seen = seen;
  }

  /** Transactions of the mempool that were not looked at before, and those that need no second look. */
  async #unseen(
    source: ChainSource,
    limit: number,
  ): Promise<{ readonly raws: readonly Uint8Array[]; readonly seen: ReadonlySet<string> }> {
    if ('getFilteredMempool' in source) {
      const filter = await this.#ports.writer.exclusive(async (view) =>
        registered(new Draft(view), [registerWallet]),
      );
      return { raws: await source.getFilteredMempool(filter), seen: new Set() };
    }
    const txids = await source.getRawMempool();
    if (txids.length > limit) return { raws: [], seen: new Set() };
    const raws: Uint8Array[] = [];
    const seen = new Set<string>();
    for (const txid of txids) {
      if (!this.#seen.has(txid)) {
        const raw = await source.getMempoolTransaction(txid);
        // It left meanwhile, and may come back.
        if (raw === undefined) continue;
        raws.push(raw);
      }
      seen.add(txid);
    }
    return { raws, seen };
  }

  /** Unconfirmed payments of others that the node does not know any more. */
  async #vanished(): Promise<readonly Uint8Array[]> {
    const { source, writer } = this.#ports;
    const waiting = await writer.exclusive(async (view) => {
      const txids = new Map<string, Uint8Array>();
      for (const utxo of view.utxos.values())
        if (utxo.height === undefined && utxo.origin !== 'own') txids.set(toHex(utxo.txid), utxo.txid);
      // Ours are broadcast until they are buried.
      for (const [key] of txids) if (view.ordersByTxid.has(key)) txids.delete(key);
      for (const { txid } of view.sweeps.values()) txids.delete(toHex(txid));
      return [...txids.values()];
    });
    const gone: Uint8Array[] = [];
    for (const txid of waiting)
      if ((await source.getMempoolTransaction(displayHash(txid))) === undefined) gone.push(txid);
    return gone;
  }

  /** Frees inputs of fundings that never appeared and whose channel nobody knows, and of payments never signed. */
  async expireReservations(): Promise<void> {
    const { writer, logger, reservationExpiryBlocks } = this.#ports;
    const old = await writer.exclusive(async (view) => {
      const height = view.tip?.height ?? 0;
      return [...view.reservations.values()].filter((record) => {
        const isOld =
          height - record.createdHeight >= reservationExpiryBlocks && !isSpentByItself(view, record);
        return isOld && (record.purpose === 'funding' || record.transaction === undefined);
      });
    });
    if (old.length === 0) return;
    const known = await writer.store.knownChannelKeys(old.map(({ key }) => key));
    const orphans = old.filter(({ key }) => !known.some((id) => equalBytes(id, key)));
    if (orphans.length === 0) return;
    await writer.turn((draft) => {
      for (const { key } of orphans) {
        const current = draft.view.reservations.get(toHex(key));
        if (current !== undefined && !isSpentByItself(draft.view, current))
          releaseReservation(draft, current);
      }
    });
    logger.warn({ count: orphans.length }, 'reservations of fundings that never happened are freed');
  }

  /** Forgets payments that were buried long ago, and those whose inputs others spent. */
  async forgetReservations(): Promise<void> {
    await this.#ports.writer.turn((draft) => {
      for (const record of draft.view.reservations.values())
        if (isHistory(draft.view, record)) releaseReservation(draft, record);
    });
  }
}

/** Nothing of it is broadcast any more, and an input was spent so long ago that the wallet has forgotten it. */
function isHistory(view: ChainView, { createdHeight, inputs, txid }: ReservationRecord): boolean {
  return (
    (view.tip?.height ?? 0) - createdHeight >= REMEMBERED_BLOCKS &&
    !view.ordersByTxid.has(toHex(txid)) &&
    inputs.some((input) => !view.utxos.has(outPointKey(input.txid, input.outputIndex)))
  );
}
