/**
 * The manager's store in memory: a small linearizable model of the Postgres one,
 * for simulations and tests. A handle may die (`crash`) while the state lives;
 * the clock of the leases is the database's, given by whoever makes it.
 */
import { StoreError } from '../error.ts';
import type * as port from './manager-store.ts';
import type { Fence, FundingStatus, HtlcSource, ManagerStore } from './manager-store.ts';
import { byKey, type ChannelEntry, MemoryManagerState } from './memory-state.ts';
import { prune } from './memory-upkeep.ts';
import { hexKey, sourceKey } from './source.ts';

/** A database that several replicas connect to. */
export class MemoryManagerDatabase {
  readonly state: MemoryManagerState = new MemoryManagerState();
  readonly #nowMs: () => number;

  /** @param nowMs the database's clock, any origin */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** A handle for one incarnation of a replica. */
  connect(replicaName: string): MemoryManagerStore {
    return new MemoryManagerStore(this.state, this.#nowMs, replicaName);
  }

  /** What chain-monitor would write. */
  reportFundingStatus(channelId: Uint8Array, status: FundingStatus): void {
    const entry = this.state.watches.get(hexKey(channelId));
    if (entry !== undefined) entry.status = status;
  }

  /** What chain-monitor would decide: the first decision stands. */
  decideClose(channelId: Uint8Array, reason: string): void {
    const entry = this.state.channels.get(hexKey(channelId));
    if (entry !== undefined) entry.closingDecision ??= reason;
  }
}

const compareBytes = (a: Uint8Array, b: Uint8Array): number => Buffer.compare(a, b);

export class MemoryManagerStore implements ManagerStore {
  readonly replicaName: string;
  readonly #state: MemoryManagerState;
  readonly #nowMs: () => number;
  #open = true;

  constructor(state: MemoryManagerState, nowMs: () => number, replicaName: string) {
    this.#state = state;
    this.#nowMs = nowMs;
    this.replicaName = replicaName;
  }

  /** As a process that dies: this handle does nothing more, the state stays. */
  crash(): void {
    this.#open = false;
  }

  close(): Promise<void> {
    this.#open = false;
    return Promise.resolve();
  }

  /** One operation at one point in time. */
  // oxlint-disable-next-line require-await -- a throw must become a rejection
  async #do<T>(operation: (state: MemoryManagerState) => T): Promise<T> {
    if (!this.#open) throw new StoreError('unavailable', `the handle of ${this.replicaName} is closed`);
    return operation(this.#state);
  }

  heartbeat(replicaId: string, incarnation: bigint, address: string, leaseMs: number): Promise<boolean> {
    return this.#do(({ replicas }) => {
      const now = this.#nowMs();
      const held = replicas.get(replicaId);
      if (held !== undefined && held.incarnation > incarnation && held.leaseUntilMs > now) return false;
      replicas.set(replicaId, { incarnation, address, heartbeatMs: now, leaseUntilMs: now + leaseMs });
      return true;
    });
  }

  endLease(replicaId: string, incarnation: bigint): Promise<void> {
    return this.#do(({ replicas }) => {
      const held = replicas.get(replicaId);
      if (held?.incarnation === incarnation) held.leaseUntilMs = Math.min(held.leaseUntilMs, this.#nowMs());
    });
  }

  listReplicas(): Promise<readonly port.Replica[]> {
    return this.#do(({ replicas }) => {
      const now = this.#nowMs();
      const live = [...replicas]
        .filter(([, { leaseUntilMs }]) => leaseUntilMs > now)
        .toSorted(([a], [b]) => (a < b ? -1 : 1));
      return live.map(([replicaId, { address, heartbeatMs }]) => ({
        replicaId,
        address,
        lastHeartbeatAgeMs: now - heartbeatMs,
      }));
    });
  }

  listShards(): Promise<readonly port.ShardOwner[]> {
    return this.#do(({ shards, replicas }) =>
      [...shards]
        .toSorted(([a], [b]) => a - b)
        .map(([shard, { epoch, owner }]) => ({
          shard,
          epoch,
          replicaId: owner,
          address: owner === undefined ? undefined : replicas.get(owner)?.address,
        })),
    );
  }

  acquireShard(shard: number, replicaId: string): Promise<port.AcquireOutcome> {
    return this.#do(({ shards, replicas }) => {
      const { epoch, owner } = shards.get(shard) ?? { epoch: 0n, owner: undefined };
      const live =
        owner !== undefined &&
        (replicas.get(owner)?.leaseUntilMs ?? Number.NEGATIVE_INFINITY) > this.#nowMs();
      if (owner !== undefined && owner !== replicaId && live) return { type: 'held', replicaId: owner };
      shards.set(shard, { epoch: epoch + 1n, owner: replicaId });
      return { type: 'acquired', epoch: epoch + 1n };
    });
  }

  releaseShard(fence: Fence): Promise<void> {
    return this.#do((state) => {
      if (state.fenceHolds(fence)) state.shards.set(fence.shard, { epoch: fence.epoch, owner: undefined });
    });
  }

  loadShard(fence: Fence): ReturnType<ManagerStore['loadShard']> {
    return this.#do((state) => {
      if (!state.fenceHolds(fence)) return { type: 'fence_lost' };
      const channels = byKey(state.channels).filter(
        ({ row }) => row.shard === fence.shard && row.phase !== 'closed',
      );
      const payments = byKey(state.payments).filter(
        ({ shard, row }) => shard === fence.shard && isUnfinished(row),
      );
      return {
        type: 'loaded',
        channels: channels.map((entry) => loadedChannel(state, entry)),
        payments: payments.map(loadedPayment),
      };
    });
  }

  loadPayment(fence: Fence, paymentHash: Uint8Array): Promise<port.LoadedPayment | undefined> {
    return this.#do(({ payments }) => {
      const found = payments.get(hexKey(paymentHash));
      return found?.shard === fence.shard ? loadedPayment(found) : undefined;
    });
  }

  commitSteps(units: readonly port.CommitUnit[]): Promise<readonly port.Verdict[]> {
    return this.#do((state) => units.map((unit) => state.commit(unit)));
  }

  pendingIntents(
    shards: readonly number[],
    limit: number,
    after?: port.IntentPlace,
  ): Promise<readonly port.Intent[]> {
    const isAfter = ({ createdUnixMs, source }: port.Intent): boolean =>
      after === undefined ||
      createdUnixMs > after.createdUnixMs ||
      (createdUnixMs === after.createdUnixMs && sourceKey(source) > sourceKey(after.source));
    return this.#do(({ intents, claims }) =>
      byKey(intents)
        .filter(({ source, targetShard }) => shards.includes(targetShard) && !claims.has(sourceKey(source)))
        .filter(isAfter)
        .toSorted((a, b) => a.createdUnixMs - b.createdUnixMs)
        .slice(0, limit),
    );
  }

  pendingResolutions(
    shards: readonly number[],
    limit: number,
    after?: HtlcSource,
  ): Promise<readonly port.Resolution[]> {
    const isAfter = ({ source }: port.Resolution): boolean =>
      after === undefined || sourceKey(source) > sourceKey(after);
    return this.#do(({ resolutions }) =>
      byKey(resolutions)
        .filter(
          ({ resolution, taken }) => !taken && shards.includes(resolution.sourceShard) && isAfter(resolution),
        )
        .slice(0, limit)
        .map(({ resolution }) => resolution),
    );
  }

  fundingStatuses(shards: readonly number[]): ReturnType<ManagerStore['fundingStatuses']> {
    return this.#do(({ watches, channels }) =>
      byKey(watches).flatMap(({ watch: { channelId }, status }) => {
        const entry = channels.get(hexKey(channelId));
        return entry !== undefined && entry.row.phase !== 'closed' && shards.includes(entry.row.shard)
          ? [{ channelId, status, ...closingDecision(entry) }]
          : [];
      }),
    );
  }

  shardOfScid(shortChannelId: bigint): Promise<{ shard: number; channelId: Uint8Array } | undefined> {
    return this.#do((state) => {
      const row =
        state.channelAt(shortChannelId) ??
        state.channels.get(state.aliasScids.get(shortChannelId) ?? '')?.row;
      return row && { shard: row.shard, channelId: row.channelId };
    });
  }

  acceptConnection(
    fence: Fence,
    peerNodeId: Uint8Array,
    { gatewayId, features }: port.PeerConnection,
  ): Promise<port.ConnectionOutcome> {
    return this.#do((state) => {
      if (!state.fenceHolds(fence)) return { type: 'fence_lost' };
      const old = state.connections.get(hexKey(peerNodeId));
      const generation = (state.lastGeneration += 1n);
      state.connections.set(hexKey(peerNodeId), {
        peerNodeId,
        generation,
        fence,
        gatewayId,
        features,
      });
      return { type: 'accepted', generation, previousGatewayId: old?.gatewayId };
    });
  }

  dropConnection(fence: Fence, peerNodeId: Uint8Array, generation: bigint): Promise<void> {
    return this.#do((state) => {
      const found = state.connections.get(hexKey(peerNodeId));
      if (!state.fenceHolds(fence) || found?.generation !== generation) return;
      found.gatewayId = undefined;
    });
  }

  upsertPeerAddress(
    peerNodeId: Uint8Array,
    host: string,
    tcpPort: number,
    wanted: 'wanted' | 'not_wanted',
  ): Promise<void> {
    return this.#do(
      ({ peers }) =>
        void peers.set(hexKey(peerNodeId), { peerNodeId, host, port: tcpPort, wanted: wanted === 'wanted' }),
    );
  }

  setZeroConfTrust(peerNodeId: Uint8Array, trust: port.ZeroConfTrust): Promise<void> {
    return this.#do(({ zeroConfTrusted }) => {
      if (trust === 'trusted') zeroConfTrusted.set(hexKey(peerNodeId), peerNodeId);
      else zeroConfTrusted.delete(hexKey(peerNodeId));
    });
  }

  zeroConfTrust(peerNodeId: Uint8Array): Promise<port.ZeroConfTrust> {
    return this.#do(({ zeroConfTrusted }) =>
      zeroConfTrusted.has(hexKey(peerNodeId)) ? 'trusted' : 'refused',
    );
  }

  listPeers(): Promise<readonly port.PeerPresence[]> {
    return this.#do(({ peers, connections, channels, zeroConfTrusted }) => {
      const found = new Map<string, { -readonly [K in keyof port.PeerPresence]: port.PeerPresence[K] }>();
      const at = (
        peerNodeId: Uint8Array,
      ): { -readonly [K in keyof port.PeerPresence]: port.PeerPresence[K] } => {
        const presence = found.get(hexKey(peerNodeId)) ?? {
          peerNodeId,
          wanted: false,
          channels: 0,
          zeroConf: 'refused',
        };
        found.set(hexKey(peerNodeId), presence);
        return presence;
      };
      for (const peer of peers.values()) Object.assign(at(peer.peerNodeId), peer);
      for (const { peerNodeId, gatewayId, generation, features } of connections.values()) {
        if (gatewayId !== undefined) at(peerNodeId).connected = { gatewayId, generation, features };
      }
      for (const { row } of channels.values())
        if (row.phase !== 'closed') at(row.counterpartyNodeId).channels += 1;
      for (const peerNodeId of zeroConfTrusted.values()) at(peerNodeId).zeroConf = 'trusted';
      return byKey(found);
    });
  }

  listChannels(filter: { readonly closed: 'include' | 'exclude' }): Promise<readonly port.ChannelRow[]> {
    return this.#do(({ channels }) =>
      byKey(channels)
        .map(({ row }) => row)
        .filter(({ phase }) => filter.closed === 'include' || phase !== 'closed'),
    );
  }

  listPayments(
    type: 'inbound' | 'outbound',
    limit: number,
  ): Promise<readonly { paymentHash: Uint8Array; row: port.PaymentRow }[]> {
    return this.#do(({ payments }) =>
      byKey(payments)
        .filter(({ row }) => row.type === type)
        .toSorted((a, b) => b.row.createdUnixMs - a.row.createdUnixMs)
        .slice(0, limit)
        .map(({ paymentHash, row }) => ({ paymentHash, row })),
    );
  }

  getPayment(paymentHash: Uint8Array): Promise<port.PaymentRow | undefined> {
    return this.#do(({ payments }) => payments.get(hexKey(paymentHash))?.row);
  }

  getPaymentState(paymentHash: Uint8Array): Promise<Uint8Array | undefined> {
    return this.#do(({ payments }) => payments.get(hexKey(paymentHash))?.state);
  }

  listForwards(limit: number): Promise<readonly port.ForwardRow[]> {
    return this.#do((state) => {
      const live = [...state.intents.values()].flatMap((intent) => state.forwardOf(intent) ?? []);
      return [...live, ...state.forwardHistory.values()]
        .toSorted(
          (a, b) =>
            b.createdUnixMs - a.createdUnixMs ||
            compareBytes(a.inboundChannelId, b.inboundChannelId) ||
            Number(a.inboundHtlcId - b.inboundHtlcId),
        )
        .slice(0, limit);
    });
  }

  getPolicy(channelId: Uint8Array): Promise<port.ChannelPolicyRow | undefined> {
    return this.#do(({ policies }) => policies.get(hexKey(channelId)));
  }

  decideClose(
    fence: Fence,
    channelId: Uint8Array,
    reason: string,
    event: port.StoreEvent,
  ): Promise<port.DecideCloseOutcome> {
    return this.#do((state) => {
      if (!state.fenceHolds(fence)) return 'fence_lost';
      const entry = state.channels.get(hexKey(channelId));
      if (entry?.row.phase === 'passive') return 'passive';
      const isClosing = entry?.row.phase === 'closing_force' || entry?.row.phase === 'closed';
      if (entry === undefined || isClosing || entry.closingDecision !== undefined) return 'closing';
      entry.closingDecision = reason;
      state.outbox.push(event);
      return 'decided';
    });
  }

  setPolicy(
    fence: Fence,
    channelId: Uint8Array,
    policy: port.ChannelPolicyRow,
  ): Promise<'ok' | 'fence_lost'> {
    return this.#do((state) => {
      if (!state.fenceHolds(fence)) return 'fence_lost';
      state.policies.set(hexKey(channelId), policy);
      return 'ok';
    });
  }

  setCounterpartyPolicy(fence: Fence, channelId: Uint8Array, policy: port.CounterpartyPolicy): Promise<void> {
    return this.#do((state) => {
      const before = state.counterpartyPolicies.get(hexKey(channelId));
      if (!state.fenceHolds(fence)) return;
      if (before !== undefined && before.timestampUnixSeconds > policy.timestampUnixSeconds) return;
      state.counterpartyPolicies.set(hexKey(channelId), policy);
    });
  }

  listRouteHints(
    amountMsat: bigint,
    when: 'always' | 'needed',
    limit: number,
  ): Promise<readonly port.RouteHintRow[]> {
    return this.#do(({ channels, counterpartyPolicies }) => {
      const able = [...channels.values()]
        .map(({ row }) => row)
        .filter(
          ({ phase, inboundCapacityMsat }) =>
            phase === 'open' && inboundCapacityMsat >= amountMsat && inboundCapacityMsat > 0n,
        );
      if (when === 'needed' && able.some(({ announce }) => announce)) return [];
      return able
        .filter(({ announce }) => !announce)
        .toSorted(
          (a, b) =>
            Number(b.inboundCapacityMsat - a.inboundCapacityMsat) || compareBytes(a.channelId, b.channelId),
        )
        .flatMap(({ channelId, counterpartyNodeId }) => {
          const policy = counterpartyPolicies.get(hexKey(channelId));
          if (policy?.state !== 'enabled') return [];
          const { shortChannelId, feeBaseMsat, feeProportionalMillionths, cltvExpiryDelta } = policy;
          return [
            { counterpartyNodeId, shortChannelId, feeBaseMsat, feeProportionalMillionths, cltvExpiryDelta },
          ];
        })
        .slice(0, limit);
    });
  }

  idempotent(key: string, value: Uint8Array): Promise<Uint8Array> {
    return this.#do(({ idempotency }) => {
      const found = idempotency.get(key) ?? { value, createdMs: this.#nowMs() };
      idempotency.set(key, found);
      return found.value;
    });
  }

  sequenceEvents(_replicaId: string, limit: number): Promise<number> {
    return this.#do(({ outbox, events }) => {
      const moved = outbox.splice(0, limit);
      events.push(...moved);
      return moved.length;
    });
  }

  readEvents(
    afterPosition: bigint,
    limit: number,
  ): Promise<readonly { position: bigint; event: port.StoreEvent }[]> {
    return this.#do(({ events }) => {
      const start = Number(afterPosition);
      return events
        .slice(start, start + limit)
        .map((event, index) => ({ position: BigInt(start + index + 1), event }));
    });
  }

  prune(limit: number, blockHeight: number, idempotencyMs: number): Promise<number> {
    const nowMs = this.#nowMs();
    return this.#do((state) => prune(state, { limit, blockHeight, idempotencyMs, nowMs }));
  }
}

const isUnfinished = (row: port.PaymentRow): boolean =>
  row.type === 'outbound' ? !row.finished : row.status === 'open' || row.status === 'claimable';

function loadedPayment({ paymentHash, version, state, row }: port.LoadedPayment): port.LoadedPayment {
  return { paymentHash, version, state, row };
}

function closingDecision(entry: ChannelEntry): { readonly closingDecision?: string } {
  return entry.closingDecision === undefined ? {} : { closingDecision: entry.closingDecision };
}

function loadedChannel(state: MemoryManagerState, entry: ChannelEntry): port.LoadedChannel {
  const { channelId } = entry.row;
  const id = hexKey(channelId);
  const byHtlc = <T extends { direction: 'inbound' | 'outbound'; id: bigint }>(
    map: ReadonlyMap<string, T>,
  ): T[] =>
    [...map.values()].toSorted((a, b) =>
      a.direction === b.direction ? Number(a.id - b.id) : a.direction === 'inbound' ? -1 : 1,
    );
  const intents = byKey(state.intents).flatMap(({ source }) =>
    source.type === 'htlc' && hexKey(source.channelId) === id ? [source.htlcId] : [],
  );
  const preimages = byKey(state.preimages).filter((row) => hexKey(row.channelId) === id);
  return {
    version: entry.version,
    row: entry.row,
    persisted: {
      hot: entry.hot,
      cold: entry.cold,
      htlcs: byHtlc(entry.htlcs),
      removals: byHtlc(entry.removals),
      secretBuckets: [...entry.secrets.values()].toSorted((a, b) => a.bucket - b.bucket),
      holderSignatures: entry.holderSignatures,
    },
    nextMonitorUpdateId: entry.monitorUpdateId + 1n,
    ...closingDecision(entry),
    fundingStatus: state.watches.get(id)?.status,
    outgoing: [...entry.outgoing.values()]
      .toSorted((a, b) => Number(a.htlcId - b.htlcId))
      .map(({ htlcId, source, sourceShard, incomingAmountMsat }) => ({
        htlcId,
        source,
        sourceShard,
        incomingAmountMsat,
        preimage: state.isFulfilled(source) ? 'heard' : 'awaited',
      })),
    fulfilledLateMsat: entry.fulfilledLate?.amountMsat ?? 0n,
    intentsWritten: intents,
    preimages: preimages.map(({ htlcId, preimage }) => ({ htlcId, preimage })),
  };
}
