/**
 * The in-memory twin: what the Postgres store does, as a small model. The state
 * outlives the handles that use it, as a database does. The manager's tables
 * are those of its own in-memory store, or anything of that shape.
 */
import type { BroadcastOrder, FundingStatus, FundingWatch } from '../manager/manager-store.ts';
import { isClosingPhase } from '../manager/memory-state.ts';
import { hexKey } from '../manager/source.ts';
import type * as port from './chain-store.ts';
import { ChainConflictError, ChainFenceLostError } from './chain-store.ts';
import {
  type ManagerChannel,
  type ManagerOutcomes,
  MemorySettlementTables,
  outPointKey,
} from './memory-settlement.ts';

/** The tables of the manager that chain-monitor reads and reports to; `MemoryManagerState` has them. */
export interface ManagerTables extends ManagerOutcomes {
  readonly watches: Map<string, { readonly watch: FundingWatch; status: FundingStatus }>;
  readonly fundingSearches: ReadonlyMap<string, number>;
  readonly broadcasts: BroadcastOrder[];
  readonly monitorBirths: ReadonlyMap<string, Uint8Array>;
  readonly monitorLog: Map<string, { readonly updateId: bigint; readonly payload: Uint8Array }[]>;
}

/** Empty tables, for tests without a manager. */
export function emptyManagerTables(): ManagerTables & {
  readonly monitorBirths: Map<string, Uint8Array>;
  readonly channels: Map<string, ManagerChannel>;
} {
  return {
    watches: new Map(),
    fundingSearches: new Map(),
    broadcasts: [],
    monitorBirths: new Map(),
    monitorLog: new Map(),
    channels: new Map(),
    resolutions: new Map(),
    preimages: new Map(),
    outbox: [],
  };
}

/** Blocks that are kept. */
export const KEPT_BLOCKS = 288;

/** All tables of chain-monitor. */
export class MemoryChainState {
  readonly manager: ManagerTables;
  readonly nowMs: () => number;
  lease:
    | { holder: string; address: string; epoch: bigint; untilMs: number; doubt: string | undefined }
    | undefined;
  blocks: port.StoredBlock[] = [];
  readonly fundings = new Map<string, port.FundingRecord>();
  readonly broadcasts = new Map<string, port.BroadcastRecord>();
  readonly addresses = new Map<string, port.AddressRecord>();
  readonly utxos = new Map<string, port.UtxoRecord>();
  readonly reservations = new Map<string, port.ReservationRecord>();
  readonly transactions = new Map<string, port.WalletTransactionRecord>();
  readonly monitors = new Map<
    string,
    {
      readonly channelId: Uint8Array;
      readonly updateId: bigint;
      readonly snapshot: Uint8Array;
      readonly closeState: port.CloseState;
      readonly nextDeadlineHeight?: number;
    }
  >();
  /** By channel, and within by kind and number. */
  readonly monitorChunks = new Map<string, Map<string, port.MonitorChunk>>();
  readonly settlement: MemorySettlementTables = new MemorySettlementTables();
  rescanFrom: number | undefined;
  scannedFrom: number | undefined;

  constructor(manager: ManagerTables, nowMs: () => number) {
    this.manager = manager;
    this.nowMs = nowMs;
  }
}

function byHex(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** One handle. */
export class MemoryChainStore implements port.ChainStore {
  readonly #state: MemoryChainState;

  constructor(state: MemoryChainState) {
    this.#state = state;
  }

  async acquireLease({ holder, address, leaseMs, doubt }: port.LeaseRequest): Promise<port.LeaseOutcome> {
    const state = this.#state;
    const old = state.lease;
    const nowMs = state.nowMs();
    if (old !== undefined && old.holder !== holder && old.untilMs > nowMs)
      return {
        type: 'held',
        holder: old.holder,
        address: old.address,
        ...(old.doubt !== undefined && { doubt: old.doubt }),
      };
    const epoch = old === undefined ? 1n : old.holder === holder ? old.epoch : old.epoch + 1n;
    state.lease = { holder, address, epoch, untilMs: nowMs + leaseMs, doubt };
    return { type: 'acquired', lease: { holder, epoch } };
  }

  async releaseLease(lease: port.ChainLease): Promise<void> {
    const held = this.#state.lease;
    if (held !== undefined && held.holder === lease.holder && held.epoch === lease.epoch) held.untilMs = 0;
  }

  #fence(lease: port.ChainLease): void {
    const held = this.#state.lease;
    if (held === undefined || held.holder !== lease.holder || held.epoch !== lease.epoch)
      throw new ChainFenceLostError('another replica writes');
  }

  async load(): Promise<port.ChainSnapshot> {
    const { blocks, fundings, broadcasts, addresses, utxos, reservations, rescanFrom, scannedFrom } =
      this.#state;
    return {
      blocks: [...blocks],
      fundings: [...fundings.values()].filter(
        ({ settledHeight }) =>
          settledHeight === undefined || settledHeight > (blocks.at(-1)?.height ?? 0) - KEPT_BLOCKS,
      ),
      broadcasts: [...broadcasts.values()],
      addresses: [...addresses.values()],
      utxos: [...utxos.values()],
      reservations: [...reservations.values()],
      ...this.#state.settlement.snapshot(),
      rescanFrom,
      scannedFrom,
    };
  }

  async tip(): Promise<port.StoredBlock | undefined> {
    return this.#state.blocks.at(-1);
  }

  async commit(lease: port.ChainLease, turn: port.ChainTurn): Promise<void> {
    this.#fence(lease);
    const state = this.#state;
    if (turn.block !== undefined) this.#moveTip(turn.block);
    for (const record of turn.fundings ?? []) state.fundings.set(hexKey(record.channelId), record);
    for (const id of turn.forgottenFundings ?? []) state.fundings.delete(hexKey(id));
    for (const report of turn.reports ?? []) {
      const entry = state.manager.watches.get(hexKey(report.channelId));
      if (
        entry !== undefined &&
        hexKey(entry.watch.fundingTxid) === hexKey(report.fundingTxid) &&
        entry.watch.fundingOutputIndex === report.fundingOutputIndex
      ) {
        entry.status = report.status;
      }
    }
    for (const record of turn.broadcasts ?? []) state.broadcasts.set(hexKey(record.orderId), record);
    for (const id of turn.finishedBroadcasts ?? []) state.broadcasts.delete(hexKey(id));
    for (const record of turn.addresses ?? []) state.addresses.set(hexKey(record.script), record);
    for (const record of turn.utxos ?? []) state.utxos.set(outPointKey(record), record);
    for (const at of turn.forgottenUtxos ?? []) state.utxos.delete(outPointKey(at));
    for (const record of turn.reservations ?? []) state.reservations.set(hexKey(record.key), record);
    for (const key of turn.releasedReservations ?? []) state.reservations.delete(hexKey(key));
    for (const record of turn.transactions ?? []) state.transactions.set(hexKey(record.txid), record);
    for (const txid of turn.forgottenTransactions ?? []) state.transactions.delete(hexKey(txid));
    state.settlement.write(turn, state.manager);
    if (turn.rescanFrom !== undefined) state.rescanFrom = turn.rescanFrom ?? undefined;
    if (turn.scannedFrom !== undefined) state.scannedFrom = turn.scannedFrom;
  }

  #moveTip(move: NonNullable<port.ChainTurn['block']>): void {
    const state = this.#state;
    const tip = state.blocks.at(-1);
    if (move.type === 'disconnect') {
      if (tip === undefined || hexKey(tip.hash) !== hexKey(move.hash))
        throw new ChainConflictError('not the stored tip');
      state.blocks = state.blocks.slice(0, -1);
      for (const [key, { height, ...rest }] of state.transactions)
        if (height === tip.height) state.transactions.set(key, rest);
      return;
    }
    const { block } = move;
    if (tip !== undefined && (block.height !== tip.height + 1 || hexKey(block.prevHash) !== hexKey(tip.hash)))
      throw new ChainConflictError('not on top of the stored tip');
    state.blocks = [...state.blocks, block].slice(-KEPT_BLOCKS);
  }

  async listTransactions(limit: number): Promise<readonly port.WalletTransactionRecord[]> {
    return [...this.#state.transactions.values()].reverse().slice(0, limit);
  }

  async newWatches(limit: number): Promise<readonly FundingWatch[]> {
    const { manager, fundings } = this.#state;
    const isNew = ({ channelId, fundingTxid, fundingOutputIndex }: FundingWatch): boolean => {
      const known = fundings.get(hexKey(channelId));
      return (
        known === undefined ||
        hexKey(known.fundingTxid) !== hexKey(fundingTxid) ||
        known.fundingOutputIndex !== fundingOutputIndex ||
        (known.funder === undefined && known.seen === undefined && known.spent === undefined)
      );
    };
    return [...manager.watches.values()]
      .filter(({ status }) => status.type !== 'spent' || status.settlement !== 'resolved')
      .map(({ watch }) => {
        const searchFromHeight = manager.fundingSearches.get(hexKey(watch.channelId));
        const channel = manager.channels.get(hexKey(watch.channelId));
        return {
          ...watch,
          ...(searchFromHeight !== undefined && { searchFromHeight }),
          funder: channel?.row.holderIsFunder === true ? ('holder' as const) : ('counterparty' as const),
        };
      })
      .filter(isNew)
      .slice(0, limit);
  }

  async takeBroadcasts(
    lease: port.ChainLease,
    limit: number,
    orderIdOf: (transactions: readonly Uint8Array[]) => Uint8Array,
  ): Promise<readonly port.BroadcastRecord[]> {
    this.#fence(lease);
    const fresh: port.BroadcastRecord[] = [];
    for (const { kind, channelId, transactions } of this.#state.manager.broadcasts.splice(0, limit)) {
      const isVoid =
        kind === 'funding' && this.#state.manager.channels.get(hexKey(channelId))?.row.phase === 'closed';
      const orderId = orderIdOf(transactions);
      if (isVoid || this.#state.broadcasts.has(hexKey(orderId))) continue;
      const record = {
        orderId,
        kind,
        channelId,
        transactions,
        confirmedHeights: transactions.map(() => undefined),
      };
      this.#state.broadcasts.set(hexKey(orderId), record);
      fresh.push(record);
    }
    return fresh;
  }

  async closedChannels(channelIds: readonly Uint8Array[]): Promise<readonly Uint8Array[]> {
    const { channels } = this.#state.manager;
    return channelIds.filter((id) => channels.get(hexKey(id))?.row.phase === 'closed');
  }

  async knownChannelKeys(channelKeysIds: readonly Uint8Array[]): Promise<readonly Uint8Array[]> {
    const known = new Set(
      [...this.#state.manager.channels.values()]
        .filter(({ row }) => row.phase !== 'closed')
        .map(({ row }) => hexKey(row.channelKeysId)),
    );
    return channelKeysIds.filter((id) => known.has(hexKey(id)));
  }

  async readMonitorLog(
    after: port.MonitorLogPosition | undefined,
    limit: number,
    passedOver: readonly Uint8Array[] = [],
  ): Promise<readonly port.MonitorLogEntry[]> {
    const skipped = new Set(passedOver.map(hexKey));
    const from = after === undefined ? undefined : hexKey(after.channelId);
    const entries: port.MonitorLogEntry[] = [];
    for (const [key, log] of [...this.#state.manager.monitorLog].sort(([a], [b]) => byHex(a, b))) {
      if (skipped.has(key) || (from !== undefined && key < from)) continue;
      for (const { updateId, payload } of log) {
        if (after !== undefined && key === from && updateId <= after.updateId) continue;
        if (entries.length === limit) return entries;
        entries.push({ channelId: Uint8Array.from(Buffer.from(key, 'hex')), updateId, payload });
      }
    }
    return entries;
  }

  #loaded(channelId: Uint8Array): port.LoadedMonitor {
    const row = this.#state.monitors.get(hexKey(channelId));
    const birth = this.#state.manager.monitorBirths.get(hexKey(channelId));
    return {
      channelId,
      updateId: row?.updateId ?? 0n,
      snapshot: row?.snapshot,
      birth,
      closeState: row?.closeState ?? 'open',
    };
  }

  async loadMonitors(channelIds: readonly Uint8Array[]): Promise<readonly port.LoadedMonitor[]> {
    return channelIds.map((id) => this.#loaded(id));
  }

  async monitorChunks(
    channelId: Uint8Array,
    commitmentNumbers: readonly bigint[],
  ): Promise<readonly port.MonitorChunk[]> {
    return [...(this.#state.monitorChunks.get(hexKey(channelId))?.values() ?? [])]
      .filter(({ firstNumber, lastNumber }) =>
        commitmentNumbers.some((number) => firstNumber <= number && number <= lastNumber),
      )
      .sort((a, b) => (a.kind === b.kind ? a.number - b.number : a.kind < b.kind ? -1 : 1));
  }

  async commitMonitors(lease: port.ChainLease, monitors: readonly port.DrainedMonitor[]): Promise<void> {
    this.#fence(lease);
    for (const { channelId, expectedUpdateId } of monitors) {
      if ((this.#state.monitors.get(hexKey(channelId))?.updateId ?? 0n) !== expectedUpdateId)
        throw new ChainConflictError('a monitor moved');
    }
    for (const monitor of monitors) {
      const { channelId, updateId, snapshot, chunks = [], closeState, nextDeadlineHeight } = monitor;
      const key = hexKey(channelId);
      const known = this.#state.monitorChunks.get(key) ?? new Map<string, port.MonitorChunk>();
      for (const chunk of chunks) known.set(`${chunk.kind} ${chunk.number}`, chunk);
      this.#state.monitorChunks.set(key, known);
      this.#state.monitors.set(key, {
        channelId,
        updateId,
        snapshot,
        closeState,
        ...(nextDeadlineHeight !== undefined && { nextDeadlineHeight }),
      });
      const rest = (this.#state.manager.monitorLog.get(key) ?? []).filter(
        (entry) => entry.updateId > updateId,
      );
      if (rest.length > 0) this.#state.manager.monitorLog.set(key, rest);
      else this.#state.manager.monitorLog.delete(key);
    }
  }

  async monitorDeadlines(
    after: Uint8Array | undefined,
    limit: number,
  ): Promise<readonly port.MonitorDeadline[]> {
    const from = after === undefined ? '' : hexKey(after);
    return [...this.#state.monitors]
      .filter(([key, { closeState }]) => closeState === 'open' && key > from)
      .sort(([a], [b]) => byHex(a, b))
      .flatMap(([, { channelId, nextDeadlineHeight: height }]) =>
        height === undefined ? [] : [{ channelId, height }],
      )
      .slice(0, limit);
  }

  async pendingCloses(after: Uint8Array | undefined, limit: number): Promise<readonly port.PendingClose[]> {
    const from = after === undefined ? '' : hexKey(after);
    const isDecided = (key: string): boolean =>
      this.#state.manager.channels.get(key)?.closingDecision !== undefined;
    const pending = [...this.#state.monitors]
      .filter(([key, { closeState }]) => (closeState === 'open' ? isDecided(key) : closeState === 'pending'))
      .filter(([key]) => key > from)
      .filter(([key]) => (this.#state.manager.monitorLog.get(key) ?? []).length === 0)
      .sort(([a], [b]) => byHex(a, b));
    return pending.slice(0, limit).map(([key, { channelId, updateId }]) => ({
      channelId,
      updateId,
      managerUpdateId: this.#state.manager.channels.get(key)?.monitorUpdateId,
      decision: this.#state.manager.channels.get(key)?.closingDecision,
    }));
  }

  async commitClose(
    lease: port.ChainLease,
    channelId: Uint8Array,
    closeState: port.CloseState,
    broadcast: port.BroadcastRecord | undefined,
    event?: port.ChainEvent,
  ): Promise<void> {
    this.#fence(lease);
    const row = this.#state.monitors.get(hexKey(channelId));
    if (row === undefined) throw new ChainConflictError('no such monitor');
    this.#state.monitors.set(hexKey(channelId), { ...row, closeState });
    if (broadcast !== undefined && !this.#state.broadcasts.has(hexKey(broadcast.orderId)))
      this.#state.broadcasts.set(hexKey(broadcast.orderId), broadcast);
    this.#tell(event);
  }

  #tell(event: port.ChainEvent | undefined): void {
    if (event === undefined) return;
    const { type, timeUnixMs, body } = event;
    this.#state.manager.outbox.push({ type, timeUnixMs, body });
  }

  async decideClose(
    lease: port.ChainLease,
    channelId: Uint8Array,
    reason: string,
    event?: port.ChainEvent,
  ): Promise<'decided' | 'closing'> {
    this.#fence(lease);
    const key = hexKey(channelId);
    const channel = this.#state.manager.channels.get(key);
    const isDecided =
      channel === undefined ||
      channel.closingDecision !== undefined ||
      isClosingPhase(channel.row.phase ?? 'open');
    if (isDecided) return 'closing';
    const row = this.#state.monitors.get(key);
    if (row === undefined) throw new ChainConflictError('no such monitor');
    channel.closingDecision = reason;
    if (row.closeState === 'open') this.#state.monitors.set(key, { ...row, closeState: 'pending' });
    this.#tell(event);
    return 'decided';
  }

  async preimages(channelIds: readonly Uint8Array[]): ReturnType<port.ChainStore['preimages']> {
    const wanted = new Set(channelIds.map(hexKey));
    return [...this.#state.manager.preimages.values()]
      .filter(({ channelId }) => wanted.has(hexKey(channelId)))
      .sort((a, b) => byHex(hexKey(a.channelId), hexKey(b.channelId)) || (a.htlcId < b.htlcId ? -1 : 1));
  }

  async ownPayments(channelIds: readonly Uint8Array[]): ReturnType<port.ChainStore['ownPayments']> {
    return channelIds.flatMap((channelId) =>
      [...(this.#state.manager.channels.get(hexKey(channelId))?.outgoing ?? [])]
        .filter(([, { source }]) => source.type === 'payment')
        .map(([htlcId]) => ({ channelId, htlcId })),
    );
  }

  async fulfilledLate(channelIds: readonly Uint8Array[]): ReturnType<port.ChainStore['fulfilledLate']> {
    return channelIds.flatMap((channelId) => {
      const late = this.#state.manager.channels.get(hexKey(channelId))?.fulfilledLate;
      return late === undefined ? [] : [{ channelId, ...late }];
    });
  }

  async listSettlements(filter: {
    readonly resolved: 'include' | 'exclude';
    readonly limit: number;
  }): Promise<readonly port.SettlementRecord[]> {
    return this.#state.settlement.list(filter.resolved, filter.limit);
  }

  async close(): Promise<void> {
    // The state belongs to whoever made it.
  }
}
