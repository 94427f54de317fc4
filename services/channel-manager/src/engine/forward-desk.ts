/**
 * Where intents and resolutions are handed to the actors that carry them out:
 * in memory from one actor to another, or from the store by hint and by poll. It
 * remembers what is in an actor's hands, so that a poll does not hand it over
 * again, and which channels have been tried for a forward. What no channel can
 * carry out it answers itself.
 */
import { encodeFailureMessage, type FailureMessage } from '@fulmen/onion';
import type { Fence, HtlcSource, Intent, Resolution } from '@fulmen/store';
import type { PaymentHub } from '../payments/payment-hub.ts';
import type { PeerHub } from '../peers/peer-hub.ts';
import type { ChannelActor } from './channel-actor.ts';
import type { ChannelDirectory } from './channel-directory.ts';
import { mayWait, namesHiddenScid, outOfService } from './forward-terms.ts';
import { emptyForwarding, type GrowingForwarding } from './forwarding.ts';
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
  fenceOf(shard: number): Fence | undefined;
}

/** Who has an intent or a resolution in hand: an actor, or the desk itself while it answers. */
type Holder = Pick<ChannelActor, 'fence' | 'stopped'>;

/** What a channel had in hand when it went out of service is in nobody's. */
const isHeld = (holder: Holder | undefined): boolean => holder?.stopped === false;

export class ForwardDesk {
  readonly #ports: EnginePorts;
  readonly #surroundings: DeskSurroundings;
  /** Intents in somebody's hands, and not committed yet. */
  readonly #intents = new Map<string, Holder>();
  /** The same of resolutions, and what they said. */
  readonly #resolutions = new Map<
    string,
    { readonly holder: Holder; readonly type: Resolution['outcome']['type'] }
  >();
  /** Channels that had no room for a forward, while others are tried. */
  readonly #tried = new Map<string, Set<ChannelActor>>();
  /** Where the next look goes on; undefined: at the first. */
  #intentsUpTo: Intent | undefined;
  #resolutionsUpTo: Resolution | undefined;

  constructor(ports: EnginePorts, surroundings: DeskSurroundings) {
    this.#ports = ports;
    this.#surroundings = surroundings;
  }

  /** What the actors of a lost shard had in hand is to be found again, also when the shard comes back here. */
  dropShard(shard: number): void {
    for (const [key, { fence }] of this.#intents) {
      if (fence.shard !== shard) continue;
      this.#intents.delete(key);
      this.#tried.delete(key);
    }
    for (const [key, { holder }] of this.#resolutions)
      if (holder.fence.shard === shard) this.#resolutions.delete(key);
  }

  /** After a commit: its rows are handed over in memory where they live here, hinted elsewhere. */
  deliver(forwarding: GrowingForwarding): void {
    this.letGo(forwarding.intentClaims.map(({ source }) => source));
    for (const { source } of forwarding.resolutionsTaken) this.#resolutions.delete(sourceKey(source));
    const hinted = new Set<number>();
    for (const intent of forwarding.intents) if (!this.takeIntent(intent)) hinted.add(intent.targetShard);
    for (const resolution of forwarding.resolutions)
      if (!this.takeResolution(resolution)) hinted.add(resolution.sourceShard);
    for (const shard of hinted) this.#ports.bus.publish(`fulmen.shard.${shard}`);
    if (forwarding.events.length > 0) this.#ports.bus.publish('fulmen.event');
  }

  /** Hands an intent to the actor that shall carry it out. False: its shard is not here. */
  takeIntent(intent: Intent): boolean {
    const fence = this.#surroundings.fenceOf(intent.targetShard);
    if (fence === undefined) return false;
    // The hub knows by itself what it has heard, and may ask to hear it again.
    if (intent.target.type === 'local') {
      this.#surroundings.payments().onIntent(intent);
      return true;
    }
    if (isHeld(this.#intents.get(sourceKey(intent.source)))) return true;
    const named = this.#surroundings.directory.byScid(intent.target.shortChannelId);
    const actor = named && this.#carrierOf(named, intent);
    if (actor === undefined) {
      this.#refuse(intent, outOfService(named?.state, intent), fence);
      return true;
    }
    // A peer that is away for a moment (its gateway restarted) gets the HTLC when it is back; the next poll finds it.
    if (!actor.isConnected() && mayWait(intent, this.#ports.runtime.wallClockMs())) return true;
    this.#offer(actor, intent);
    return true;
  }

  /**
   * BOLT 4 lets any channel with the same peer carry it: the named one unless another can and it cannot. None, when all
   * are out of service.
   */
  #carrierOf(named: ChannelActor, intent: Intent): ChannelActor | undefined {
    const hasRoom = (actor: ChannelActor): boolean =>
      actor.outboundLiquidityMsat() >= intent.outgoingAmountMsat;
    const itself = named.isInService ? named : undefined;
    // A channel that is named by what it hides says no itself.
    if (namesHiddenScid(named.state, intent) || (itself !== undefined && hasRoom(itself))) return itself;
    return this.#siblings(named).find(hasRoom) ?? itself ?? this.#inService(named)[0];
  }

  /** Nothing here can carry it: whoever it came from hears so at once, not when the HTLC expires. */
  #refuse({ source, sourceShard }: Intent, failure: FailureMessage, fence: Fence): void {
    const key = sourceKey(source);
    this.#intents.set(key, { fence, stopped: false });
    const forwarding = emptyForwarding();
    forwarding.intentClaims.push({ source, outcome: 'cancelled' });
    const outcome = { type: 'failed_here', failure: encodeFailureMessage(failure) } as const;
    forwarding.resolutions.push({ source, sourceShard, outcome });
    this.#ports.committer
      .submit({ kind: 'shard', commit: { fence, forwarding } })
      .then(({ verdict }) => {
        // Otherwise the next poll finds it if it is still there, and if the shard is.
        if (verdict.type === 'committed') this.deliver(forwarding);
        else this.#intents.delete(key);
      })
      .catch((error: unknown) => {
        this.#intents.delete(key);
        this.#ports.logger.warn({ err: error }, 'nobody knows whether a forward was refused; looking again');
      });
  }

  #offer(actor: ChannelActor, intent: Intent): void {
    const key = sourceKey(intent.source);
    const tried = this.#tried.get(key) ?? new Set<ChannelActor>();
    tried.add(actor);
    const alternatives = this.#siblings(actor).some((sibling) => !tried.has(sibling)) ? 'untried' : 'none';
    if (alternatives === 'untried') this.#tried.set(key, tried);
    else this.#tried.delete(key);
    if (actor.post({ kind: 'forward', intent, alternatives })) this.#intents.set(key, actor);
    else this.letGo([intent.source]);
  }

  /** An actor had no room for an intent: another channel with the peer is tried, each once. */
  bounced(actor: ChannelActor, intent: Intent): void {
    const tried = this.#tried.get(sourceKey(intent.source));
    const next = this.#siblings(actor)
      .filter((sibling) => tried?.has(sibling) !== true)
      .toSorted((a, b) => (a.outboundLiquidityMsat() < b.outboundLiquidityMsat() ? 1 : -1))[0];
    if (next === undefined) this.letGo([intent.source]);
    else this.#offer(next, intent);
  }

  /** Intents that are in nobody's hands: the next poll finds those that are still there. */
  letGo(sources: readonly HtlcSource[]): void {
    for (const source of sources) {
      this.#tried.delete(sourceKey(source));
      this.#intents.delete(sourceKey(source));
    }
  }

  /** The channels in service with an actor's peer, itself included. */
  #inService(actor: ChannelActor): readonly ChannelActor[] {
    const peer = this.#surroundings.peers.find(actor.counterpartyNodeId);
    return [...(peer?.channels.values() ?? [])].filter((sibling) => sibling.isInService);
  }

  /** Those that are usable now. */
  #siblings(actor: ChannelActor): readonly ChannelActor[] {
    return this.#inService(actor).filter((sibling) => sibling.isConnected());
  }

  /** Hands a resolution to the actor whose HTLC it ends. False: its shard is not here. */
  takeResolution(resolution: Resolution): boolean {
    if (this.#surroundings.fenceOf(resolution.sourceShard) === undefined) return false;
    if (resolution.source.type === 'payment') {
      this.#surroundings.payments().onResolution(resolution);
      return true;
    }
    const key = sourceKey(resolution.source);
    const { type } = resolution.outcome;
    const inHand = this.#resolutions.get(key);
    // A preimage must not wait behind the failure that it replaces.
    const replaces = type === 'fulfilled' && inHand?.type !== 'fulfilled';
    if (isHeld(inHand?.holder) && !replaces) return true;
    const holder = this.#surroundings.directory.byId(resolution.source.channelId);
    if (holder?.post({ kind: 'resolution', resolution }) === true)
      this.#resolutions.set(key, { holder, type });
    return true;
  }

  /** A resolution in hand is another one by now: the next poll hands it over anew. */
  readResolutionAgain(source: HtlcSource): void {
    this.#resolutions.delete(sourceKey(source));
  }

  /** Reads what was left for our shards; run by hint and by poll. */
  async findWork(shards: readonly number[]): Promise<void> {
    if (shards.length === 0) return;
    const { store } = this.#ports;
    [this.#intentsUpTo, this.#resolutionsUpTo] = await Promise.all([
      readPages(this.#intentsUpTo, {
        read: (after) => store.pendingIntents(shards, WORK_LIMIT, after),
        take: (intent) => void this.takeIntent(intent),
      }),
      readPages(this.#resolutionsUpTo, {
        read: (after) => store.pendingResolutions(shards, WORK_LIMIT, after?.source),
        take: (resolution) => void this.takeResolution(resolution),
      }),
    ]);
  }
}

/**
 * Page by page, and on from there in the next look: what stays for long (parts that are held, forwards to a peer that is
 * away, ends that a channel out of service does not take) is of any number, and must not hide what comes after it.
 * @returns where the next look goes on; undefined: at the first
 */
async function readPages<T>(
  from: T | undefined,
  work: {
    readonly read: (after: T | undefined) => Promise<readonly T[]>;
    readonly take: (row: T) => void;
  },
): Promise<T | undefined> {
  let last = from;
  for (let page = 0; page < MAX_PAGES; page++) {
    const rows = await work.read(last);
    for (const row of rows) work.take(row);
    if (rows.length < WORK_LIMIT) return undefined;
    last = rows.at(-1);
  }
  return last;
}
