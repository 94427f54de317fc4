/**
 * What the writer knows, in memory: the stored tables with the indexes that a
 * block scan needs. It changes only by turns that were committed, so it is
 * always what a restart would load.
 */
import { toHex } from '@fulmen/codec';
import { decodeTx, txid as txidOf } from '@fulmen/bitcoin';
import type {
  AddressRecord,
  BroadcastRecord,
  ChainSnapshot,
  ChainTurn,
  ClaimRecord,
  FundingRecord,
  ReservationRecord,
  SettlementRecord,
  SpendRecord,
  StoredBlock,
  SweepRecord,
  UtxoRecord,
} from '@fulmen/store/chain/chain-store';
import { outPointKey } from './keys.ts';

/** Blocks that are kept, here and in the store: no reorg may be deeper. */
const KEPT_BLOCKS = 288;

function addTo(index: Map<string, Set<string>>, key: string, value: string): void {
  const values = index.get(key);
  if (values === undefined) index.set(key, new Set([value]));
  else values.add(value);
}

function removeFrom(index: Map<string, Set<string>>, key: string, value: string): void {
  const values = index.get(key);
  values?.delete(value);
  if (values?.size === 0) index.delete(key);
}

/** The ids and inputs of an order's transactions, decoded once. */
interface OrderKeys {
  readonly txids: readonly string[];
  readonly inputs: readonly string[];
}

function orderKeys(record: BroadcastRecord): OrderKeys {
  const txids: string[] = [];
  const inputs: string[] = [];
  for (const raw of record.transactions) {
    const tx = decodeTx(raw);
    if (!tx.ok) {
      txids.push('');
      continue;
    }
    txids.push(toHex(txidOf(tx.value)));
    for (const input of tx.value.inputs) inputs.push(outPointKey(input.txid, input.vout));
  }
  return { txids, inputs };
}

export class ChainView {
  blocks: readonly StoredBlock[];
  /** By channel id. */
  readonly fundings = new Map<string, FundingRecord>();
  /** Channel ids by the funding's txid and outpoint. */
  readonly fundingsByTxid = new Map<string, Set<string>>();
  readonly fundingsByOutPoint = new Map<string, Set<string>>();
  /** By order id. */
  readonly broadcasts = new Map<string, BroadcastRecord>();
  readonly orderTxids = new Map<string, readonly string[]>();
  readonly ordersByTxid = new Map<string, Set<string>>();
  readonly ordersByInput = new Map<string, Set<string>>();
  /** By script. */
  readonly addresses = new Map<string, AddressRecord>();
  /** By outpoint. */
  readonly utxos = new Map<string, UtxoRecord>();
  /** By key. */
  readonly reservations = new Map<string, ReservationRecord>();
  /** By channel id, and in it by txid: facts, kept until no reorganisation can undo what they settled. */
  readonly spends = new Map<string, Map<string, SpendRecord>>();
  /** By channel id; of channels that have facts. */
  readonly settlements = new Map<string, SettlementRecord>();
  /** By outpoint. */
  readonly claims = new Map<string, ClaimRecord>();
  /** By sweep id. */
  readonly sweeps = new Map<string, SweepRecord>();
  rescanFrom: number | undefined;
  scannedFrom: number | undefined;

  constructor(snapshot: ChainSnapshot) {
    this.blocks = snapshot.blocks;
    this.rescanFrom = snapshot.rescanFrom;
    this.scannedFrom = snapshot.scannedFrom;
    const { fundings, broadcasts, addresses, utxos, reservations } = snapshot;
    const { spends, settlements, claims, sweeps } = snapshot;
    this.apply({ fundings, broadcasts, addresses, utxos, reservations });
    this.apply({ spends, settlements, claims, sweeps });
  }

  get tip(): StoredBlock | undefined {
    return this.blocks.at(-1);
  }

  /** Outpoints that reservations, and sweeps under way, hold. */
  reservedOutPoints(): Set<string> {
    const held = new Set<string>();
    for (const { inputs } of this.reservations.values())
      for (const { txid, outputIndex } of inputs) held.add(outPointKey(txid, outputIndex));
    for (const { walletInputs } of this.sweeps.values())
      for (const { txid, outputIndex } of walletInputs) held.add(outPointKey(txid, outputIndex));
    return held;
  }

  /** Takes over what was committed. */
  apply(turn: ChainTurn): void {
    if (turn.block?.type === 'connect') this.blocks = [...this.blocks, turn.block.block].slice(-KEPT_BLOCKS);
    if (turn.block?.type === 'connect') this.#forgetSettled(turn.block.block.height);
    if (turn.block?.type === 'disconnect') this.blocks = this.blocks.slice(0, -1);
    for (const record of turn.fundings ?? []) this.#putFunding(record);
    for (const id of turn.forgottenFundings ?? []) this.#dropFunding(toHex(id));
    for (const record of turn.broadcasts ?? []) this.putBroadcast(record);
    for (const id of turn.finishedBroadcasts ?? []) this.#dropBroadcast(toHex(id));
    for (const record of turn.addresses ?? []) this.addresses.set(toHex(record.script), record);
    for (const record of turn.utxos ?? [])
      this.utxos.set(outPointKey(record.txid, record.outputIndex), record);
    for (const { txid, outputIndex } of turn.forgottenUtxos ?? [])
      this.utxos.delete(outPointKey(txid, outputIndex));
    for (const record of turn.reservations ?? []) this.reservations.set(toHex(record.key), record);
    for (const key of turn.releasedReservations ?? []) this.reservations.delete(toHex(key));
    this.#applySettlements(turn);
    if (turn.rescanFrom !== undefined) this.rescanFrom = turn.rescanFrom ?? undefined;
    if (turn.scannedFrom !== undefined) this.scannedFrom = turn.scannedFrom;
  }

  #applySettlements(turn: ChainTurn): void {
    for (const { channelId, txid } of turn.forgottenSpends ?? []) {
      const ofChannel = this.spends.get(toHex(channelId));
      ofChannel?.delete(toHex(txid));
      if (ofChannel?.size === 0) this.spends.delete(toHex(channelId));
    }
    for (const record of turn.spends ?? []) {
      const id = toHex(record.channelId);
      const ofChannel = this.spends.get(id) ?? new Map<string, SpendRecord>();
      this.spends.set(id, ofChannel.set(toHex(record.txid), record));
    }
    for (const record of turn.settlements ?? []) this.settlements.set(toHex(record.channelId), record);
    // What a restart would not load: without facts a settlement is history.
    for (const { channelId } of turn.forgottenSpends ?? [])
      if (!this.spends.has(toHex(channelId))) this.settlements.delete(toHex(channelId));
    for (const id of turn.forgottenSettlements ?? []) this.settlements.delete(toHex(id));
    for (const record of turn.claims ?? [])
      this.claims.set(outPointKey(record.outPoint.txid, record.outPoint.outputIndex), record);
    for (const { txid, outputIndex } of turn.forgottenClaims ?? [])
      this.claims.delete(outPointKey(txid, outputIndex));
    for (const record of turn.sweeps ?? []) this.sweeps.set(toHex(record.sweepId), record);
    for (const id of turn.forgottenSweeps ?? []) this.sweeps.delete(toHex(id));
  }

  /** Fundings whose settlement no reorganisation can reach are history: a restart would not load them either. */
  #forgetSettled(height: number): void {
    for (const [id, { settledHeight }] of this.fundings)
      if (settledHeight !== undefined && settledHeight <= height - KEPT_BLOCKS) this.#dropFunding(id);
  }

  #putFunding(record: FundingRecord): void {
    const id = toHex(record.channelId);
    this.#dropFunding(id);
    this.fundings.set(id, record);
    addTo(this.fundingsByTxid, toHex(record.fundingTxid), id);
    addTo(this.fundingsByOutPoint, outPointKey(record.fundingTxid, record.fundingOutputIndex), id);
  }

  #dropFunding(id: string): void {
    const old = this.fundings.get(id);
    if (old === undefined) return;
    this.fundings.delete(id);
    removeFrom(this.fundingsByTxid, toHex(old.fundingTxid), id);
    removeFrom(this.fundingsByOutPoint, outPointKey(old.fundingTxid, old.fundingOutputIndex), id);
  }

  /** Also for orders that the store took over by itself. */
  putBroadcast(record: BroadcastRecord): void {
    const id = toHex(record.orderId);
    this.broadcasts.set(id, record);
    if (this.orderTxids.has(id)) return;
    const { txids, inputs } = orderKeys(record);
    this.orderTxids.set(id, txids);
    for (const txid of txids) addTo(this.ordersByTxid, txid, id);
    for (const input of inputs) addTo(this.ordersByInput, input, id);
  }

  #dropBroadcast(id: string): void {
    const old = this.broadcasts.get(id);
    if (old === undefined) return;
    const { txids, inputs } = orderKeys(old);
    this.broadcasts.delete(id);
    this.orderTxids.delete(id);
    for (const txid of txids) removeFrom(this.ordersByTxid, txid, id);
    for (const input of inputs) removeFrom(this.ordersByInput, input, id);
  }
}
