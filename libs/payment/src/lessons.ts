/**
 * What the failure of an HTLC teaches: about this payment alone (channels and
 * nodes to avoid, terms to correct, how much a channel may be given), and for
 * the scorer.
 */
import { assertNever, compareBytes, concatBytes } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import type { ChannelPolicy } from '@fulmen/graph';
import {
  CHANNEL_FLAG_DIRECTION,
  CHANNEL_FLAG_DISABLE,
  checkChannelUpdate,
  decodeChannelUpdate,
} from '@fulmen/graph';
import { failureDisposition } from '@fulmen/onion/failure-disposition';
import type { FailureMessage } from '@fulmen/onion/failure-message';
import type { Route, RouteHop } from './route.ts';
import { directedKey } from './route.ts';
import type { Observation } from './scorer.ts';

/** Terms learnt from a failure, for this payment alone. */
export interface PolicyOverride {
  readonly shortChannelId: bigint;
  readonly direction: 0 | 1;
  readonly policy: ChannelPolicy;
}

/** The most that this payment may have in flight over a channel, all parts together. */
export interface ChannelLimit {
  readonly shortChannelId: bigint;
  readonly direction: 0 | 1;
  readonly maximumMsat: bigint;
}

/** What earlier attempts have taught; at most a few entries for each attempt. */
export interface Lessons {
  /** HTLCs sent so far. */
  readonly attempts: number;
  /** Those that came to nothing. */
  readonly failures: number;
  readonly avoidedChannels: readonly { readonly shortChannelId: bigint; readonly direction: 0 | 1 }[];
  readonly avoidedNodes: readonly Uint8Array[];
  readonly overrides: readonly PolicyOverride[];
  /** Channels that lacked room for a part; a later entry replaces an earlier one. */
  readonly limits: readonly ChannelLimit[];
  readonly lastFailure: AttemptFailure | undefined;
}

export const NO_LESSONS: Lessons = {
  attempts: 0,
  failures: 0,
  avoidedChannels: [],
  avoidedNodes: [],
  overrides: [],
  limits: [],
  lastFailure: undefined,
};

/** How an attempt ended without success. */
export type AttemptFailure =
  /** A hop said why: index into the route's hops of the node that spoke. */
  | { readonly kind: 'failure'; readonly hopIndex: number; readonly failure: FailureMessage }
  /** Nobody's key opens the failure. */
  | { readonly kind: 'undecodable' }
  /**
   * Our own channel did not take the HTLC, its counterparty never committed to it, or could not read the onion.
   * `failure` is what our own channel says of it; undefined when no channel took it up.
   */
  | { readonly kind: 'not_added'; readonly failure?: FailureMessage };

/** The HTLC that failed, and what else of its payment there is. */
export interface FailedPart {
  readonly route: Route;
  /** The payment's other parts in flight. */
  readonly others: readonly Route[];
  /** What the payee waits for: more than the route's amount when this is one part of several. */
  readonly totalMsat: bigint;
  /** `split`: the next attempt may be in parts of at least `minPartMsat`. */
  readonly sending: 'whole' | 'split';
  readonly minPartMsat: bigint;
}

/** The terms a route update may change: what the sender could have got wrong. */
const CORRECTABLE: ReadonlySet<FailureMessage['kind']> = new Set([
  'amount_below_minimum',
  'fee_insufficient',
  'incorrect_cltv_expiry',
]);

export interface Outcome {
  readonly lessons: Lessons;
  readonly observations: readonly Observation[];
  /** The payee refuses: there is no use in another attempt. */
  readonly refusal?: FailureMessage;
}

/** @param secp verifies channel_updates that failures carry. */
export function learn(secp: Secp256k1, part: FailedPart, failure: AttemptFailure, lessons: Lessons): Outcome {
  const { route } = part;
  switch (failure.kind) {
    case 'not_added':
      return {
        lessons:
          failure.failure?.kind === 'temporary_channel_failure'
            ? giveLess(lessons, part, route.hops[0], OWN_CHANNEL_SHARE)
            : avoidChannels(lessons, route.hops.slice(0, 1)),
        observations: [],
      };
    case 'undecodable':
      // Somebody garbled it and nobody can be blamed: none of these channels again, nothing for the scorer. With a
      // single hop there is only our counterparty, who is the payee.
      return {
        lessons: avoidChannels(lessons, route.hops.length > 1 ? route.hops.slice(1) : route.hops),
        observations: [],
      };
    case 'failure':
      return learnFromHop(secp, part, failure.hopIndex, failure.failure, lessons);
  }
  return assertNever(failure);
}

function learnFromHop(
  secp: Secp256k1,
  part: FailedPart,
  hopIndex: number,
  failure: FailureMessage,
  lessons: Lessons,
): Outcome {
  const { route } = part;
  const erring = route.hops[hopIndex];
  const failed = route.hops[hopIndex + 1];
  // Every channel up to the node that spoke carried the HTLC; the first is our own and is not scored.
  const passed = route.hops.slice(1, hopIndex + 1).map((hop) => observation(hop, 'passed'));
  const isFinal = failed === undefined;
  const disposition = failureDisposition(failure, isFinal ? 'final' : 'intermediate');
  switch (disposition.kind) {
    case 'fail_payment':
      return { lessons, observations: passed, refusal: failure };
    case 'retry':
      // A payee who finds less in the HTLC than in the onion accuses the hop before it.
      // mpp_timeout blames no channel: parts were missing. To a payment of one part it would only come again.
      if (failure.kind === 'mpp_timeout')
        return route.amountMsat < part.totalMsat
          ? { lessons, observations: passed }
          : { lessons, observations: passed, refusal: failure };
      return { lessons: avoidChannels(lessons, route.hops.slice(-1)), observations: passed };
    case 'avoid_blinded_path':
      // Without blinded paths in use, this is a node that breaks the protocol.
      return isFinal
        ? { lessons, observations: passed, refusal: failure }
        : { lessons: avoidNode(lessons, erring), observations: passed };
    case 'avoid_node':
      // The payee itself is never avoided: `findRoute` would not reach it.
      return { lessons: avoidNode(lessons, erring), observations: passed };
    case 'avoid_channel': {
      if (failed === undefined || erring === undefined) return { lessons, observations: passed };
      const override = CORRECTABLE.has(failure.kind)
        ? correctedPolicy(secp, erring, failed, disposition.channelUpdate, lessons)
        : undefined;
      if (override !== undefined) {
        return { lessons: { ...lessons, overrides: [...lessons.overrides, override] }, observations: passed };
      }
      // Only want of liquidity says something of liquidity.
      if (failure.kind !== 'temporary_channel_failure')
        return { lessons: avoidChannels(lessons, [failed]), observations: passed };
      return {
        lessons: giveLess(lessons, part, failed, REMOTE_CHANNEL_SHARE),
        observations: [...passed, observation(failed, 'failed')],
      };
    }
  }
  return assertNever(disposition);
}

/**
 * The terms in a failure's channel_update, if they may be used for the retry:
 * BOLT 4: "if UPDATE is set, AND the `channel_update` is valid and more recent
 * than the `channel_update` used to send the payment: MAY consider [it]". It
 * never reaches the graph ("MUST NOT expose the `channel_update` to
 * third-parties"), and a channel is corrected once, or its node could make us
 * probe for ever.
 */
function correctedPolicy(
  secp: Secp256k1,
  erring: RouteHop,
  failed: RouteHop,
  bytes: Uint8Array | undefined,
  lessons: Lessons,
): PolicyOverride | undefined {
  if (bytes === undefined) return undefined;
  const known = lessons.overrides.some(
    (override) =>
      override.shortChannelId === failed.shortChannelId && override.direction === failed.direction,
  );
  if (known) return undefined;
  // Some nodes leave the message's type number out.
  const raw = bytes[0] === 1 && bytes[1] === 2 ? bytes : concatBytes(Uint8Array.of(1, 2), bytes);
  const update = decodeChannelUpdate(raw);
  if (update === undefined || update.shortChannelId !== failed.shortChannelId) return undefined;
  if ((update.channelFlags & CHANNEL_FLAG_DIRECTION) !== failed.direction) return undefined;
  if (update.channelFlags & CHANNEL_FLAG_DISABLE || update.timestamp <= failed.policyTimestamp)
    return undefined;
  if (!checkChannelUpdate(secp, update, raw, erring.nodeId).ok) return undefined;
  const { shortChannelId, direction } = failed;
  return {
    shortChannelId,
    direction,
    policy: {
      timestamp: update.timestamp,
      cltvExpiryDelta: update.cltvExpiryDelta,
      htlcMinimumMsat: update.htlcMinimumMsat,
      htlcMaximumMsat: update.htlcMaximumMsat,
      feeBaseMsat: update.feeBaseMsat,
      feeProportionalMillionths: update.feeProportionalMillionths,
      disabled: false,
    },
  };
}

export function observation(hop: RouteHop, outcome: Observation['outcome']): Observation {
  const { shortChannelId, direction, amountMsat, capacityMsat } = hop;
  return { shortChannelId, direction, amountMsat, capacityMsat, outcome };
}

/** Where a part did not fit, the next one may be half of it: liquidity is unknown there. */
const REMOTE_CHANNEL_SHARE = { numerator: 1n, denominator: 2n };
/** Of our own channels more is known; what is missing is the room for fees. */
const OWN_CHANNEL_SHARE = { numerator: 7n, denominator: 8n };

/** A channel that lacked room carries less of this payment, or nothing when less is no part. */
function giveLess(
  lessons: Lessons,
  { others, sending, minPartMsat }: FailedPart,
  hop: RouteHop | undefined,
  share: { readonly numerator: bigint; readonly denominator: bigint },
): Lessons {
  if (hop === undefined) return lessons;
  const nextMsat = (hop.amountMsat * share.numerator) / share.denominator;
  if (sending === 'whole' || nextMsat < minPartMsat) return avoidChannels(lessons, [hop]);
  const { shortChannelId, direction } = hop;
  const maximumMsat = nextMsat + inFlightOver(others, directedKey(shortChannelId, direction));
  const kept = lessons.limits.filter(
    (limit) => limit.shortChannelId !== shortChannelId || limit.direction !== direction,
  );
  return { ...lessons, limits: [...kept, { shortChannelId, direction, maximumMsat }] };
}

/** What routes together have in flight over a channel's direction. */
export function inFlightOver(routes: readonly Route[], key: bigint): bigint {
  let sum = 0n;
  for (const { hops } of routes)
    for (const hop of hops) if (directedKey(hop.shortChannelId, hop.direction) === key) sum += hop.amountMsat;
  return sum;
}

function avoidChannels(lessons: Lessons, hops: readonly RouteHop[]): Lessons {
  const added = hops.map(({ shortChannelId, direction }) => ({ shortChannelId, direction }));
  return { ...lessons, avoidedChannels: [...lessons.avoidedChannels, ...added] };
}

function avoidNode(lessons: Lessons, hop: RouteHop | undefined): Lessons {
  if (hop === undefined || lessons.avoidedNodes.some((node) => compareBytes(node, hop.nodeId) === 0))
    return lessons;
  return { ...lessons, avoidedNodes: [...lessons.avoidedNodes, hop.nodeId] };
}
