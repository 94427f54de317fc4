/** Routes, and what each hop of one is told (BOLT 4, "Payload Format"). */
import { compareBytes } from '@fulmen/codec';
import type { ChannelPolicy, NetworkGraph } from '@fulmen/graph';
import type { HopPayload } from '@fulmen/onion/payload';

/** One channel of a route, and the node at its far end. */
export interface RouteHop {
  /** The node that receives this hop's HTLC. */
  readonly nodeId: Uint8Array;
  readonly shortChannelId: bigint;
  /** 0 if the sending end's node id is the lesser one. */
  readonly direction: 0 | 1;
  /** Amount of the HTLC on this channel. */
  readonly amountMsat: bigint;
  /** Expiry of the HTLC on this channel. */
  readonly cltvExpiryHeight: number;
  /** What the channel can hold, as far as we know: for scoring. */
  readonly capacityMsat: bigint;
  /** Timestamp of the channel_update that this hop was computed with; 0 for own channels and hints. */
  readonly policyTimestamp: number;
}

/** A path from us to the payee; `hops[0]` is our own channel. */
export interface Route {
  readonly hops: readonly RouteHop[];
  /** What the payee gets. */
  readonly amountMsat: bigint;
  /** What all forwarding nodes keep. */
  readonly feeMsat: bigint;
}

/** A route, and how much more its path may well carry. */
export interface RoomyRoute {
  readonly route: Route;
  /** The path holds this many times the route's amount, as far as is known; at least 1. */
  readonly roomFactor: number;
}

/** One of our channels that may carry the HTLC. */
export interface FirstHop {
  /** Real scid, alias, or any id of ours that the adding channel is found by. */
  readonly shortChannelId: bigint;
  readonly counterparty: Uint8Array;
  /** Least amount of an HTLC that the counterparty accepts. */
  readonly minimumMsat: bigint;
  /** Most that can be sent now in one HTLC: balance, reserve, fees, in-flight limits and dust exposure considered. */
  readonly maximumMsat: bigint;
}

/** One entry of a BOLT 11 `r` field: a channel that leaves `nodeId` toward the next entry or the payee. */
export interface RouteHint {
  readonly nodeId: Uint8Array;
  readonly shortChannelId: bigint;
  readonly feeBaseMsat: number;
  readonly feeProportionalMillionths: number;
  readonly cltvExpiryDelta: number;
}

/** What the parts of one payment make of a channel's direction, beside what is known of it. */
export interface ChannelUse {
  /** In flight by other parts: what the channel holds, less this, is left for more. */
  readonly inFlightMsat: bigint;
  /** The most that this payment may add there; undefined: as much as the channel holds. */
  readonly maximumMsat: bigint | undefined;
}

/** A channel in one direction, as a key: `scid * 2 + direction`. */
export function directedKey(shortChannelId: bigint, direction: 0 | 1): bigint {
  return (shortChannelId << 1n) | BigInt(direction);
}

/** BOLT 7: direction 0 is away from the lesser node id. */
export function directionBetween(from: Uint8Array, to: Uint8Array): 0 | 1 {
  return compareBytes(from, to) < 0 ? 0 : 1;
}

/** The part of a graph that path finding reads. */
export type GraphView = Pick<
  NetworkGraph,
  | 'nodeEnd'
  | 'nodeIndex'
  | 'nodeId'
  | 'channelIndex'
  | 'firstEdge'
  | 'nextEdge'
  | 'edgeSource'
  | 'edgeFlags'
  | 'edgeTimestamp'
  | 'edgeCltvExpiryDelta'
  | 'edgeFeeBaseMsat'
  | 'edgeFeeProportionalMillionths'
  | 'edgeHtlcMinimumMsat'
  | 'edgeHtlcMaximumMsat'
  | 'channelScid'
  | 'channelCapacitySat'
  | 'channelAvoided'
  | 'channelSpentHeight'
  | 'nodeAvoided'
>;

/** What to find. */
export interface RouteRequest {
  readonly payer: Uint8Array;
  readonly payee: Uint8Array;
  /** Below 2^53 together with `maxFeeMsat`. */
  readonly amountMsat: bigint;
  /** Blocks that the payee wants at least; see `PaymentParameters`. */
  readonly finalCltvDelta: number;
  /** Blocks added for everyone, so that the payee's distance cannot be guessed (BOLT 7, "shadow route"). */
  readonly shadowCltvDelta?: number;
  readonly firstHops: readonly FirstHop[];
  /** Each from its entry node to the payee. */
  readonly hints: readonly (readonly RouteHint[])[];
  readonly maxFeeMsat: bigint;
  /** Most blocks from now to the first HTLC's expiry; 1008 if unset. */
  readonly maxCltvDelta?: number;
  /** Channels in the path; 19 if unset, and never more than an onion holds. */
  readonly maxHops?: number;
  readonly currentHeight: number;
  /** Directed keys not to use. */
  readonly avoidedChannels?: ReadonlySet<bigint>;
  /** Node keys (`nodeKey`) not to route through. */
  readonly avoidedNodes?: ReadonlySet<string>;
  /** Terms that hold for this payment instead of the graph's, by directed key. */
  readonly policyOverrides?: ReadonlyMap<bigint, ChannelPolicy>;
  /** Channels that parts of this payment use or overtaxed, own channels included, by directed key. */
  readonly uses?: ReadonlyMap<bigint, ChannelUse>;
}

/** What an own channel can still send of a payment. */
export function roomOfFirstHop({ payer, uses }: RouteRequest, hop: FirstHop): bigint {
  const use = uses?.get(directedKey(hop.shortChannelId, directionBetween(payer, hop.counterparty)));
  if (use === undefined) return hop.maximumMsat;
  const left = hop.maximumMsat > use.inFlightMsat ? hop.maximumMsat - use.inFlightMsat : 0n;
  return use.maximumMsat !== undefined && use.maximumMsat < left ? use.maximumMsat : left;
}

/** Two weeks would hold funds for as long; one is LDK's bound as well. */
export const DEFAULT_MAX_CLTV_DELTA = 1008;
/** 1300 bytes of onion hold at least so many payloads. */
export const MAX_HOPS = 19;

/** Why there is no route. */
export type RouteError =
  | { readonly kind: 'payer_is_payee' }
  | { readonly kind: 'invalid_amount' }
  /** Our channels cannot send as much: no single one, or all together when the amount may be split. */
  | { readonly kind: 'no_first_hop' }
  /** Paths that were given up only because they would break a limit are named; then a looser one may help. */
  | { readonly kind: 'no_route'; readonly exceeded: readonly ('fee' | 'cltv' | 'hops')[] };

/** A hop's payload before its encoding (`encodeHopPayload` of the onion library). */
export type HopPayloadTlvs = HopPayload['tlvs'];

/** What the payee needs beside amount and expiry. */
export type FinalDetails = Pick<HopPayloadTlvs, 'paymentData' | 'paymentMetadata' | 'keysendPreimage'>;

/** The payloads of a route, one for each hop's node (BOLT 4, "Payload Format"). */
export function payloadsOf(route: Route, final: FinalDetails): HopPayloadTlvs[] {
  return route.hops.map((hop, index) => {
    const next = route.hops[index + 1];
    if (next === undefined) {
      return { amtToForwardMsat: hop.amountMsat, outgoingCltvHeight: hop.cltvExpiryHeight, ...final };
    }
    return {
      amtToForwardMsat: next.amountMsat,
      outgoingCltvHeight: next.cltvExpiryHeight,
      shortChannelId: next.shortChannelId,
    };
  });
}
