/**
 * The engine of a replica: the shards it owns, the actors in them, and the
 * ways between actors. It implements what actors, payments and RPC handlers ask
 * of the replica they live in.
 */
import { isPending, Openings, type OpeningLimits } from './openings.ts';
import type { ChannelState, EstablishedChannel, OutboundMessage, PeerMessage } from '@fulmen/channel';
import { primaryFunding } from '@fulmen/channel';
import { isClosing } from '@fulmen/channel/close/force';
import { isFrozen } from '@fulmen/channel/updates/ready';
import { type CommitmentFeerates, feerateToPropose } from '@fulmen/channel/updates/fee-policy';
import { toHex } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { shardOfPeer } from '@fulmen/keys/shard';
import type { Refusal } from '@fulmen/proto/signer/v1/signer';
import { RefusalKind } from '@fulmen/proto/signer/v1/signer';
import { RpcError } from '@fulmen/rpc';
import { AbortedError } from '@fulmen/service';
import type { Fence, HtlcSource, Intent, Verdict } from '@fulmen/store';
import { PaymentHub } from '../payments/payment-hub.ts';
import type { PaymentHost } from '../payments/payment-host.ts';
import { Backups, type BackupsOptions } from '../backup/backups.ts';
import { PeerHub } from '../peers/peer-hub.ts';
import type { Peer } from '../peers/peer.ts';
import type { ShardHandler, ShardKeeper } from '../lease/shard-keeper.ts';
import type { ActorHost } from './actor-host.ts';
import { ChannelActor } from './channel-actor.ts';
import { ChannelDirectory } from './channel-directory.ts';
import { learnTerms } from './counterparty-terms.ts';
import { ForwardDesk } from './forward-desk.ts';
import type { GrowingForwarding } from './forwarding.ts';
import { type AnnouncementHalf, GossipPublisher } from './gossip-publisher.ts';
import { NodeAnnouncer, type NodeIdentity } from './node-announcer.ts';
import { otherSignatures } from './other-signatures.ts';
import { PolicyDefaults, type PolicySettings } from './policy.ts';
import type { EnginePorts, NodeView } from './ports.ts';
import { Registration } from './registration.ts';
import { isFinished, loadShard, type RestoredChannel } from './shard-loader.ts';
import { TowerWatch } from './tower-watch.ts';
import type { OtherSignatures } from '../signing/sign-item.ts';

export interface EngineOptions {
  readonly replicaId: string;
  readonly openings: OpeningLimits;
  readonly policy: PolicySettings;
  readonly backups: BackupsOptions;
  readonly identity: NodeIdentity;
  /** How long a peer may be away before its public channels are disabled. */
  readonly disableAfterMs: number;
}

export class Engine implements ActorHost, PaymentHost, ShardHandler {
  readonly ports: EnginePorts;
  readonly node: NodeView;
  readonly peers: PeerHub;
  readonly payments: PaymentHub;
  readonly openings: Openings;
  readonly policies: PolicyDefaults;
  readonly backups: Backups;
  readonly #announcer: NodeAnnouncer;
  readonly towers: TowerWatch | undefined;
  readonly #registration: Registration;
  readonly #fences = new Map<number, Fence>();
  readonly #directory: ChannelDirectory;
  readonly #desk: ForwardDesk;
  readonly #gossip: GossipPublisher;
  #heightTold: number | undefined;
  #keeper: ShardKeeper | undefined;
  #wakeWork: () => void = () => undefined;

  constructor(ports: EnginePorts, node: NodeView, options: EngineOptions) {
    this.ports = ports;
    this.node = node;
    this.policies = new PolicyDefaults(options.policy);
    this.towers = ports.towers === undefined ? undefined : new TowerWatch(ports.towers, ports);
    this.#registration = new Registration(ports);
    this.#directory = new ChannelDirectory(ports.store);
    this.peers = new PeerHub(
      ports,
      options.replicaId,
      () => [...this.#fences.values()],
      (shard) => this.#fences.get(shard),
      {
        openChannelReceived: (peer, message, generation) => this.openings.received(peer, message, generation),
        unknownChannel: (peer, channelId, generation) => this.#unknownChannel(peer, channelId, generation),
        connected: (peer) => {
          this.backups.storage.connected(peer);
          this.#wakeWork();
        },
        keptFor: (nodeId) => this.backups.storage.kept(nodeId),
        channelUpdateReceived: async (peer, message) => {
          const actor = await learnTerms(ports, node, peer, message);
          if (actor !== undefined) this.#gossip.peerSpoke(actor);
        },
        storageReceived: (peer, message) => this.backups.storageReceived(peer, message),
      },
    );
    this.openings = new Openings(this, options.openings, this.policies, () => this.#pendingChannels());
    this.#desk = new ForwardDesk(ports, {
      directory: this.#directory,
      peers: this.peers,
      payments: () => this.payments,
      fenceOf: (shard) => this.#fences.get(shard),
    });
    this.#gossip = new GossipPublisher(this, options.disableAfterMs);
    this.#announcer = new NodeAnnouncer(ports, node, options.identity);
    this.payments = new PaymentHub(this);
    this.backups = new Backups(
      {
        ports,
        node,
        fenceOf: (shard) => this.#fences.get(shard),
        ownerAddress: (shard) => this.#keeper?.ownerOf(shard)?.address,
        peers: () => this.peers.peers(),
        adopt: (fence, channel) => this.#adopt(fence, channel),
        reload: (fence, reason) => this.dropShard(fence, reason),
      },
      options.backups,
    );
  }

  /** The keeper of shards is made with this engine as its handler. */
  attach(keeper: ShardKeeper, wakeWork: () => void): void {
    this.#keeper = keeper;
    this.#wakeWork = wakeWork;
  }

  // ---------------------------------------------------------------- shards

  async gained(fence: Fence): Promise<void> {
    const loaded = await loadShard(this.ports, fence);
    this.#fences.set(fence.shard, fence);
    for (const { channelId, counterpartyNodeId, reason } of loaded.unreadable) {
      this.ports.logger.error({ channelId, reason }, 'a channel’s rows cannot be read: it is out of service');
      this.peers.peerOf(counterpartyNodeId)?.unreadable.add(toHex(channelId));
    }
    for (const channel of loaded.channels) if (!isFinished(channel.state)) this.#revive(fence, channel);
    this.payments.load(fence, loaded.payments);
    this.peers.announceOwnership();
    if (loaded.channels.length > 0) void this.peers.reconnectWanted();
    this.#wakeWork();
  }

  /** A channel that was just recovered: its peer may be there already, and is dialled otherwise. */
  #adopt(fence: Fence, restored: RestoredChannel): void {
    if (this.#fences.get(fence.shard)?.epoch !== fence.epoch) return;
    this.#revive(fence, restored);
    const { connection } = this.peers.find(restored.state.parameters.counterpartyNodeId) ?? {};
    if (connection === undefined) void this.peers.reconnectWanted();
    else
      this.channel(restored.state.channelId)?.post({
        kind: 'connected',
        generation: connection.generation,
        features: connection.features,
      });
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
        { channel: state.channelId, reason: restored.contradiction.reason },
        'ALARM: this channel is passive: it will not sign or broadcast',
      );
      // The operator may bring the right database of the signer back: the rows are kept as they are for it.
      if (restored.contradiction.behind === 'signer' || isClosing(state))
        return actor.makePassive(restored.contradiction.reason);
      // Nothing brings back what the rows lack. First of all: what was uncommitted in them may be committed since.
      actor.post({ kind: 'state_lost' });
    }
    // What was never committed is gone with the connection; what was is taken up again.
    actor.post({ kind: 'disconnected', generation: 0n });
    this.#resumeTowers(actor, state);
    actor.post({ kind: 'resume' });
    if (loaded.closingDecision !== undefined) actor.closingDecided(loaded.closingDecision);
    if (state.phase.type === 'closing_mutual') actor.rebroadcastClosing();
    actor.blockConnected(this.node.blockHeight);
  }

  /** A channel that was frozen goes on waiting, unless nobody asks for towers any more. */
  #resumeTowers(actor: ChannelActor, state: EstablishedChannel): void {
    if (!isFrozen(state)) return;
    if (this.towers === undefined)
      actor.post({ kind: 'monitor_completed', updateId: state.monitor.updateId });
    else this.towers.wait(actor, state.monitor.updateId);
  }

  lost(shard: number, reason: string): void {
    if (!this.#fences.delete(shard)) return;
    this.ports.logger.info({ shard, reason }, 'a shard left this replica');
    for (const peer of this.peers.dropShard(shard)) {
      for (const actor of peer.actors()) {
        actor.stop();
        this.openings.lost(actor);
      }
    }
    this.#directory.dropShard(shard);
    this.#desk.dropShard(shard);
    this.payments.drop(shard);
    this.peers.announceOwnership();
  }

  /**
   * What is queued and not begun comes again to the next owner, as after a crash: peers reestablish on a new connection,
   * intents, resolutions and what chain-monitor says are rows, blocks are looked at anew. Commands are answered by `lost`.
   */
  async drained(shard: number): Promise<void> {
    const peers = this.peers.peers().filter((peer) => peer.fence.shard === shard);
    const actors = peers.flatMap((peer) => peer.actors());
    await Promise.all([...actors.map((actor) => actor.drain()), this.payments.idle(shard)]);
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
    peer.channels.set(toHex(actor.channelId), actor);
    this.#directory.add(actor);
  }

  channel(channelId: Uint8Array): ChannelActor | undefined {
    return this.#directory.byId(channelId);
  }

  channels(): readonly ChannelActor[] {
    return this.#directory.all();
  }

  #pendingChannels(): { ofPeer: (peer: Peer) => number; total: number } {
    const ofPeer = (peer: Peer): number =>
      peer.beginning.size + peer.actors().filter((actor) => isPending(actor.state)).length;
    return { ofPeer, total: this.peers.peers().reduce((sum, peer) => sum + ofPeer(peer), 0) };
  }

  established(actor: ChannelActor, temporaryChannelId: Uint8Array): void {
    const peer = this.peers.find(actor.counterpartyNodeId);
    if (peer === undefined) return;
    peer.openings.delete(toHex(temporaryChannelId));
    this.#register(actor, peer);
    // A connection that was accepted while this was committed has not heard of the channel, nor the channel of it.
    if (peer.connection !== undefined && peer.connection.generation !== actor.generation)
      peer.disconnect('a channel was opened meanwhile');
    this.openings.established(actor);
    this.channelsChanged();
    void this.ports.store.setPolicy(actor.fence, actor.channelId, actor.policy).catch((error: unknown) => {
      this.ports.logger.warn(
        { err: error },
        'a new channel’s policy was not stored; its defaults apply after a restart',
      );
    });
  }

  /** A backup is due. */
  channelsChanged(): void {
    this.backups.keeper.due();
    this.ports.bus.publish('fulmen.backup');
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
    // BOLT 1: "SHOULD send error with the unknown channel_id in reply to messages of type 32-255 related to unknown channels."
    const text = peer.hasChannel(channelId) ? 'the channel is out of service' : 'unknown channel';
    peer.complain(channelId, text, generation);
  }

  // ---------------------------------------------------------------- messages

  send(actor: ChannelActor, message: PeerMessage, generation: bigint): void {
    const peer = this.peers.find(actor.counterpartyNodeId);
    // The peer tells its terms once both have said channel_ready.
    if (message.type === 'channel_ready') peer?.tellScids();
    peer?.send(message, generation);
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
    return otherSignatures(this.ports, this.node, actor);
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
    // The frames that it had in hand are never acknowledged: a new connection counts anew, for the peer's other channels.
    this.peers.find(actor.counterpartyNodeId)?.disconnect('a channel is out of service');
  }

  // ---------------------------------------------------------------- between shards

  shardOfScid(shortChannelId: bigint): Promise<number | undefined> {
    return this.#directory.shardOfScid(shortChannelId);
  }

  deliver(forwarding: GrowingForwarding): void {
    this.#desk.deliver(forwarding);
  }

  bounced(actor: ChannelActor, intent: Intent): void {
    this.#desk.bounced(actor, intent);
  }

  letGo(sources: readonly HtlcSource[]): void {
    this.#desk.letGo(sources);
  }

  readResolutionAgain(source: HtlcSource): void {
    this.#desk.readResolutionAgain(source);
    this.#wakeWork();
  }

  /** Reads what was left for our shards; run by hint and by poll. */
  findWork(): Promise<void> {
    return this.#desk.findWork(this.ownedShards());
  }

  /** What chain-monitor found out about funding outputs. */
  async readFundingStatuses(): Promise<void> {
    const shards = this.ownedShards();
    if (shards.length === 0) return;
    for (const { channelId, status, closingDecision } of await this.ports.store.fundingStatuses(shards)) {
      const actor = this.channel(channelId);
      if (closingDecision !== undefined) actor?.closingDecided(closingDecision);
      if (actor === undefined || !actor.isNews(status)) continue;
      actor.post({ kind: 'funding_status', status });
    }
  }

  /** Looks at the chain, by hint and by poll. A block counts as told once its look came to an end. */
  async followChain(height: number): Promise<void> {
    this.node.blockHeight = height;
    await this.readFundingStatuses();
    this.#directory.reindex();
    if (height === this.#heightTold) return;
    this.#directory.blockConnected();
    for (const actor of this.channels()) actor.blockConnected(height);
    this.#heightTold = height;
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

  /** Proposes what commitments should pay now, where this node pays for them. */
  followFeerates(wanted: CommitmentFeerates): void {
    for (const actor of this.channels()) {
      const feerateSatPerKw = feerateToPropose(actor.state, wanted);
      if (feerateSatPerKw === undefined) continue;
      actor.post({
        kind: 'command',
        input: { type: 'update_fee', feerateSatPerKw },
        settle: (outcome) => {
          if (outcome.ok) return;
          const channel = toHex(actor.channelId);
          this.ports.logger.info({ channel, feerateSatPerKw, err: outcome.error }, 'the feerate stays');
        },
      });
    }
  }

  publishPolicy(actor: ChannelActor): void {
    this.#directory.indexScids(actor);
    this.#gossip.publishPolicy(actor);
  }

  publishAnnouncement(actor: ChannelActor, theirs: AnnouncementHalf): void {
    this.#gossip.publishAnnouncement(actor, theirs);
  }

  /** The replica of the first shard sees to the node's own announcement. */
  async announceNode(): Promise<void> {
    if (this.#fences.has(0)) await this.#announcer.run();
  }

  /** Looks after the public channels: those that changed, or all of them. */
  lookAfterGossip(which: 'changed' | 'all'): void {
    this.#gossip.look(this.channels(), which);
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
