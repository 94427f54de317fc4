/**
 * The node's on-chain wallet. It plans under the writer's lock, stores the
 * plan, lets the signer sign outside of the lock (a funding later, when it is
 * ordered), and stores the result: every retry, on whichever replica, gives the
 * same transaction.
 */
import { type Network, decodeAddress, encodeAddress, scriptKind } from '@fulmen/bitcoin';
import { equalBytes, toHex, utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import type {
  AddressKind,
  ReservationRecord,
  WalletTransactionRecord,
} from '@fulmen/store/chain/chain-store';
import type { Draft } from '../state/draft.ts';
import { outPointKey } from '../state/keys.ts';
import type { ChainView } from '../state/view.ts';
import type { Writer } from '../state/writer.ts';
import type { FeeEstimator } from '../fees/estimator.ts';
import type { SignerClient } from '../ports.ts';
import { orderIdOf } from '../broadcast/order-id.ts';
import type { AddressBook, ExportedDescriptor } from './address-book.ts';
import { type AnchorReserve, spendableSat } from './anchor-reserve.ts';
import { CoinSelectionError, type PaymentPlan, type PaymentRequest, planPayment } from './coins.ts';
import { isRefusal, signReservation, transactionOf } from './sign-reservation.ts';
import { isMature, spendable } from './spendable.ts';
import { WalletError } from './wallet-error.ts';

export interface WalletPorts {
  readonly writer: Writer;
  readonly signer: Pick<SignerClient, 'getWalletDescriptors' | 'signPsbt'>;
  readonly fees: Pick<FeeEstimator, 'estimateSatPerKw'>;
  readonly network: Network;
  /** Undefined until the signer told the wallet's descriptors. */
  readonly book: () => AddressBook | undefined;
  readonly reserve: AnchorReserve;
  /** An order was written: broadcast it now. */
  readonly wake: () => void;
}

export interface Payment {
  /** Signed, but for a funding that is not ordered yet. */
  readonly transaction: Uint8Array;
  readonly txid: Uint8Array;
  readonly outputIndex: number;
  readonly feeSat: bigint;
}

interface PaymentOrder {
  readonly key: Uint8Array;
  readonly purpose: ReservationRecord['purpose'];
  readonly output: { readonly script: Uint8Array; readonly valueSat: bigint };
  readonly feerateSatPerKw: number | undefined;
  /** Once it fires nothing is set apart any more; absent: it never does. */
  readonly signal?: AbortSignal;
}

export class Wallet {
  readonly #ports: WalletPorts;

  constructor(ports: WalletPorts) {
    this.#ports = ports;
  }

  #book(): AddressBook {
    const book = this.#ports.book();
    if (book === undefined)
      throw new WalletError('not_ready', 'the signer has not told the wallet’s descriptors yet');
    return book;
  }

  /** For another wallet to watch this one. */
  async exportDescriptors(): Promise<readonly ExportedDescriptor[]> {
    const book = this.#book();
    return this.#ports.writer.turn((draft) => {
      book.extend(draft);
      return book.export(draft);
    });
  }

  /** A fresh address. */
  async newAddress(kind: AddressKind): Promise<{ readonly address: string; readonly script: Uint8Array }> {
    const book = this.#book();
    return this.#ports.writer.turn((draft) => {
      book.extend(draft);
      const { script } = book.handOut(draft, kind, 'receive');
      return { address: encodeAddress(script, this.#ports.network) ?? '', script };
    });
  }

  /** Three sums that do not overlap: spendable, not yet (unconfirmed or immature), and set apart or kept back. */
  async balance(): Promise<{
    readonly confirmedSat: bigint;
    readonly unconfirmedSat: bigint;
    readonly reservedSat: bigint;
  }> {
    return this.#ports.writer.exclusive(async (view) => {
      const held = view.reservedOutPoints();
      const sums = { confirmedSat: 0n, unconfirmedSat: 0n, reservedSat: 0n };
      for (const utxo of view.utxos.values()) {
        if (utxo.spentBy !== undefined) continue;
        if (held.has(outPointKey(utxo.txid, utxo.outputIndex))) sums.reservedSat += utxo.valueSat;
        else if (isMature(view, utxo)) sums.confirmedSat += utxo.valueSat;
        else sums.unconfirmedSat += utxo.valueSat;
      }
      const requiredSat = await this.#ports.reserve.requiredSat(view, 0);
      const keptSat = requiredSat < sums.confirmedSat ? requiredSat : sums.confirmedSat;
      return {
        ...sums,
        confirmedSat: sums.confirmedSat - keptSat,
        reservedSat: sums.reservedSat + keptSat,
      };
    });
  }

  /** What is kept back for channels with anchors, and what is missing for one more. */
  async anchorReserve(): Promise<{ readonly requiredSat: bigint; readonly missingSat: bigint }> {
    const { reserve, writer } = this.#ports;
    return writer.exclusive(async (view) => ({
      requiredSat: await reserve.requiredSat(view, 0),
      missingSat: await reserve.missingSat(view),
    }));
  }

  /**
   * An unsigned transaction that pays a channel's funding output, its inputs set apart under the key.
   * @throws WalletError 'cancelled' when `signal`, that of the call, fires before anything was set apart. Whoever does not
   * hear the answer releases the funding: what it asked for must not come about after that.
   */
  async fundChannel(request: {
    readonly channelKeysId: Uint8Array;
    readonly script: Uint8Array;
    readonly valueSat: bigint;
    readonly feerateSatPerKw: number | undefined;
    readonly signal: AbortSignal;
  }): Promise<Payment> {
    const { channelKeysId, script, valueSat, feerateSatPerKw, signal } = request;
    const kind = scriptKind(script);
    if (kind !== 'p2wsh' && kind !== 'p2tr')
      throw new WalletError('bad_request', 'a funding output is P2WSH or P2TR');
    return paymentOf(
      await this.#reserve({
        key: channelKeysId,
        purpose: 'funding',
        output: { script, valueSat },
        feerateSatPerKw,
        signal,
      }),
    );
  }

  /** Frees the inputs of a funding that never happened; nothing when there is none. */
  async releaseFunding(channelKeysId: Uint8Array): Promise<void> {
    await this.#ports.writer.turn((draft) => {
      const reservation = draft.view.reservations.get(toHex(channelKeysId));
      if (reservation === undefined || reservation.purpose !== 'funding') return;
      if (isSpentByItself(draft.view, reservation))
        throw new WalletError('conflict', 'the funding transaction was broadcast');
      releaseReservation(draft, reservation);
    });
  }

  /** Pays an address, broadcast until it is buried. What the signer refuses for good sets nothing apart. */
  async sendCoins(request: {
    readonly address: string;
    readonly valueSat: bigint;
    readonly feerateSatPerKw: number | undefined;
    readonly idempotencyKey: string;
  }): Promise<Payment> {
    if (request.idempotencyKey === '') throw new WalletError('bad_request', 'an idempotency key is needed');
    const script = decodeAddress(request.address, this.#ports.network);
    if (!script.ok) throw new WalletError('bad_request', script.error.message);
    const key = sha256(utf8Encode(`send ${request.idempotencyKey}`));
    const { valueSat, feerateSatPerKw } = request;
    const reservation = await this.#reserve({
      key,
      purpose: 'send',
      output: { script: script.value, valueSat },
      feerateSatPerKw,
    });
    const paid =
      reservation.transaction === undefined
        ? await this.#complete(reservation, await this.#sign(reservation))
        : paymentOf(reservation);
    this.#ports.wake();
    return paid;
  }

  async listTransactions(limit: number): Promise<readonly WalletTransactionRecord[]> {
    return this.#ports.writer.store.listTransactions(limit);
  }

  /** The stored plan for this key, made now if there is none. */
  async #reserve(order: PaymentOrder): Promise<ReservationRecord> {
    const { key, purpose, output } = order;
    const requestDigest = sha256(utf8Encode(`${purpose} ${toHex(output.script)} ${output.valueSat}`));
    const book = this.#book();
    const existing = await this.#ports.writer.exclusive(async (view) => view.reservations.get(toHex(key)));
    if (existing !== undefined) return sameRequest(existing, requestDigest);
    const feerateSatPerKw =
      order.feerateSatPerKw ?? (await this.#ports.fees.estimateSatPerKw('output_spending_fee'));
    // Asked each time: the signer may have started anew with another bound.
    const { maximumFeeSat } = await this.#ports.signer.getWalletDescriptors({});
    return this.#ports.writer.turn(async (draft) => {
      if (order.signal?.aborted === true)
        throw new WalletError('cancelled', 'nobody waits for this payment any more');
      const { view } = draft;
      const concurrent = view.reservations.get(toHex(key));
      if (concurrent !== undefined) return sameRequest(concurrent, requestDigest);
      if (view.rescanFrom !== undefined)
        throw new WalletError('not_ready', `old blocks are being scanned, from ${view.rescanFrom} on`);
      const plan = this.#plan(draft, book, { output, feerateSatPerKw, maximumFeeSat });
      const keptSat = await this.#ports.reserve.requiredSat(view, purpose === 'funding' ? 1 : 0);
      requireReserve(view, plan, output.valueSat, keptSat);
      const reservation: ReservationRecord = {
        key,
        purpose,
        requestDigest,
        inputs: plan.inputs.map(({ txid, outputIndex }) => ({ txid, outputIndex })),
        psbt: plan.psbt,
        txid: plan.txid,
        outputIndex: plan.outputIndex,
        feeSat: plan.feeSat,
        createdHeight: view.tip?.height ?? 0,
        ...(plan.changeScript !== undefined && { changeScript: plan.changeScript }),
      };
      draft.putReservation(reservation);
      return reservation;
    });
  }

  #plan(
    draft: Draft,
    book: AddressBook,
    request: Pick<PaymentRequest, 'output' | 'feerateSatPerKw' | 'maximumFeeSat'>,
  ): PaymentPlan {
    book.extend(draft);
    const change = book.handOut(draft, 'p2wpkh', 'change');
    return planPayment({
      ...request,
      change,
      book,
      network: this.#ports.network,
      candidates: spendable(draft.view),
      addressOf: (script) => draft.address(toHex(script)),
    });
  }

  async #sign(reservation: ReservationRecord): Promise<Uint8Array> {
    try {
      return await signReservation(this.#ports.signer, reservation);
    } catch (error) {
      if (isRefusal(error))
        await this.#ports.writer.turn((draft) => {
          const current = draft.view.reservations.get(toHex(reservation.key));
          const isUnsigned = current !== undefined && current.transaction === undefined;
          if (isUnsigned && equalBytes(current.txid, reservation.txid)) releaseReservation(draft, current);
        });
      throw error;
    }
  }

  /** Stores the signed payment with the order to broadcast it; the first one counts. */
  async #complete(reservation: ReservationRecord, transaction: Uint8Array): Promise<Payment> {
    return this.#ports.writer.turn((draft) => {
      const current = draft.view.reservations.get(toHex(reservation.key));
      if (current === undefined || !equalBytes(current.txid, reservation.txid))
        throw new WalletError('conflict', 'the inputs were released meanwhile');
      if (current.transaction !== undefined) return paymentOf(current);
      const signed = { ...current, transaction };
      draft.putReservation(signed);
      draft.putBroadcast({
        orderId: orderIdOf([transaction]),
        kind: 'send',
        transactions: [transaction],
        confirmedHeights: [undefined],
      });
      return paymentOf(signed);
    });
  }
}

function paymentOf(reservation: ReservationRecord): Payment {
  const { txid, outputIndex, feeSat } = reservation;
  return { transaction: transactionOf(reservation), txid, outputIndex, feeSat };
}

/** @throws CoinSelectionError when the payment would leave less than is kept back. */
function requireReserve(view: ChainView, plan: PaymentPlan, valueSat: bigint, keptSat: bigint): void {
  if (keptSat === 0n) return;
  const spent = new Set(plan.inputs.map(({ txid, outputIndex }) => outPointKey(txid, outputIndex)));
  const changeSat =
    plan.changeScript === undefined
      ? 0n
      : plan.inputs.reduce((sum, input) => sum + input.valueSat, -valueSat - plan.feeSat);
  const leftSat = spendableSat(view, spent) + changeSat;
  if (leftSat < keptSat)
    throw new CoinSelectionError(
      'insufficient_funds',
      `${keptSat} sat are kept back for the fees of channels with anchors, and only ${leftSat} sat would be left`,
    );
}

function sameRequest(reservation: ReservationRecord, requestDigest: Uint8Array): ReservationRecord {
  if (equalBytes(reservation.requestDigest, requestDigest)) return reservation;
  throw new WalletError('conflict', 'this key was used for another payment');
}

/** True once the reservation's own transaction was seen. */
export function isSpentByItself(view: ChainView, { inputs, txid }: ReservationRecord): boolean {
  return inputs.some((input) => {
    const utxo = view.utxos.get(outPointKey(input.txid, input.outputIndex));
    // Pruned: spent, and buried.
    return utxo === undefined || (utxo.spentBy !== undefined && equalBytes(utxo.spentBy.txid, txid));
  });
}

/** Frees the inputs, and the change address that nobody learnt of. */
export function releaseReservation(draft: Draft, { key, changeScript }: ReservationRecord): void {
  draft.release(key);
  const change = changeScript === undefined ? undefined : draft.address(toHex(changeScript));
  const shared = [...draft.view.reservations.values()].filter(
    (other) =>
      other.changeScript !== undefined &&
      changeScript !== undefined &&
      equalBytes(other.changeScript, changeScript),
  );
  if (change?.state === 'handed_out' && shared.length <= 1) draft.putAddress({ ...change, state: 'unused' });
}
