/**
 * ReportPath: what an attempt has shown of the channels it used.
 *
 * `failure.hop_index` names the node that reported the failure (the end of
 * that hop), as the failure's onion does: hops up to it carried the HTLC, the
 * one after it did not.
 */
import { concatBytes } from '@fulmen/codec';
import {
  CHANNEL_FLAG_DIRECTION,
  CHANNEL_FLAG_DISABLE,
  checkChannelUpdate,
  decodeChannelUpdate,
} from '@fulmen/graph';
import type { Observation } from '@fulmen/payment';
import { directedKey, directionBetween } from '@fulmen/payment';
import type { HopFailure, ReportPathRequest, RouteHop } from '@fulmen/proto/router/v1/router';
import { RpcError } from '@fulmen/rpc';
import type { RouterContext } from '../ports.ts';
import { nowSeconds } from '../ports.ts';

const NODE_ID_LENGTH = 33;
const MAX_HOPS = 32;
/** BOLT 4: UPDATE|7, the only failure that tells of liquidity. */
const TEMPORARY_CHANNEL_FAILURE = 0x1007;
/** A hint's channel is as large as it needs to be. */
const UNKNOWN_CAPACITY_MSAT = 1n << 52n;

/** @throws RpcError `invalid_argument` */
export function reportPathRpc(context: RouterContext, request: ReportPathRequest): void {
  const { hops, outcome } = request;
  if (hops.length > MAX_HOPS || hops.some((hop) => hop.nodeId.length !== NODE_ID_LENGTH)) {
    throw new RpcError('invalid_argument', 'hops are not a route');
  }
  if (outcome === undefined) throw new RpcError('invalid_argument', 'no outcome');
  if (outcome.$case === 'success') {
    if (outcome.value) observe(context, hops, hops.length, 'settled');
    return;
  }
  const failure = outcome.value;
  if (failure.hopIndex >= hops.length)
    throw new RpcError('invalid_argument', 'hop_index is beyond the route');
  observe(context, hops, failure.hopIndex + 1, 'passed');
  if (failure.failureCode === TEMPORARY_CHANNEL_FAILURE) {
    const failed = failure.hopIndex + 1;
    if (failed < hops.length) observeOne(context, hops, failed, 'failed');
  }
  if (failure.channelUpdate.length > 0) correct(context, hops, failure);
}

/** Hops before `end`; the first is our own channel, of which we know all. */
function observe(
  context: RouterContext,
  hops: readonly RouteHop[],
  end: number,
  outcome: Observation['outcome'],
): void {
  for (let index = 1; index < end; index++) observeOne(context, hops, index, outcome);
}

function observeOne(
  { state, runtime }: RouterContext,
  hops: readonly RouteHop[],
  index: number,
  outcome: Observation['outcome'],
): void {
  const [source, hop] = [hops[index - 1], hops[index]];
  if (source === undefined || hop === undefined) return;
  const direction = directionBetween(source.nodeId, hop.nodeId);
  const channel = state.graph.channelIndex(hop.shortChannelId);
  const edge = 2 * (channel ?? 0) + direction;
  const capacitySat = channel === undefined ? 0 : (state.graph.channelCapacitySat[channel] ?? 0);
  const capacityMsat =
    channel === undefined
      ? UNKNOWN_CAPACITY_MSAT
      : BigInt(capacitySat > 0 ? capacitySat * 1_000 : (state.graph.edgeHtlcMaximumMsat[edge] ?? 0));
  const { shortChannelId, amountMsat } = hop;
  state.scorer.observe({ shortChannelId, direction, amountMsat, capacityMsat, outcome }, nowSeconds(runtime));
  state.scoresChanged = true;
}

/** Takes over the terms that came with a failure, for our own routes alone, if they are signed, fit and new. */
function correct(
  { state, secp, runtime }: RouterContext,
  hops: readonly RouteHop[],
  failure: HopFailure,
): void {
  const [erring, failed] = [hops[failure.hopIndex], hops[failure.hopIndex + 1]];
  if (erring === undefined || failed === undefined) return;
  const bytes = Uint8Array.from(failure.channelUpdate);
  // Some nodes leave the message's type number out.
  const raw = bytes[0] === 1 && bytes[1] === 2 ? bytes : concatBytes(Uint8Array.of(1, 2), bytes);
  const update = decodeChannelUpdate(raw);
  if (update === undefined || update.shortChannelId !== failed.shortChannelId) return;
  const direction = directionBetween(erring.nodeId, failed.nodeId);
  if ((update.channelFlags & CHANNEL_FLAG_DIRECTION) !== direction) return;
  const key = directedKey(failed.shortChannelId, direction);
  const channel = state.graph.channelIndex(failed.shortChannelId);
  const known = channel === undefined ? 0 : (state.graph.edgeTimestamp[2 * channel + direction] ?? 0);
  const corrected = state.corrections.get(key)?.timestamp ?? 0;
  // BOLT 4: "more recent than the `channel_update` used to send the payment".
  if (update.timestamp <= Math.max(known, corrected)) return;
  if (!checkChannelUpdate(secp, update, raw, erring.nodeId).ok) return;
  state.corrections.add(
    key,
    {
      timestamp: update.timestamp,
      cltvExpiryDelta: update.cltvExpiryDelta,
      htlcMinimumMsat: update.htlcMinimumMsat,
      htlcMaximumMsat: update.htlcMaximumMsat,
      feeBaseMsat: update.feeBaseMsat,
      feeProportionalMillionths: update.feeProportionalMillionths,
      disabled: (update.channelFlags & CHANNEL_FLAG_DISABLE) !== 0,
    },
    nowSeconds(runtime),
  );
}
