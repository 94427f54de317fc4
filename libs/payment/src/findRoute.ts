/**
 * Path finding: Dijkstra's search from the payee back to the payer, because
 * the amount at the payee is known and every hop's fee adds to what the hop
 * before it carries.
 *
 * The cost of a hop is its fee plus the scorer's penalty. One label is kept
 * for each node, so a limit on fees, blocks or hops can hide a path that is
 * dearer by cost but within the limit; when a search ends without a path
 * because of a limit, it is repeated with that limit as the cost.
 */
import type { Result } from '@fulmen/codec';
import { equalBytes, err, ok } from '@fulmen/codec';
import { EDGE_KNOWN, nodeKey } from '@fulmen/graph';
import { forwardingFeeNumber } from './fee.ts';
import { CostHeap } from './heap.ts';
import type { FirstHop, GraphView, Route, RouteError, RouteHop, RouteRequest, RoomyRoute } from './route.ts';
import { DEFAULT_MAX_CLTV_DELTA, MAX_HOPS, directedKey, directionBetween, roomOfFirstHop } from './route.ts';
import type { ScorerView } from './scorer.ts';
import { UNINFORMED_SCORER } from './scorer.ts';

/** A directed channel of a hint, between indexed nodes. */
interface ExtraEdge {
  readonly source: number;
  readonly target: number;
  readonly shortChannelId: bigint;
  readonly direction: 0 | 1;
  readonly feeBaseMsat: number;
  readonly feeProportionalMillionths: number;
  readonly cltvExpiryDelta: number;
}

/** A `ChannelUse` in the numbers of the search. */
interface Use {
  readonly inFlight: number;
  readonly max: number;
}

type Objective = 'balanced' | 'fee' | 'cltv' | 'hops';
type Limit = 'fee' | 'cltv' | 'hops';

const NO_EDGE = -1;
const UNUSED: Use = { inFlight: 0, max: Infinity };
/** Larger parts aim at this share of a channel that nothing is known of: the fuller, the less likely. */
const SATURATION = 0.5;
/** A hint's channel is as large as it needs to be (BOLT 11: "assume […] sufficient"), yet not certain. */
const HINT_CAPACITY_MSAT = 2 ** 52;
/** BOLT 11 bounds an invoice only by its carrier; more than this many hint hops help nobody. */
const MAX_HINT_HOPS = 400;

/** Finds the cheapest path that keeps every limit of the request. */
export function findRoute(
  graph: GraphView,
  request: RouteRequest,
  scorer: ScorerView = UNINFORMED_SCORER,
): Result<Route, RouteError> {
  const found = findRoomyRoute(graph, request, scorer);
  return found.ok ? ok(found.value.route) : found;
}

/** The same, with what a larger part would find on its path. */
export function findRoomyRoute(
  graph: GraphView,
  request: RouteRequest,
  scorer: ScorerView,
): Result<RoomyRoute, RouteError> {
  if (equalBytes(request.payer, request.payee)) return err({ kind: 'payer_is_payee' });
  const ceiling = request.amountMsat + request.maxFeeMsat;
  if (request.amountMsat <= 0n || request.maxFeeMsat < 0n || ceiling >= BigInt(Number.MAX_SAFE_INTEGER)) {
    return err({ kind: 'invalid_amount' });
  }
  if (!request.firstHops.some((hop) => roomOfFirstHop(request, hop) >= request.amountMsat))
    return err({ kind: 'no_first_hop' });

  const search = new Search(graph, request, scorer);
  const exceeded = new Set<Limit>();
  const objectives: Objective[] = ['balanced'];
  for (let i = 0; i < objectives.length; i++) {
    const objective = objectives[i] ?? 'balanced';
    const found = search.run(objective);
    if (found.roomy !== undefined) return ok(found.roomy);
    for (const limit of found.exceeded) {
      exceeded.add(limit);
      if (!objectives.includes(limit)) objectives.push(limit);
    }
  }
  return err({ kind: 'no_route', exceeded: [...exceeded].sort() });
}

/** The tables of one request; `run` may be called once for each objective. */
class Search {
  readonly #graph: GraphView;
  readonly #request: RouteRequest;
  readonly #scorer: ScorerView;
  readonly #extraNodes: Uint8Array[] = [];
  readonly #extraIndex = new Map<string, number>();
  readonly #extraEdges: ExtraEdge[] = [];
  readonly #extraEdgesInto = new Map<number, number[]>();
  readonly #firstHopsTo = new Map<number, FirstHop[]>();
  readonly #avoidedEdges = new Set<number>();
  readonly #avoidedNodes = new Set<number>();
  readonly #overrides = new Map<
    number,
    { base: number; ppm: number; cltv: number; min: number; max: number; timestamp: number }
  >();
  /** By graph edge; own and hinted channels are looked up by their key. */
  readonly #usesOfEdges = new Map<number, Use>();
  readonly #uses = new Map<bigint, Use>();
  readonly #payer: number;
  readonly #payee: number;
  readonly #maxFee: number;
  readonly #maxCltv: number;
  readonly #maxHops: number;

  // Labels, by node: the HTLC that the node must receive.
  #cost = new Float64Array(0);
  #amount = new Float64Array(0);
  #cltv = new Float64Array(0);
  #hops = new Uint8Array(0);
  #settled = new Uint8Array(0);
  /** The edge by which the node passes the HTLC on: a graph edge, or -2 - index of an extra edge. */
  #onward = new Int32Array(0);

  constructor(graph: GraphView, request: RouteRequest, scorer: ScorerView) {
    this.#graph = graph;
    this.#request = request;
    this.#scorer = scorer;
    this.#payer = this.#indexOf(request.payer);
    this.#payee = this.#indexOf(request.payee);
    this.#maxFee = Number(request.maxFeeMsat);
    this.#maxCltv = request.maxCltvDelta ?? DEFAULT_MAX_CLTV_DELTA;
    this.#maxHops = Math.min(request.maxHops ?? MAX_HOPS, MAX_HOPS);
    for (const hop of request.firstHops) {
      const node = this.#indexOf(hop.counterparty);
      const key = directedKey(hop.shortChannelId, directionBetween(request.payer, hop.counterparty));
      if (node === this.#payer || request.avoidedChannels?.has(key)) continue;
      const hops = this.#firstHopsTo.get(node);
      if (hops === undefined) this.#firstHopsTo.set(node, [hop]);
      else hops.push(hop);
    }
    let hintHops = 0;
    for (const hint of request.hints) {
      hintHops += hint.length;
      if (hintHops > MAX_HINT_HOPS) break;
      this.#addHint(hint);
    }
    for (const key of request.avoidedChannels ?? []) {
      const edge = this.#edgeOf(key);
      if (edge !== undefined) this.#avoidedEdges.add(edge);
    }
    for (const key of request.avoidedNodes ?? []) {
      this.#avoidedNodes.add(this.#indexOf(Uint8Array.from(key, (character) => character.charCodeAt(0))));
    }
    for (const [key, { inFlightMsat, maximumMsat }] of request.uses ?? []) {
      const use = {
        inFlight: Number(inFlightMsat),
        max: maximumMsat === undefined ? Infinity : Number(maximumMsat),
      };
      this.#uses.set(key, use);
      const edge = this.#edgeOf(key);
      if (edge !== undefined) this.#usesOfEdges.set(edge, use);
    }
    for (const [key, policy] of request.policyOverrides ?? []) {
      const edge = this.#edgeOf(key);
      if (edge === undefined) continue;
      this.#overrides.set(edge, {
        base: policy.feeBaseMsat,
        ppm: policy.feeProportionalMillionths,
        cltv: policy.cltvExpiryDelta,
        min: Number(policy.htlcMinimumMsat),
        max: policy.disabled ? -1 : Number(policy.htlcMaximumMsat),
        timestamp: policy.timestamp,
      });
    }
  }

  /** Searches with one objective; the limits that stopped it are those that it ran into. */
  run(objective: Objective): {
    readonly roomy: RoomyRoute | undefined;
    readonly exceeded: ReadonlySet<Limit>;
  } {
    const size = this.#graph.nodeEnd + this.#extraNodes.length;
    this.#cost = new Float64Array(size).fill(Infinity);
    this.#amount = new Float64Array(size);
    this.#cltv = new Float64Array(size);
    this.#hops = new Uint8Array(size);
    this.#settled = new Uint8Array(size);
    this.#onward = new Int32Array(size).fill(NO_EDGE);
    const exceeded = new Set<Limit>();
    const heap = new CostHeap();
    const startCltv = this.#request.finalCltvDelta + (this.#request.shadowCltvDelta ?? 0);
    if (startCltv > this.#maxCltv) exceeded.add('cltv');
    else if (this.#maxHops < 1) exceeded.add('hops');
    else {
      this.#cost[this.#payee] = 0;
      this.#amount[this.#payee] = Number(this.#request.amountMsat);
      this.#cltv[this.#payee] = startCltv;
      heap.push(0, this.#payee);
    }
    for (let next = heap.pop(); next !== undefined; next = heap.pop()) {
      const node = next.node;
      if (node === this.#payer) return { roomy: this.#build(), exceeded };
      if (this.#settled[node]) continue;
      this.#settled[node] = 1;
      this.#relaxFirstHops(node, heap);
      this.#relaxGraph(node, heap, objective, exceeded);
      this.#relaxExtra(node, heap, objective, exceeded);
    }
    return { roomy: undefined, exceeded };
  }

  #relaxFirstHops(node: number, heap: CostHeap): void {
    const cost = this.#cost[node] ?? Infinity;
    if (cost >= (this.#cost[this.#payer] ?? Infinity) || this.#usableFirstHop(node) === undefined) return;
    this.#cost[this.#payer] = cost;
    // The payer's own label only remembers which node comes first.
    this.#onward[this.#payer] = node;
    heap.push(cost, this.#payer);
  }

  /** The own channel to this node that fits its label with the least to spare, so that larger ones stay free. */
  #usableFirstHop(node: number): FirstHop | undefined {
    const amount = BigInt(this.#amount[node] ?? 0);
    let best: FirstHop | undefined;
    for (const hop of this.#firstHopsTo.get(node) ?? []) {
      const room = roomOfFirstHop(this.#request, hop);
      if (hop.minimumMsat > amount || room < amount) continue;
      if (best === undefined || room < roomOfFirstHop(this.#request, best)) best = hop;
    }
    return best;
  }

  #relaxGraph(node: number, heap: CostHeap, objective: Objective, exceeded: Set<Limit>): void {
    const graph = this.#graph;
    if (node >= graph.nodeEnd) return;
    const amount = this.#amount[node] ?? 0;
    for (let out = graph.firstEdge[node] ?? NO_EDGE; out !== NO_EDGE; out = graph.nextEdge[out] ?? NO_EDGE) {
      const edge = out ^ 1;
      const source = graph.edgeSource[edge] ?? NO_EDGE;
      if (source === this.#payer || source === this.#payee || this.#settled[source]) continue;
      const channel = edge >> 1;
      const override = this.#overrides.size === 0 ? undefined : this.#overrides.get(edge);
      // Known, enabled and usable: exactly that one flag.
      if (override === undefined && graph.edgeFlags[edge] !== EDGE_KNOWN) continue;
      if (graph.channelAvoided[channel] || graph.channelSpentHeight[channel] || graph.nodeAvoided[source])
        continue;
      if (this.#avoidedEdges.size > 0 && this.#avoidedEdges.has(edge)) continue;
      const capacity = (graph.channelCapacitySat[channel] ?? 0) * 1000;
      const maximum = override?.max ?? graph.edgeHtlcMaximumMsat[edge] ?? 0;
      const minimum = override?.min ?? graph.edgeHtlcMinimumMsat[edge] ?? 0;
      const use = this.#usesOfEdges.size === 0 ? UNUSED : (this.#usesOfEdges.get(edge) ?? UNUSED);
      if (amount < minimum || amount > maximum || amount > use.max) continue;
      if (capacity > 0 && amount + use.inFlight > capacity) continue;
      const fee = forwardingFeeNumber(
        amount,
        override?.base ?? graph.edgeFeeBaseMsat[edge] ?? 0,
        override?.ppm ?? graph.edgeFeeProportionalMillionths[edge] ?? 0,
      );
      const cltvDelta = override?.cltv ?? graph.edgeCltvExpiryDelta[edge] ?? 0;
      this.#offer(source, node, edge, fee, cltvDelta, heap, objective, exceeded, () =>
        this.#scorer.penaltyMsat(
          graph.channelScid[channel] ?? 0n,
          (edge & 1) as 0 | 1,
          amount + use.inFlight,
          capacity > 0 ? capacity : maximum,
          maximum,
        ),
      );
    }
  }

  #relaxExtra(node: number, heap: CostHeap, objective: Objective, exceeded: Set<Limit>): void {
    const amount = this.#amount[node] ?? 0;
    for (const index of this.#extraEdgesInto.get(node) ?? []) {
      const edge = this.#extraEdges[index];
      if (edge === undefined || edge.source === this.#payer || this.#settled[edge.source]) continue;
      const key = directedKey(edge.shortChannelId, edge.direction);
      const use = this.#uses.get(key) ?? UNUSED;
      if (this.#request.avoidedChannels?.has(key) || amount > use.max) continue;
      if (edge.source < this.#graph.nodeEnd && this.#graph.nodeAvoided[edge.source]) continue;
      const override = this.#request.policyOverrides?.get(key);
      if (override !== undefined) {
        const amountMsat = BigInt(amount);
        if (
          override.disabled ||
          amountMsat < override.htlcMinimumMsat ||
          amountMsat > override.htlcMaximumMsat
        )
          continue;
      }
      const terms = override ?? edge;
      const fee = forwardingFeeNumber(amount, terms.feeBaseMsat, terms.feeProportionalMillionths);
      this.#offer(edge.source, node, -2 - index, fee, terms.cltvExpiryDelta, heap, objective, exceeded, () =>
        this.#scorer.penaltyMsat(
          edge.shortChannelId,
          edge.direction,
          amount + use.inFlight,
          HINT_CAPACITY_MSAT,
          HINT_CAPACITY_MSAT,
        ),
      );
    }
  }

  /** Offers `source` the label that passing on to `node` by `edge` would give it. */
  #offer(
    source: number,
    node: number,
    edge: number,
    feeMsat: number,
    cltvDelta: number,
    heap: CostHeap,
    objective: Objective,
    exceeded: Set<Limit>,
    penalty: () => number,
  ): void {
    if (this.#avoidedNodes.size > 0 && this.#avoidedNodes.has(source)) return;
    const amount = (this.#amount[node] ?? 0) + feeMsat;
    if (amount - (this.#amount[this.#payee] ?? 0) > this.#maxFee) {
      exceeded.add('fee');
      return;
    }
    const cltv = (this.#cltv[node] ?? 0) + cltvDelta;
    if (cltv > this.#maxCltv) {
      exceeded.add('cltv');
      return;
    }
    // The source still needs a hop that brings the HTLC to it.
    const hops = (this.#hops[node] ?? 0) + 1;
    if (hops + 1 > this.#maxHops) {
      exceeded.add('hops');
      return;
    }
    const step =
      objective === 'balanced'
        ? feeMsat + penalty()
        : objective === 'fee'
          ? feeMsat
          : objective === 'cltv'
            ? cltvDelta
            : 1;
    const cost = (this.#cost[node] ?? 0) + step;
    if (cost >= (this.#cost[source] ?? Infinity)) return;
    this.#cost[source] = cost;
    this.#amount[source] = amount;
    this.#cltv[source] = cltv;
    this.#hops[source] = hops;
    this.#onward[source] = edge;
    heap.push(cost, source);
  }

  #build(): RoomyRoute | undefined {
    let node = this.#onward[this.#payer] ?? NO_EDGE;
    const firstHop = this.#usableFirstHop(node);
    if (firstHop === undefined) return undefined;
    // Amounts before the payee grow no faster than the payee's: what fits a channel when scaled fits in truth.
    let roomFactor = Number(roomOfFirstHop(this.#request, firstHop)) / (this.#amount[node] ?? 0);
    const hops: RouteHop[] = [
      this.#hop(
        node,
        firstHop.shortChannelId,
        directionBetween(this.#request.payer, firstHop.counterparty),
        firstHop.maximumMsat,
        0,
      ),
    ];
    while (node !== this.#payee) {
      const edge = this.#onward[node] ?? NO_EDGE;
      if (edge <= -2) {
        const extra = this.#extraEdges[-2 - edge];
        if (extra === undefined) return undefined;
        node = extra.target;
        const { max } = this.#uses.get(directedKey(extra.shortChannelId, extra.direction)) ?? UNUSED;
        roomFactor = Math.min(roomFactor, max / (this.#amount[node] ?? 0));
        hops.push(
          this.#hop(
            node,
            extra.shortChannelId,
            extra.direction,
            BigInt(HINT_CAPACITY_MSAT),
            this.#timestampOfHint(extra),
          ),
        );
      } else {
        node = this.#graph.edgeSource[edge ^ 1] ?? NO_EDGE;
        const capacitySat = this.#graph.channelCapacitySat[edge >> 1] ?? 0;
        const capacityMsat = BigInt(
          capacitySat > 0 ? capacitySat * 1000 : (this.#graph.edgeHtlcMaximumMsat[edge] ?? 0),
        );
        roomFactor = Math.min(roomFactor, this.#roomOfEdge(edge, capacityMsat) / (this.#amount[node] ?? 0));
        const timestamp = this.#overrides.get(edge)?.timestamp ?? this.#graph.edgeTimestamp[edge] ?? 0;
        hops.push(
          this.#hop(
            node,
            this.#graph.channelScid[edge >> 1] ?? 0n,
            (edge & 1) as 0 | 1,
            capacityMsat,
            timestamp,
          ),
        );
      }
    }
    const amountMsat = this.#request.amountMsat;
    const route = { hops, amountMsat, feeMsat: (hops[0]?.amountMsat ?? amountMsat) - amountMsat };
    return { route, roomFactor: Math.max(1, roomFactor) };
  }

  #roomOfEdge(edge: number, capacityMsat: bigint): number {
    const use = this.#usesOfEdges.get(edge) ?? UNUSED;
    const maximum = this.#overrides.get(edge)?.max ?? this.#graph.edgeHtlcMaximumMsat[edge] ?? 0;
    return Math.min(use.max, maximum, SATURATION * Number(capacityMsat) - use.inFlight);
  }

  #timestampOfHint(edge: ExtraEdge): number {
    return (
      this.#request.policyOverrides?.get(directedKey(edge.shortChannelId, edge.direction))?.timestamp ?? 0
    );
  }

  #hop(
    node: number,
    shortChannelId: bigint,
    direction: 0 | 1,
    capacityMsat: bigint,
    policyTimestamp: number,
  ): RouteHop {
    return {
      nodeId: this.#idOf(node),
      shortChannelId,
      direction,
      amountMsat: BigInt(this.#amount[node] ?? 0),
      cltvExpiryHeight: this.#request.currentHeight + (this.#cltv[node] ?? 0),
      capacityMsat,
      policyTimestamp,
    };
  }

  #addHint(hint: RouteRequest['hints'][number]): void {
    for (const [position, entry] of hint.entries()) {
      const target = hint[position + 1]?.nodeId ?? this.#request.payee;
      const direction = directionBetween(entry.nodeId, target);
      const channel = this.#graph.channelIndex(entry.shortChannelId);
      // A channel that the graph knows is used with the graph's terms.
      if (
        channel !== undefined &&
        this.#graph.edgeSource[2 * channel + direction] === this.#graph.nodeIndex(entry.nodeId)
      )
        continue;
      const targetIndex = this.#indexOf(target);
      const source = this.#indexOf(entry.nodeId);
      if (source === this.#payee || source === targetIndex) continue;
      const into = this.#extraEdgesInto.get(targetIndex);
      if (into === undefined) this.#extraEdgesInto.set(targetIndex, [this.#extraEdges.length]);
      else into.push(this.#extraEdges.length);
      this.#extraEdges.push({
        source,
        target: targetIndex,
        shortChannelId: entry.shortChannelId,
        direction,
        feeBaseMsat: entry.feeBaseMsat,
        feeProportionalMillionths: entry.feeProportionalMillionths,
        cltvExpiryDelta: entry.cltvExpiryDelta,
      });
    }
  }

  #edgeOf(key: bigint): number | undefined {
    const channel = this.#graph.channelIndex(key >> 1n);
    return channel === undefined ? undefined : 2 * channel + Number(key & 1n);
  }

  #indexOf(nodeId: Uint8Array): number {
    const inGraph = this.#graph.nodeIndex(nodeId);
    if (inGraph !== undefined) return inGraph;
    const key = nodeKey(nodeId);
    const known = this.#extraIndex.get(key);
    if (known !== undefined) return known;
    const index = this.#graph.nodeEnd + this.#extraNodes.length;
    this.#extraNodes.push(nodeId);
    this.#extraIndex.set(key, index);
    return index;
  }

  #idOf(node: number): Uint8Array {
    return this.#extraNodes[node - this.#graph.nodeEnd] ?? this.#graph.nodeId(node);
  }
}
