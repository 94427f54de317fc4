/** What the router is asked and told about a payment, in the terms of its API. */
import { compareBytes, equalBytes, toHex } from '@fulmen/codec';
import { failureCode, type FailureMessage } from '@fulmen/onion';
import {
  type ChannelUse,
  directedKey,
  directionBetween,
  partsInFlight,
  type PaymentState,
  type Route,
  type RouteError,
  type RouteHop,
  routeRequestParts,
} from '@fulmen/payment';
import type {
  FindRouteRequest,
  FirstHop,
  ReportPathRequest,
  RouteHop as WireHop,
} from '@fulmen/proto/router/v1/router';
import { RpcError } from '@fulmen/rpc';
import type { ChannelRow } from '@fulmen/store';
import { SHARD_COUNT } from '../lease/placement.ts';
import type { PaymentHost } from './payment-host.ts';
import type { OutboundRecord } from './record.ts';

export type RouteAnswer =
  /** Together they bring what is missing to the payee. */
  | { readonly type: 'found'; readonly routes: readonly Route[] }
  | { readonly type: 'not_found'; readonly error: RouteError }
  /** Nobody knows just now: the router or the store is away, or what own channels hold is changing. Ask again. */
  | { readonly type: 'unavailable'; readonly error: unknown };

/** The router looks at one graph: it answers at once, or is in trouble. */
const FIND_ROUTE_DEADLINE_MS = 5_000;

/** A report is lost rather than waited for longer. */
const REPORT_DEADLINE_MS = 5_000;
/** As many intents are looked at for parts that no channel took yet; beyond, any part may be among the rest. */
const MAX_UNTAKEN = 1_000;

/** Asks the router for the routes of what is missing of a payment. */
export async function findRoutes(host: PaymentHost, record: OutboundRecord): Promise<RouteAnswer> {
  const { state } = record;
  try {
    // Before the channels are read: a part that is taken in between counts twice, and never not at all.
    const untaken = await untakenParts(host, record);
    const rows = await host.ports.store.listChannels({ closed: 'exclude' });
    const firstHops = firstHopsOf(rows, state.lessons.avoidedNodes);
    if (firstHops.length === 0) return { type: 'not_found', error: { kind: 'no_first_hop' } };
    const uses = withOwnChannels(host.node.nodeId, routeRequestParts(state).uses, firstHops, untaken);
    const request = routeRequest(state, firstHops, uses, host.node);
    const response = await host.ports.router.findRoute(request, { deadlineMs: FIND_ROUTE_DEADLINE_MS });
    const paths = response.paths.length > 0 ? response.paths : [{ hops: response.hops }];
    const routes = response.failure === '' ? paths.map(({ hops }) => routeOf(host.node.nodeId, hops)) : [];
    const found = routes.filter((route) => route !== undefined);
    if (found.length > 0 && found.length === routes.length) return { type: 'found', routes: found };
    if (untaken.length > 0)
      return { type: 'unavailable', error: `no route yet: ${response.failure}, and parts are being added` };
    return { type: 'not_found', error: routeError(response.failure) };
  } catch (error) {
    if (error instanceof RpcError && (error.code === 'invalid_argument' || error.code === 'not_found')) {
      host.ports.logger.warn({ err: error }, 'the router refuses a route request');
      return { type: 'not_found', error: { kind: 'no_route', exceeded: [] } };
    }
    return { type: 'unavailable', error };
  }
}

/** Parts in flight that no channel has added yet, as their first hops: the rows of own channels do not know of them. */
async function untakenParts(host: PaymentHost, record: OutboundRecord): Promise<readonly RouteHop[]> {
  const open = partsInFlight(record.state).flatMap(({ attemptNumber, route }) => {
    const name = record.parts.find((part) => part.attemptNumber === attemptNumber);
    const [firstHop] = route.hops;
    return name === undefined || firstHop === undefined ? [] : [{ id: toHex(name.attemptId), firstHop }];
  });
  // The first parts of a payment ask nothing.
  if (open.length === 0) return [];
  const shards = Array.from({ length: SHARD_COUNT }, (_, shard) => shard);
  const intents = await host.ports.store.pendingIntents(shards, MAX_UNTAKEN);
  const pending = new Set(
    intents.map(({ source }) => (source.type === 'payment' ? toHex(source.attemptId) : '')),
  );
  const isAnybodysGuess = intents.length >= MAX_UNTAKEN;
  return open.filter(({ id }) => isAnybodysGuess || pending.has(id)).map(({ firstHop }) => firstHop);
}

/** Of own channels, rows tell what is left; only what was not added yet comes off that. */
function withOwnChannels(
  nodeId: Uint8Array,
  uses: ReadonlyMap<bigint, ChannelUse>,
  firstHops: readonly FirstHop[],
  untaken: readonly RouteHop[],
): ReadonlyMap<bigint, ChannelUse> {
  const all = new Map(uses);
  for (const { shortChannelId, counterpartyNodeId } of firstHops) {
    const key = directedKey(shortChannelId, directionBetween(nodeId, counterpartyNodeId));
    const use = all.get(key);
    if (use === undefined) continue;
    const inFlightMsat = untaken
      .filter((hop) => hop.shortChannelId === shortChannelId)
      .reduce((sum, hop) => sum + hop.amountMsat, 0n);
    all.set(key, { ...use, inFlightMsat });
  }
  return all;
}

/** Our channels that may carry the first HTLC; a peer that is away says so when it is tried. */
export function firstHopsOf(rows: readonly ChannelRow[], avoidedNodes: readonly Uint8Array[]): FirstHop[] {
  const hops: FirstHop[] = [];
  for (const row of rows) {
    const shortChannelId = row.shortChannelId ?? row.holderAliasScid;
    if (row.phase !== 'open' || shortChannelId === undefined || row.outboundCapacityMsat <= 0n) continue;
    if (avoidedNodes.some((node) => equalBytes(node, row.counterpartyNodeId))) continue;
    hops.push({
      shortChannelId,
      counterpartyNodeId: row.counterpartyNodeId,
      outboundCapacityMsat: row.outboundCapacityMsat,
      htlcMinimumMsat: 1n,
      htlcMaximumMsat: row.outboundCapacityMsat,
    });
  }
  return hops;
}

function routeRequest(
  state: PaymentState,
  firstHops: FirstHop[],
  uses: ReadonlyMap<bigint, ChannelUse>,
  { nodeId, blockHeight: currentHeight }: PaymentHost['node'],
): FindRouteRequest {
  const parts = routeRequestParts(state);
  const { avoidedNodes, avoidedChannels } = state.lessons;
  // The router is told channels, not nodes: hints through an avoided node are left out here.
  const hints = parts.hints.filter(
    (path) => !path.some((hop) => avoidedNodes.some((node) => equalBytes(node, hop.nodeId))),
  );
  return {
    // Before its first announcement the router does not know whose first hops these are.
    payerNodeId: nodeId,
    payeeNodeId: parts.payee,
    amountMsat: parts.amountMsat,
    finalCltvDelta: parts.finalCltvDelta + (parts.shadowCltvDelta ?? 0),
    hints: hints.map((path) => ({
      hops: path.map(({ nodeId, ...hop }) => ({ sourceNodeId: nodeId, ...hop })),
    })),
    firstHops,
    maxFeeMsat: parts.maxFeeMsat,
    maxTotalCltvDelta: parts.maxCltvDelta ?? 0,
    currentHeight,
    avoid: avoidedChannels.map(({ shortChannelId, direction }) => ({ shortChannelId, direction })),
    maxParts: parts.limits.maxParts,
    minPartMsat: parts.limits.minPartMsat,
    uses: [...uses].map(([key, { inFlightMsat, maximumMsat }]) => ({
      shortChannelId: key >> 1n,
      direction: Number(key & 1n),
      inFlightMsat,
      maximumMsat,
    })),
  };
}

/** A path of the router's as a route; undefined when it has no hops. */
function routeOf(payer: Uint8Array, path: readonly WireHop[]): Route | undefined {
  const last = path.at(-1);
  const first = path[0];
  if (first === undefined || last === undefined) return undefined;
  let source = payer;
  const hops = path.map((hop): RouteHop => {
    const direction = compareBytes(source, hop.nodeId) < 0 ? 0 : 1;
    source = hop.nodeId;
    const { nodeId, shortChannelId, amountMsat, cltvExpiryHeight } = hop;
    // The router scores with its own graph: it needs neither capacity nor the policy's age from us.
    return {
      nodeId,
      shortChannelId,
      direction,
      amountMsat,
      cltvExpiryHeight,
      capacityMsat: 0n,
      policyTimestamp: 0,
    };
  });
  return { hops, amountMsat: last.amountMsat, feeMsat: first.amountMsat - last.amountMsat };
}

function routeError(failure: string): RouteError {
  switch (failure) {
    case 'insufficient_outbound':
      return { kind: 'no_first_hop' };
    case 'fee_limit':
      return { kind: 'no_route', exceeded: ['fee'] };
    case 'cltv_limit':
      return { kind: 'no_route', exceeded: ['cltv'] };
    // "no_route", "unknown_payee", and what a later router may say.
    default:
      return { kind: 'no_route', exceeded: [] };
  }
}

/** Tells the router that a path carried a part to its end. It may be away: a lesson lost costs little. */
export function reportSuccess(host: PaymentHost, route: Route): void {
  void report(host, { hops: reportedHops(route), outcome: { $case: 'success', value: true } });
}

/** Tells the router which hop failed a part and why; resolves when it knows, or does not answer. Never rejects. */
export function reportFailure(
  host: PaymentHost,
  route: Route,
  hopIndex: number,
  failure: FailureMessage,
): Promise<void> {
  const value = { hopIndex, failureCode: failureCode(failure), channelUpdate: channelUpdateOf(failure) };
  return report(host, { hops: reportedHops(route), outcome: { $case: 'failure', value } });
}

async function report(host: PaymentHost, request: ReportPathRequest): Promise<void> {
  await host.ports.router.reportPath(request, { deadlineMs: REPORT_DEADLINE_MS }).catch((error: unknown) => {
    host.ports.logger.debug({ err: error }, 'the router did not hear how a path fared');
  });
}

function reportedHops(route: Route): WireHop[] {
  return route.hops.map((hop, index) => ({
    nodeId: hop.nodeId,
    shortChannelId: hop.shortChannelId,
    amountMsat: hop.amountMsat,
    cltvExpiryHeight: hop.cltvExpiryHeight,
    feeMsat: hop.amountMsat - (route.hops[index + 1]?.amountMsat ?? hop.amountMsat),
  }));
}

function channelUpdateOf(failure: FailureMessage): Uint8Array {
  return 'channelUpdate' in failure ? failure.channelUpdate : new Uint8Array(0);
}
