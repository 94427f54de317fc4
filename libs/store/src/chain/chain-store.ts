/**
 * The port to what chain-monitor keeps: the chain it followed, what it found
 * about funding outputs, broadcasts, monitors and the wallet. It lives in the
 * node's database beside the manager's tables, which it reads and reports to.
 *
 * Every operation is atomic. Those that write take the lease under which the
 * writer acts, and throw `ChainFenceLostError` when another writer has it.
 * `StoreError` (`unavailable`, `unknown`) as everywhere.
 *
 * Hashes and txids are 32 bytes in internal order.
 */
import type { BroadcastOrder, FundingStatus, FundingWatch, StoreEvent } from '../manager/manager-store.ts';

/** Another replica writes now. */
export class ChainFenceLostError extends Error {
  override readonly name = 'ChainFenceLostError';
}

/** The stored chain is not what the writer thought: reload before acting. */
export class ChainConflictError extends Error {
  override readonly name = 'ChainConflictError';
}

/** Names the one writer. The epoch grows with each change of the holder. */
export interface ChainLease {
  readonly holder: string;
  readonly epoch: bigint;
}

export type LeaseOutcome =
  | { readonly type: 'acquired'; readonly lease: ChainLease }
  /** `doubt`: why the holder does not know the chain as it is, as of its last renewal; absent: it knows it. */
  | {
      readonly type: 'held';
      readonly holder: string;
      readonly address: string;
      readonly doubt?: string;
    };

/** What a replica says of itself when it asks for the lease. */
export interface LeaseRequest {
  /** Of this process alone. */
  readonly holder: string;
  /** Where it listens. */
  readonly address: string;
  /** By the database's clock. */
  readonly leaseMs: number;
  /** Why it does not know the chain as it is; undefined: it knows it. */
  readonly doubt: string | undefined;
}

/** A block of the followed chain. */
export interface StoredBlock {
  readonly height: number;
  readonly hash: Uint8Array;
  readonly prevHash: Uint8Array;
  readonly timeUnixSeconds: number;
}

/** A funding output that a channel waits for or lives on, with what the chain says of it. */
export interface FundingRecord {
  readonly channelId: Uint8Array;
  readonly fundingTxid: Uint8Array;
  readonly fundingOutputIndex: number;
  readonly fundingValueSat: bigint;
  readonly scriptPubKey: Uint8Array;
  readonly minimumDepth: number;
  /** The transaction is in this block; `fault`: but its output is not the one asked for. */
  readonly seen?: { readonly height: number; readonly txIndex: number; readonly fault?: string };
  readonly spent?: { readonly txid: Uint8Array; readonly height: number };
  /** The best height at which its close was settled for good; history once no reorganisation reaches it. */
  readonly settledHeight?: number;
  /** The best height when the watch began. */
  readonly watchedHeight?: number;
  /** Absent: taken up by a release that did not note it. */
  readonly funder?: 'holder' | 'counterparty';
}

/** What the manager is told; ignored when it watches another outpoint by now. */
export interface FundingReport {
  readonly channelId: Uint8Array;
  readonly fundingTxid: Uint8Array;
  readonly fundingOutputIndex: number;
  readonly status: FundingStatus;
}

export type BroadcastKind = BroadcastOrder['kind'] | 'send';

/** Transactions to broadcast until they are buried, in order; several are one package. */
export interface BroadcastRecord {
  /** SHA-256 over the txids: the same transactions ordered twice are one order. */
  readonly orderId: Uint8Array;
  readonly kind: BroadcastKind;
  /** Absent for the wallet's own payments. */
  readonly channelId?: Uint8Array;
  readonly transactions: readonly Uint8Array[];
  /** Of each transaction: the height at which it confirmed. */
  readonly confirmedHeights: readonly (number | undefined)[];
  /** An input was spent by another transaction in this block. */
  readonly conflictHeight?: number;
  /** The node's last words, while it refuses. */
  readonly rejectReason?: string;
}

export type AddressKind = 'p2wpkh' | 'p2tr';
export type AddressChain = 'receive' | 'change';

/** An address of the wallet that is watched. */
export interface AddressRecord {
  readonly script: Uint8Array;
  readonly kind: AddressKind;
  readonly chain: AddressChain;
  readonly index: number;
  /** handed_out: given to somebody or used as change; used: something paid it. */
  readonly state: 'unused' | 'handed_out' | 'used';
}

/** An output that pays the wallet. */
export interface UtxoRecord {
  readonly txid: Uint8Array;
  readonly outputIndex: number;
  readonly valueSat: bigint;
  readonly script: Uint8Array;
  /** own: made by a transaction of the wallet, so that nobody else can replace it. */
  readonly origin: 'own' | 'foreign' | 'coinbase';
  /** Absent while unconfirmed. */
  readonly height?: number;
  readonly spentBy?: { readonly txid: Uint8Array; readonly height?: number };
}

export interface WalletOutPoint {
  readonly txid: Uint8Array;
  readonly outputIndex: number;
}

/** Inputs set apart for one transaction of the wallet; built once, so that a retry gives the same. */
export interface ReservationRecord {
  /** Channel keys id, or a digest of the caller's idempotency key. */
  readonly key: Uint8Array;
  readonly purpose: 'funding' | 'send';
  /** Digest of what was asked for: another request under the same key is refused. */
  readonly requestDigest: Uint8Array;
  readonly inputs: readonly WalletOutPoint[];
  readonly changeScript?: Uint8Array;
  readonly psbt: Uint8Array;
  /** Signed and final. */
  readonly transaction?: Uint8Array;
  readonly txid: Uint8Array;
  readonly outputIndex: number;
  readonly feeSat: bigint;
  readonly createdHeight: number;
}

/** A transaction that touched the wallet. */
export interface WalletTransactionRecord {
  readonly txid: Uint8Array;
  /** Change of the wallet's balance, fee included. */
  readonly amountSat: bigint;
  /** Known when every input is the wallet's, else 0. */
  readonly feeSat: bigint;
  readonly height?: number;
  readonly label: string;
}

/** A transaction of the best chain that spends an output which a channel's settlement watches: a fact. */
export interface SpendRecord {
  readonly channelId: Uint8Array;
  readonly txid: Uint8Array;
  readonly height: number;
  /** Position in its block: facts have the order of the chain. */
  readonly txIndex: number;
  readonly transaction: Uint8Array;
}

/**
 * Where the settlement of a closed channel stands. Derived from the monitor and the facts at every block; kept so
 * that people and other services read it, and that what changed can be told.
 */
export interface SettlementRecord {
  readonly channelId: Uint8Array;
  readonly stage: 'closed' | 'resolved';
  readonly closeType: string;
  readonly closeTxid: Uint8Array;
  readonly closeHeight: number;
  /** JSON, for people: each output with what waits for what until which height. */
  readonly summary: string;
  /** Outbound HTLCs whose end was passed upstream. A failure may still be replaced by a fulfilment. */
  readonly toldFulfilled: readonly bigint[];
  readonly toldFailed: readonly bigint[];
  readonly resolvedHeight?: number;
}

/** How an HTLC that a closed channel carried out ended: for whoever it came from, by the manager's rows. */
export interface UpstreamOutcome {
  /** The closed channel, and the id of the HTLC that it offered. */
  readonly channelId: Uint8Array;
  readonly htlcId: bigint;
  /** fulfilled replaces a failure that is not taken yet, and writes the source's `htlc_preimage`; failed never replaces. */
  readonly outcome:
    | { readonly type: 'fulfilled'; readonly preimage: Uint8Array }
    /** Encoded BOLT 4 failure message. */
    | { readonly type: 'failed'; readonly failure: Uint8Array };
}

/** An output that the sweeper brings home: one row from when it can be claimed until it is spent for good. */
export interface ClaimRecord {
  readonly outPoint: WalletOutPoint;
  readonly channelId: Uint8Array;
  /** `ClaimKind['type']` of the settlement library. */
  readonly kind: string;
  readonly valueSat: bigint;
  /** Absent: no hurry. */
  readonly deadlineHeight?: number;
  /** What may be spent on fees for it. */
  readonly budgetSat: bigint;
  /** Of the last attempt; 0: none yet. It never falls before the deadline. */
  readonly feerateSatPerKw: number;
  /** What an operator asked for at least. */
  readonly requestedFeerateSatPerKw?: number;
  readonly attempts: number;
  readonly firstHeight: number;
  /** The sweep that holds it. */
  readonly sweepId?: Uint8Array;
  /** For people. */
  readonly nextAction: string;
}

/** A transaction of the sweeper that is not buried: replaced under the same id when its fee is raised. */
export interface SweepRecord {
  readonly sweepId: Uint8Array;
  readonly txid: Uint8Array;
  /** Signed. */
  readonly transaction: Uint8Array;
  /** Unconfirmed parents that it pays for: submitted with it as one package. */
  readonly parents: readonly Uint8Array[];
  readonly claims: readonly WalletOutPoint[];
  /** Outputs of the wallet that it spends besides: set apart while the row lives. */
  readonly walletInputs: readonly WalletOutPoint[];
  readonly feeSat: bigint;
  readonly feerateSatPerKw: number;
  readonly createdHeight: number;
  readonly confirmedHeight?: number;
  /** The node's last words, while it refuses. */
  readonly rejectReason?: string;
}

/** An event of chain-monitor, for the node's event log. */
export interface ChainEvent extends StoreEvent {
  readonly channelId: Uint8Array;
}

/** Everything that one turn of the writer changes, in one transaction. */
export interface ChainTurn {
  /** connect: on top of the stored tip, or the first; disconnect: the stored tip, whose transactions are unconfirmed again. */
  readonly block?:
    | { readonly type: 'connect'; readonly block: StoredBlock }
    | { readonly type: 'disconnect'; readonly hash: Uint8Array };
  readonly fundings?: readonly FundingRecord[];
  readonly forgottenFundings?: readonly Uint8Array[];
  readonly reports?: readonly FundingReport[];
  readonly broadcasts?: readonly BroadcastRecord[];
  readonly finishedBroadcasts?: readonly Uint8Array[];
  readonly addresses?: readonly AddressRecord[];
  readonly utxos?: readonly UtxoRecord[];
  readonly forgottenUtxos?: readonly WalletOutPoint[];
  readonly reservations?: readonly ReservationRecord[];
  readonly releasedReservations?: readonly Uint8Array[];
  readonly transactions?: readonly WalletTransactionRecord[];
  readonly forgottenTransactions?: readonly Uint8Array[];
  readonly spends?: readonly SpendRecord[];
  /** Facts that a reorganisation took away. */
  readonly forgottenSpends?: readonly { readonly channelId: Uint8Array; readonly txid: Uint8Array }[];
  readonly settlements?: readonly SettlementRecord[];
  /** Channels that a reorganisation opened again. */
  readonly forgottenSettlements?: readonly Uint8Array[];
  readonly outcomes?: readonly UpstreamOutcome[];
  readonly claims?: readonly ClaimRecord[];
  readonly forgottenClaims?: readonly WalletOutPoint[];
  readonly sweeps?: readonly SweepRecord[];
  readonly forgottenSweeps?: readonly Uint8Array[];
  readonly events?: readonly ChainEvent[];
  /** Where the wallet's scan of old blocks goes on; null when it is done. */
  readonly rescanFrom?: number | null;
  /** The first height that the wallet has scanned. */
  readonly scannedFrom?: number;
}

/** What a writer loads when it takes the lease. */
export interface ChainSnapshot {
  /** The last blocks, lowest first; empty before the first start. */
  readonly blocks: readonly StoredBlock[];
  readonly fundings: readonly FundingRecord[];
  readonly broadcasts: readonly BroadcastRecord[];
  readonly addresses: readonly AddressRecord[];
  readonly utxos: readonly UtxoRecord[];
  readonly reservations: readonly ReservationRecord[];
  /** Those that a reorganisation could still undo, in the order of the chain. */
  readonly spends: readonly SpendRecord[];
  /** Of the channels that have spends. */
  readonly settlements: readonly SettlementRecord[];
  readonly claims: readonly ClaimRecord[];
  readonly sweeps: readonly SweepRecord[];
  readonly rescanFrom: number | undefined;
  readonly scannedFrom: number | undefined;
}

/** Where an entry of the monitors' log is. */
export interface MonitorLogPosition {
  readonly channelId: Uint8Array;
  readonly updateId: bigint;
}

export interface MonitorLogEntry extends MonitorLogPosition {
  readonly payload: Uint8Array;
}

/** pending: to be signed and broadcast; ordered: done; passive: never. */
export type CloseState = 'open' | 'pending' | 'ordered' | 'passive';

/** A monitor as stored, or the parameters it is to be born with. */
export interface LoadedMonitor {
  readonly channelId: Uint8Array;
  readonly updateId: bigint;
  readonly snapshot: Uint8Array | undefined;
  /** Encoded MonitorParameters. */
  readonly birth: Uint8Array | undefined;
  readonly closeState: CloseState;
}

/** A part of a monitor's archive of revoked commitments that never changes. */
export interface MonitorChunk {
  readonly kind: 'htlc' | 'state';
  /** Of the channel's chunks of this kind, from 0 on. Beyond the count in a snapshot: of a later state of the monitor. */
  readonly number: number;
  /** Nothing inside is of a commitment outside these bounds. */
  readonly firstNumber: bigint;
  readonly lastNumber: bigint;
  readonly bytes: Uint8Array;
}

/** A monitor whose close is to be ordered. */
export interface PendingClose {
  readonly channelId: Uint8Array;
  readonly updateId: bigint;
  /** The last update that the manager's row knows of; undefined without that row. Another than the monitor's: somebody restored half. */
  readonly managerUpdateId: bigint | undefined;
  /** Why the chain's side decided to close, when it did. */
  readonly decision: string | undefined;
}

/** From which height on an HTLC of an open channel may demand the chain; unknown: nobody looked yet. */
export interface MonitorDeadline {
  readonly channelId: Uint8Array;
  readonly height: number | 'unknown';
}

export interface DrainedMonitor {
  readonly channelId: Uint8Array;
  /** Of the row read; 0 for none. */
  readonly expectedUpdateId: bigint;
  readonly updateId: bigint;
  readonly snapshot: Uint8Array;
  /** Those that are not stored yet, or again the same. */
  readonly chunks?: readonly MonitorChunk[];
  readonly closeState: CloseState;
  /** Absent: no HTLC of it can demand the chain. */
  readonly nextDeadlineHeight?: number;
}

export interface ChainStore {
  // --- the one writer ---------------------------------------------------------------
  /** Takes, or renews, the lease. */
  acquireLease(request: LeaseRequest): Promise<LeaseOutcome>;
  releaseLease(lease: ChainLease): Promise<void>;

  // --- the chain and the wallet --------------------------------------------------------
  load(): Promise<ChainSnapshot>;
  /** The last stored block; for those that only read. */
  tip(): Promise<StoredBlock | undefined>;
  /** @throws ChainConflictError when the block does not fit the stored tip. */
  commit(lease: ChainLease, turn: ChainTurn): Promise<void>;
  listTransactions(limit: number): Promise<readonly WalletTransactionRecord[]>;

  // --- orders and questions of the manager -------------------------------------------------
  /**
   * Watches of the manager that are not followed yet, or watch another outpoint by now; again those that wait for their
   * funding since a release that did not note whose it is.
   */
  newWatches(limit: number): Promise<readonly FundingWatch[]>;
  /**
   * Moves the manager's orders here; resolves with those that are new. A funding of a channel that is closed is dropped:
   * what nobody has broadcast must not be paid into a channel that nobody keeps any more.
   */
  takeBroadcasts(
    lease: ChainLease,
    limit: number,
    orderIdOf: (transactions: readonly Uint8Array[]) => Uint8Array,
  ): Promise<readonly BroadcastRecord[]>;
  /** Those of these channels that the manager has closed for good. */
  closedChannels(channelIds: readonly Uint8Array[]): Promise<readonly Uint8Array[]>;
  /** Those of these keys that belong to a channel of the node that is not closed. */
  knownChannelKeys(channelKeysIds: readonly Uint8Array[]): Promise<readonly Uint8Array[]>;

  // --- monitors ---------------------------------------------------------------------------
  /** The log after a position, in order of channel and update id, without the rows of channels that are passed over. */
  readMonitorLog(
    after: MonitorLogPosition | undefined,
    limit: number,
    passedOver?: readonly Uint8Array[],
  ): Promise<readonly MonitorLogEntry[]>;
  /** The first of these, in their order, as many as memory has room for; one at least, however long. See `eachMonitor`. */
  loadMonitors(channelIds: readonly Uint8Array[]): Promise<readonly LoadedMonitor[]>;
  /** Every chunk of a channel that may have something of one of these commitments. */
  monitorChunks(
    channelId: Uint8Array,
    commitmentNumbers: readonly bigint[],
  ): Promise<readonly MonitorChunk[]>;
  /** Replaces snapshots, keeps their chunks, and removes the drained entries. @throws ChainConflictError when one is not at its expected update. */
  commitMonitors(lease: ChainLease, monitors: readonly DrainedMonitor[]): Promise<void>;
  /** Open monitors of which an HTLC may demand the chain some day, in order of channel id. */
  monitorDeadlines(after: Uint8Array | undefined, limit: number): Promise<readonly MonitorDeadline[]>;
  /**
   * Monitors with a force close that is not ordered yet, decided by whichever side, and whose log is drained; in order of
   * channel id.
   */
  pendingCloses(after: Uint8Array | undefined, limit: number): Promise<readonly PendingClose[]>;
  /** A monitor's force close is ordered: its broadcast and event with the new state, or that state alone. */
  commitClose(
    lease: ChainLease,
    channelId: Uint8Array,
    closeState: CloseState,
    broadcast: BroadcastRecord | undefined,
    event?: ChainEvent,
  ): Promise<void>;
  /**
   * The chain's side decides to close a channel: from then on the manager commits nothing for it but its own closing
   * (`closing_decided`). Also marks the monitor's close as pending. First decision wins; `closing`: it was decided
   * before, by either side, or the manager does not know the channel. `event` is written with the decision.
   */
  decideClose(
    lease: ChainLease,
    channelId: Uint8Array,
    reason: string,
    event?: ChainEvent,
  ): Promise<'decided' | 'closing'>;
  /** Preimages of inbound HTLCs of these channels, from whichever commit learnt them. */
  preimages(
    channelIds: readonly Uint8Array[],
  ): Promise<
    readonly { readonly channelId: Uint8Array; readonly htlcId: bigint; readonly preimage: Uint8Array }[]
  >;
  /** HTLCs that these channels offered for payments of the node's own: no channel upstream waits for their end. */
  ownPayments(
    channelIds: readonly Uint8Array[],
  ): Promise<readonly { readonly channelId: Uint8Array; readonly htlcId: bigint }[]>;
  /**
   * What forwards of these channels come to that were fulfilled past their deadline and have left them; those with none are
   * absent. A monitor before `updateId` may still have the last of them.
   */
  fulfilledLate(
    channelIds: readonly Uint8Array[],
  ): Promise<
    readonly { readonly channelId: Uint8Array; readonly amountMsat: bigint; readonly updateId: bigint }[]
  >;
  /** Settlements, newest first; for people. */
  listSettlements(filter: {
    readonly resolved: 'include' | 'exclude';
    readonly limit: number;
  }): Promise<readonly SettlementRecord[]>;

  /** Ends this handle; the state stays. */
  close(): Promise<void>;
}

/** Monitors of all these channels, few in memory at once. @throws store errors */
export async function* eachMonitor(
  store: Pick<ChainStore, 'loadMonitors'>,
  channelIds: readonly Uint8Array[],
): AsyncGenerator<LoadedMonitor> {
  for (let from = 0; from < channelIds.length;) {
    const page = await store.loadMonitors(channelIds.slice(from));
    yield* page;
    from += page.length;
  }
}
