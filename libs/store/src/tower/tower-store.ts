/**
 * The ports to what is kept for towers. The node's side (`TowerFeedStore`) lives
 * in the node's database: each tower's queue of what it has not acknowledged.
 * The tower's side (`TowerInbox`) lives in the tower's own.
 *
 * Every operation is atomic. `StoreError` (`unavailable`, `unknown`) as everywhere.
 */
import type { ChainLease } from '../chain/chain-store.ts';

import type { MonitorChunk } from '../chain/chain-store.ts';

/** Encoded `ChannelMonitorUpdate` of one channel. */
export interface TowerUpdate {
  readonly channelId: Uint8Array;
  readonly updateId: bigint;
  readonly payload: Uint8Array;
}

/** A preimage that makes an inbound HTLC claimable. */
export interface TowerPreimage {
  readonly channelId: Uint8Array;
  readonly htlcId: bigint;
  readonly preimage: Uint8Array;
}

export interface ChannelProgress {
  readonly channelId: Uint8Array;
  readonly updateId: bigint;
}

export interface ChannelFault {
  readonly channelId: Uint8Array;
  readonly reason: string;
}

/** What a tower has not acknowledged yet, a page of it. */
export interface TowerPage {
  /** In order of channel and update id, each channel's without a gap. */
  readonly updates: readonly TowerUpdate[];
  /** All that were committed before or with the updates. */
  readonly preimages: readonly TowerPreimage[];
  /** Channels whose monitor is to be sent whole. */
  readonly monitorsDue: readonly Uint8Array[];
}

/** What a monitor is born with, for one tower. */
export interface TowerOrigin {
  readonly channelId: Uint8Array;
  /** Encoded `MonitorParameters`. */
  readonly parameters: Uint8Array;
  /** Absent: not made yet. */
  readonly sealedKey: Uint8Array | undefined;
}

/** The database counts less than it did: it was set back, or is another one. Nothing was stored. */
export class InboxSetBackError extends Error {
  override readonly name = 'InboxSetBackError';
}

/** What a tower says of itself. */
export interface TowerReport {
  /** What its database counted with the progress; 0: it does not count. */
  readonly mark: bigint;
  readonly progress: readonly ChannelProgress[];
  readonly preimages: readonly { readonly channelId: Uint8Array; readonly htlcId: bigint }[];
  /** Channels of which updates are missing. */
  readonly missing: readonly Uint8Array[];
  readonly faults: readonly ChannelFault[];
}

export interface RegisteredTower {
  readonly towerId: string;
  /** Of its justice signer: 33 bytes. */
  readonly publicKey: Uint8Array;
}

/** A tower, for people. */
export interface TowerStatus extends RegisteredTower {
  readonly addedUnixMs: number;
  readonly lastSeenUnixMs: number | undefined;
  readonly channelsBehind: number;
  readonly updatesWaiting: number;
  readonly faults: readonly ChannelFault[];
}

/** A channel that waits for towers: the highest of its updates that enough of them have. */
export interface DurableThrough {
  readonly channelId: Uint8Array;
  readonly updateId: bigint;
}

/** Which updates are durable at enough towers; what a channel waits for (LDK `Completed`). */
export interface TowerAcknowledgements {
  /** Channels without any acknowledgement by enough towers are left out. */
  durableThrough(channelIds: readonly Uint8Array[], required: number): Promise<readonly DurableThrough[]>;
  close(): Promise<void>;
}

export interface TowerFeedStore extends TowerAcknowledgements {
  /** What is there already is queued for it. 'exists': under this name and another key. */
  addTower(tower: RegisteredTower): Promise<'added' | 'exists'>;
  removeTower(towerId: string): Promise<'removed' | 'unknown'>;
  tower(towerId: string): Promise<RegisteredTower | undefined>;
  listTowers(): Promise<readonly TowerStatus[]>;
  /** At most `limit` rows of each kind; `deferred`: channels that are not due now. */
  pull(towerId: string, limit: number, deferred?: readonly Uint8Array[]): Promise<TowerPage>;
  /**
   * Notes that the tower was here, and what its database counts.
   * @returns the highest mark that it ever said; above its own: its database was set back, or this was said long ago
   */
  seen(towerId: string, mark: bigint): Promise<bigint>;
  origins(towerId: string, channelIds: readonly Uint8Array[]): Promise<readonly TowerOrigin[]>;
  putSealedKey(towerId: string, channelId: Uint8Array, sealedKey: Uint8Array): Promise<void>;
  /** The node's own monitor as drained and stored; undefined before its first update was. */
  monitor(
    channelId: Uint8Array,
  ): Promise<{ readonly updateId: bigint; readonly snapshot: Uint8Array } | undefined>;
  /** How many there are of a monitor's first `count` chunks of a kind, and their bytes. */
  measureChunks(
    channelId: Uint8Array,
    kind: MonitorChunk['kind'],
    count: number,
  ): Promise<{ readonly found: number; readonly bytes: bigint }>;
  /** The bytes of a monitor's chunks of a kind with numbers from `from` to before `until`, in their order. */
  readChunks(
    channelId: Uint8Array,
    kind: MonitorChunk['kind'],
    range: { readonly from: number; readonly until: number },
  ): Promise<readonly Uint8Array[]>;
  /**
   * Takes a tower's report. Progress beyond what the node itself knows is a fault: the node's database was set back.
   * @returns the faults that are new
   */
  acknowledge(towerId: string, report: TowerReport): Promise<readonly ChannelFault[]>;
  /**
   * The tower's database was set back from this mark, or lost: nothing that it acknowledged counts any more, and it gets
   * every monitor whole. What it said before, and comes late, does not count either.
   * @returns undefined: it had a higher mark, so that this was said long ago
   */
  setBack(
    towerId: string,
    lostMark: bigint,
  ): Promise<{ readonly mark: bigint; readonly channels: number } | undefined>;
  /**
   * Upkeep: cuts queues to `maximumUpdates` of a channel, as far as the node's own monitor has them, and finds
   * channels of which a tower needs the whole monitor.
   */
  tidy(maximumUpdates: number): Promise<{ readonly cut: number; readonly due: number }>;
  close(): Promise<void>;
}

/** A monitor whole, for a tower's database. */
export interface ReceivedMonitor {
  readonly channelId: Uint8Array;
  readonly updateId: bigint;
  /** Encoded `ChannelMonitor`, as it is stored. */
  readonly snapshot: Uint8Array;
  /** Every chunk of it. */
  readonly chunks: readonly MonitorChunk[];
}

/** A tower's part of a channel that does not come with each update. */
export interface ReceivedOrigin {
  readonly channelId: Uint8Array;
  readonly parameters: Uint8Array;
  readonly sealedKey: Uint8Array;
}

/** What became of a monitor that came whole. */
export interface ReceivedMonitorResult {
  /** `had`: what is here is as new, and stays. */
  readonly outcome: 'taken' | 'had';
  /** Everything up to here is durable. */
  readonly progress: ChannelProgress;
  readonly mark: bigint;
}

export interface ReceivedWatch {
  readonly channelId: Uint8Array;
  readonly fundingTxid: Uint8Array;
  readonly fundingOutputIndex: number;
  readonly fundingValueSat: bigint;
  readonly scriptPubKey: Uint8Array;
}

export interface ReceivedBatch {
  readonly origins: readonly ReceivedOrigin[];
  readonly watches: readonly ReceivedWatch[];
  readonly updates: readonly TowerUpdate[];
  readonly preimages: readonly TowerPreimage[];
}

/** What the tower has of the channels of a batch once it is stored. */
export interface InboxResult {
  /** Everything up to here is durable. */
  readonly progress: readonly ChannelProgress[];
  /** Channels of which updates are missing: none of theirs were stored. */
  readonly missing: readonly Uint8Array[];
  readonly mark: bigint;
}

/**
 * The tower's side. What comes in lies where a node's own chain-monitor would
 * find it, so that draining, watching and following are the same code.
 */
export interface TowerInbox {
  /** What was counted here: grows with each batch and monitor, in its transaction. From 1 on. */
  mark(): Promise<bigint>;
  /** Counts on from here at least, once the node knows what was lost. */
  raiseMark(mark: bigint): Promise<void>;
  /**
   * Stores a batch, all or nothing; updates that are there already are passed over.
   * @param known what this database is known to have counted
   * @throws InboxSetBackError
   */
  receive(batch: ReceivedBatch, known: bigint): Promise<InboxResult>;
  /**
   * Takes a whole monitor unless what is here is as new; the log goes on behind it. The writer alone does: whoever
   * settles from the monitor that it replaces must hear of it.
   * @param known as for a batch
   * @throws ChainFenceLostError, InboxSetBackError
   */
  receiveMonitor(
    lease: ChainLease,
    monitor: ReceivedMonitor,
    origin: ReceivedOrigin,
    watch: ReceivedWatch,
    known: bigint,
  ): Promise<ReceivedMonitorResult>;
  sealedKey(channelId: Uint8Array): Promise<Uint8Array | undefined>;
  /** Preimages of HTLCs below these ids go: they left their channels. */
  forgetPreimages(
    below: readonly { readonly channelId: Uint8Array; readonly htlcId: bigint }[],
  ): Promise<void>;
  close(): Promise<void>;
}
