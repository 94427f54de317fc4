/**
 * Path finding for a payment that may be sent in parts (BOLT 4, "Basic
 * Multi-Part Payments"): one path if one carries the whole amount, else the
 * fewest parts that a greedy search finds. Each part is sought with an equal
 * share of what is left, and grown to what its path may well carry.
 */
import type { Result } from '@fulmen/codec';
import { err, ok } from '@fulmen/codec';
import { findRoomyRoute } from './findRoute.ts';
import type { ChannelUse, GraphView, Route, RouteError, RouteRequest, RoomyRoute } from './route.ts';
import { directedKey, roomOfFirstHop } from './route.ts';
import type { ScorerView } from './scorer.ts';
import { UNINFORMED_SCORER } from './scorer.ts';

/** How far an amount may be split. */
export interface SplitLimits {
  /** 1: not at all. */
  readonly maxParts: number;
  /** No part is smaller, unless the whole amount is. */
  readonly minPartMsat: bigint;
}

/** Numbers of parts that are tried in turn. */
const PART_COUNTS: readonly number[] = [2, 3, 4, 6, 8, 12, 16];
/** Most parts of one payment. */
export const MAX_SENT_PARTS = 16;
/** Searches through the graph for one request: some tens of milliseconds each on the public network. */
const MAX_SEARCHES = 40;
/** A further HTLC in an own channel costs its funder fees: so much of the channel is left free for each. */
const FURTHER_HTLC_DIVISOR = 100n;

export type Routes = Result<readonly Route[], RouteError>;
/**
 * Stops before each search but the first: all of them at once would hold up everything else of a process for seconds. The
 * graph and the scores may change meanwhile, as they may after a route was found; each search begins from what they are then.
 */
export type Searches<T> = Generator<undefined, T, undefined>;

/**
 * Finds routes that bring the amount to the payee, each with a share of it.
 * Together they keep the fee limit, and no channel is given more than it holds.
 */
export function findRoutes(
  graph: GraphView,
  request: RouteRequest,
  limits: SplitLimits,
  scorer: ScorerView = UNINFORMED_SCORER,
): Routes {
  const searches = searchRoutes(graph, request, limits, scorer);
  for (;;) {
    const step = searches.next();
    if (step.done === true) return step.value;
  }
}

/** The same, search by search. */
export function* searchRoutes(
  graph: GraphView,
  request: RouteRequest,
  limits: SplitLimits,
  scorer: ScorerView,
): Searches<Routes> {
  const whole = findRoomyRoute(graph, request, scorer);
  if (whole.ok) return ok([whole.value.route]);
  const { error } = whole;
  if (error.kind === 'payer_is_payee' || error.kind === 'invalid_amount') return whole;
  const maxParts = Math.min(limits.maxParts, MAX_SENT_PARTS);
  if (maxParts < 2 || request.amountMsat < 2n * limits.minPartMsat) return whole;
  const room = request.firstHops.reduce((sum, hop) => sum + roomOfFirstHop(request, hop), 0n);
  if (room < request.amountMsat) return err({ kind: 'no_first_hop' });

  const exceeded = new Set(error.kind === 'no_route' ? error.exceeded : []);
  const split = new Split(graph, request, limits.minPartMsat, scorer);
  for (const count of [...PART_COUNTS.filter((count) => count < maxParts), maxParts]) {
    if (ceilDiv(request.amountMsat, BigInt(count)) < limits.minPartMsat) break;
    const found = yield* split.into(count);
    if (found.ok) return found;
    if (found.error.kind === 'no_route') for (const limit of found.error.exceeded) exceeded.add(limit);
  }
  return err({ kind: 'no_route', exceeded: [...exceeded].sort() });
}

class Split {
  readonly #graph: GraphView;
  readonly #request: RouteRequest;
  readonly #minPartMsat: bigint;
  readonly #scorer: ScorerView;
  #searches = 0;

  constructor(graph: GraphView, request: RouteRequest, minPartMsat: bigint, scorer: ScorerView) {
    this.#graph = graph;
    this.#request = request;
    this.#minPartMsat = minPartMsat;
    this.#scorer = scorer;
  }

  /** At most `count` parts. */
  *into(count: number): Searches<Routes> {
    const uses = new Map(this.#request.uses);
    const routes: Route[] = [];
    let leftMsat = this.#request.amountMsat;
    let feeLeftMsat = this.#request.maxFeeMsat;
    for (let partsLeft = count; leftMsat > 0n; partsLeft--) {
      const share = ceilDiv(leftMsat, BigInt(partsLeft));
      const amountMsat = this.#withoutCrumb(share > this.#minPartMsat ? share : this.#minPartMsat, leftMsat);
      // First with a fair share of the fee limit, so that it lasts for all; then with all of it.
      const fairFeeMsat = (feeLeftMsat * amountMsat) / leftMsat;
      const fair = yield* this.#find(amountMsat, fairFeeMsat, uses);
      const wantsMore = !fair.ok && fair.error.kind === 'no_route' && fair.error.exceeded.includes('fee');
      const found =
        wantsMore && fairFeeMsat < feeLeftMsat ? yield* this.#find(amountMsat, feeLeftMsat, uses) : fair;
      if (!found.ok) return found;
      const route = yield* this.#grown(found.value, leftMsat, feeLeftMsat, uses);
      routes.push(route);
      leftMsat -= route.amountMsat;
      feeLeftMsat -= route.feeMsat;
      for (const [index, hop] of route.hops.entries())
        use(uses, directedKey(hop.shortChannelId, hop.direction), hop.amountMsat, index === 0);
    }
    return ok(routes);
  }

  /** The same part made larger, as far as its path may carry more: fewer parts are left to send. */
  *#grown(
    { route, roomFactor }: RoomyRoute,
    leftMsat: bigint,
    feeLeftMsat: bigint,
    uses: ReadonlyMap<bigint, ChannelUse>,
  ): Searches<Route> {
    const roomMsat = BigInt(Math.floor(Math.min(Number(route.amountMsat) * roomFactor, Number(leftMsat))));
    const amountMsat = this.#withoutCrumb(roomMsat, leftMsat);
    if (amountMsat <= route.amountMsat) return route;
    const grown = yield* this.#find(amountMsat, (feeLeftMsat * amountMsat) / leftMsat, uses);
    return grown.ok ? grown.value.route : route;
  }

  /** Nothing may be left that is too small for a part of its own. */
  #withoutCrumb(amountMsat: bigint, leftMsat: bigint): bigint {
    if (amountMsat >= leftMsat) return leftMsat;
    if (leftMsat < 2n * this.#minPartMsat) return leftMsat;
    const most = leftMsat - this.#minPartMsat;
    return amountMsat < most ? amountMsat : most;
  }

  *#find(
    amountMsat: bigint,
    maxFeeMsat: bigint,
    uses: ReadonlyMap<bigint, ChannelUse>,
  ): Searches<Result<RoomyRoute, RouteError>> {
    this.#searches += 1;
    if (this.#searches > MAX_SEARCHES) return err({ kind: 'no_route', exceeded: [] });
    yield;
    return findRoomyRoute(this.#graph, { ...this.#request, amountMsat, maxFeeMsat, uses }, this.#scorer);
  }
}

function use(uses: Map<bigint, ChannelUse>, key: bigint, amountMsat: bigint, isOwn: boolean): void {
  const before = uses.get(key) ?? { inFlightMsat: 0n, maximumMsat: undefined };
  const taken = isOwn ? amountMsat + amountMsat / FURTHER_HTLC_DIVISOR : amountMsat;
  const { maximumMsat } = before;
  uses.set(key, {
    inFlightMsat: before.inFlightMsat + taken,
    maximumMsat:
      maximumMsat === undefined ? undefined : maximumMsat > amountMsat ? maximumMsat - amountMsat : 0n,
  });
}

function ceilDiv(a: bigint, b: bigint): bigint {
  return (a + b - 1n) / b;
}
