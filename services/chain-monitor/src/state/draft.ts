/** A turn in the making: changes on top of the view, each record once, the last one counting. */
import { toHex } from '@fulmen/codec';
import type {
  AddressRecord,
  BroadcastRecord,
  ChainTurn,
  FundingRecord,
  FundingReport,
  ReservationRecord,
  UtxoRecord,
  WalletTransactionRecord,
} from '@fulmen/store/chain/chain-store';
import { outPointKey } from './keys.ts';
import { SettlementDraft } from './settlement-draft.ts';
import type { ChainView } from './view.ts';

export class Draft {
  readonly view: ChainView;
  readonly #fundings = new Map<string, FundingRecord>();
  readonly #reports = new Map<string, FundingReport>();
  readonly #broadcasts = new Map<string, BroadcastRecord>();
  readonly #finished: Uint8Array[] = [];
  readonly #addresses = new Map<string, AddressRecord>();
  readonly #utxos = new Map<string, UtxoRecord | { readonly dropped: UtxoRecord }>();
  readonly #reservations = new Map<string, ReservationRecord>();
  readonly #released: Uint8Array[] = [];
  readonly #transactions = new Map<string, WalletTransactionRecord | { readonly dropped: Uint8Array }>();
  #abandoned = false;
  readonly settlement: SettlementDraft;
  block: ChainTurn['block'];
  rescanFrom: ChainTurn['rescanFrom'];
  scannedFrom: ChainTurn['scannedFrom'];

  constructor(view: ChainView) {
    this.view = view;
    this.settlement = new SettlementDraft(view);
  }

  funding(channelId: string): FundingRecord | undefined {
    return this.#fundings.get(channelId) ?? this.view.fundings.get(channelId);
  }

  /** Every funding as this turn leaves it. */
  *fundings(): Iterable<FundingRecord> {
    for (const [id, record] of this.view.fundings) yield this.#fundings.get(id) ?? record;
    for (const [id, record] of this.#fundings) if (!this.view.fundings.has(id)) yield record;
  }

  isChangedFunding(channelId: Uint8Array): boolean {
    return this.#fundings.has(toHex(channelId));
  }

  putFunding(record: FundingRecord): void {
    this.#fundings.set(toHex(record.channelId), record);
  }

  report(report: FundingReport): void {
    this.#reports.set(toHex(report.channelId), report);
  }

  broadcast(orderId: string): BroadcastRecord | undefined {
    return this.#broadcasts.get(orderId) ?? this.view.broadcasts.get(orderId);
  }

  putBroadcast(record: BroadcastRecord): void {
    this.#broadcasts.set(toHex(record.orderId), record);
  }

  finishBroadcast(orderId: Uint8Array): void {
    this.#broadcasts.delete(toHex(orderId));
    this.#finished.push(orderId);
  }

  address(script: string): AddressRecord | undefined {
    return this.#addresses.get(script) ?? this.view.addresses.get(script);
  }

  *addresses(): Iterable<AddressRecord> {
    for (const [script, record] of this.view.addresses) yield this.#addresses.get(script) ?? record;
    for (const [script, record] of this.#addresses) if (!this.view.addresses.has(script)) yield record;
  }

  putAddress(record: AddressRecord): void {
    this.#addresses.set(toHex(record.script), record);
  }

  get changesAddresses(): boolean {
    return this.#addresses.size > 0;
  }

  utxo(key: string): UtxoRecord | undefined {
    const changed = this.#utxos.get(key);
    if (changed === undefined) return this.view.utxos.get(key);
    return 'dropped' in changed ? undefined : changed;
  }

  /** Every output of the wallet as this turn leaves it. */
  *utxos(): Iterable<UtxoRecord> {
    for (const key of new Set([...this.view.utxos.keys(), ...this.#utxos.keys()])) {
      const record = this.utxo(key);
      if (record !== undefined) yield record;
    }
  }

  putUtxo(record: UtxoRecord): void {
    this.#utxos.set(outPointKey(record.txid, record.outputIndex), record);
  }

  dropUtxo(record: UtxoRecord): void {
    this.#utxos.set(outPointKey(record.txid, record.outputIndex), { dropped: record });
  }

  putReservation(record: ReservationRecord): void {
    this.#reservations.set(toHex(record.key), record);
  }

  release(key: Uint8Array): void {
    this.#released.push(key);
  }

  putTransaction(record: WalletTransactionRecord): void {
    this.#transactions.set(toHex(record.txid), record);
  }

  dropTransaction(txid: Uint8Array): void {
    this.#transactions.set(toHex(txid), { dropped: txid });
  }

  /** Nothing of this turn is to be committed. */
  abandon(): void {
    this.#abandoned = true;
  }

  get isEmpty(): boolean {
    return this.#abandoned || Object.keys(this.turn()).length === 0;
  }

  turn(): ChainTurn {
    const utxos = [...this.#utxos.values()];
    const transactions = [...this.#transactions.values()];
    const some = <T, K extends keyof ChainTurn>(
      name: K,
      rows: readonly T[],
    ): Partial<Record<K, readonly T[]>> =>
      rows.length === 0 ? {} : ({ [name]: rows } as Partial<Record<K, readonly T[]>>);
    return {
      ...(this.block !== undefined && { block: this.block }),
      ...some('fundings', [...this.#fundings.values()]),
      ...some('reports', [...this.#reports.values()]),
      ...some('broadcasts', [...this.#broadcasts.values()]),
      ...some('finishedBroadcasts', this.#finished),
      ...some('addresses', [...this.#addresses.values()]),
      ...some(
        'utxos',
        utxos.flatMap((row) => ('dropped' in row ? [] : [row])),
      ),
      ...some(
        'forgottenUtxos',
        utxos.flatMap((row) =>
          'dropped' in row ? [{ txid: row.dropped.txid, outputIndex: row.dropped.outputIndex }] : [],
        ),
      ),
      ...some('reservations', [...this.#reservations.values()]),
      ...some('releasedReservations', this.#released),
      ...some(
        'transactions',
        transactions.flatMap((row) => ('dropped' in row ? [] : [row])),
      ),
      ...some(
        'forgottenTransactions',
        transactions.flatMap((row) => ('dropped' in row ? [row.dropped] : [])),
      ),
      ...this.settlement.turn(),
      ...(this.rescanFrom !== undefined && { rescanFrom: this.rescanFrom }),
      ...(this.scannedFrom !== undefined && { scannedFrom: this.scannedFrom }),
    };
  }
}
