/**
 * The engine of a replica: the shards it owns, the actors in them, and the
 * ways between actors. It implements what actors, payments and RPC handlers ask
 * of the replica they live in.
 */
import { isPending, Openings, type OpeningLimits } from './openings.ts';
import type { ChannelState, EstablishedChannel, OutboundMessage, PeerMessage } from '@fulmen/channel';
import { primaryFunding } from '@fulmen/channel';
import { toHex } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { shardOfPeer } from '@fulmen/keys/shard';
import type { Refusal } from '@fulmen/proto/signer/v1/signer';
import { RefusalKind } from '@fulmen/proto/signer/v1/signer';
import { RpcError } from '@fulmen/rpc';
import { AbortedError } from '@fulmen/service';
import type { Fence, HtlcSource, Intent, Resolution, Verdict } from '@fulmen/store';
import { make } from '@fulmen/wire';
import { PaymentHub } from '../payments/payment-hub.ts';
import type { PaymentHost } from '../payments/payment-host.ts';
import { PeerHub } from '../peers/peer-hub.ts';
import type { Peer } from '../peers/peer.ts';
import type { ShardHandler, ShardKeeper } from '../lease/shard-keeper.ts';
import type { ActorHost } from './actor-host.ts';
import { ChannelActor } from './channel-actor.ts';
import { announcementSignatures, fullAnnouncement, ownChannelUpdate } from './own-gossip.ts';
import { PolicyDefaults, type PolicySettings } from './policy.ts';
import type { EnginePorts, NodeView } from './ports.ts';
import { Registration } from './registration.ts';
import { isFinished, loadShard, type RestoredChannel } from './shard-loader.ts';
import { sourceKey } from './source-key.ts';
import { mayWait } from './forward-terms.ts';
import type { GrowingForwarding } from './forwarding.ts';
import { patiently } from '../signing/patiently.ts';
import type { OtherSignatures } from '../signing/sign-item.ts';

export interface EngineOptions {
  readonly replicaId: string;
  readonly openings: OpeningLimits;
  readonly policy: PolicySettings;
}

/** Intents handed to an actor and not yet claimed: a poll must not hand them over again. */
const MAX_REMEMBERED = 100_000;

export class Engine implements ActorHost, PaymentHost, ShardHandler {
  readonly ports: EnginePorts;
  readonly node: NodeView;
  readonly peers: PeerHub;
  readonly payments: PaymentHub;
  readonly openings: Openings;
  readonly policies: PolicyDefaults;
  readonly #registration: Registration;
  readonly #fences = new Map<number, Fence>();
  /** Established channels of every owned shard, by id and by scid. */
  readonly #channels = new Map<string, ChannelActor>();
  readonly #scids = new Map<bigint, string>();
  readonly #remoteScids = new Map<bigint, { readonly shard: number }>();
  /** Intents and resolutions handed to an actor that has not committed them yet, with the shard that actor is in. */
  readonly #underWay = new Map<string, number>();
  /** Channels that had no room for a forward, while others are tried. */
  readonly #tried = new Map<string, Set<ChannelActor>>();
  #keeper: ShardKeeper | undefined;
  #wakeWork: () => void = () => undefined;

  constructor(ports: EnginePorts, node: NodeView, options: EngineOptions) {
    this.ports = ports;
    this.node = node;
    this.policies = new PolicyDefaults(options.policy);
    this.#registration = new Registration(ports);
    this.peers = new PeerHub(
      ports,
      options.replicaId,
      () => [...this.#fences.values()],
      (shard) => this.#fences.get(shard),
      {
        openChannelReceived: (peer, message, generation) => this.openings.received(peer, message, generation),
        unknownChannel: (peer, channelId, generation) => this.#unknownChannel(peer, channelId, generation),
        connected: () => this.#wakeWork(),
      },
    );
    this.openings = new Openings(this, options.openings, this.policies, () => this.#pendingChannels());
    this.payments = new PaymentHub(this);
  }

  /** The keeper of shards is made with this engine as its handler. */
  attach(keeper: ShardKeeper, wakeWork: () => void): void {
    this.#keeper = keeper;
    this.#wakeWork = wakeWork;
  }

  // ---------------------------------------------------------------- shards

  async gained(fence: Fence): Promise<void> {
    const loaded = await loadShard(this.ports, fence);
    for (const { channelId, reason } of loaded.unreadable) {
      this.ports.logger.error({ channelId, reason }, 'a channel’s rows cannot be read: it is out of service');
    }
    this.#fences.set(fence.shard, fence);
    for (const channel of loaded.channels) if (!isFinished(channel.state)) this.#revive(fence, channel);
    this.payments.load(fence, loaded.payments);
    this.peers.announceOwnership();
    if (loaded.channels.length > 0) void this.peers.reconnectWanted();
    this.#wakeWork();
  }

  #revive(fence: Fence, restored: RestoredChannel): void {
    const { loaded, state } = restored;
    const peer = this.peers.peerOf(state.parameters.counterpartyNodeId);
    if (peer === undefined) return;
    const policy =
      restored.policy ??
      this.policies.initial(
        primaryFunding(state).fundingValueSat,
        state.parameters.announce,
        this.ports.runtime.wallClockMs(),
      );
    const actor = new ChannelActor(this, {
      fence,
      channelKeysId: state.parameters.channelKeysId,
      state,
      policy,
      points: restored.points,
      loaded: { channel: loaded, signer: restored.signer },
    });
    this.#register(actor, peer);
    if (restored.contradiction !== undefined) {
      this.ports.logger.error(
        { channel: state.channelId, reason: restored.contradiction },
        'ALARM: this channel is passive: it will not sign or broadcast',
      );
      actor.makePassive(restored.contradiction);
      return;
    }
    // What was never committed is gone with the connection; what was is taken up again.
    actor.post({ kind: 'disconnected', generation: 0n });
    actor.post({ kind: 'resume' });
    if (state.phase.type === 'closing_mutual') actor.rebroadcastClosing();
  }

  lost(shard: number, reason: string): void {
    if (!this.#fences.delete(shard)) return;
    this.ports.logger.info({ shard, reason }, 'a shard left this replica');
    for (const peer of this.peers.dropShard(shard)) {
      for (const actor of [...peer.channels.values(), ...peer.openings.values()]) {
        actor.stop();
        this.openings.lost(actor);
      }
    }
    for (const [key, actor] of this.#channels) {
      if (actor.fence.shard !== shard) continue;
      actor.stop();
      this.#channels.delete(key);
    }
    for (const [scid, key] of this.#scids) if (!this.#channels.has(key)) this.#scids.delete(scid);
    // What these actors had in hand is to be found again, also when the shard comes back here.
    for (const [key, holder] of this.#underWay) if (holder === shard) this.#underWay.delete(key);
    this.payments.drop(shard);
    this.peers.announceOwnership();
  }

  async drained(shard: number): Promise<void> {
    const actors = [...this.#channels.values()].filter((actor) => actor.fence.shard === shard);
    await Promise.all([...actors.map((actor) => actor.idle()), this.payments.idle(shard)]);
  }

  dropShard(fence: Fence, reason: string): void {
    this.#keeper?.drop(fence.shard, fence.epoch, reason);
  }

  fenceOf(shard: number): Fence | undefined {
    return this.#fences.get(shard);
  }

  ownedShards(): readonly number[] {
    return [...this.#fences.keys()];
  }

  // ---------------------------------------------------------------- actors

  #register(actor: ChannelActor, peer: Peer): void {
    const key = toHex(actor.channelId);
    peer.channels.set(key, actor);
    this.#channels.set(key, actor);
    this.#indexScids(actor);
  }

  #indexScids(actor: ChannelActor): void {
    const { state } = actor;
    if (state.type !== 'established') return;
    const key = toHex(state.channelId);
    if (state.aliasScid !== undefined) this.#scids.set(state.aliasScid, key);
    const { confirmation } = primaryFunding(state);
    if (confirmation.type === 'confirmed') this.#scids.set(confirmation.shortChannelId, key);
  }

  channel(channelId: Uint8Array): ChannelActor | undefined {
    return this.#channels.get(toHex(channelId));
  }

  channels(): readonly ChannelActor[] {
    return [...this.#channels.values()];
  }

  #pendingChannels(): { ofPeer: (peer: Peer) => number; total: number } {
    const ofPeer = (peer: Peer): number =>
      [...peer.channels.values(), ...peer.openings.values()].filter((actor) => isPending(actor.state)).length;
    return { ofPeer, total: this.peers.peers().reduce((sum, peer) => sum + ofPeer(peer), 0) };
  }

  established(actor: ChannelActor, temporaryChannelId: Uint8Array): void {
    const peer = this.peers.find(actor.counterpartyNodeId);
    if (peer === undefined) return;
    peer.openings.delete(toHex(temporaryChannelId));
    this.#register(actor, peer);
    this.openings.established(actor);
    void this.ports.store.setPolicy(actor.fence, actor.channelId, actor.policy).catch((error: unknown) => {
      this.ports.logger.warn(
        { err: error },
        'a new channel’s policy was not stored; its defaults apply after a restart',
      );
    });
  }

  abandoned(actor: ChannelActor, reason: string): void {
    const peer = this.peers.find(actor.counterpartyNodeId);
    peer?.openings.delete(toHex(actor.channelId));
    this.openings.abandoned(actor, reason);
    actor.stop();
  }

  fundChannel(actor: ChannelActor, fundingValueSat: bigint, scriptPubKey: Uint8Array): void {
    this.openings.fund(actor, fundingValueSat, scriptPubKey);
  }

  #unknownChannel(peer: Peer, channelId: Uint8Array, generation: bigint): void {
    // BOLT 2 asks for an error on a channel_reestablish for a channel that is not known; the peer then closes it.
    peer.send(make('error', { channelId, data: new TextEncoder().encode('unknown channel') }), generation);
  }

  // ---------------------------------------------------------------- messages

  send(actor: ChannelActor, message: PeerMessage, generation: bigint): void {
    this.peers.find(actor.counterpartyNodeId)?.send(message, generation);
  }

  disconnect(actor: ChannelActor, reason: string): void {
    this.peers.find(actor.counterpartyNodeId)?.disconnect(reason);
  }

  consumed(actor: ChannelActor, frames: readonly bigint[]): void {
    if (actor.generation !== undefined)
      this.peers.find(actor.counterpartyNodeId)?.processed(actor.generation, frames);
  }

  sha256(bytes: Uint8Array): Uint8Array {
    return sha256(bytes);
  }

  // ---------------------------------------------------------------- signer

  registerWithSigner(actor: ChannelActor, state: EstablishedChannel): Promise<void> {
    return this.#registration.established(actor, state);
  }

  registerOpening(
    actor: ChannelActor,
    state: ChannelState,
    messages: readonly OutboundMessage[],
  ): Promise<void> {
    return this.#registration.opening(actor, state, messages);
  }

  otherSignatures(actor: ChannelActor): OtherSignatures {
    const { signer, runtime } = this.ports;
    return {
      closing: async ({ closing }) => {
        const request = {
          channelKeysId: actor.channelKeysId,
          shard: actor.fence.shard,
          epoch: actor.fence.epoch,
          toHolderSat: closing.toHolderSat,
          toCounterpartySat: closing.toCounterpartySat,
          holderScript: closing.holderScript,
          counterpartyScript: closing.counterpartyScript,
          feeSat: closing.feeSat,
        };
        const { signature } = await patiently(
          runtime,
          () => actor.stopped,
          () => signer.signClosing(request),
        );
        return signature;
      },
      announcement: ({ shortChannelId }) =>
        announcementSignatures(this.ports, this.node, actor, shortChannelId),
    };
  }

  signerRefused(actor: ChannelActor, refusal: Refusal): 'retry' | 'stop' {
    switch (refusal.kind) {
      case RefusalKind.REFUSAL_KIND_UNAVAILABLE:
        return 'retry';
      case RefusalKind.REFUSAL_KIND_FENCED:
        this.dropShard(actor.fence, 'the signer says that a newer owner exists');
        return 'stop';
      case RefusalKind.REFUSAL_KIND_POLICY:
      case RefusalKind.REFUSAL_KIND_UNSPECIFIED:
      case RefusalKind.UNRECOGNIZED:
        this.quarantine(actor, `the signer refused (${refusal.policy}): ${refusal.reason}`);
        return 'stop';
    }
  }

  // ---------------------------------------------------------------- trouble

  commitRefused(actor: ChannelActor, verdict: Verdict): void {
    if (verdict.type === 'bad_data') this.quarantine(actor, `its rows were refused: ${verdict.reason}`);
    else if (verdict.type === 'version_mismatch') {
      this.ports.logger.error({ channel: actor.channelId }, 'ALARM: another writer changed this channel');
      this.dropShard(actor.fence, 'another writer changed a channel of this shard');
    } else this.dropShard(actor.fence, `a commit was refused: ${verdict.type}`);
  }

  quarantine(actor: ChannelActor, reason: string): void {
    this.ports.logger.error({ channel: actor.channelId, reason }, 'ALARM: a channel is out of service');
    actor.stop();
    this.openings.lost(actor);
  }

  // ---------------------------------------------------------------- between shards

  async shardOfScid(shortChannelId: bigint): Promise<number | undefined> {
    const key = this.#scids.get(shortChannelId);
    const actor = key === undefined ? undefined : this.#channels.get(key);
    if (actor !== undefined) return actor.fence.shard;
    const known = this.#remoteScids.get(shortChannelId);
    if (known !== undefined) return known.shard;
    const found = await this.ports.store.shardOfScid(shortChannelId);
    if (found === undefined) return undefined;
    if (this.#remoteScids.size >= MAX_REMEMBERED) this.#remoteScids.clear();
    this.#remoteScids.set(shortChannelId, { shard: found.shard });
    return found.shard;
  }

  deliver(forwarding: GrowingForwarding): void {
    for (const { source } of forwarding.intentClaims) {
      this.#underWay.delete(`i${sourceKey(source)}`);
      this.#tried.delete(sourceKey(source));
    }
    for (const { source } of forwarding.resolutionsTaken) this.#underWay.delete(`r${sourceKey(source)}`);
    const hinted = new Set<number>();
    for (const intent of forwarding.intents) if (!this.takeIntent(intent)) hinted.add(intent.targetShard);
    for (const resolution of forwarding.resolutions)
      if (!this.takeResolution(resolution)) hinted.add(resolution.sourceShard);
    for (const shard of hinted) this.ports.bus.publish(`fulmen.shard.${shard}`);
    if (forwarding.events.length > 0) this.ports.bus.publish('fulmen.event');
  }

  /** Hands an intent to the actor that shall carry it out. False: its shard is not here. */
  takeIntent(intent: Intent): boolean {
    if (!this.#fences.has(intent.targetShard)) return false;
    // The hub knows by itself what it has heard, and may ask to hear it again.
    if (intent.target.type === 'local') {
      this.payments.onIntent(intent);
      return true;
    }
    const key = `i${sourceKey(intent.source)}`;
    if (this.#underWay.has(key)) return true;
    this.#underWay.set(key, intent.targetShard);
    const actor = this.#carrierOf(intent.target.shortChannelId, intent.outgoingAmountMsat);
    // A peer that is away for a moment (its gateway restarted) gets the HTLC when it is back; the next poll finds it.
    const waits =
      actor !== undefined && !actor.isConnected() && mayWait(intent, this.ports.runtime.wallClockMs());
    if (actor === undefined || waits || !this.#offer(actor, intent)) this.#underWay.delete(key);
    return true;
  }

  /** BOLT 4 lets any channel with the same peer carry it: the named one unless another can and it cannot. */
  #carrierOf(shortChannelId: bigint, amountMsat: bigint): ChannelActor | undefined {
    const key = this.#scids.get(shortChannelId);
    const named = key === undefined ? undefined : this.#channels.get(key);
    if (named === undefined || named.outboundLiquidityMsat() >= amountMsat) return named;
    return this.#siblings(named).find((actor) => actor.outboundLiquidityMsat() >= amountMsat) ?? named;
  }

  #offer(actor: ChannelActor, intent: Intent): boolean {
    const key = sourceKey(intent.source);
    const tried = this.#tried.get(key) ?? new Set<ChannelActor>();
    tried.add(actor);
    const alternatives = this.#siblings(actor).some((sibling) => !tried.has(sibling)) ? 'untried' : 'none';
    if (alternatives === 'untried') this.#tried.set(key, tried);
    else this.#tried.delete(key);
    return actor.post({ kind: 'forward', intent, alternatives });
  }

  bounced(actor: ChannelActor, intent: Intent): void {
    const tried = this.#tried.get(sourceKey(intent.source));
    const next = this.#siblings(actor)
      .filter((sibling) => tried?.has(sibling) !== true)
      .toSorted((a, b) => (a.outboundLiquidityMsat() < b.outboundLiquidityMsat() ? 1 : -1))[0];
    if (next === undefined || !this.#offer(next, intent)) {
      this.#tried.delete(sourceKey(intent.source));
      this.#underWay.delete(`i${sourceKey(intent.source)}`);
    }
  }

  /** The usable channels with an actor's peer, itself included. */
  #siblings(actor: ChannelActor): readonly ChannelActor[] {
    const peer = this.peers.find(actor.counterpartyNodeId);
    return [...(peer?.channels.values() ?? [])].filter(
      (sibling) => !sibling.stopped && sibling.isConnected(),
    );
  }

  /** Hands a resolution to the actor whose HTLC it ends. False: its shard is not here. */
  takeResolution(resolution: Resolution): boolean {
    if (!this.#fences.has(resolution.sourceShard)) return false;
    if (resolution.source.type === 'payment') {
      this.payments.onResolution(resolution);
      return true;
    }
    const key = `r${sourceKey(resolution.source)}`;
    // A preimage must not wait behind the failure that it replaces.
    if (this.#underWay.has(key) && resolution.outcome.type !== 'fulfilled') return true;
    this.#underWay.set(key, resolution.sourceShard);
    const actor = this.channel(resolution.source.channelId);
    if (actor === undefined || !actor.post({ kind: 'resolution', resolution })) this.#underWay.delete(key);
    return true;
  }

  postponed(sources: readonly HtlcSource[]): void {
    for (const source of sources) this.#underWay.delete(`i${sourceKey(source)}`);
  }

  readResolutionsAgain(): void {
    for (const key of this.#underWay.keys()) if (key.startsWith('r')) this.#underWay.delete(key);
    this.#wakeWork();
  }

  /** Reads what was left for our shards; run by hint and by poll. */
  async findWork(): Promise<void> {
    const shards = this.ownedShards();
    if (shards.length === 0) return;
    const [intents, resolutions] = await Promise.all([
      this.ports.store.pendingIntents(shards, WORK_LIMIT),
      this.ports.store.pendingResolutions(shards, WORK_LIMIT),
    ]);
    for (const intent of intents) this.takeIntent(intent);
    for (const resolution of resolutions) this.takeResolution(resolution);
  }

  /** What chain-monitor found out about funding outputs. */
  async readFundingStatuses(): Promise<void> {
    const shards = this.ownedShards();
    if (shards.length === 0) return;
    for (const { channelId, status } of await this.ports.store.fundingStatuses(shards)) {
      const actor = this.channel(channelId);
      if (actor === undefined || !actor.isNews(status)) continue;
      actor.post({ kind: 'funding_status', status });
    }
  }

  /** Scids appear with confirmations: whoever asks by scid must find them. */
  reindex(): void {
    for (const actor of this.#channels.values()) this.#indexScids(actor);
  }

  // ---------------------------------------------------------------- gossip

  inBackground(name: string, work: () => Promise<void>): void {
    this.ports.runtime.spawn(name, async () => {
      try {
        await work();
      } catch (error) {
        // Its actor left this replica: whoever has the channel now does it again.
        if (!(error instanceof AbortedError)) throw error;
      }
    });
  }

  async #publish(actor: ChannelActor, messages: Uint8Array[]): Promise<void> {
    const { runtime, router } = this.ports;
    await patiently(
      runtime,
      () => actor.stopped,
      () => router.publishOwn({ messages }),
    );
  }

  publishPolicy(actor: ChannelActor): void {
    this.#indexScids(actor);
    this.inBackground('channel update', async () => {
      const generation = actor.generation;
      const forPeer = await ownChannelUpdate(this.ports, this.node, actor, 'peer');
      if (forPeer !== undefined && generation !== undefined)
        this.peers.find(actor.counterpartyNodeId)?.sendBytes(forPeer, generation);
      const { state } = actor;
      if (state.type !== 'established' || !state.parameters.announce) return;
      const forWorld = await ownChannelUpdate(this.ports, this.node, actor, 'world');
      if (forWorld !== undefined) await this.#publish(actor, [forWorld]);
    });
  }

  publishAnnouncement(
    actor: ChannelActor,
    theirs: { shortChannelId: bigint; nodeSignature: Uint8Array; bitcoinSignature: Uint8Array },
  ): void {
    this.inBackground('channel announcement', async () => {
      const announcement = await fullAnnouncement(this.ports, this.node, actor, theirs);
      if (announcement === undefined) {
        this.ports.logger.warn(
          { channel: actor.channelId },
          'the peer’s announcement_signatures do not verify',
        );
        return;
      }
      const update = await ownChannelUpdate(this.ports, this.node, actor, 'world');
      await this.#publish(actor, update === undefined ? [announcement] : [announcement, update]);
    });
  }

  /** Terms that counterparties ask for their direction of our private channels: not learnt yet by this replica. */
  counterpartyPolicies(): readonly [] {
    return [];
  }

  /** Throws where another replica is to be asked. */
  requirePeer(nodeId: Uint8Array): Peer {
    const peer = this.peers.peerOf(nodeId);
    if (peer !== undefined) return peer;
    throw this.notOwner(shardOfPeer(nodeId));
  }

  notOwner(shard: number): RpcError {
    const owner = this.#keeper?.ownerOf(shard);
    const address = owner?.address;
    return new RpcError(
      address === undefined ? 'unavailable' : 'failed_precondition',
      address === undefined
        ? 'no replica owns this shard at the moment: try again'
        : 'another replica owns this shard',
      address === undefined ? {} : { 'fulmen-owner-address': address },
    );
  }

  ownerOf(shard: number): string | undefined {
    return this.#keeper?.ownerOf(shard)?.replicaId;
  }
}

/** Rows read at once when looking for work. */
const WORK_LIMIT = 500;
