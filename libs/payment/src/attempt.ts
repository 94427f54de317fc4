/**
 * An outbound payment as a pure state machine: routes, parts, learn, try
 * again, until the money moved or a limit is reached. A payment is sent whole
 * if one path carries it, else in parts (BOLT 4, "Basic Multi-Part Payments").
 *
 * The state is plain data. The shell persists it *before* it carries out the
 * effects: a part that was sent but not recorded could be paid twice. What is
 * in flight never exceeds the amount and the fee limit, no part is sent again
 * before it has failed, and a payment is failed only when nothing is in flight.
 */
import type { Result } from '@fulmen/codec';
import { assertNever, equalBytes, err, ok } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import { sha256 } from '@fulmen/crypto';
import { nodeKey } from '@fulmen/graph';
import { type FailureMessage, withoutBulk } from '@fulmen/onion/failure-message';
import {
  type AttemptFailure,
  inFlightOver,
  learn,
  type Lessons,
  NO_LESSONS,
  observation,
} from './lessons.ts';
import type {
  ChannelUse,
  FinalDetails,
  HopPayloadTlvs,
  Route,
  RouteError,
  RouteHint,
  RouteRequest,
} from './route.ts';
import { directedKey, payloadsOf } from './route.ts';
import type { Observation } from './scorer.ts';
import type { SplitLimits } from './splitRoute.ts';

/** What to pay, and how far to go for it. */
export interface PaymentParameters extends SplitLimits {
  readonly paymentHash: Uint8Array;
  readonly payee: Uint8Array;
  readonly amountMsat: bigint;
  readonly finalCltvDelta: number;
  readonly shadowCltvDelta: number;
  readonly final: FinalDetails;
  readonly hints: readonly (readonly RouteHint[])[];
  /** For all parts together. */
  readonly maxFeeMsat: bigint;
  readonly maxCltvDelta: number;
  /** The payment is given up when so many of its HTLCs have failed. */
  readonly maxAttempts: number;
  /** No attempt begins at or after this time. */
  readonly deadlineSeconds: number;
}

/** One HTLC of the payment, as it must be known to read its failure. */
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

/** What happens when a part fails: what it carried is sent anew, or the rest is waited for. */
export type PaymentIntent =
  | { readonly kind: 'retry' }
  | { readonly kind: 'give_up'; readonly reason: PaymentFailureReason };

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
  /** In the order in which they ended; at most `maxAttempts` and `maxParts`. */
  readonly ended: readonly EndedAttempt[];
}

export type PaymentState = Common &
  (
    | { readonly type: 'routing' }
    /** At least one part; together less than the amount when some failed. */
    | { readonly type: 'in_flight'; readonly parts: readonly Attempt[]; readonly intent: PaymentIntent }
    /** `parts` are those that the payee has still to fulfil, as it must. */
    | {
        readonly type: 'sent';
        readonly preimage: Uint8Array;
        readonly feeMsat: bigint;
        readonly parts: readonly Attempt[];
      }
    | { readonly type: 'failed'; readonly reason: PaymentFailureReason }
  );

export type PaymentInput =
  | {
      readonly type: 'routes_found';
      /** Together they bring what is missing. */
      readonly routes: readonly Route[];
      /** One for each route. */
      readonly sessionKeys: readonly Uint8Array[];
      readonly nowSeconds: number;
    }
  | { readonly type: 'route_not_found'; readonly error: RouteError }
  /** The time for further attempts is over. */
  | { readonly type: 'deadline_passed' }
  | { readonly type: 'htlc_fulfilled'; readonly attemptNumber: number; readonly preimage: Uint8Array }
  | {
      readonly type: 'htlc_failed';
      readonly attemptNumber: number;
      readonly failure: AttemptFailure;
      readonly nowSeconds: number;
    }
  | { readonly type: 'abandon' };

/** What the shell does once the state is saved. */
export type PaymentEffect =
  /** Run `findRoutes` with `routeRequestParts` and answer with a route input. */
  | { readonly kind: 'find_routes' }
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
  | 'routes_break_limits';

/** Begins a payment. */
export function startPayment(parameters: PaymentParameters): PaymentTransition {
  return {
    state: { type: 'routing', parameters, lessons: NO_LESSONS, ended: [] },
    effects: [{ kind: 'find_routes' }],
  };
}

/** The parts whose end is waited for. */
export function partsInFlight(state: PaymentState): readonly Attempt[] {
  return state.type === 'in_flight' || state.type === 'sent' ? state.parts : [];
}

/** What routes are wanted for; 0n while none are. */
export function missingMsat(state: PaymentState): bigint {
  const { amountMsat } = state.parameters;
  if (state.type === 'routing') return amountMsat;
  if (state.type !== 'in_flight' || state.intent.kind === 'give_up') return 0n;
  return amountMsat - sum(state.parts, ({ route }) => route.amountMsat);
}

/** The part of a route request that the payment decides; the shell adds payer, own channels and height. */
export type RouteRequestParts = Omit<RouteRequest, 'payer' | 'firstHops' | 'currentHeight' | 'uses'> & {
  readonly uses: ReadonlyMap<bigint, ChannelUse>;
  readonly limits: SplitLimits;
};

/** What to ask path finding for. */
export function routeRequestParts(state: PaymentState): RouteRequestParts {
  const { parameters, lessons } = state;
  const parts = partsInFlight(state);
  return {
    payee: parameters.payee,
    amountMsat: missingMsat(state),
    finalCltvDelta: parameters.finalCltvDelta,
    shadowCltvDelta: parameters.shadowCltvDelta,
    hints: parameters.hints,
    maxFeeMsat: parameters.maxFeeMsat - sum(parts, ({ route }) => route.feeMsat),
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
    uses: usesOf(
      parts.map(({ route }) => route),
      lessons,
    ),
    limits: { maxParts: parameters.maxParts - parts.length, minPartMsat: parameters.minPartMsat },
  };
}

function usesOf(routes: readonly Route[], lessons: Lessons): Map<bigint, ChannelUse> {
  const uses = new Map<bigint, ChannelUse>();
  for (const { hops } of routes)
    for (const hop of hops) {
      const key = directedKey(hop.shortChannelId, hop.direction);
      const inFlightMsat = (uses.get(key)?.inFlightMsat ?? 0n) + hop.amountMsat;
      uses.set(key, { inFlightMsat, maximumMsat: undefined });
    }
  for (const { shortChannelId, direction, maximumMsat } of lessons.limits) {
    const key = directedKey(shortChannelId, direction);
    const inFlightMsat = inFlightOver(routes, key);
    uses.set(key, {
      inFlightMsat,
      maximumMsat: maximumMsat > inFlightMsat ? maximumMsat - inFlightMsat : 0n,
    });
  }
  return uses;
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
  switch (input.type) {
    case 'routes_found':
      return routesFound(state, input);
    case 'route_not_found':
      return giveUpRouting(state, { kind: 'route_not_found', error: input.error });
    case 'deadline_passed':
      return giveUpRouting(state, { kind: 'deadline_passed' });
    case 'htlc_fulfilled':
      return fulfilled(state, input.attemptNumber, input.preimage);
    case 'htlc_failed':
      return attemptFailed(secp, state, input);
    case 'abandon':
      if (state.type === 'sent' || state.type === 'failed') return err('finished');
      return ok(giveUp(state, partsInFlight(state), { kind: 'abandoned' }));
  }
  return assertNever(input);
}

/** Failed at once, or, while parts are in flight, when the last of them has failed. */
function giveUp(
  { parameters, lessons, ended }: Common,
  parts: readonly Attempt[],
  reason: PaymentFailureReason,
  before: readonly PaymentEffect[] = [],
): PaymentTransition {
  if (parts.length > 0) {
    const intent = { kind: 'give_up', reason } as const;
    return { state: { type: 'in_flight', parameters, lessons, ended, parts, intent }, effects: before };
  }
  return {
    state: { type: 'failed', parameters, lessons, ended, reason },
    effects: [...before, { kind: 'payment_failed', reason }],
  };
}

function giveUpRouting(
  state: PaymentState,
  reason: PaymentFailureReason,
): Result<PaymentTransition, PaymentInputError> {
  if (state.type === 'sent' || state.type === 'failed') return err('finished');
  if (missingMsat(state) === 0n) return err('not_routing');
  return ok(giveUp(state, partsInFlight(state), reason));
}

function routesFound(
  state: PaymentState,
  { routes, sessionKeys, nowSeconds }: Extract<PaymentInput, { type: 'routes_found' }>,
): Result<PaymentTransition, PaymentInputError> {
  if (state.type === 'sent' || state.type === 'failed') return err('finished');
  const wantedMsat = missingMsat(state);
  if (wantedMsat === 0n) return err('not_routing');
  const { parameters, lessons } = state;
  if (nowSeconds >= parameters.deadlineSeconds) return giveUpRouting(state, { kind: 'deadline_passed' });
  const before = partsInFlight(state);
  const parts = routes.map((route, index): Attempt => {
    const sessionKey = sessionKeys[index] ?? new Uint8Array(0);
    return { attemptNumber: lessons.attempts + 1 + index, route, sessionKey };
  });
  const feeMsat = sum([...before, ...parts], ({ route: { hops, amountMsat } }) =>
    hops[0] === undefined ? 0n : hops[0].amountMsat - amountMsat,
  );
  if (
    !routes.every(({ hops, amountMsat }) => {
      const last = hops.at(-1);
      return (
        last !== undefined && equalBytes(last.nodeId, parameters.payee) && last.amountMsat === amountMsat
      );
    }) ||
    sessionKeys.length !== routes.length ||
    before.length + parts.length > Math.max(parameters.maxParts, 1) ||
    sum(routes, ({ amountMsat }) => amountMsat) !== wantedMsat ||
    routes.some(({ amountMsat }) => amountMsat <= 0n) ||
    feeMsat > parameters.maxFeeMsat
  ) {
    return err('routes_break_limits');
  }
  return ok({
    state: {
      type: 'in_flight',
      parameters,
      lessons: { ...lessons, attempts: lessons.attempts + parts.length },
      ended: state.ended,
      parts: [...before, ...parts],
      intent: { kind: 'retry' },
    },
    effects: parts.map((attempt) => ({
      kind: 'send_htlc',
      attempt,
      payloads: payloadsOf(attempt.route, parameters.final),
    })),
  });
}

/**
 * The first preimage decides: BOLT 4 has the payee fulfil all parts or none,
 * and the preimage is the proof of payment.
 */
function fulfilled(
  state: PaymentState,
  attemptNumber: number,
  preimage: Uint8Array,
): Result<PaymentTransition, PaymentInputError> {
  // Accepted in every state: a preimage proves that some attempt was paid, even one believed to have failed.
  const { parameters, lessons } = state;
  if (!equalBytes(sha256(preimage), parameters.paymentHash)) return err('wrong_preimage');
  const inFlight = partsInFlight(state);
  const attempt = inFlight.find((part) => part.attemptNumber === attemptNumber);
  const route = attempt?.route;
  if (route === undefined && state.type === 'sent') return err('not_in_flight');
  const parts = inFlight.filter((part) => part !== attempt);
  const ended = attempt === undefined ? state.ended : [...state.ended, endedAttempt(attempt, undefined)];
  const observations = (route?.hops ?? []).slice(1).map((hop) => observation(hop, 'settled'));
  const learnt: PaymentEffect[] = observations.length > 0 ? [{ kind: 'learn', observations }] : [];
  if (state.type === 'sent') return ok({ state: { ...state, ended, parts }, effects: learnt });
  const feeMsat = sum(inFlight, (part) => part.route.feeMsat);
  return ok({
    state: { type: 'sent', parameters, lessons, ended, preimage, feeMsat, parts },
    effects: [...learnt, { kind: 'payment_sent', preimage, feeMsat }],
  });
}

function attemptFailed(
  secp: Secp256k1,
  state: PaymentState,
  { attemptNumber, failure, nowSeconds }: Extract<PaymentInput, { type: 'htlc_failed' }>,
): Result<PaymentTransition, PaymentInputError> {
  const failed = partsInFlight(state).find((part) => part.attemptNumber === attemptNumber);
  if (failed === undefined || (state.type !== 'in_flight' && state.type !== 'sent'))
    return err('not_in_flight');
  const { route } = failed;
  if (failure.kind === 'failure' && route.hops[failure.hopIndex] === undefined)
    return err('hop_out_of_range');
  const { parameters } = state;
  const parts = state.parts.filter((part) => part !== failed);
  const outcome = learn(
    secp,
    {
      route,
      others: parts.map((part) => part.route),
      totalMsat: parameters.amountMsat,
      sending: parameters.maxParts > 1 ? 'split' : 'whole',
      minPartMsat: parameters.minPartMsat,
    },
    failure,
    state.lessons,
  );
  const effects: PaymentEffect[] =
    outcome.observations.length > 0 ? [{ kind: 'learn', observations: outcome.observations }] : [];
  const kept = keptFailure(failure);
  const ended = [...state.ended, endedAttempt(failed, kept)];
  const lessons = { ...outcome.lessons, failures: outcome.lessons.failures + 1, lastFailure: kept };
  // A payee that had its preimage taken for less than it asked gave the rest away.
  if (state.type === 'sent')
    return ok({
      state: { ...state, lessons, ended, parts, feeMsat: state.feeMsat - route.feeMsat },
      effects,
    });
  const reason: PaymentFailureReason | undefined =
    outcome.refusal !== undefined
      ? { kind: 'refused_by_payee', failure: withoutBulk(outcome.refusal) }
      : state.intent.kind === 'give_up'
        ? state.intent.reason
        : lessons.failures >= parameters.maxAttempts
          ? { kind: 'retries_exhausted' }
          : nowSeconds >= parameters.deadlineSeconds
            ? { kind: 'deadline_passed' }
            : undefined;
  const common = { parameters, lessons, ended };
  if (reason !== undefined) return ok(giveUp(common, parts, reason, effects));
  const next: PaymentState =
    parts.length === 0
      ? { type: 'routing', ...common }
      : { type: 'in_flight', ...common, parts, intent: state.intent };
  return ok({ state: next, effects: [...effects, { kind: 'find_routes' }] });
}

function endedAttempt({ attemptNumber, route }: Attempt, failure: AttemptFailure | undefined): EndedAttempt {
  return { attemptNumber, route, failure };
}

/** The state is stored at every step, and what a hop may say is as long as a message. */
function keptFailure(failure: AttemptFailure): AttemptFailure {
  if (failure.kind === 'undecodable' || failure.failure === undefined) return failure;
  return { ...failure, failure: withoutBulk(failure.failure) };
}

function sum<T>(items: readonly T[], of: (item: T) => bigint): bigint {
  return items.reduce((total, item) => total + of(item), 0n);
}
