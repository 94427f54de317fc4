/** Broadcasts stored sweeps, each with the commitment that it pays for, again and again until they are in a block. */
import { decodeTx, txid as txidOf } from '@fulmen/bitcoin';
import { type BroadcastOutcome, type ChainSource, ChainSourceError } from '@fulmen/chain';
import { equalBytes, toHex } from '@fulmen/codec';
import type { Logger, Runtime } from '@fulmen/service';
import { type ChannelClaims, isFeeRefusal, outPointKeyOf } from '@fulmen/settlement/sweep/index';
import type { SweepRecord } from '@fulmen/store/chain/chain-store';
import type { ChainMetrics } from '../metrics.ts';
import type { Writer } from '../state/writer.ts';
import { type AddressBook, observeTransactions } from '../wallet/address-book.ts';

/** The longest of its words that are kept. */
const MAX_REASON_LENGTH = 500;

export interface SweepBroadcasterPorts {
  readonly source: ChainSource;
  readonly writer: Writer;
  readonly runtime: Pick<Runtime, 'monotonicMs'>;
  readonly logger: Logger;
  readonly metrics: ChainMetrics;
  readonly book: () => AddressBook | undefined;
  readonly rebroadcastMs: number;
}

export class SweepBroadcaster {
  readonly #ports: SweepBroadcasterPorts;
  /** By txid; of this process alone: after a restart everything is due. */
  readonly #attempts = new Map<string, { readonly atMs: number; readonly tip: string }>();

  constructor(ports: SweepBroadcasterPorts) {
    this.#ports = ports;
  }

  /** Broadcasts what waits: what this process never tried, or all that is due. @throws ChainSourceError */
  async repeat(channels: readonly ChannelClaims[], which: 'due' | 'untried'): Promise<void> {
    const { writer, runtime, rebroadcastMs, metrics } = this.#ports;
    const waiting = new Set(
      channels.flatMap(({ commitments }) => commitments.map(({ commitment }) => toHex(commitment.txid))),
    );
    const claimable = new Set(
      channels.flatMap(({ claims, commitments }) => [
        ...claims.map(({ outPoint }) => outPointKeyOf(outPoint)),
        ...commitments.map(({ commitment }) => outPointKeyOf(commitment.anchor.outPoint)),
      ]),
    );
    const due = await writer.exclusive(async (view) => {
      const known = new Set([...view.sweeps.values()].map(({ txid }) => toHex(txid)));
      for (const txid of this.#attempts.keys()) if (!known.has(txid)) this.#attempts.delete(txid);
      const tip = toHex(view.tip?.hash ?? new Uint8Array(0));
      const nowMs = runtime.monotonicMs();
      const isDue = (txid: Uint8Array): boolean => {
        const last = this.#attempts.get(toHex(txid));
        if (last === undefined) return true;
        return which === 'due' && (last.tip !== tip || nowMs - last.atMs >= rebroadcastMs);
      };
      // The next plan drops one whose input was spent.
      return [...view.sweeps.values()].filter(
        ({ txid, confirmedHeight, claims }) =>
          confirmedHeight === undefined &&
          isDue(txid) &&
          claims.every((at) => claimable.has(outPointKeyOf(at))),
      );
    });
    for (const sweep of due) {
      if (this.#attempts.has(toHex(sweep.txid))) metrics.rebroadcasts.inc();
      // A parent in a block is none any more.
      const parents = sweep.parents.filter((raw) => {
        const tx = decodeTx(raw);
        return tx.ok && waiting.has(toHex(txidOf(tx.value)));
      });
      await this.broadcast(sweep, parents);
    }
  }

  /** @throws ChainSourceError when the node does not answer: it is stored, and goes out later. */
  async broadcast(
    sweep: SweepRecord,
    parents: readonly Uint8Array[],
  ): Promise<'accepted' | 'fee' | 'refused'> {
    const { writer, runtime, logger, metrics } = this.#ports;
    const outcome = await this.#submit([...parents, sweep.transaction]);
    metrics.broadcasts.inc({ outcome: outcome.kind });
    const tip = toHex(writer.view?.tip?.hash ?? new Uint8Array(0));
    const isFirst = !this.#attempts.has(toHex(sweep.txid));
    this.#attempts.set(toHex(sweep.txid), { atMs: runtime.monotonicMs(), tip });
    const reason = outcome.kind === 'rejected' ? outcome.reason.slice(0, MAX_REASON_LENGTH) : undefined;
    if (reason !== undefined && reason !== sweep.rejectReason)
      logger.warn({ sweep: sweep.sweepId, txid: sweep.txid, reason }, 'a sweep was refused');
    if (reason === undefined && isFirst)
      logger.info({ sweep: sweep.sweepId, txid: sweep.txid, feeSat: sweep.feeSat }, 'sweep broadcast');
    await writer.turn((draft) => {
      const current = draft.settlement.sweep(toHex(sweep.sweepId));
      if (current === undefined || !equalBytes(current.txid, sweep.txid)) return;
      if (current.confirmedHeight !== undefined) return;
      const { rejectReason, ...rest } = current;
      if (rejectReason !== reason)
        draft.settlement.putSweep({ ...rest, ...(reason !== undefined && { rejectReason: reason }) });
      const tx = decodeTx(sweep.transaction);
      if (reason !== undefined || !tx.ok || isSeen(draft.view.utxos.values(), sweep.txid)) return;
      // The wallet sees what comes home, and what it paid, at once.
      const seen = [{ tx: tx.value, txid: sweep.txid, sighting: { type: 'mempool' as const } }];
      observeTransactions(draft, seen, this.#ports.book());
    });
    if (reason === undefined) return 'accepted';
    return isFeeRefusal(reason) ? 'fee' : 'refused';
  }

  /** Bytes that the node cannot even read are its refusal. */
  async #submit(transactions: readonly Uint8Array[]): Promise<BroadcastOutcome> {
    try {
      return await this.#ports.source.broadcastPackage(transactions);
    } catch (error) {
      if (!(error instanceof ChainSourceError) || error.code !== 'refused') throw error;
      return { kind: 'rejected', reason: error.message, rejections: [] };
    }
  }
}

/** The wallet knows what the transaction pays already. */
function isSeen(utxos: Iterable<{ readonly txid: Uint8Array }>, txid: Uint8Array): boolean {
  for (const utxo of utxos) if (equalBytes(utxo.txid, txid)) return true;
  return false;
}
