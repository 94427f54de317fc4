/** FindRoute: a path, or several that share the amount, within every limit; or the reason why there is none. */
import { EDGE_KNOWN } from '@fulmen/graph';
import type { Route, RouteError, Routes, Searches } from '@fulmen/payment';
import { DEFAULT_MAX_CLTV_DELTA, directedKey, searchRoutes } from '@fulmen/payment';
import type { FindRouteRequest, FindRouteResponse, RouteHop } from '@fulmen/proto/router/v1/router';
import { RpcError } from '@fulmen/rpc';
import { assertNever, equalBytes } from '@fulmen/codec';
import type { RouterContext } from '../ports.ts';
import { nowSeconds } from '../ports.ts';

const NODE_ID_LENGTH = 33;
/** Path finding counts in doubles: amount and fee together stay exact below this. */
const MAX_TOTAL_MSAT = BigInt(Number.MAX_SAFE_INTEGER) - 1n;
/** Own channels and avoided channels of one request. */
const MAX_LIST = 10_000;
/** Until our own id is known no node equals it. */
const NOBODY = new Uint8Array(NODE_ID_LENGTH);

/**
 * Answers with hops, with paths when the amount is split, or with `failure`: "no_route", "fee_limit", "cltv_limit",
 * "unknown_payee" or "insufficient_outbound".
 * @throws RpcError `invalid_argument` for a request that nobody should make
 */
export async function findRouteRpc(
  context: RouterContext,
  request: FindRouteRequest,
): Promise<FindRouteResponse> {
  const { state, runtime, metrics } = context;
  const { payeeNodeId, amountMsat } = request;
  if (payeeNodeId.length !== NODE_ID_LENGTH)
    throw new RpcError('invalid_argument', 'payee_node_id is not 33 bytes');
  if (request.payerNodeId !== undefined && request.payerNodeId.length !== NODE_ID_LENGTH)
    throw new RpcError('invalid_argument', 'payer_node_id is not 33 bytes');
  if (amountMsat === 0n || amountMsat >= MAX_TOTAL_MSAT)
    throw new RpcError('invalid_argument', 'amount_msat is out of range');
  if ([request.firstHops, request.avoid, request.uses].some((list) => list.length > MAX_LIST))
    throw new RpcError('invalid_argument', 'too many first_hops, avoided or used channels');
  const startedMs = runtime.monotonicMs();
  const now = nowSeconds(runtime);
  const feeRoom = MAX_TOTAL_MSAT - amountMsat;
  const searches = searchRoutes(
    state.graph,
    {
      payer: request.payerNodeId ?? state.ownNodeId ?? NOBODY,
      payee: payeeNodeId,
      amountMsat,
      finalCltvDelta: request.finalCltvDelta,
      firstHops: request.firstHops
        .filter((hop) => hop.counterpartyNodeId.length === NODE_ID_LENGTH)
        .map((hop) => ({
          shortChannelId: hop.shortChannelId,
          counterparty: hop.counterpartyNodeId,
          minimumMsat: hop.htlcMinimumMsat,
          // 0 in protobuf is "not said".
          maximumMsat:
            hop.htlcMaximumMsat === 0n || hop.htlcMaximumMsat > hop.outboundCapacityMsat
              ? hop.outboundCapacityMsat
              : hop.htlcMaximumMsat,
        })),
      hints: request.hints.map(({ hops }) =>
        hops
          .filter((hop) => hop.sourceNodeId.length === NODE_ID_LENGTH)
          .map((hop) => ({
            nodeId: hop.sourceNodeId,
            shortChannelId: hop.shortChannelId,
            feeBaseMsat: hop.feeBaseMsat,
            feeProportionalMillionths: hop.feeProportionalMillionths,
            cltvExpiryDelta: hop.cltvExpiryDelta,
          })),
      ),
      maxFeeMsat: request.maxFeeMsat < feeRoom ? request.maxFeeMsat : feeRoom,
      maxCltvDelta: request.maxTotalCltvDelta === 0 ? DEFAULT_MAX_CLTV_DELTA : request.maxTotalCltvDelta,
      currentHeight: request.currentHeight,
      avoidedChannels: new Set(
        request.avoid.map(({ shortChannelId, direction }) =>
          directedKey(shortChannelId, direction === 0 ? 0 : 1),
        ),
      ),
      policyOverrides: state.corrections.current(state.graph, now),
      uses: new Map(
        request.uses.map(({ shortChannelId, direction, inFlightMsat, maximumMsat }) => [
          directedKey(shortChannelId, direction === 0 ? 0 : 1),
          { inFlightMsat, maximumMsat },
        ]),
      ),
    },
    { maxParts: request.maxParts, minPartMsat: request.minPartMsat },
    state.scorer.at(now),
  );
  const found = await inTurns(searches, () => runtime.sleep(0));
  const outcome = found.ok ? undefined : failureOf(found.error, isReachable(context, request));
  metrics.routeSeconds.observe(
    { outcome: outcome?.failure ?? 'found' },
    (runtime.monotonicMs() - startedMs) / 1_000,
  );
  if (!found.ok) {
    return { hops: [], totalFeeMsat: 0n, failure: 'no_route', failureDetail: '', paths: [], ...outcome };
  }
  const [only, ...others] = found.value;
  const isSplit = others.length > 0;
  return {
    hops: isSplit || only === undefined ? [] : hopsOf(only),
    totalFeeMsat: found.value.reduce((sum, route) => sum + route.feeMsat, 0n),
    failure: '',
    failureDetail: '',
    paths: isSplit ? found.value.map((route) => ({ hops: hopsOf(route) })) : [],
  };
}

/** Everything else of the process has its turn between two searches: the writer's lease among it. */
export async function inTurns(searches: Searches<Routes>, pause: () => Promise<void>): Promise<Routes> {
  for (;;) {
    const step = searches.next();
    if (step.done === true) return step.value;
    await pause();
  }
}

function hopsOf({ hops }: Route): RouteHop[] {
  return hops.map((hop, index) => ({
    nodeId: hop.nodeId,
    shortChannelId: hop.shortChannelId,
    amountMsat: hop.amountMsat,
    cltvExpiryHeight: hop.cltvExpiryHeight,
    // What the node at this hop's end keeps.
    feeMsat: hop.amountMsat - (hops[index + 1]?.amountMsat ?? hop.amountMsat),
  }));
}

/** Does any channel that we know of lead to the payee? */
function isReachable({ state }: RouterContext, request: FindRouteRequest): boolean {
  const { graph } = state;
  const node = graph.nodeIndex(request.payeeNodeId);
  return (
    request.hints.some((hint) => hint.hops.length > 0) ||
    request.firstHops.some((hop) => equalBytes(hop.counterpartyNodeId, request.payeeNodeId)) ||
    (node !== undefined &&
      [...graph.edgesFrom(node)].some((edge) => ((graph.edgeFlags[edge ^ 1] ?? 0) & EDGE_KNOWN) !== 0))
  );
}

function failureOf(
  error: RouteError,
  reachable: boolean,
): Pick<FindRouteResponse, 'failure' | 'failureDetail'> {
  switch (error.kind) {
    case 'payer_is_payee':
      return { failure: 'no_route', failureDetail: 'the payee is this node' };
    case 'invalid_amount':
      return { failure: 'no_route', failureDetail: 'the amount and its fee limit are too large' };
    case 'no_first_hop':
      return {
        failure: 'insufficient_outbound',
        failureDetail: 'no channel of this node can send the amount now',
      };
    case 'no_route':
      if (!reachable) {
        return { failure: 'unknown_payee', failureDetail: 'no known channel leads to the payee' };
      }
      if (error.exceeded.includes('fee')) {
        return {
          failure: 'fee_limit',
          failureDetail: 'there are paths, but all cost more than the fee limit',
        };
      }
      if (error.exceeded.includes('cltv')) {
        return {
          failure: 'cltv_limit',
          failureDetail: 'there are paths, but all lock the amount for too many blocks',
        };
      }
      return {
        failure: 'no_route',
        failureDetail: error.exceeded.includes('hops')
          ? 'all paths have too many hops'
          : 'no path with enough capacity is known',
      };
    default:
      return assertNever(error);
  }
}
