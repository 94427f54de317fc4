/** The established channels of a replica's shards, by id and by scid; and the shards of scids elsewhere. */
import { primaryFunding } from '@fulmen/channel';
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

  /** Scids appear with confirmations: whoever asks by scid must find them. */
  indexScids(actor: ChannelActor): void {
    const { state } = actor;
    if (state.type !== 'established') return;
    const key = toHex(state.channelId);
    if (state.aliasScid !== undefined) this.#scids.set(state.aliasScid, key);
    const { confirmation } = primaryFunding(state);
    if (confirmation.type === 'confirmed') this.#scids.set(confirmation.shortChannelId, key);
  }

  reindex(): void {
    for (const actor of this.#channels.values()) this.indexScids(actor);
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
