/** The payment state machine: its happy path, what each failure teaches, and its limits under any inputs. */
import { describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { nodeKey } from '@fulmen/graph';
import { syntheticUpdate } from '@fulmen/graph/synthetic';
import { encodeFailureMessage, failureCode, type FailureMessage } from '@fulmen/onion/failure-message';
import type { PaymentInput, PaymentParameters, PaymentState } from './attempt.ts';
import { missingMsat, partsInFlight, routeRequestParts, startPayment, stepPayment } from './attempt.ts';
import type { AttemptFailure } from './lessons.ts';
import type { Route } from './route.ts';
import { directedKey } from './route.ts';
import {
  secp,
  NOW,
  preimage,
  node,
  PARAMETERS,
  hop,
  ROUTE,
  routesFound,
  ROUTE_FOUND,
  step,
  inFlight,
  failAt,
  NO_UPDATE,
} from './testing/attempts.ts';

describe('a payment', () => {
  test('routes, sends and is sent', () => {
    const started = startPayment(PARAMETERS);
    expect(started.effects).toEqual([{ kind: 'find_routes' }]);
    const sending = step(started.state, ROUTE_FOUND);
    expect(sending.effects).toMatchObject([
      {
        kind: 'send_htlc',
        payloads: [
          { shortChannelId: 11n, amtToForwardMsat: 1_010n },
          { shortChannelId: 12n },
          PARAMETERS.final,
        ],
      },
    ]);
    const sent = step(sending.state, { type: 'htlc_fulfilled', attemptNumber: 1, preimage });
    expect(sent.state).toMatchObject({ type: 'sent', feeMsat: 20n });
    expect(sent.effects).toMatchObject([
      {
        kind: 'learn',
        observations: [
          { shortChannelId: 11n, outcome: 'settled' },
          { shortChannelId: 12n, outcome: 'settled' },
        ],
      },
      { kind: 'payment_sent', preimage, feeMsat: 20n },
    ]);
    expect(stepPayment(secp, sent.state, { type: 'abandon' })).toEqual({ ok: false, error: 'finished' });
  });

  test('takes only the preimage of its hash, and takes it even after it failed', () => {
    expect(
      stepPayment(secp, inFlight(), {
        type: 'htlc_fulfilled',
        attemptNumber: 1,
        preimage: new Uint8Array(32),
      }),
    ).toEqual({
      ok: false,
      error: 'wrong_preimage',
    });
    const failed = failAt(2, { kind: 'incorrect_or_unknown_payment_details', htlcMsat: 1_000n, height: 1 });
    expect(failed.state.type).toBe('failed');
    expect(step(failed.state, { type: 'htlc_fulfilled', attemptNumber: 1, preimage }).state.type).toBe(
      'sent',
    );
  });

  test('refuses a route that breaks its limits', () => {
    const dear: Route = { ...ROUTE, hops: [hop(1, 10n, 1_101n), hop(3, 12n, 1_000n)] };
    const elsewhere: Route = { ...ROUTE, hops: [hop(1, 10n, 1_000n)] };
    for (const route of [dear, elsewhere, { ...ROUTE, hops: [] }]) {
      expect(stepPayment(secp, startPayment(PARAMETERS).state, routesFound(route))).toEqual({
        ok: false,
        error: 'routes_break_limits',
      });
    }
  });

  test('abandoned in flight, it waits for its HTLC', () => {
    const abandoned = step(inFlight(), { type: 'abandon' });
    expect(abandoned.effects).toEqual([]);
    expect(failAt(1, { kind: 'temporary_node_failure' }, abandoned.state).state).toMatchObject({
      type: 'failed',
      reason: { kind: 'abandoned' },
    });
    expect(step(abandoned.state, { type: 'htlc_fulfilled', attemptNumber: 1, preimage }).state.type).toBe(
      'sent',
    );
  });

  test('what a failure carries beside its reason is not kept: its sender could make the payment’s row as large as it likes', () => {
    const large = new Uint8Array(60_000);
    const failures: readonly FailureMessage[] = [
      { kind: 'temporary_channel_failure', channelUpdate: large },
      { kind: 'unknown', failureCode: 99, data: large },
      { kind: 'temporary_node_failure', trailing: large },
    ];
    for (const failure of failures) {
      const { ended, lessons } = failAt(1, failure).state;
      for (const kept of [ended[0]?.failure, lessons.lastFailure]) {
        if (kept?.kind !== 'failure') return expect.unreachable();
        expect(failureCode(kept.failure)).toBe(failureCode(failure));
        expect(encodeFailureMessage(kept.failure).length).toBeLessThan(100);
      }
    }
    const refusal = { kind: 'incorrect_or_unknown_payment_details', htlcMsat: 1n, height: 1 } as const;
    const { state } = failAt(2, { ...refusal, trailing: large });
    expect(state).toMatchObject({ reason: { kind: 'refused_by_payee', failure: refusal } });
    expect('reason' in state && 'failure' in state.reason && state.reason.failure.trailing).toBeUndefined();
  });

  test('attempts and time are limited', () => {
    let state: PaymentState = startPayment(PARAMETERS).state;
    for (let i = 0; i < 3; i++)
      state = failAt(
        0,
        { kind: 'temporary_channel_failure', channelUpdate: NO_UPDATE },
        step(state, ROUTE_FOUND).state,
      ).state;
    expect(state).toMatchObject({ type: 'failed', reason: { kind: 'retries_exhausted' } });
    expect(
      step(startPayment(PARAMETERS).state, { ...ROUTE_FOUND, nowSeconds: NOW + 60 } as PaymentInput).state,
    ).toMatchObject({ reason: { kind: 'deadline_passed' } });
  });
});

describe('what a failure teaches', () => {
  test.each<[FailureMessage]>([
    [{ kind: 'incorrect_or_unknown_payment_details', htlcMsat: 1_000n, height: 5 }],
    [{ kind: 'mpp_timeout' }],
    [{ kind: 'permanent_node_failure' }],
    [{ kind: 'unknown', failureCode: 0x4000 | 99, data: NO_UPDATE }],
  ])('the payee refuses for good: %o', (failure) => {
    expect(failAt(2, failure).state).toMatchObject({ type: 'failed', reason: { kind: 'refused_by_payee' } });
  });

  test('a node that fails, or speaks as only the payee may, is avoided', () => {
    for (const failure of [
      { kind: 'temporary_node_failure' },
      { kind: 'required_node_feature_missing' },
      { kind: 'incorrect_or_unknown_payment_details', htlcMsat: 1n, height: 1 },
    ] satisfies FailureMessage[]) {
      const { state, effects } = failAt(1, failure);
      expect(routeRequestParts(state).avoidedNodes).toEqual(new Set([nodeKey(node(2))]));
      expect(effects).toMatchObject([
        { kind: 'learn', observations: [{ shortChannelId: 11n, outcome: 'passed' }] },
        { kind: 'find_routes' },
      ]);
    }
  });

  test('want of liquidity is scored and avoided; other channel failures are only avoided', () => {
    const liquidity = failAt(0, { kind: 'temporary_channel_failure', channelUpdate: NO_UPDATE });
    expect(routeRequestParts(liquidity.state).avoidedChannels).toEqual(new Set([directedKey(11n, 0)]));
    expect(liquidity.effects[0]).toMatchObject({
      kind: 'learn',
      observations: [{ shortChannelId: 11n, amountMsat: 1_010n, outcome: 'failed' }],
    });
    for (const failure of [
      { kind: 'unknown_next_peer' },
      { kind: 'channel_disabled', disabledFlags: 0, channelUpdate: NO_UPDATE },
      { kind: 'invalid_onion_hmac', sha256OfOnion: new Uint8Array(32) },
      { kind: 'fee_insufficient', htlcMsat: 1n, channelUpdate: NO_UPDATE },
    ] satisfies FailureMessage[]) {
      const other = failAt(0, failure);
      expect(routeRequestParts(other.state).avoidedChannels).toEqual(new Set([directedKey(11n, 0)]));
      expect(other.effects).toEqual([{ kind: 'find_routes' }]);
    }
  });

  test('an undecodable failure, and a channel that did not take the HTLC', () => {
    const garbled = step(inFlight(), {
      type: 'htlc_failed',
      attemptNumber: 1,
      failure: { kind: 'undecodable' },
      nowSeconds: NOW,
    });
    expect(routeRequestParts(garbled.state).avoidedChannels).toEqual(
      new Set([directedKey(11n, 0), directedKey(12n, 0)]),
    );
    const refused = step(inFlight(), {
      type: 'htlc_failed',
      attemptNumber: 1,
      failure: { kind: 'not_added' },
      nowSeconds: NOW,
    });
    expect(routeRequestParts(refused.state).avoidedChannels).toEqual(new Set([directedKey(10n, 0)]));
    const full = step(inFlight(), {
      type: 'htlc_failed',
      attemptNumber: 1,
      failure: {
        kind: 'not_added',
        failure: { kind: 'temporary_channel_failure', channelUpdate: NO_UPDATE },
      },
      nowSeconds: NOW,
    });
    expect(routeRequestParts(full.state).avoidedChannels).toEqual(new Set([directedKey(10n, 0)]));
  });

  describe('an embedded channel_update', () => {
    const signed = (key: number, terms: object = {}) =>
      syntheticUpdate(secp, key, { shortChannelId: 11n, timestamp: NOW + 1, feeBaseMsat: 55, ...terms }).raw;
    const answer = (channelUpdate: Uint8Array, state?: PaymentState) =>
      failAt(0, { kind: 'fee_insufficient', htlcMsat: 1n, channelUpdate }, state ?? inFlight());

    test('corrects the channel for this payment, with or without its type number', () => {
      for (const channelUpdate of [signed(1), signed(1).slice(2)]) {
        const { state } = answer(channelUpdate);
        expect(routeRequestParts(state).avoidedChannels?.size).toBe(0);
        expect(routeRequestParts(state).policyOverrides?.get(directedKey(11n, 0))).toMatchObject({
          feeBaseMsat: 55,
          timestamp: NOW + 1,
        });
      }
    });

    test('is not believed when forged, old, of another channel, disabled, or the second', () => {
      const corrected = step(answer(signed(1)).state, ROUTE_FOUND).state;
      const outcomes = [
        answer(signed(2)),
        answer(signed(1, { timestamp: NOW })),
        answer(signed(1, { shortChannelId: 12n })),
        answer(signed(1, { channelFlags: 1 })),
        answer(signed(1, { channelFlags: 2 })),
        answer(signed(1).slice(0, 50)),
        answer(signed(1, { timestamp: NOW + 2 }), corrected),
      ];
      for (const { state } of outcomes)
        expect(routeRequestParts(state).avoidedChannels).toEqual(new Set([directedKey(11n, 0)]));
    });
  });
});

/** Us → 1 → 3 over 20 and 21, and us → 2 → 3 over 30 and 31. */
const UPPER: Route = { hops: [hop(1, 20n, 710n), hop(3, 21n, 700n)], amountMsat: 700n, feeMsat: 10n };
const LOWER: Route = { hops: [hop(2, 30n, 320n), hop(3, 31n, 300n)], amountMsat: 300n, feeMsat: 20n };
const SPLIT: PaymentParameters = { ...PARAMETERS, maxParts: 3 };

describe('a payment in parts', () => {
  const NO_ROOM: FailureMessage = { kind: 'temporary_channel_failure', channelUpdate: NO_UPDATE };
  const both = () => step(startPayment(SPLIT).state, routesFound(UPPER, LOWER));
  const partFails = (state: PaymentState, attemptNumber: number, failure: AttemptFailure, nowSeconds = NOW) =>
    step(state, { type: 'htlc_failed', attemptNumber, failure, nowSeconds });
  const at = (hopIndex: number, failure: FailureMessage): AttemptFailure => ({
    kind: 'failure',
    hopIndex,
    failure,
  });

  test('every part carries the secret and the total; the first preimage is the payment’s success', () => {
    const { state, effects } = both();
    expect(effects).toMatchObject([
      {
        kind: 'send_htlc',
        attempt: { attemptNumber: 1 },
        payloads: [{}, { amtToForwardMsat: 700n, ...SPLIT.final }],
      },
      {
        kind: 'send_htlc',
        attempt: { attemptNumber: 2 },
        payloads: [{}, { amtToForwardMsat: 300n, ...SPLIT.final }],
      },
    ]);
    expect(missingMsat(state)).toBe(0n);
    const sent = step(state, { type: 'htlc_fulfilled', attemptNumber: 2, preimage });
    expect(sent.effects.at(-1)).toEqual({ kind: 'payment_sent', preimage, feeMsat: 30n });
    expect(partsInFlight(sent.state)).toMatchObject([{ attemptNumber: 1 }]);
    const all = step(sent.state, { type: 'htlc_fulfilled', attemptNumber: 1, preimage });
    expect(all.state).toMatchObject({ type: 'sent', feeMsat: 30n, parts: [] });
    expect(all.effects).toMatchObject([{ kind: 'learn' }]);
    const less = partFails(sent.state, 1, at(1, { kind: 'mpp_timeout' }));
    expect(less.state).toMatchObject({ type: 'sent', feeMsat: 20n, parts: [] });
  });

  test('a part that failed is sent anew within what is left, the others stay', () => {
    const { state, effects } = partFails(both().state, 1, at(0, NO_ROOM));
    expect(effects.at(-1)).toEqual({ kind: 'find_routes' });
    expect(missingMsat(state)).toBe(700n);
    const wanted = routeRequestParts(state);
    expect(wanted).toMatchObject({ amountMsat: 700n, maxFeeMsat: 80n, limits: { maxParts: 2 } });
    expect(wanted.uses).toEqual(
      new Map([
        [directedKey(30n, 0), { inFlightMsat: 320n, maximumMsat: undefined }],
        [directedKey(31n, 0), { inFlightMsat: 300n, maximumMsat: undefined }],
        // Half of what did not fit.
        [directedKey(21n, 0), { inFlightMsat: 0n, maximumMsat: 350n }],
      ]),
    );
    const again = step(state, routesFound(UPPER));
    expect(partsInFlight(again.state)).toMatchObject([{ attemptNumber: 2 }, { attemptNumber: 3 }]);
  });

  test('routes that make too much or too little of it, cost too much or are too many are refused', () => {
    const { state } = partFails(both().state, 1, at(0, NO_ROOM));
    const dear: Route = { ...UPPER, hops: [hop(1, 20n, 781n), hop(3, 21n, 700n)], feeMsat: 81n };
    const third: Route = { hops: [hop(3, 40n, 100n)], amountMsat: 100n, feeMsat: 0n };
    const rest: Route = { hops: [hop(3, 41n, 600n)], amountMsat: 600n, feeMsat: 0n };
    const crumb: Route = { hops: [hop(3, 42n, 500n)], amountMsat: 500n, feeMsat: 0n };
    const lies: Route = { ...third, amountMsat: 700n };
    for (const routes of [[], [LOWER], [UPPER, LOWER], [dear], [third, third, crumb], [lies]])
      expect(stepPayment(secp, state, routesFound(...routes))).toEqual({
        ok: false,
        error: 'routes_break_limits',
      });
    expect(step(state, routesFound(third, rest)).state.type).toBe('in_flight');
  });

  test('it is failed once, when the last part has failed', () => {
    const refused = at(1, { kind: 'incorrect_or_unknown_payment_details', htlcMsat: 1n, height: 1 });
    const first = partFails(both().state, 1, refused);
    expect(first.state).toMatchObject({ type: 'in_flight', intent: { kind: 'give_up' } });
    expect(first.effects.map(({ kind }) => kind)).toEqual(['learn']);
    expect(missingMsat(first.state)).toBe(0n);
    expect(stepPayment(secp, first.state, ROUTE_FOUND)).toEqual({ ok: false, error: 'not_routing' });
    const last = partFails(first.state, 2, at(0, NO_ROOM));
    expect(last.state).toMatchObject({ type: 'failed', reason: { kind: 'refused_by_payee' } });
    // A part that was fulfilled after all is a success.
    expect(step(first.state, { type: 'htlc_fulfilled', attemptNumber: 2, preimage }).state.type).toBe('sent');
  });

  test('no route for the rest, or no time: what is in flight is waited for', () => {
    const { state } = partFails(both().state, 1, at(0, NO_ROOM));
    for (const input of [
      { type: 'route_not_found', error: { kind: 'no_first_hop' } },
      { type: 'deadline_passed' },
      { type: 'abandon' },
    ] satisfies PaymentInput[]) {
      const waiting = step(state, input);
      expect(waiting).toMatchObject({ state: { type: 'in_flight' }, effects: [] });
      expect(partFails(waiting.state, 2, { kind: 'undecodable' }).state.type).toBe('failed');
    }
    const late = partFails(both().state, 1, at(0, NO_ROOM), NOW + 60);
    expect(late.state).toMatchObject({ intent: { kind: 'give_up', reason: { kind: 'deadline_passed' } } });
  });

  test('mpp_timeout sends the parts anew and blames no channel', () => {
    const timeout = at(1, { kind: 'mpp_timeout' });
    const first = partFails(both().state, 1, timeout);
    const second = partFails(first.state, 2, timeout);
    expect(second.state.type).toBe('routing');
    expect(routeRequestParts(second.state)).toMatchObject({ amountMsat: 1_000n, avoidedChannels: new Set() });
  });

  test('an own channel without room is given a little less, and avoided when that is no part', () => {
    const { state } = partFails(both().state, 2, { kind: 'not_added', failure: NO_ROOM });
    expect(routeRequestParts(state).uses.get(directedKey(30n, 0))?.maximumMsat).toBe(280n);
    const small = step(startPayment({ ...SPLIT, minPartMsat: 300n }).state, routesFound(UPPER, LOWER));
    const full = partFails(small.state, 2, { kind: 'not_added', failure: NO_ROOM });
    expect(routeRequestParts(full.state).avoidedChannels).toEqual(new Set([directedKey(30n, 0)]));
  });
});

test('under any inputs: one final event, no failure while in flight, and never more in flight than amount and fee limit', () => {
  const failure: fc.Arbitrary<AttemptFailure> = fc.oneof(
    fc.constant({ kind: 'undecodable' } as const),
    fc.constant({ kind: 'not_added' } as const),
    fc.constant({
      kind: 'not_added',
      failure: { kind: 'temporary_channel_failure', channelUpdate: NO_UPDATE },
    } as const),
    fc.record({
      kind: fc.constant('failure' as const),
      hopIndex: fc.nat(4),
      failure: fc.record({
        kind: fc.constant('unknown' as const),
        failureCode: fc.nat(0xffff),
        data: fc.uint8Array({ maxLength: 8 }),
      }),
    }),
  );
  const attemptNumber = fc.integer({ min: 0, max: 8 });
  const input: fc.Arbitrary<PaymentInput> = fc.oneof(
    fc.constantFrom(
      ROUTE_FOUND,
      routesFound(UPPER, LOWER),
      routesFound(LOWER, UPPER),
      routesFound(UPPER),
      routesFound(LOWER),
    ),
    fc.record({
      type: fc.constant('htlc_failed' as const),
      attemptNumber,
      failure,
      nowSeconds: fc.constantFrom(NOW, NOW, NOW, NOW + 100),
    }),
    fc.record({
      type: fc.constant('htlc_fulfilled' as const),
      attemptNumber,
      preimage: fc.constant(preimage),
    }),
    fc.constantFrom<PaymentInput>(
      { type: 'abandon' },
      { type: 'deadline_passed' },
      { type: 'route_not_found', error: { kind: 'no_first_hop' } },
    ),
  );
  const parameters = fc.constantFrom(PARAMETERS, SPLIT);
  fc.assert(
    fc.property(parameters, fc.array(input, { maxLength: 20 }), (asked, inputs) => {
      let { state } = startPayment(asked);
      let sends = 0;
      let failed = 0;
      let succeeded = 0;
      for (const next of inputs) {
        const result = stepPayment(secp, state, next);
        if (!result.ok) continue;
        const kinds = result.value.effects.map((effect) => effect.kind);
        sends += kinds.filter((kind) => kind === 'send_htlc').length;
        failed += kinds.filter((kind) => kind === 'payment_failed').length;
        succeeded += kinds.filter((kind) => kind === 'payment_sent').length;
        expect(kinds.includes('payment_failed')).toBe(result.value.state.type === 'failed');
        if (kinds.includes('send_htlc')) expect(missingMsat(state)).toBeGreaterThan(0n);
        if (kinds.includes('find_routes')) expect(missingMsat(result.value.state)).toBeGreaterThan(0n);
        // Parts leave only by their own end.
        const gone = partsInFlight(state).filter(
          (part) =>
            !partsInFlight(result.value.state).some((kept) => kept.attemptNumber === part.attemptNumber),
        );
        if (gone.length > 0)
          expect(gone.map((part) => part.attemptNumber)).toEqual([
            'attemptNumber' in next ? next.attemptNumber : -1,
          ]);
        if (state.type === 'failed' || state.type === 'sent') expect(result.value.state.type).toBe('sent');
        state = result.value.state;
        const parts = partsInFlight(state);
        const total = (of: (route: Route) => bigint) => parts.reduce((sum, { route }) => sum + of(route), 0n);
        expect(parts.length).toBeLessThanOrEqual(asked.maxParts);
        expect(total((route) => route.amountMsat)).toBeLessThanOrEqual(asked.amountMsat);
        expect(total((route) => route.feeMsat)).toBeLessThanOrEqual(asked.maxFeeMsat);
        if (state.type === 'in_flight') expect(parts.length).toBeGreaterThan(0);
      }
      expect(sends).toBeLessThanOrEqual(asked.maxAttempts + asked.maxParts);
      expect(failed).toBeLessThanOrEqual(1);
      expect(succeeded).toBeLessThanOrEqual(1);
    }),
    { numRuns: 500 },
  );
});
