/** What the parts of one router share: the graph, the scores, and what it knows of itself and the chain. */
import { equalBytes } from '@fulmen/codec';
import type { ChannelPolicy } from '@fulmen/graph';
import { NetworkGraph } from '@fulmen/graph';
import { LiquidityScorer } from '@fulmen/payment';

/** Corrections of terms kept from failed payments, and for how long. */
const MAX_CORRECTIONS = 1_000;
const CORRECTION_SECONDS = 600;

interface Correction {
  readonly policy: ChannelPolicy;
  readonly untilSeconds: number;
}

/**
 * Terms that came with a payment's failure. BOLT 4: the sender "MUST NOT
 * expose the `channel_update` to third-parties", so they never enter the
 * graph; routes are computed with them until gossip brings newer ones.
 */
export class Corrections {
  readonly #byKey = new Map<bigint, Correction>();

  /** By directed key; the oldest goes when there are too many. */
  add(directedKey: bigint, policy: ChannelPolicy, nowSeconds: number): void {
    this.#byKey.delete(directedKey);
    this.#byKey.set(directedKey, { policy, untilSeconds: nowSeconds + CORRECTION_SECONDS });
    if (this.#byKey.size <= MAX_CORRECTIONS) return;
    for (const oldest of this.#byKey.keys()) {
      this.#byKey.delete(oldest);
      return;
    }
  }

  get(directedKey: bigint): ChannelPolicy | undefined {
    return this.#byKey.get(directedKey)?.policy;
  }

  /** Those that still hold: not expired, and newer than what gossip says. */
  current(graph: NetworkGraph, nowSeconds: number): ReadonlyMap<bigint, ChannelPolicy> {
    const policies = new Map<bigint, ChannelPolicy>();
    for (const [key, { policy, untilSeconds }] of this.#byKey) {
      const channel = graph.channelIndex(key >> 1n);
      const known = channel === undefined ? 0 : (graph.edgeTimestamp[2 * channel + Number(key & 1n)] ?? 0);
      if (nowSeconds >= untilSeconds || known >= policy.timestamp) this.#byKey.delete(key);
      else policies.set(key, policy);
    }
    return policies;
  }
}

export class RouterState {
  graph: NetworkGraph;
  scorer = new LiquidityScorer();
  /** Scores changed since they were last saved. */
  scoresChanged = false;
  readonly corrections = new Corrections();
  ownNodeId: Uint8Array | undefined;
  /** Height of the best block; undefined until chain-monitor has told. */
  bestHeight: number | undefined;

  constructor(chainHash: Uint8Array, ownNodeId: Uint8Array | undefined) {
    this.graph = new NetworkGraph(chainHash);
    this.ownNodeId = ownNodeId;
  }

  isOwn(nodeId: Uint8Array): boolean {
    return this.ownNodeId !== undefined && equalBytes(this.ownNodeId, nodeId);
  }
}
