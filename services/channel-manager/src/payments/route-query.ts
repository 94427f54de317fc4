/** What the router is asked and told about a payment, in the terms of its API. */
import { compareBytes, equalBytes } from '@fulmen/codec';
import { failureCode, type FailureMessage } from '@fulmen/onion';
import {
  type PaymentState,
  type Route,
  type RouteError,
  type RouteHop,
  routeRequestParts,
} from '@fulmen/payment';
import type {
  FindRouteRequest,
  FindRouteResponse,
  FirstHop,
  ReportPathRequest,
} from '@fulmen/proto/router/v1/router';
import { RpcError } from '@fulmen/rpc';
import type { ChannelRow } from '@fulmen/store';
import type { PaymentHost } from './payment-host.ts';

export type RouteAnswer =
  | { readonly type: 'found'; readonly route: Route }
  | { readonly type: 'not_found'; readonly error: RouteError }
  /** The router or the store is away: ask again. */
  | { readonly type: 'unavailable'; readonly error: unknown };

/** The router looks at one graph: it answers at once, or is in trouble. */
const FIND_ROUTE_DEADLINE_MS = 5_000;
const REPORT_DEADLINE_MS = 5_000;

/** Asks the router for the next route of a payment. */
export async function findRoute(host: PaymentHost, state: PaymentState): Promise<RouteAnswer> {
  try {
    const rows = await host.ports.store.listChannels({ closed: 'exclude' });
    const firstHops = firstHopsOf(rows, state.lessons.avoidedNodes);
    if (firstHops.length === 0) return { type: 'not_found', error: { kind: 'no_first_hop' } };
    const request = routeRequest(state, firstHops, host.node.blockHeight);
    const response = await host.ports.router.findRoute(request, { deadlineMs: FIND_ROUTE_DEADLINE_MS });
    const route = response.failure === '' ? routeOf(host.node.nodeId, response) : undefined;
    if (route !== undefined) return { type: 'found', route };
    return { type: 'not_found', error: routeError(response.failure) };
  } catch (error) {
    if (error instanceof RpcError && (error.code === 'invalid_argument' || error.code === 'not_found')) {
      host.ports.logger.warn({ err: error }, 'the router refuses a route request');
      return { type: 'not_found', error: { kind: 'no_route', exceeded: [] } };
    }
    return { type: 'unavailable', error };
  }
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

function routeRequest(state: PaymentState, firstHops: FirstHop[], currentHeight: number): FindRouteRequest {
  const parts = routeRequestParts(state);
  const { avoidedNodes, avoidedChannels } = state.lessons;
  // The router is told channels, not nodes: hints through an avoided node are left out here.
  const hints = parts.hints.filter(
    (path) => !path.some((hop) => avoidedNodes.some((node) => equalBytes(node, hop.nodeId))),
  );
  return {
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
  };
}

/** The router's answer as a route; undefined when it has no hops. */
function routeOf(payer: Uint8Array, response: FindRouteResponse): Route | undefined {
  const last = response.hops.at(-1);
  const first = response.hops[0];
  if (first === undefined || last === undefined) return undefined;
  let source = payer;
  const hops = response.hops.map((hop): RouteHop => {
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

/** What an attempt has shown about its path. */
export type PathOutcome =
  | { readonly type: 'success' }
  | { readonly type: 'failure'; readonly hopIndex: number; readonly failure: FailureMessage };

/** Tells the router, which may be away: a lesson lost costs little. Never rejects. */
export async function reportPath(host: PaymentHost, route: Route, outcome: PathOutcome): Promise<void> {
  const request: ReportPathRequest = {
    hops: route.hops.map((hop, index) => ({
      nodeId: hop.nodeId,
      shortChannelId: hop.shortChannelId,
      amountMsat: hop.amountMsat,
      cltvExpiryHeight: hop.cltvExpiryHeight,
      feeMsat: hop.amountMsat - (route.hops[index + 1]?.amountMsat ?? hop.amountMsat),
    })),
    outcome:
      outcome.type === 'success'
        ? { $case: 'success', value: true }
        : {
            $case: 'failure',
            value: {
              hopIndex: outcome.hopIndex,
              failureCode: failureCode(outcome.failure),
              channelUpdate: channelUpdateOf(outcome.failure),
            },
          },
  };
  try {
    await host.ports.router.reportPath(request, { deadlineMs: REPORT_DEADLINE_MS });
  } catch (error) {
    host.ports.logger.debug({ err: error }, 'the router did not hear how a path fared');
  }
}

/** Whether a failure brings terms that the router may correct the channel's with. */
export function hasChannelUpdate(failure: FailureMessage): boolean {
  return channelUpdateOf(failure).length > 0;
}

function channelUpdateOf(failure: FailureMessage): Uint8Array {
  return 'channelUpdate' in failure ? failure.channelUpdate : new Uint8Array(0);
}
