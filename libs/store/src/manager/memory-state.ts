/**
 * The truth of the in-memory twin, and its group commit: synchronous, so that
 * every operation is one point in time. It outlives the handles that use it.
 */
import { MemoryBackupTables } from './backup/tables.ts';
import type { HtlcBody, HtlcRemoval, PersistedChannel, PersistedDelta } from '@fulmen/channel';
import type {
  BroadcastOrder,
  ChannelCommit,
  ChannelPolicyRow,
  CounterpartyPolicy,
  ChannelRow,
  CommitUnit,
  Fence,
  ForwardingWrites,
  FundingStatus,
  FundingWatch,
  HtlcSource,
  Intent,
  IntentClaimOutcome,
  PaymentCommit,
  Resolution,
  StoreEvent,
  Verdict,
  ForwardRow,
  PaymentRow,
} from './manager-store.ts';
import { hexKey, identityOf, sourceKey } from './source.ts';
import { unitFault } from './validate.ts';

export interface ChannelEntry {
  version: bigint;
  row: ChannelRow;
  hot: Uint8Array;
  cold: Uint8Array;
  holderSignatures: Uint8Array | undefined;
  monitorUpdateId: bigint;
  /** Set by whoever closes the channel without its owner. */
  closingDecision: string | undefined;
  /** Of forwards that have left it, and the last update of its monitor when the last of them did. */
  fulfilledLate: { readonly amountMsat: bigint; readonly updateId: bigint } | undefined;
  /** By `direction id`. */
  readonly htlcs: Map<string, HtlcBody>;
  readonly removals: Map<
    string,
    { readonly direction: 'inbound' | 'outbound'; readonly id: bigint; readonly removal: HtlcRemoval }
  >;
  readonly secrets: Map<number, PersistedChannel['secretBuckets'][number]>;
  readonly outgoing: Map<bigint, ForwardingWrites['outgoing'][number]>;
}

interface WatchEntry {
  readonly watch: FundingWatch;
  status: FundingStatus;
}

export interface PaymentEntry {
  version: bigint;
  readonly shard: number;
  readonly paymentHash: Uint8Array;
  state: Uint8Array;
  row: PaymentRow;
}

const CLOSING_PHASES: ReadonlySet<string> = new Set(['closing_mutual', 'closing_force', 'passive', 'closed']);

/** Phases of the core from which no other close can begin. */
export const isClosingPhase = (phase: string): boolean => CLOSING_PHASES.has(phase);

export const htlcKey = (direction: 'inbound' | 'outbound', id: bigint): string => `${direction} ${id}`;

/** All tables. Keys are hex of the identity. */
export class MemoryManagerState {
  readonly replicas = new Map<
    string,
    { incarnation: bigint; address: string; heartbeatMs: number; leaseUntilMs: number }
  >();
  readonly shards = new Map<number, { epoch: bigint; owner: string | undefined }>();
  readonly channels = new Map<string, ChannelEntry>();
  readonly payments = new Map<string, PaymentEntry>();
  readonly aliasScids = new Map<bigint, string>();
  readonly monitorBirths = new Map<string, Uint8Array>();
  readonly monitorLog = new Map<string, { readonly updateId: bigint; readonly payload: Uint8Array }[]>();
  readonly preimages = new Map<
    string,
    { readonly channelId: Uint8Array; readonly htlcId: bigint; readonly preimage: Uint8Array }
  >();
  readonly intents = new Map<string, Intent>();
  readonly claims = new Map<string, { readonly outcome: IntentClaimOutcome; readonly claimer: Uint8Array }>();
  readonly resolutions = new Map<string, { readonly resolution: Resolution; readonly taken: boolean }>();
  readonly forwardHistory = new Map<string, ForwardRow>();
  readonly onionReplays = new Map<
    string,
    { readonly channelId: Uint8Array; readonly htlcId: bigint; readonly cltvExpiryHeight: number }
  >();
  readonly broadcasts: BroadcastOrder[] = [];
  readonly watches = new Map<string, WatchEntry>();
  /** Heights from which spends of a restored channel's funding output are looked for. */
  readonly fundingSearches = new Map<string, number>();
  readonly backupTables = new MemoryBackupTables();
  readonly peers = new Map<
    string,
    { readonly peerNodeId: Uint8Array; host?: string; port?: number; wanted: boolean }
  >();
  readonly zeroConfTrusted = new Map<string, Uint8Array>();
  /** Of any peer's connection: who is forgotten and comes back is newer all the same. */
  lastGeneration = 0n;
  readonly connections = new Map<
    string,
    {
      readonly peerNodeId: Uint8Array;
      generation: bigint;
      /** Of the owner that accepted it. */
      readonly fence: Pick<Fence, 'shard' | 'epoch'>;
      gatewayId: string | undefined;
      features: Uint8Array;
    }
  >();
  readonly policies = new Map<string, ChannelPolicyRow>();
  readonly counterpartyPolicies = new Map<string, CounterpartyPolicy>();
  readonly idempotency = new Map<string, { readonly value: Uint8Array; readonly createdMs: number }>();
  readonly outbox: StoreEvent[] = [];
  readonly events: StoreEvent[] = [];

  fenceHolds(fence: Fence): boolean {
    const shard = this.shards.get(fence.shard);
    return shard !== undefined && shard.epoch === fence.epoch && shard.owner === fence.replicaId;
  }

  /** One unit: checks everything, then writes everything. */
  commit(unit: CommitUnit): Verdict {
    const fault = unitFault(unit);
    if (fault !== undefined) return { type: 'bad_data', reason: fault };
    if (!this.fenceHolds(unit.commit.fence)) return { type: 'fence_lost' };
    const refusal =
      this.#rowRefusal(unit) ??
      this.#forwardingRefusal(
        unit.commit.forwarding,
        unit.kind === 'channel' ? unit.commit.delta.settledHtlcs : [],
      );
    if (refusal !== undefined) return refusal;
    if (unit.kind === 'channel') this.#writeChannel(unit.commit);
    if (unit.kind === 'payment') this.#writePayment(unit.commit);
    this.#writeForwarding(identityOf(unit), unit.commit.forwarding);
    return { type: 'committed' };
  }

  #rowRefusal(unit: CommitUnit): Verdict | undefined {
    switch (unit.kind) {
      case 'channel':
        return this.#channelRefusal(unit.commit);
      case 'payment':
        return this.#paymentRefusal(unit.commit);
      case 'shard':
        return undefined;
    }
  }

  #channelRefusal(commit: ChannelCommit): Verdict | undefined {
    const key = hexKey(commit.channelId);
    const old = this.channels.get(key);
    if (
      (old?.version ?? 0n) !== commit.expectedVersion ||
      (old !== undefined && old.row.shard !== commit.fence.shard)
    )
      return { type: 'version_mismatch' };
    if (old?.closingDecision !== undefined && !isClosingPhase(commit.row.phase))
      return { type: 'closing_decided', reason: old.closingDecision };
    const bad = (reason: string): Verdict => ({ type: 'bad_data', reason });
    const first = commit.monitorUpdates[0];
    if (first !== undefined && first.updateId !== (old?.monitorUpdateId ?? 0n) + 1n)
      return bad('monitor update id is not one more than the last');
    const { holderAliasScid } = commit.row;
    if (holderAliasScid !== undefined && (this.aliasScids.get(holderAliasScid) ?? key) !== key)
      return bad('alias of another channel');
    const { delta } = commit;
    const settled = new Set(delta.settledHtlcs.map(({ direction, id }) => htlcKey(direction, id)));
    const staying = new Map([...(old?.htlcs ?? [])].filter(([htlc]) => !settled.has(htlc)));
    if (
      repeats(
        delta.newHtlcs.map((htlc) => htlcKey(htlc.direction, htlc.id)),
        staying,
      )
    )
      return bad('HTLC exists');
    if (
      repeats(
        delta.newRemovals.map(({ direction, id }) => htlcKey(direction, id)),
        undefined,
      )
    )
      return bad('one removal twice');
    if (commit.monitorBirth !== undefined && this.monitorBirths.has(key)) return bad('monitor exists');
    return undefined;
  }

  #paymentRefusal({ paymentHash, expectedVersion, fence, row }: PaymentCommit): Verdict | undefined {
    const old = this.payments.get(hexKey(paymentHash));
    if ((old?.version ?? 0n) !== expectedVersion) return { type: 'version_mismatch' };
    return old !== undefined && (old.shard !== fence.shard || old.row.type !== row.type)
      ? { type: 'version_mismatch' }
      : undefined;
  }

  #forwardingRefusal(writes: ForwardingWrites, settled: PersistedDelta['settledHtlcs']): Verdict | undefined {
    for (const { sharedSecretHash, channelId, htlcId } of writes.onionReplays) {
      const seen = this.onionReplays.get(hexKey(sharedSecretHash));
      if (seen !== undefined && (seen.htlcId !== htlcId || hexKey(seen.channelId) !== hexKey(channelId)))
        return { type: 'onion_replay', channelId, htlcId };
    }
    if (
      repeats(
        writes.intents.map(({ source }) => sourceKey(source)),
        this.intents,
      )
    )
      return { type: 'bad_data', reason: 'intent exists' };
    for (const { source } of writes.intentClaims)
      if (this.claims.has(sourceKey(source))) return { type: 'intent_lost', source };
    for (const { source, outcome } of writes.resolutionsTaken) {
      const found = mergedResolution(this.resolutions.get(sourceKey(source)), writes.resolutions, source);
      if (found === undefined || found.taken || found.resolution.outcome.type !== outcome)
        return { type: 'resolution_changed', source };
    }
    for (const { channelId, htlcId } of writes.outgoing) {
      // An HTLC that a disconnection took back leaves with its link, and its id may come again in the same commit.
      const leaves = settled.some(({ direction, id }) => direction === 'outbound' && id === htlcId);
      if (!leaves && this.channels.get(hexKey(channelId))?.outgoing.has(htlcId) === true)
        return { type: 'bad_data', reason: 'outgoing link exists' };
    }
    for (const { source } of writes.intentClaims) {
      const key = sourceKey(source);
      const isThere =
        this.intents.has(key) || writes.intents.some((intent) => sourceKey(intent.source) === key);
      if (!isThere) return { type: 'intent_lost', source };
    }
    return undefined;
  }

  #writeChannel(commit: ChannelCommit): void {
    const { delta, row } = commit;
    const key = hexKey(commit.channelId);
    const entry = this.channels.get(key) ?? {
      version: 0n,
      row,
      hot: delta.hot,
      cold: new Uint8Array(),
      holderSignatures: undefined,
      monitorUpdateId: 0n,
      closingDecision: undefined,
      fulfilledLate: undefined,
      htlcs: new Map(),
      removals: new Map(),
      secrets: new Map(),
      outgoing: new Map(),
    };
    this.channels.set(key, entry);
    entry.version = commit.expectedVersion + 1n;
    entry.row = row;
    entry.hot = delta.hot;
    entry.cold = delta.cold ?? entry.cold;
    entry.holderSignatures = delta.holderSignatures ?? entry.holderSignatures;
    entry.monitorUpdateId = commit.monitorUpdates.at(-1)?.updateId ?? entry.monitorUpdateId;
    if (commit.fulfilledLateMsat !== undefined)
      entry.fulfilledLate = {
        amountMsat: (entry.fulfilledLate?.amountMsat ?? 0n) + commit.fulfilledLateMsat,
        updateId: entry.monitorUpdateId,
      };
    if (row.holderAliasScid !== undefined) this.aliasScids.set(row.holderAliasScid, key);
    // An id may come back with another body after a disconnection, so what left goes first.
    for (const { direction, id } of delta.settledHtlcs) {
      entry.htlcs.delete(htlcKey(direction, id));
      entry.removals.delete(htlcKey(direction, id));
      if (direction === 'outbound') entry.outgoing.delete(id);
    }
    for (const htlc of delta.newHtlcs) entry.htlcs.set(htlcKey(htlc.direction, htlc.id), htlc);
    for (const removal of delta.newRemovals)
      entry.removals.set(htlcKey(removal.direction, removal.id), removal);
    for (const bucket of delta.secretBuckets) entry.secrets.set(bucket.bucket, bucket);
    if (commit.monitorBirth !== undefined) this.monitorBirths.set(key, commit.monitorBirth);
    const log = this.monitorLog.get(key) ?? [];
    log.push(...commit.monitorUpdates);
    this.monitorLog.set(key, log);
    this.broadcasts.push(...commit.broadcasts.filter((order) => order.transactions.length > 0));
    for (const watch of commit.watches)
      this.watches.set(hexKey(watch.channelId), { watch, status: { type: 'unconfirmed' } });
  }

  #writePayment({ paymentHash, expectedVersion, fence, state, row }: PaymentCommit): void {
    this.payments.set(hexKey(paymentHash), {
      version: expectedVersion + 1n,
      shard: fence.shard,
      paymentHash,
      state,
      row,
    });
  }

  #writeForwarding(claimer: Uint8Array, writes: ForwardingWrites): void {
    for (const intent of writes.intents) this.intents.set(sourceKey(intent.source), intent);
    for (const { source, outcome } of writes.intentClaims)
      this.claims.set(sourceKey(source), { outcome, claimer });
    for (const resolution of writes.resolutions) {
      const key = sourceKey(resolution.source);
      const merged = mergedResolution(this.resolutions.get(key), [resolution], resolution.source);
      if (merged !== undefined) this.resolutions.set(key, merged);
    }
    for (const { source } of writes.resolutionsTaken) {
      const old = this.resolutions.get(sourceKey(source));
      if (old !== undefined) this.resolutions.set(sourceKey(source), { ...old, taken: true });
    }
    for (const row of writes.preimages) {
      const key = sourceKey({ type: 'htlc', channelId: row.channelId, htlcId: row.htlcId });
      if (!this.preimages.has(key)) this.preimages.set(key, row);
    }
    for (const link of writes.outgoing)
      this.channels.get(hexKey(link.channelId))?.outgoing.set(link.htlcId, link);
    for (const { sharedSecretHash, channelId, htlcId } of writes.onionReplays) {
      const cltvExpiryHeight =
        this.channels.get(hexKey(channelId))?.htlcs.get(htlcKey('inbound', htlcId))?.cltvExpiryHeight ??
        2 ** 32 - 1;
      const key = hexKey(sharedSecretHash);
      if (!this.onionReplays.has(key)) this.onionReplays.set(key, { channelId, htlcId, cltvExpiryHeight });
    }
    this.outbox.push(...writes.events);
  }

  /** The channel that says it is at this place; of several the one that chain-monitor sees there. */
  channelAt(realScid: bigint): ChannelRow | undefined {
    const claimants = [...this.channels].filter(([, { row }]) => row.shortChannelId === realScid);
    const seen = claimants.find(([key]) => {
      const entry = this.watches.get(key);
      return entry !== undefined && seenAt(entry) === realScid;
    });
    return (seen ?? claimants[0])?.[1].row;
  }

  /** True while the channel still carries the HTLC. */
  sourceIsLive(source: HtlcSource): boolean {
    return (
      source.type === 'htlc' &&
      this.channels.get(hexKey(source.channelId))?.htlcs.has(htlcKey('inbound', source.htlcId)) === true
    );
  }

  /** Whether a preimage came for it, also when only its history is left. */
  isFulfilled(source: HtlcSource): boolean {
    const key = sourceKey(source);
    return (
      this.resolutions.get(key)?.resolution.outcome.type === 'fulfilled' ||
      this.forwardHistory.get(key)?.status === 'settled'
    );
  }

  forwardOf(intent: Intent): ForwardRow | undefined {
    const { source } = intent;
    if (source.type !== 'htlc' || intent.target.type !== 'scid') return undefined;
    const claim = this.claims.get(sourceKey(source));
    const outcome = this.resolutions.get(sourceKey(source))?.resolution.outcome.type;
    return {
      inboundChannelId: source.channelId,
      inboundHtlcId: source.htlcId,
      outboundChannelId: claim?.outcome === 'taken' ? claim.claimer : undefined,
      inboundAmountMsat: intent.incomingAmountMsat,
      outboundAmountMsat: intent.outgoingAmountMsat,
      status:
        outcome === 'fulfilled'
          ? 'settled'
          : outcome !== undefined || claim?.outcome === 'cancelled'
            ? 'failed'
            : 'pending',
      createdUnixMs: intent.createdUnixMs,
    };
  }
}

export type ResolutionEntry = { readonly resolution: Resolution; readonly taken: boolean };

/** The first stands, but a preimage replaces a failure that nobody consumed; the row keeps the shard that its first writer named. */
export function mergedResolution(
  old: ResolutionEntry | undefined,
  written: readonly Resolution[],
  source: HtlcSource,
): ResolutionEntry | undefined {
  const added = written.find((candidate) => sourceKey(candidate.source) === sourceKey(source));
  if (added === undefined) return old;
  if (old === undefined) return { resolution: added, taken: false };
  const replaces =
    !old.taken && old.resolution.outcome.type !== 'fulfilled' && added.outcome.type === 'fulfilled';
  return replaces ? { resolution: { ...old.resolution, outcome: added.outcome }, taken: false } : old;
}

/** The place of a funding output that chain-monitor sees in a block, as a real scid. */
function seenAt({ watch, status }: WatchEntry): bigint | undefined {
  if (status.type !== 'confirmed') return undefined;
  return (BigInt(status.height) << 40n) | (BigInt(status.txIndex) << 16n) | BigInt(watch.fundingOutputIndex);
}

/** True when a key exists already, or twice in the list. */
function repeats(keys: readonly string[], existing: ReadonlyMap<string, unknown> | undefined): boolean {
  return new Set(keys).size !== keys.length || keys.some((key) => existing?.has(key) === true);
}

/** Rows in the order of their keys. */
export const byKey = <V>(map: ReadonlyMap<string, V>): V[] =>
  [...map].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, value]) => value);
