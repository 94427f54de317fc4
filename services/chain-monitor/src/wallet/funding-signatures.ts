/**
 * The signatures of fundings. A manager gets its funding unsigned and opens the
 * channel with the txid alone; what it orders in the commit that makes the
 * channel is signed here, when the signer has validated the first holder
 * commitment. Before that nobody could broadcast the funding: one that the
 * signer refuses never was, and is given up.
 */
import { toHex } from '@fulmen/codec';
import { RpcError } from '@fulmen/rpc';
import type { Logger, Runtime } from '@fulmen/service';
import type { BroadcastRecord, ReservationRecord } from '@fulmen/store/chain/chain-store';
import type { ChainMetrics } from '../metrics.ts';
import type { SignerClient } from '../ports.ts';
import type { ChainView } from '../state/view.ts';
import type { Writer } from '../state/writer.ts';
import { isRefusal, signReservation } from './sign-reservation.ts';
import { WalletError } from './wallet-error.ts';
import { isSpentByItself, releaseReservation } from './wallet.ts';

/** The manager may not have shown the signer its first commitment yet. */
const UNAVAILABLE_RETRY_MS = 500;
/** Something else is wrong, which an operator may repair. */
const FAILED_RETRY_MS = 30_000;

export interface FundingSignaturesPorts {
  readonly writer: Writer;
  readonly signer: Pick<SignerClient, 'signPsbt'>;
  readonly runtime: Pick<Runtime, 'monotonicMs'>;
  readonly logger: Logger;
  readonly metrics: ChainMetrics;
}

interface Failure {
  readonly reason: string;
  readonly againMs: number;
}

export class FundingSignatures {
  readonly #ports: FundingSignaturesPorts;
  /** By order id. */
  readonly #failures = new Map<string, Failure>();

  constructor(ports: FundingSignaturesPorts) {
    this.#ports = ports;
  }

  /** Signs what is ordered, or gives it up, until the signer fails once. Gives how many can be broadcast now. */
  async run(): Promise<number> {
    const { writer, runtime, metrics } = this.#ports;
    const waiting = await writer.exclusive((view) => Promise.resolve([...unsignedFundings(view)]));
    metrics.unsignedFundings.set(waiting.length);
    const ids = new Set(waiting.map(([id]) => id));
    for (const id of this.#failures.keys()) if (!ids.has(id)) this.#failures.delete(id);
    const againMs = (id: string): number => this.#failures.get(id)?.againMs ?? 0;
    const due = waiting.filter(([id]) => againMs(id) <= runtime.monotonicMs());
    due.sort(([a], [b]) => againMs(a) - againMs(b));
    let signed = 0;
    for (const [id, reservation] of due) {
      const outcome = await this.#sign(id, reservation);
      if (outcome === 'failed') break;
      if (outcome === 'signed') signed += 1;
    }
    return signed;
  }

  async #sign(id: string, reservation: ReservationRecord): Promise<'signed' | 'given_up' | 'failed'> {
    const { writer, signer, logger } = this.#ports;
    let transaction: Uint8Array;
    try {
      transaction = await signReservation(signer, reservation);
    } catch (error) {
      if (!(error instanceof RpcError) && !(error instanceof WalletError)) throw error;
      if (isRefusal(error) && (await this.#giveUp(id, reservation, error.message)) === 'given_up') {
        const facts = { order: id, txid: toHex(reservation.txid), reason: error.message };
        logger.error(facts, 'the signer refused a funding: its channel ends');
        return 'given_up';
      }
      this.#failed(id, reservation, error);
      return 'failed';
    }
    await writer.turn((draft) => {
      const order = draft.broadcast(id);
      const current = draft.view.reservations.get(toHex(reservation.key));
      if (order === undefined || current === undefined) return;
      draft.putReservation({ ...current, transaction });
      draft.putBroadcast({ ...order, transactions: [transaction] });
    });
    return 'signed';
  }

  /** Nobody has a signature, and none will be: the manager hears that the funding is lost, and the coins are free. */
  async #giveUp(
    id: string,
    { key, txid, outputIndex }: ReservationRecord,
    refusal: string,
  ): Promise<'given_up' | 'waits'> {
    return this.#ports.writer.turn((draft) => {
      const order = draft.broadcast(id);
      const reservation = draft.view.reservations.get(toHex(key));
      if (order?.channelId === undefined || reservation === undefined) return 'waits';
      // A watch that is taken up later would tell the manager that the funding is only unconfirmed.
      const isWatched = draft.funding(toHex(order.channelId))?.funder === 'holder';
      if (!isWatched || isSpentByItself(draft.view, reservation)) return 'waits';
      draft.report({
        channelId: order.channelId,
        fundingTxid: txid,
        fundingOutputIndex: outputIndex,
        status: { type: 'lost', reason: `the signer refused the funding transaction: ${refusal}` },
      });
      draft.finishBroadcast(order.orderId);
      releaseReservation(draft, reservation);
      return 'given_up';
    });
  }

  #failed(id: string, { txid }: ReservationRecord, error: RpcError | WalletError): void {
    const { runtime, logger } = this.#ports;
    const isForNow = error.code === 'unavailable';
    if (this.#failures.get(id)?.reason !== error.message) {
      const facts = { order: id, txid: toHex(txid), reason: error.message };
      if (isForNow) logger.info(facts, 'a funding is not signed yet');
      else logger.error(facts, 'a funding was not signed: its channel waits');
    }
    const againMs = runtime.monotonicMs() + (isForNow ? UNAVAILABLE_RETRY_MS : FAILED_RETRY_MS);
    this.#failures.set(id, { reason: error.message, againMs });
  }
}

/** Ordered fundings of the wallet that lack signatures, with their reservations, by order id. */
export function unsignedFundings(view: ChainView): ReadonlyMap<string, ReservationRecord> {
  const found = new Map<string, ReservationRecord>();
  for (const reservation of view.reservations.values()) {
    if (reservation.purpose !== 'funding' || reservation.transaction !== undefined) continue;
    for (const id of view.ordersByTxid.get(toHex(reservation.txid)) ?? [])
      if (isOpenFunding(view.broadcasts.get(id))) found.set(id, reservation);
  }
  return found;
}

function isOpenFunding(order: BroadcastRecord | undefined): boolean {
  return order?.kind === 'funding' && order.conflictHeight === undefined;
}
