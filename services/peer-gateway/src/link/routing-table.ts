/**
 * Which manager link owns which shard. Each link's last hello is kept whole;
 * of several that claim a shard the highest epoch wins, and an epoch lower
 * than one seen before never wins again.
 */

export interface ShardOwner<L> {
  readonly link: L;
  readonly epoch: bigint;
}

export class RoutingTable<L> {
  readonly #claims = new Map<L, Map<number, bigint>>();
  readonly #highest = new Map<number, bigint>();

  /** Replaces what a link owns; gives the shards whose owner or epoch changed. */
  announce(link: L, shards: Iterable<{ readonly shard: number; readonly epoch: bigint }>): number[] {
    const claims = new Map<number, bigint>();
    for (const { shard, epoch } of shards) claims.set(shard, epoch);
    return this.#change(link, claims);
  }

  /** One shard ended at its owner, cleanly. */
  release(link: L, shard: number, epoch: bigint): number[] {
    const claims = new Map(this.#claims.get(link));
    if (claims.get(shard) !== epoch) return [];
    claims.delete(shard);
    return this.#change(link, claims);
  }

  /** A link is gone for good. */
  drop(link: L): number[] {
    return this.#change(link, undefined);
  }

  owner(shard: number): ShardOwner<L> | undefined {
    const highest = this.#highest.get(shard);
    for (const [link, claims] of this.#claims) {
      const epoch = claims.get(shard);
      if (epoch !== undefined && epoch === highest) return { link, epoch };
    }
    return undefined;
  }

  /** Shards with an owner. */
  get ownedShards(): number {
    let count = 0;
    for (const shard of this.#highest.keys()) if (this.owner(shard) !== undefined) count += 1;
    return count;
  }

  #change(link: L, claims: Map<number, bigint> | undefined): number[] {
    const affected = new Set([...(this.#claims.get(link)?.keys() ?? []), ...(claims?.keys() ?? [])]);
    const before = new Map([...affected].map((shard) => [shard, this.owner(shard)]));
    if (claims === undefined) this.#claims.delete(link);
    else this.#claims.set(link, claims);
    for (const [shard, epoch] of claims ?? []) {
      if (epoch > (this.#highest.get(shard) ?? -1n)) this.#highest.set(shard, epoch);
    }
    return [...affected].filter((shard) => {
      const was = before.get(shard);
      const is = this.owner(shard);
      return was?.link !== is?.link || was?.epoch !== is?.epoch;
    });
  }
}
