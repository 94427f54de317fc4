/**
 * Where intents and resolutions are handed to the actors that carry them out:
 * in memory from one actor to another, or from the store by hint and by poll. It
 * remembers what is in an actor's hands, so that a poll does not hand it over
 * again, and which channels have been tried for a forward.
 */
import type { HtlcSource, Intent, Resolution } from '@fulmen/store';
import type { PaymentHub } from '../payments/payment-hub.ts';
import type { PeerHub } from '../peers/peer-hub.ts';
import type { ChannelActor } from './channel-actor.ts';
import type { ChannelDirectory } from './channel-directory.ts';
import { mayWait, namesHiddenScid } from './forward-terms.ts';
import type { GrowingForwarding } from './forwarding.ts';
import type { EnginePorts } from './ports.ts';
import { sourceKey } from './source-key.ts';

/** Rows read at once when looking for work. */
const WORK_LIMIT = 500;
/** Pages of them in one look. */
const MAX_PAGES = 4;

/** What the desk looks at in the replica it stands in. */
export interface DeskSurroundings {
  readonly directory: ChannelDirectory;
  readonly peers: Pick<PeerHub, 'find'>;
  /** Late, because payments deliver through the desk themselves. */
  payments(): Pick<PaymentHub, 'onIntent' | 'onResolution'>;
  owns(shard: number): boolean;
}

export class ForwardDesk {
  readonly #ports: EnginePorts;
  readonly #surroundings: DeskSurroundings;
  /** Intents and resolutions handed to an actor that has not committed them yet, with the shard that actor is in. */
  readonly #underWay = new Map<string, number>();
  /** Channels that had no room for a forward, while others are tried. */
  readonly #tried = new Map<string, Set<ChannelActor>>();
  /** Where the next look goes on; undefined: at the oldest. */
  #lookedUpTo: Intent | undefined;

  constructor(ports: EnginePorts, surroundings: DeskSurroundings) {
    this.#ports = ports;
    this.#surroundings = surroundings;
  }

  /** What the actors of a lost shard had in hand is to be found again, also when the shard comes back here. */
  dropShard(shard: number): void {
    for (const [key, holder] of this.#underWay) if (holder === shard) this.#underWay.delete(key);
  }

  /** After a commit: its rows are handed over in memory where they live here, hinted elsewhere. */
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
    for (const shard of hinted) this.#ports.bus.publish(`fulmen.shard.${shard}`);
    if (forwarding.events.length > 0) this.#ports.bus.publish('fulmen.event');
  }

  /** Hands an intent to the actor that shall carry it out. False: its shard is not here. */
  takeIntent(intent: Intent): boolean {
    if (!this.#surroundings.owns(intent.targetShard)) return false;
    // The hub knows by itself what it has heard, and may ask to hear it again.
    if (intent.target.type === 'local') {
      this.#surroundings.payments().onIntent(intent);
      return true;
    }
    const key = `i${sourceKey(intent.source)}`;
    if (this.#underWay.has(key)) return true;
    this.#underWay.set(key, intent.targetShard);
    const actor = this.#carrierOf(intent.target.shortChannelId, intent);
    // A peer that is away for a moment (its gateway restarted) gets the HTLC when it is back; the next poll finds it.
    const waits =
      actor !== undefined && !actor.isConnected() && mayWait(intent, this.#ports.runtime.wallClockMs());
    if (actor === undefined || waits || !this.#offer(actor, intent)) this.#underWay.delete(key);
    return true;
  }

  /** BOLT 4 lets any channel with the same peer carry it: the named one unless another can and it cannot. */
  #carrierOf(shortChannelId: bigint, intent: Intent): ChannelActor | undefined {
    const named = this.#surroundings.directory.byScid(shortChannelId);
    const hasRoom = (actor: ChannelActor): boolean =>
      actor.outboundLiquidityMsat() >= intent.outgoingAmountMsat;
    // A channel that is named by what it hides says no itself.
    if (named === undefined || hasRoom(named) || namesHiddenScid(named.state, intent)) return named;
    return this.#siblings(named).find(hasRoom) ?? named;
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

  /** An actor had no room for an intent: another channel with the peer is tried, each once. */
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
    const peer = this.#surroundings.peers.find(actor.counterpartyNodeId);
    return [...(peer?.channels.values() ?? [])].filter(
      (sibling) => !sibling.stopped && sibling.isConnected(),
    );
  }

  /** Hands a resolution to the actor whose HTLC it ends. False: its shard is not here. */
  takeResolution(resolution: Resolution): boolean {
    if (!this.#surroundings.owns(resolution.sourceShard)) return false;
    if (resolution.source.type === 'payment') {
      this.#surroundings.payments().onResolution(resolution);
      return true;
    }
    const key = `r${sourceKey(resolution.source)}`;
    // A preimage must not wait behind the failure that it replaces.
    if (this.#underWay.has(key) && resolution.outcome.type !== 'fulfilled') return true;
    this.#underWay.set(key, resolution.sourceShard);
    const actor = this.#surroundings.directory.byId(resolution.source.channelId);
    if (actor === undefined || !actor.post({ kind: 'resolution', resolution })) this.#underWay.delete(key);
    return true;
  }

  /** Intents that an actor left for the next poll. */
  postponed(sources: readonly HtlcSource[]): void {
    for (const source of sources) this.#underWay.delete(`i${sourceKey(source)}`);
  }

  /** Resolutions in hand may have changed: the next poll hands them over anew. */
  forgetResolutions(): void {
    for (const key of this.#underWay.keys()) if (key.startsWith('r')) this.#underWay.delete(key);
  }

  /** Reads what was left for our shards; run by hint and by poll. */
  async findWork(shards: readonly number[]): Promise<void> {
    if (shards.length === 0) return;
    const [, resolutions] = await Promise.all([
      this.#findIntents(shards),
      this.#ports.store.pendingResolutions(shards, WORK_LIMIT),
    ]);
    for (const resolution of resolutions) this.takeResolution(resolution);
  }

  /**
   * Page by page, and on from there in the next look: what stays unclaimed for long (parts that are held, forwards to a
   * peer that is away) is of any number, and must not hide what came after it.
   */
  async #findIntents(shards: readonly number[]): Promise<void> {
    for (let page = 0; page < MAX_PAGES; page++) {
      const intents = await this.#ports.store.pendingIntents(shards, WORK_LIMIT, this.#lookedUpTo);
      for (const intent of intents) this.takeIntent(intent);
      this.#lookedUpTo = intents.length < WORK_LIMIT ? undefined : intents.at(-1);
      if (this.#lookedUpTo === undefined) return;
    }
  }
}
