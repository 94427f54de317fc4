/**
 * An outbound payment as a pure state machine: route, attempt, learn, try
 * again, until the money moved or a limit is reached. One part, one attempt in
 * flight at a time.
 *
 * The state is plain data. The shell persists it *before* it carries out the
 * effects: an attempt that was sent but not recorded could be paid twice.
 * A payment is failed only when no attempt is in flight.
 */
import type { Result } from '@fulmen/codec';
import { assertNever, compareBytes, concatBytes, equalBytes, err, ok } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import { sha256 } from '@fulmen/crypto';
import type { ChannelPolicy } from '@fulmen/graph';
import {
  CHANNEL_FLAG_DIRECTION,
  CHANNEL_FLAG_DISABLE,
  checkChannelUpdate,
  decodeChannelUpdate,
  nodeKey,
} from '@fulmen/graph';
import { failureDisposition } from '@fulmen/onion/failure-disposition';
import type { FailureMessage } from '@fulmen/onion/failure-message';
import type {
  FinalDetails,
  HopPayloadTlvs,
  Route,
  RouteError,
  RouteHint,
  RouteHop,
  RouteRequest,
} from './route.ts';
import { directedKey, payloadsOf } from './route.ts';
import type { Observation } from './scorer.ts';

/** What to pay, and how far to go for it. */
export interface PaymentParameters {
  readonly paymentHash: Uint8Array;
  readonly payee: Uint8Array;
  readonly amountMsat: bigint;
  readonly finalCltvDelta: number;
  readonly shadowCltvDelta: number;
  readonly final: FinalDetails;
  readonly hints: readonly (readonly RouteHint[])[];
  readonly maxFeeMsat: bigint;
  readonly maxCltvDelta: number;
  readonly maxAttempts: number;
  /** No attempt begins at or after this time. */
  readonly deadlineSeconds: number;
}

/** Terms learnt from a failure, for this payment alone. */
export interface PolicyOverride {
  readonly shortChannelId: bigint;
  readonly direction: 0 | 1;
  readonly policy: ChannelPolicy;
}

/** What earlier attempts have taught; at most a few entries for each attempt. */
export interface Lessons {
  readonly attempts: number;
  readonly avoidedChannels: readonly { readonly shortChannelId: bigint; readonly direction: 0 | 1 }[];
  readonly avoidedNodes: readonly Uint8Array[];
  readonly overrides: readonly PolicyOverride[];
  readonly lastFailure: AttemptFailure | undefined;
}

/** An attempt, as it must be known to read its failure. */
export interface Attempt {
  /** Counts from 1 within the payment. */
  readonly attemptNumber: number;
  readonly route: Route;
  /** 32 bytes; the onion and its failures are derived from it. */
  readonly sessionKey: Uint8Array;
}

/** Why a payment came to nothing. */
export type PaymentFailureReason =
  | { readonly kind: 'refused_by_payee'; readonly failure: FailureMessage }
  | { readonly kind: 'route_not_found'; readonly error: RouteError }
  | { readonly kind: 'retries_exhausted' }
  | { readonly kind: 'deadline_passed' }
  | { readonly kind: 'abandoned' };

/** An attempt that is over, for whoever asks how the payment went. */
export interface EndedAttempt {
  /** Counts from 1 within the payment. */
  readonly attemptNumber: number;
  readonly route: Route;
  /** undefined: it was paid. */
  readonly failure: AttemptFailure | undefined;
}

interface Common {
  readonly parameters: PaymentParameters;
  readonly lessons: Lessons;
  /** In the order in which they ended; at most `maxAttempts`. */
  readonly ended: readonly EndedAttempt[];
}

export type PaymentState = Common &
  (
    | { readonly type: 'routing' }
    | { readonly type: 'in_flight'; readonly attempt: Attempt; readonly intent: 'retry' | 'abandon' }
    | { readonly type: 'sent'; readonly preimage: Uint8Array; readonly feeMsat: bigint }
    | { readonly type: 'failed'; readonly reason: PaymentFailureReason }
  );

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

export type PaymentInput =
  | {
      readonly type: 'route_found';
      readonly route: Route;
      readonly sessionKey: Uint8Array;
      readonly nowSeconds: number;
    }
  | { readonly type: 'route_not_found'; readonly error: RouteError }
  | { readonly type: 'htlc_fulfilled'; readonly preimage: Uint8Array }
  | { readonly type: 'htlc_failed'; readonly failure: AttemptFailure; readonly nowSeconds: number }
  | { readonly type: 'abandon' };

/** What the shell does once the state is saved. */
export type PaymentEffect =
  /** Run `findRoute` with `routeRequestParts` and answer with a route input. */
  | { readonly kind: 'find_route' }
  | { readonly kind: 'send_htlc'; readonly attempt: Attempt; readonly payloads: readonly HopPayloadTlvs[] }
  | { readonly kind: 'learn'; readonly observations: readonly Observation[] }
  | { readonly kind: 'payment_sent'; readonly preimage: Uint8Array; readonly feeMsat: bigint }
  | { readonly kind: 'payment_failed'; readonly reason: PaymentFailureReason };

export interface PaymentTransition {
  readonly state: PaymentState;
  readonly effects: readonly PaymentEffect[];
}

/** An input that cannot belong to the state: a bug or a replay of the shell's; the state stands. */
export type PaymentInputError =
  | 'not_routing'
  | 'not_in_flight'
  | 'finished'
  | 'wrong_preimage'
  | 'hop_out_of_range'
  | 'route_breaks_limits';

/** The terms a route update may change: what the sender could have got wrong. */
const CORRECTABLE: ReadonlySet<FailureMessage['kind']> = new Set([
  'amount_below_minimum',
  'fee_insufficient',
  'incorrect_cltv_expiry',
]);

/** Begins a payment. */
export function startPayment(parameters: PaymentParameters): PaymentTransition {
  const lessons: Lessons = {
    attempts: 0,
    avoidedChannels: [],
    avoidedNodes: [],
    overrides: [],
    lastFailure: undefined,
  };
  return { state: { type: 'routing', parameters, lessons, ended: [] }, effects: [{ kind: 'find_route' }] };
}

/** The part of a route request that the payment decides; the shell adds payer, own channels and height. */
export function routeRequestParts(
  state: PaymentState,
): Omit<RouteRequest, 'payer' | 'firstHops' | 'currentHeight'> {
  const { parameters, lessons } = state;
  return {
    payee: parameters.payee,
    amountMsat: parameters.amountMsat,
    finalCltvDelta: parameters.finalCltvDelta,
    shadowCltvDelta: parameters.shadowCltvDelta,
    hints: parameters.hints,
    maxFeeMsat: parameters.maxFeeMsat,
    maxCltvDelta: parameters.maxCltvDelta,
    avoidedChannels: new Set(
      lessons.avoidedChannels.map((channel) => directedKey(channel.shortChannelId, channel.direction)),
    ),
    avoidedNodes: new Set(lessons.avoidedNodes.map(nodeKey)),
    policyOverrides: new Map(
      lessons.overrides.map((override) => [
        directedKey(override.shortChannelId, override.direction),
        override.policy,
      ]),
    ),
  };
}

/**
 * The next state and what to do.
 *
 * @param secp verifies channel_updates that failures carry.
 */
export function stepPayment(
  secp: Secp256k1,
  state: PaymentState,
  input: PaymentInput,
): Result<PaymentTransition, PaymentInputError> {
  if (state.type === 'sent') return err('finished');
  if (state.type === 'failed' && input.type !== 'htlc_fulfilled') return err('finished');
  switch (input.type) {
    case 'route_found':
      return routeFound(state, input);
    case 'route_not_found': {
      if (state.type !== 'routing') return err('not_routing');
      return ok(fail(state, { kind: 'route_not_found', error: input.error }));
    }
    case 'htlc_fulfilled':
      return fulfilled(state, input.preimage);
    case 'htlc_failed':
      return attemptFailed(secp, state, input.failure, input.nowSeconds);
    case 'abandon':
      if (state.type === 'routing') return ok(fail(state, { kind: 'abandoned' }));
      if (state.type !== 'in_flight') return err('not_in_flight');
      return ok({ state: { ...state, intent: 'abandon' }, effects: [] });
  }
  return assertNever(input);
}

function fail(
  state: PaymentState,
  reason: PaymentFailureReason,
  before: readonly PaymentEffect[] = [],
): PaymentTransition {
  return {
    state: {
      type: 'failed',
      parameters: state.parameters,
      lessons: state.lessons,
      ended: state.ended,
      reason,
    },
    effects: [...before, { kind: 'payment_failed', reason }],
  };
}

function routeFound(
  state: PaymentState,
  input: Extract<PaymentInput, { type: 'route_found' }>,
): Result<PaymentTransition, PaymentInputError> {
  if (state.type !== 'routing') return err('not_routing');
  const { parameters, lessons } = state;
  if (input.nowSeconds >= parameters.deadlineSeconds) return ok(fail(state, { kind: 'deadline_passed' }));
  const { route } = input;
  const last = route.hops.at(-1);
  if (
    last === undefined ||
    !equalBytes(last.nodeId, parameters.payee) ||
    last.amountMsat !== parameters.amountMsat ||
    (route.hops[0]?.amountMsat ?? 0n) - last.amountMsat > parameters.maxFeeMsat
  ) {
    return err('route_breaks_limits');
  }
  const attempt: Attempt = { attemptNumber: lessons.attempts + 1, route, sessionKey: input.sessionKey };
  return ok({
    state: {
      type: 'in_flight',
      parameters,
      lessons: { ...lessons, attempts: attempt.attemptNumber },
      ended: state.ended,
      attempt,
      intent: 'retry',
    },
    effects: [{ kind: 'send_htlc', attempt, payloads: payloadsOf(route, parameters.final) }],
  });
}

function fulfilled(state: PaymentState, preimage: Uint8Array): Result<PaymentTransition, PaymentInputError> {
  // Accepted in every state: a preimage proves that some attempt was paid, even one believed to have failed.
  if (!equalBytes(sha256(preimage), state.parameters.paymentHash)) return err('wrong_preimage');
  const attempt = state.type === 'in_flight' ? state.attempt : undefined;
  const route = attempt?.route;
  const feeMsat = route?.feeMsat ?? 0n;
  const observations = (route?.hops ?? []).slice(1).map((hop) => observation(hop, 'settled'));
  return ok({
    state: {
      type: 'sent',
      parameters: state.parameters,
      lessons: state.lessons,
      ended: attempt === undefined ? state.ended : [...state.ended, endedAttempt(attempt, undefined)],
      preimage,
      feeMsat,
    },
    effects: [
      ...(observations.length > 0 ? [{ kind: 'learn', observations } as const] : []),
      { kind: 'payment_sent', preimage, feeMsat },
    ],
  });
}

function attemptFailed(
  secp: Secp256k1,
  state: PaymentState,
  failure: AttemptFailure,
  nowSeconds: number,
): Result<PaymentTransition, PaymentInputError> {
  if (state.type !== 'in_flight') return err('not_in_flight');
  const { route } = state.attempt;
  if (failure.kind === 'failure' && route.hops[failure.hopIndex] === undefined)
    return err('hop_out_of_range');
  const outcome = learn(secp, route, failure, state.lessons);
  const effects: PaymentEffect[] =
    outcome.observations.length > 0 ? [{ kind: 'learn', observations: outcome.observations }] : [];
  const { parameters } = state;
  const next: PaymentState = {
    type: 'routing',
    parameters,
    lessons: { ...outcome.lessons, lastFailure: failure },
    ended: [...state.ended, endedAttempt(state.attempt, failure)],
  };
  const reason: PaymentFailureReason | undefined =
    outcome.refusal !== undefined
      ? { kind: 'refused_by_payee', failure: outcome.refusal }
      : state.intent === 'abandon'
        ? { kind: 'abandoned' }
        : next.lessons.attempts >= parameters.maxAttempts
          ? { kind: 'retries_exhausted' }
          : nowSeconds >= parameters.deadlineSeconds
            ? { kind: 'deadline_passed' }
            : undefined;
  if (reason !== undefined) return ok(fail(next, reason, effects));
  return ok({ state: next, effects: [...effects, { kind: 'find_route' }] });
}

function endedAttempt({ attemptNumber, route }: Attempt, failure: AttemptFailure | undefined): EndedAttempt {
  return { attemptNumber, route, failure };
}

interface Outcome {
  readonly lessons: Lessons;
  readonly observations: readonly Observation[];
  /** The payee refuses: there is no use in another attempt. */
  readonly refusal?: FailureMessage;
}

function learn(secp: Secp256k1, route: Route, failure: AttemptFailure, lessons: Lessons): Outcome {
  switch (failure.kind) {
    case 'not_added':
      return { lessons: avoidChannels(lessons, route.hops.slice(0, 1)), observations: [] };
    case 'undecodable':
      // Somebody garbled it and nobody can be blamed: none of these channels again, nothing for the scorer. With a
      // single hop there is only our counterparty, who is the payee.
      return {
        lessons: avoidChannels(lessons, route.hops.length > 1 ? route.hops.slice(1) : route.hops),
        observations: [],
      };
    case 'failure':
      return learnFromHop(secp, route, failure.hopIndex, failure.failure, lessons);
  }
  return assertNever(failure);
}

function learnFromHop(
  secp: Secp256k1,
  route: Route,
  hopIndex: number,
  failure: FailureMessage,
  lessons: Lessons,
): Outcome {
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
      // mpp_timeout for a payment of one part would only come again.
      return failure.kind === 'mpp_timeout'
        ? { lessons, observations: passed, refusal: failure }
        : { lessons: avoidChannels(lessons, route.hops.slice(-1)), observations: passed };
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
      const observations =
        failure.kind === 'temporary_channel_failure' ? [...passed, observation(failed, 'failed')] : passed;
      return { lessons: avoidChannels(lessons, [failed]), observations };
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

function observation(hop: RouteHop, outcome: Observation['outcome']): Observation {
  const { shortChannelId, direction, amountMsat, capacityMsat } = hop;
  return { shortChannelId, direction, amountMsat, capacityMsat, outcome };
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
