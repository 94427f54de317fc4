/**
 * The port to what the router must not forget: the raw signed messages, bans,
 * scores, and who may write. Each operation is atomic. Every write carries the
 * writer's epoch and is refused once another replica took the lease (law 3).
 *
 * Writes are numbered: a batch gets the next revision, in commit order, so
 * that a reader who knows revision n asks for what came after n.
 */
import type { StoredChannel } from '@fulmen/graph';

/** What one batch changes. Messages are whole, type number first. */
export interface GraphChanges {
  /** New channels, and channels whose capacity or spent height changed. Their updates come in `updates`. */
  readonly channels: readonly ChannelRow[];
  readonly updates: readonly UpdateRow[];
  readonly nodes: readonly NodeRow[];
  readonly removedChannels: readonly bigint[];
  /** Nodes that have no channel any more; readers learn of it by the channels. */
  readonly removedNodes: readonly Uint8Array[];
  /** Nodes that signed conflicting announcements. */
  readonly bannedNodes: readonly Uint8Array[];
  /** This node's own id, once known. */
  readonly ownNodeId?: Uint8Array;
}

export interface ChannelRow {
  readonly shortChannelId: bigint;
  readonly capacitySat: bigint;
  readonly receivedAtSeconds: number;
  /** 0 while unspent. */
  readonly spentHeight: number;
  readonly announcement: Uint8Array;
}

export interface UpdateRow {
  readonly shortChannelId: bigint;
  readonly direction: 0 | 1;
  readonly raw: Uint8Array;
}

export interface NodeRow {
  readonly nodeId: Uint8Array;
  readonly raw: Uint8Array;
}

/** A page of the whole graph, ordered by channel; `next` is absent on the last page. */
export interface GraphPage {
  readonly channels: readonly StoredChannel[];
  readonly next: bigint | undefined;
}

/** A page of what nodes say of themselves, ordered by node id; `next` is absent on the last page. */
export interface NodePage {
  readonly nodes: readonly Uint8Array[];
  readonly next: Uint8Array | undefined;
}

/** What came after a revision: whole channels and nodes as they are now. */
export type Changes =
  | {
      readonly kind: 'changes';
      readonly revision: bigint;
      readonly channels: readonly StoredChannel[];
      readonly nodes: readonly Uint8Array[];
      readonly removedChannels: readonly bigint[];
      readonly bannedNodes: readonly Uint8Array[];
    }
  /** The reader is so far behind that removals are forgotten: load everything again. */
  | { readonly kind: 'too_old' };

export type LeaseOutcome =
  | { readonly kind: 'held'; readonly epoch: bigint }
  | { readonly kind: 'taken'; readonly owner: string; readonly address: string };

/** Where a load starts: taken before the pages, so that later changes are seen twice rather than never. */
export interface LoadStart {
  readonly revision: bigint;
  readonly ownNodeId: Uint8Array | undefined;
  readonly bannedNodes: readonly Uint8Array[];
}

/** All methods reject with StoreError (`unavailable`, `unknown`). */
export interface RouterStore {
  /** Takes or renews the writer's lease by the store's clock; a new owner gets a new epoch. */
  acquireLease(owner: string, address: string, durationMs: number): Promise<LeaseOutcome>;
  /** Ends the lease if `owner` holds it. */
  releaseLease(owner: string): Promise<void>;
  /** Writes a batch; `fenced` if the epoch is not the present one, and then nothing was written. */
  write(
    epoch: bigint,
    changes: GraphChanges,
  ): Promise<{ kind: 'written'; revision: bigint } | { kind: 'fenced' }>;
  startLoad(): Promise<LoadStart>;
  /** Channels with scids of at least `from`, ascending, at most `limit`. */
  loadChannels(from: bigint, limit: number): Promise<GraphPage>;
  /** Announcements of nodes with ids of at least `from` (empty: of all), ascending, at most `limit`. */
  loadNodes(from: Uint8Array, limit: number): Promise<NodePage>;
  changesSince(revision: bigint): Promise<Changes>;
  saveScores(epoch: bigint, scores: Uint8Array): Promise<'written' | 'fenced'>;
  loadScores(): Promise<Uint8Array | undefined>;
  close(): Promise<void>;
}

/** Removals remembered for readers; one further behind loads everything. */
export const REMOVALS_KEPT = 20_000;
