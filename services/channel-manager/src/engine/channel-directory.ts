/** The established channels of a replica's shards, by id and by scid; and the shards of scids elsewhere. */
import { primaryFunding } from '@fulmen/channel';
import { isClosing } from '@fulmen/channel/close/force';
import { toHex } from '@fulmen/codec';
import type { ChannelActor } from './channel-actor.ts';
import type { EnginePorts } from './ports.ts';

/** Scids of other replicas' channels that are remembered: bounds what onions with made-up scids can cost. */
const MAX_REMEMBERED = 100_000;

export class ChannelDirectory {
  readonly #store: EnginePorts['store'];
  readonly #channels = new Map<string, ChannelActor>();
  readonly #scids = new Map<bigint, string>();
  readonly #remoteScids = new Map<bigint, { readonly shard: number }>();

  constructor(store: EnginePorts['store']) {
    this.#store = store;
  }

  add(actor: ChannelActor): void {
    this.#channels.set(toHex(actor.channelId), actor);
    this.indexScids(actor);
  }

  /** Whoever asks by one of the channel's scids must find it. */
  indexScids(actor: ChannelActor): void {
    const { state } = actor;
    if (state.type !== 'established') return;
    const key = toHex(state.channelId);
    if (state.aliasScid !== undefined) this.#scids.set(state.aliasScid, key);
    const { confirmation } = primaryFunding(state);
    if (confirmation.type !== 'confirmed') return;
    const { shortChannelId } = confirmation;
    // A channel that is being left follows its funding no more: another may be at that place since a block was replaced.
    const there = this.byScid(shortChannelId);
    if (there === undefined || there === actor || !isUsed(there)) this.#scids.set(shortChannelId, key);
  }

  /** Real scids come, move and go with blocks: the index is made anew. */
  reindex(): void {
    this.#scids.clear();
    for (const actor of this.#channels.values()) this.indexScids(actor);
  }

  /** Other replicas' channels may be elsewhere in the chain now: they are asked for again. */
  blockConnected(): void {
    this.#remoteScids.clear();
  }

  /** Stops and forgets the actors of a shard. */
  dropShard(shard: number): void {
    for (const [key, actor] of this.#channels) {
      if (actor.fence.shard !== shard) continue;
      actor.stop();
      this.#channels.delete(key);
    }
    for (const [scid, key] of this.#scids) if (!this.#channels.has(key)) this.#scids.delete(scid);
  }

  byId(channelId: Uint8Array): ChannelActor | undefined {
    return this.#channels.get(toHex(channelId));
  }

  byScid(shortChannelId: bigint): ChannelActor | undefined {
    const key = this.#scids.get(shortChannelId);
    return key === undefined ? undefined : this.#channels.get(key);
  }

  all(): readonly ChannelActor[] {
    return [...this.#channels.values()];
  }

  /** The shard of the channel that has this scid, on whatever replica. */
  async shardOfScid(shortChannelId: bigint): Promise<number | undefined> {
    const actor = this.byScid(shortChannelId);
    if (actor !== undefined) return actor.fence.shard;
    const known = this.#remoteScids.get(shortChannelId);
    if (known !== undefined) return known.shard;
    const found = await this.#store.shardOfScid(shortChannelId);
    if (found === undefined) return undefined;
    if (this.#remoteScids.size >= MAX_REMEMBERED) this.#remoteScids.clear();
    this.#remoteScids.set(shortChannelId, { shard: found.shard });
    return found.shard;
  }
}

function isUsed({ state, isInService }: ChannelActor): boolean {
  return isInService && state.type === 'established' && !isClosing(state);
}
