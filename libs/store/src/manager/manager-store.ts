/**
 * What channel-manager keeps, as semantic operations: each is atomic, and no
 * SQL or transaction shows above it. Two implementations pass one suite,
 * concurrent histories included: Postgres, and a small linearizable model.
 *
 * Outcomes: an operation resolves with what happened, or throws `StoreError`
 * with code `unavailable` (nothing happened, retry) or `unknown` (it may or may
 * not have happened: reload before acting on it). `UnrecoverableStoreError`
 * ends the process.
 */
import type { PersistedChannel, PersistedDelta } from '@fulmen/channel';
import type { ForwardingWrites, HtlcSource, Intent, IntentPlace, Resolution } from './forwarding-rows.ts';

export { StoreError, UnrecoverableStoreError } from '../error.ts';
export type * from './forwarding-rows.ts';

/** The right to write a shard: an owner and the epoch it was given. */
export interface Fence {
  readonly shard: number;
  readonly epoch: bigint;
  readonly replicaId: string;
}

/** Queried columns of a channel; kept beside the blobs. */
export interface ChannelRow {
  readonly channelId: Uint8Array;
  readonly shard: number;
  readonly counterpartyNodeId: Uint8Array;
  readonly channelKeysId: Uint8Array;
  readonly phase: string;
  readonly capacitySat: bigint;
  readonly holderBalanceMsat: bigint;
  readonly counterpartyBalanceMsat: bigint;
  readonly outboundCapacityMsat: bigint;
  readonly inboundCapacityMsat: bigint;
  readonly htlcsInFlight: number;
  readonly fundingTxid?: Uint8Array;
  readonly fundingOutputIndex?: number;
  readonly shortChannelId?: bigint;
  readonly holderAliasScid?: bigint;
  readonly announce: boolean;
  readonly holderIsFunder: boolean;
  readonly channelType: string;
  readonly closingReason?: string;
  readonly closingTxid?: Uint8Array;
}

/** A durable order to chain-monitor: broadcast until confirmed. */
export interface BroadcastOrder {
  readonly kind: 'funding' | 'mutual_close' | 'force_close';
  readonly transactions: readonly Uint8Array[];
  readonly channelId: Uint8Array;
}

/** A durable question to chain-monitor: tell when this output is buried, checked for value and script. */
export interface FundingWatch {
  readonly channelId: Uint8Array;
  readonly fundingTxid: Uint8Array;
  readonly fundingOutputIndex: number;
  readonly fundingValueSat: bigint;
  readonly scriptPubKey: Uint8Array;
  readonly minimumDepth: number;
  /** Of a channel that came from a backup: its output may have been spent in any block from this height on. */
  readonly searchFromHeight?: number;
  /** Of the channel, as its row says. */
  readonly funder?: 'holder' | 'counterparty';
}

/** What chain-monitor found so far. */
export type FundingStatus =
  | { readonly type: 'unconfirmed' }
  | { readonly type: 'confirmed'; readonly height: number; readonly txIndex: number; readonly depth: number }
  /** The outpoint exists with another value or script, or the output index does not exist. */
  | { readonly type: 'mismatch'; readonly reason: string }
  /** The funding never confirms: another transaction took its inputs, or nobody saw it for 2016 blocks. */
  | { readonly type: 'lost'; readonly reason: string }
  /** A commitment of the counterparty waits in the mempool. */
  | { readonly type: 'spend_seen'; readonly txid: Uint8Array }
  | {
      readonly type: 'spent';
      readonly txid: Uint8Array;
      readonly height: number;
      readonly depth: number;
      /** Everything that the close left is settled, for good; absent while something waits. */
      readonly settlement?: 'resolved';
    };

/**
 * An event of the node. `body` is JSON. It commits with its step, waits, and gets its global position from the
 * sequencer afterwards: positions have no gaps, and causes come before their effects.
 */
export interface StoreEvent {
  readonly type: string;
  readonly timeUnixMs: number;
  readonly body: string;
}

/** One channel's part of a group commit: all of it or none. */
export interface ChannelCommit {
  readonly fence: Fence;
  readonly channelId: Uint8Array;
  /** 0n inserts; otherwise the version read or last written. The commit writes expectedVersion + 1. */
  readonly expectedVersion: bigint;
  readonly delta: PersistedDelta;
  readonly row: ChannelRow;
  /** Encoded MonitorParameters, at the channel's birth. */
  readonly monitorBirth?: Uint8Array;
  /** Encoded ChannelMonitorUpdates of this turn, in order; each updateId is exactly one more than the last. */
  readonly monitorUpdates: readonly { readonly updateId: bigint; readonly payload: Uint8Array }[];
  readonly forwarding: ForwardingWrites;
  readonly broadcasts: readonly BroadcastOrder[];
  readonly watches: readonly FundingWatch[];
  /** What forwards come to that leave the channel with this commit, fulfilled past their deadline; absent: none does. */
  readonly fulfilledLateMsat?: bigint;
  /** Frames of the peer consumed with this commit. */
  readonly consumedThrough?: { readonly generation: bigint; readonly number: bigint };
}

/** One payment hash's part of a group commit. */
export interface PaymentCommit {
  readonly fence: Fence;
  readonly paymentHash: Uint8Array;
  readonly expectedVersion: bigint;
  /** Opaque state of the payment actor (versioned by its own codec), and what is queried. */
  readonly state: Uint8Array;
  readonly row: PaymentRow;
  readonly forwarding: ForwardingWrites;
}

export type PaymentRow =
  | {
      readonly type: 'inbound';
      readonly status: 'open' | 'claimable' | 'paid' | 'expired';
      readonly bolt11: string;
      readonly description: string;
      readonly amountMsat: bigint;
      readonly receivedMsat: bigint;
      readonly createdUnixMs: number;
      readonly expiresUnixMs: number;
      readonly paidUnixMs?: number;
    }
  | {
      readonly type: 'outbound';
      readonly status: 'pending' | 'succeeded' | 'failed';
      readonly bolt11: string;
      readonly amountMsat: bigint;
      readonly feeMsat: bigint;
      readonly preimage?: Uint8Array;
      readonly failureReason: string;
      readonly createdUnixMs: number;
      readonly attempts: number;
      /** Nothing is left to do: a payment that succeeded may still have HTLCs in flight. */
      readonly finished: boolean;
    };

/** A shard's answer where none of its channels can give one: rows that cross shards, and nothing else. */
export interface ShardCommit {
  readonly fence: Fence;
  readonly forwarding: ForwardingWrites;
}

export type CommitUnit =
  | { readonly kind: 'channel'; readonly commit: ChannelCommit }
  | { readonly kind: 'payment'; readonly commit: PaymentCommit }
  | { readonly kind: 'shard'; readonly commit: ShardCommit };

/** Per unit, in order. */
export type Verdict =
  | { readonly type: 'committed' }
  /** The shard has another owner or epoch: drop the shard. */
  | { readonly type: 'fence_lost' }
  /** Somebody else wrote this row under a valid fence: a second writer exists; stop the shard. */
  | { readonly type: 'version_mismatch' }
  /** This unit cannot be stored; the others were. Quarantine it. */
  | { readonly type: 'bad_data'; readonly reason: string }
  /** An intent was claimed by the other side first, and may be gone by now: drop this step's in-memory state and think again. */
  | { readonly type: 'intent_lost'; readonly source: HtlcSource }
  /** A resolution that the step consumed is another one now (a preimage replaced a failure), or was consumed already: read it again. */
  | { readonly type: 'resolution_changed'; readonly source: HtlcSource }
  | { readonly type: 'onion_replay'; readonly channelId: Uint8Array; readonly htlcId: bigint }
  /** The chain's side decided to close the channel: only its closing commits from now on. */
  | { readonly type: 'closing_decided'; readonly reason: string };

/** A channel as loaded. */
export interface LoadedChannel {
  readonly version: bigint;
  readonly row: ChannelRow;
  readonly persisted: PersistedChannel;
  readonly nextMonitorUpdateId: bigint;
  /** Somebody else decided that the channel closes, for this reason: nothing but its closing will commit. */
  readonly closingDecision?: string;
  readonly fundingStatus: FundingStatus | undefined;
  /** Sources of this channel's outgoing HTLCs. */
  readonly outgoing: readonly {
    readonly htlcId: bigint;
    readonly source: HtlcSource;
    readonly sourceShard: number;
    readonly incomingAmountMsat: bigint;
    /** Of a forward: whether its source was fulfilled, which is known for good. */
    readonly preimage: 'awaited' | 'heard';
  }[];
  /** What all its commits said of forwards that were fulfilled past their deadline. */
  readonly fulfilledLateMsat: bigint;
  /** Own inbound HTLCs whose intent is already written (so that a restart does not write it twice). */
  readonly intentsWritten: readonly bigint[];
  /** Preimages known for own inbound HTLCs. */
  readonly preimages: readonly { readonly htlcId: bigint; readonly preimage: Uint8Array }[];
}

export interface LoadedPayment {
  readonly paymentHash: Uint8Array;
  readonly version: bigint;
  readonly state: Uint8Array;
  readonly row: PaymentRow;
}

export interface Replica {
  readonly replicaId: string;
  /** Where the replica's RPC server is dialled. */
  readonly address: string;
  readonly lastHeartbeatAgeMs: number;
}

export interface ShardOwner {
  readonly shard: number;
  readonly epoch: bigint;
  readonly replicaId: string | undefined;
  readonly address: string | undefined;
}

export type AcquireOutcome =
  | { readonly type: 'acquired'; readonly epoch: bigint }
  /** Its owner's lease has not expired by the database's clock. */
  | { readonly type: 'held'; readonly replicaId: string }
  /** A transaction of the old owner holds the row; its session was ended: try again. */
  | { readonly type: 'busy' };

export type DecideCloseOutcome =
  | 'decided'
  /** By force, by either side; or nobody knows the channel. */
  | 'closing'
  /** Its state is old: nothing of it may be broadcast. */
  | 'passive'
  | 'fence_lost';

export type ConnectionOutcome =
  | { readonly type: 'accepted'; readonly generation: bigint; readonly previousGatewayId: string | undefined }
  | { readonly type: 'fence_lost' };

export interface ManagerStore {
  // --- replicas, shards, leases -------------------------------------------------
  /**
   * Registers or renews; the lease lasts `leaseMs` by the database's clock. False while a later incarnation holds the id:
   * once its lease is over any may have it.
   */
  heartbeat(replicaId: string, incarnation: bigint, address: string, leaseMs: number): Promise<boolean>;
  /** The incarnation's lease is over now, and with it its hold on whatever it still owns. Nothing for another incarnation. */
  endLease(replicaId: string, incarnation: bigint): Promise<void>;
  listReplicas(): Promise<readonly Replica[]>;
  listShards(): Promise<readonly ShardOwner[]>;
  /**
   * Takes a shard that is free, released, this replica's own (an earlier incarnation's), or whose owner's lease
   * expired; the epoch grows by one.
   */
  acquireShard(shard: number, replicaId: string): Promise<AcquireOutcome>;
  /** Gives a shard back so that another may take it at once. */
  releaseShard(fence: Fence): Promise<void>;

  // --- loading --------------------------------------------------------------------
  /** Everything of a shard that is not finished. Rejects the fence like a commit. */
  loadShard(fence: Fence): Promise<
    | {
        readonly type: 'loaded';
        readonly channels: readonly LoadedChannel[];
        readonly payments: readonly LoadedPayment[];
      }
    | { readonly type: 'fence_lost' }
  >;
  loadPayment(fence: Fence, paymentHash: Uint8Array): Promise<LoadedPayment | undefined>;

  // --- closing without the channel --------------------------------------------------
  /**
   * Decides that a channel closes, where it cannot commit that itself: from then on it commits nothing but its own closing
   * (`closing_decided`), and chain-monitor broadcasts. The first decision stands; `event` is written with it.
   */
  decideClose(
    fence: Fence,
    channelId: Uint8Array,
    reason: string,
    event: StoreEvent,
  ): Promise<DecideCloseOutcome>;

  // --- the hot path -----------------------------------------------------------------
  /** Group commit: one server-side call; a verdict per unit, in order. */
  commitSteps(units: readonly CommitUnit[]): Promise<readonly Verdict[]>;

  // --- work that other shards left --------------------------------------------------
  // Reads for all the shards of a replica at once; whatever comes of them is fenced by its commit.
  /**
   * Intents for these shards that nobody claimed, oldest first; found by anti-join. `after` pages through them; what
   * commits late appears before it, so whoever pages must begin anew in the end.
   */
  pendingIntents(shards: readonly number[], limit: number, after?: IntentPlace): Promise<readonly Intent[]>;
  /** Resolutions for these shards' sources not yet taken, in the order of their sources; `after` pages through them. */
  pendingResolutions(
    shards: readonly number[],
    limit: number,
    after?: HtlcSource,
  ): Promise<readonly Resolution[]>;
  /** Funding watches of these shards' channels that are not closed, with what chain-monitor found and decided so far. */
  fundingStatuses(shards: readonly number[]): Promise<
    readonly {
      readonly channelId: Uint8Array;
      readonly status: FundingStatus;
      readonly closingDecision?: string;
    }[]
  >;
  /**
   * The shard of a channel by any of its scids (real, alias), for intents' targets. A real one is a place in the chain: of
   * two channels that say they are there (a block was replaced) it means the one that chain-monitor sees.
   */
  shardOfScid(
    shortChannelId: bigint,
  ): Promise<{ readonly shard: number; readonly channelId: Uint8Array } | undefined>;

  // --- peers ------------------------------------------------------------------------
  /**
   * Fenced CAS: the newest connection of a peer wins everywhere. Each call gives a generation above any that the peer had,
   * also for a connection that was accepted before: frames are numbered anew in each.
   */
  acceptConnection(
    fence: Fence,
    peerNodeId: Uint8Array,
    connection: PeerConnection,
  ): Promise<ConnectionOutcome>;
  /** Forgets the presence if this generation is still current. */
  dropConnection(fence: Fence, peerNodeId: Uint8Array, generation: bigint): Promise<void>;
  /** Peers to keep connected: those with an address and a channel, or asked for by the operator. */
  upsertPeerAddress(
    peerNodeId: Uint8Array,
    host: string,
    port: number,
    wanted: 'wanted' | 'not_wanted',
  ): Promise<void>;
  /** Whether channels of this peer are used before their funding confirms. */
  setZeroConfTrust(peerNodeId: Uint8Array, trust: ZeroConfTrust): Promise<void>;
  zeroConfTrust(peerNodeId: Uint8Array): Promise<ZeroConfTrust>;
  listPeers(): Promise<readonly PeerPresence[]>;

  // --- queries for the API, from committed rows ------------------------------------------
  listChannels(filter: { readonly closed: 'include' | 'exclude' }): Promise<readonly ChannelRow[]>;
  listPayments(
    type: 'inbound' | 'outbound',
    limit: number,
  ): Promise<readonly { readonly paymentHash: Uint8Array; readonly row: PaymentRow }[]>;
  getPayment(paymentHash: Uint8Array): Promise<PaymentRow | undefined>;
  /** The payment actor's opaque state, as of its last commit. */
  getPaymentState(paymentHash: Uint8Array): Promise<Uint8Array | undefined>;
  listForwards(limit: number): Promise<readonly ForwardRow[]>;
  getPolicy(channelId: Uint8Array): Promise<ChannelPolicyRow | undefined>;
  setPolicy(fence: Fence, channelId: Uint8Array, policy: ChannelPolicyRow): Promise<'ok' | 'fence_lost'>;
  /** What a channel's counterparty asks for; nothing happens when the fence is lost or a newer one is stored. */
  setCounterpartyPolicy(fence: Fence, channelId: Uint8Array, policy: CounterpartyPolicy): Promise<void>;
  /**
   * Unannounced open channels that can receive so much, with what their counterparties ask for; those that can receive
   * most come first.
   * @param when `needed`: none if an announced channel can receive as much
   */
  listRouteHints(
    amountMsat: bigint,
    when: 'always' | 'needed',
    limit: number,
  ): Promise<readonly RouteHintRow[]>;
  /** Remembers the first value stored under a key of the operator's; later calls get that one. */
  idempotent(key: string, value: Uint8Array): Promise<Uint8Array>;

  // --- events -------------------------------------------------------------------------
  /**
   * Gives global positions to at most `limit` waiting events, causes before effects; resolves with how many. Anyone
   * may call it: while one does, others get 0.
   */
  sequenceEvents(replicaId: string, limit: number): Promise<number>;
  readEvents(
    afterPosition: bigint,
    limit: number,
  ): Promise<readonly { readonly position: bigint; readonly event: StoreEvent }[]>;

  // --- upkeep -------------------------------------------------------------------------
  /**
   * Removes, on connections of its own and at most `limit` rows of each kind, what nothing needs: intents, claims,
   * resolutions and preimages of HTLCs that left their channel or ended their payment's part (a forward keeps a line of
   * history), onion replay entries of HTLCs that expired before `blockHeight`, keys of idempotency older than
   * `idempotencyMs`, and the generations of peers that are away, or whose connection ended with an owner of their shard
   * before the present one, and that have neither a channel nor an address here.
   * @returns how many sources, replay entries, keys and peers went; 0 when nothing is left to do
   */
  prune(limit: number, blockHeight: number, idempotencyMs: number): Promise<number>;

  /** Ends this handle; the state stays. */
  close(): Promise<void>;
}

/** A connection as its gateway tells of it. */
export interface PeerConnection {
  readonly gatewayId: string;
  readonly connectionId: bigint;
  /** Bits as in the peer's init. */
  readonly features: Uint8Array;
}

/** The operator's word about a peer; `refused` until it says otherwise. */
export type ZeroConfTrust = 'trusted' | 'refused';

export interface PeerPresence {
  readonly peerNodeId: Uint8Array;
  readonly host?: string;
  readonly port?: number;
  readonly wanted: boolean;
  readonly connected?: {
    readonly gatewayId: string;
    readonly generation: bigint;
    /** As the peer's init said. */
    readonly features: Uint8Array;
  };
  readonly channels: number;
  readonly zeroConf: ZeroConfTrust;
}

export interface ForwardRow {
  readonly inboundChannelId: Uint8Array;
  readonly inboundHtlcId: bigint;
  readonly outboundChannelId: Uint8Array | undefined;
  readonly inboundAmountMsat: bigint;
  readonly outboundAmountMsat: bigint;
  readonly status: 'pending' | 'settled' | 'failed';
  readonly createdUnixMs: number;
}

/** What a counterparty asks for HTLCs that it forwards to this node. */
export interface CounterpartyPolicy {
  /** One that the counterparty finds the channel by: its own alias, or the real one. */
  readonly shortChannelId: bigint;
  readonly feeBaseMsat: number;
  readonly feeProportionalMillionths: number;
  readonly cltvExpiryDelta: number;
  readonly state: 'enabled' | 'disabled';
  readonly timestampUnixSeconds: number;
}

/** A way to this node over a channel that nobody else knows of. */
export interface RouteHintRow extends Pick<
  CounterpartyPolicy,
  'shortChannelId' | 'feeBaseMsat' | 'feeProportionalMillionths' | 'cltvExpiryDelta'
> {
  readonly counterpartyNodeId: Uint8Array;
}

/** Policy of our direction of a channel. */
export interface ChannelPolicyRow {
  readonly feeBaseMsat: number;
  readonly feeProportionalMillionths: number;
  readonly cltvExpiryDelta: number;
  readonly htlcMinimumMsat: bigint;
  readonly htlcMaximumMsat: bigint;
  readonly updatedUnixMs: number;
  /** The one before, accepted for ten minutes after a change (BOLT 7). */
  readonly previous?: {
    readonly feeBaseMsat: number;
    readonly feeProportionalMillionths: number;
    readonly cltvExpiryDelta: number;
  };
}
