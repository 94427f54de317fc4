/**
 * Publishes our own gossip in the background: to the counterparty itself, to
 * the world through the router. The router's graph says what the world was told
 * last: nothing is said twice without need, and what is said is newer than it.
 */
import { primaryFunding } from '@fulmen/channel';
import type { GraphPolicy } from '@fulmen/proto/router/v1/router';
import { RpcError } from '@fulmen/rpc';
import type { PeerHub } from '../peers/peer-hub.ts';
import { patiently } from '../signing/patiently.ts';
import type { ActorHost } from './actor-host.ts';
import type { ChannelActor } from './channel-actor.ts';
import {
  fullAnnouncement,
  nextUpdateTimestamp,
  ownDirection,
  ownTerms,
  peersScid,
  realScid,
  signedUpdate,
} from './own-gossip.ts';

/** The counterparty's signatures of an announcement. */
export interface AnnouncementHalf {
  readonly shortChannelId: bigint;
  readonly nodeSignature: Uint8Array;
  readonly bitcoinSignature: Uint8Array;
}

export interface GossipHost extends Pick<ActorHost, 'ports' | 'node' | 'inBackground'> {
  readonly peers: Pick<PeerHub, 'find'>;
}

/**
 * Unchanged terms are sent again after so long. BOLT 7: "if the `timestamp` of the latest `channel_update` in either
 * direction is older than two weeks (1209600 seconds): MAY prune the channel."
 */
const REFRESH_SECONDS = 7 * 86_400;

export class GossipPublisher {
  readonly #host: GossipHost;
  /** How long a peer may be away before its channel is disabled. */
  readonly #disableAfterMs: number;
  /** The last work of a channel that has some; one after the other, so that timestamps grow. */
  readonly #last = new Map<ChannelActor, Promise<void>>();
  /** The connection on which a channel's terms were told again. */
  readonly #toldAgain = new WeakMap<ChannelActor, bigint | undefined>();

  constructor(host: GossipHost, disableAfterMs: number) {
    this.#host = host;
    this.#disableAfterMs = disableAfterMs;
  }

  /** The terms of a channel for its counterparty, and for the world if it is announced. */
  publishPolicy(actor: ChannelActor): void {
    this.#inTurn('channel update', actor, async () => {
      await this.#tellPeer(actor);
      await this.#tellWorld(actor);
    });
  }

  /**
   * A peer that tells its terms of a channel has it in its graph. LND drops what it heard of an unannounced channel
   * under an alias before that: once for each connection, our terms are told again.
   */
  peerSpoke(actor: ChannelActor): void {
    const { state, generation } = actor;
    if (state.type !== 'established' || state.parameters.announce) return;
    if (state.counterpartyAliasScid === undefined || this.#toldAgain.get(actor) === generation) return;
    this.#toldAgain.set(actor, generation);
    this.publishPolicy(actor);
  }

  /** The announcement of a channel once both halves of its signatures are there, with its terms. */
  publishAnnouncement(actor: ChannelActor, theirs: AnnouncementHalf): void {
    const { ports, node } = this.#host;
    this.#inTurn('channel announcement', actor, async () => {
      const announcement = await fullAnnouncement(ports, node, actor, theirs);
      if (announcement === undefined) {
        ports.logger.warn({ channel: actor.channelId }, 'the peer’s announcement_signatures do not verify');
        return;
      }
      await this.#tellWorld(actor, announcement);
    });
  }

  /**
   * Looks at every announced channel: one whose peer has been away for long is disabled, one whose terms the world
   * has not heard for long is refreshed.
   */
  look(actors: readonly ChannelActor[], which: 'changed' | 'all'): void {
    const nowMs = this.#host.ports.runtime.monotonicMs();
    for (const actor of actors) {
      if (actor.state.type !== 'established' || !actor.state.parameters.announce) continue;
      const wasDisabled = this.#isDisabled(actor, nowMs);
      if (actor.isConnected()) actor.awaySinceMs = undefined;
      else actor.awaySinceMs ??= nowMs;
      const { toldDisabled = wasDisabled } = actor;
      if (which === 'all' || this.#isDisabled(actor, nowMs) !== toldDisabled)
        this.#inTurn('channel update', actor, () => this.#tellWorld(actor));
    }
  }

  /**
   * BOLT 7: "MAY create and send a `channel_update` with the `disable` bit set to 1, to signal a channel's temporary
   * unavailability (e.g. due to a loss of connectivity) OR permanent unavailability (e.g. prior to an on-chain
   * settlement)."
   */
  #isDisabled(actor: ChannelActor, nowMs: number): boolean {
    const { state, awaySinceMs } = actor;
    if (state.type !== 'established' || state.phase.type !== 'open') return true;
    if (actor.isConnected()) return false;
    return awaySinceMs !== undefined && nowMs - awaySinceMs >= this.#disableAfterMs;
  }

  async #tellPeer(actor: ChannelActor): Promise<void> {
    const { ports, node, peers } = this.#host;
    const { generation, state } = actor;
    if (generation === undefined || state.type !== 'established' || state.phase.type !== 'open') return;
    const shortChannelId = peersScid(state);
    if (shortChannelId === undefined) return;
    const update = await signedUpdate(ports, node, actor, {
      shortChannelId,
      timestamp: nextUpdateTimestamp(ports, actor, 0),
      isDisabled: false,
    });
    if (update !== undefined) peers.find(actor.counterpartyNodeId)?.sendBytes(update, generation);
  }

  async #tellWorld(actor: ChannelActor, fresh?: Uint8Array): Promise<void> {
    const { ports, node } = this.#host;
    const { state } = actor;
    if (state.type !== 'established' || !state.parameters.announce) return;
    const shortChannelId = realScid(state);
    if (shortChannelId === undefined) return;
    const { channel } = await this.#patiently(actor, () => ports.router.lookupChannel({ shortChannelId }));
    const announcement = channel === undefined ? (fresh ?? (await this.#signedBefore(actor))) : undefined;
    // Terms of a channel that nobody knows are ignored: they go out with its announcement.
    if (channel === undefined && announcement === undefined) return;
    const known = ownDirection(node, state) === 0 ? channel?.policy1 : channel?.policy2;
    const isDisabled = this.#isDisabled(actor, ports.runtime.monotonicMs());
    actor.toldDisabled = isDisabled;
    if (known !== undefined && this.#isSaid(known, actor, isDisabled)) return;
    const timestamp = nextUpdateTimestamp(ports, actor, known?.timestamp ?? 0);
    const update = await signedUpdate(ports, node, actor, { shortChannelId, timestamp, isDisabled });
    const messages = [
      ...(announcement === undefined ? [] : [announcement]),
      ...(update === undefined ? [] : [update]),
    ];
    try {
      await this.#patiently(actor, () => ports.router.publishOwn({ messages }));
    } catch (error) {
      // What the graph or the chain refuses now is looked at again with the next change, and from time to time.
      if (!(error instanceof RpcError) || error.code !== 'failed_precondition') throw error;
      ports.logger.warn({ channel: actor.channelId, reason: error.message }, 'own gossip was not taken');
    }
  }

  /** An announcement that both have signed, and that a crash or the router kept from the world. */
  async #signedBefore(actor: ChannelActor): Promise<Uint8Array | undefined> {
    const { state } = actor;
    if (state.type !== 'established' || state.phase.type !== 'open') return undefined;
    const { announcement } = primaryFunding(state);
    if (announcement.type !== 'counterparty_signed' || announcement.holder === 'unsent') return undefined;
    if (announcement.shortChannelId !== realScid(state)) return undefined;
    return fullAnnouncement(this.#host.ports, this.#host.node, actor, announcement);
  }

  #isSaid(known: GraphPolicy, actor: ChannelActor, isDisabled: boolean): boolean {
    const now = Math.floor(this.#host.ports.runtime.wallClockMs() / 1_000);
    const terms = ownTerms(actor);
    return (
      terms !== undefined &&
      now - known.timestamp < REFRESH_SECONDS &&
      known.disabled === isDisabled &&
      known.cltvExpiryDelta === terms.cltvExpiryDelta &&
      known.feeBaseMsat === terms.feeBaseMsat &&
      known.feeProportionalMillionths === terms.feeProportionalMillionths &&
      known.htlcMinimumMsat === terms.htlcMinimumMsat &&
      known.htlcMaximumMsat === terms.htlcMaximumMsat
    );
  }

  #patiently<T>(actor: ChannelActor, call: () => Promise<T>): Promise<T> {
    return patiently(this.#host.ports.runtime, () => actor.stopped, call);
  }

  #inTurn(name: string, actor: ChannelActor, work: () => Promise<void>): void {
    const before = this.#last.get(actor) ?? Promise.resolve();
    const mine = before.then(work);
    const settled = mine.catch(() => undefined);
    this.#last.set(actor, settled);
    this.#host.inBackground(name, async () => {
      try {
        await mine;
      } finally {
        if (this.#last.get(actor) === settled) this.#last.delete(actor);
      }
    });
  }
}
