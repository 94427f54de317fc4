/** The payment state machine: its happy path, what each failure teaches, and its limits under any inputs. */
import { describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { sha256 } from '@fulmen/crypto';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { nodeKey } from '@fulmen/graph';
import { syntheticKey, syntheticUpdate } from '@fulmen/graph/synthetic';
import type { FailureMessage } from '@fulmen/onion/failure-message';
import type {
  AttemptFailure,
  PaymentInput,
  PaymentParameters,
  PaymentState,
  PaymentTransition,
} from './attempt.ts';
import { routeRequestParts, startPayment, stepPayment } from './attempt.ts';
import type { Route } from './route.ts';
import { directedKey } from './route.ts';

const secp = fakeSecp256k1;
const NOW = 1_700_000_000;
const preimage = new Uint8Array(32).fill(9);
const node = (key: number): Uint8Array => secp.publicKeyOf(syntheticKey(key));

const PARAMETERS: PaymentParameters = {
  paymentHash: sha256(preimage),
  payee: node(3),
  amountMsat: 1_000n,
  finalCltvDelta: 18,
  shadowCltvDelta: 0,
  final: { paymentData: { paymentSecret: new Uint8Array(32), totalMsat: 1_000n } },
  hints: [],
  maxFeeMsat: 100n,
  maxCltvDelta: 1008,
  maxAttempts: 3,
  deadlineSeconds: NOW + 60,
};

function hop(key: number, shortChannelId: bigint, amountMsat: bigint) {
  return {
    nodeId: node(key),
    shortChannelId,
    direction: 0,
    amountMsat,
    cltvExpiryHeight: 800_000,
    capacityMsat: 10_000n,
    policyTimestamp: NOW,
  } as const;
}

/** Us → 1 → 2 → 3, over channels 10, 11, 12. */
const ROUTE: Route = {
  hops: [hop(1, 10n, 1_020n), hop(2, 11n, 1_010n), hop(3, 12n, 1_000n)],
  amountMsat: 1_000n,
  feeMsat: 20n,
};
const ROUTE_FOUND: PaymentInput = {
  type: 'route_found',
  route: ROUTE,
  sessionKey: new Uint8Array(32).fill(1),
  nowSeconds: NOW,
};

function step(state: PaymentState, input: PaymentInput): PaymentTransition {
  const result = stepPayment(secp, state, input);
  if (!result.ok) return expect.unreachable(result.error);
  return result.value;
}

function inFlight(parameters: PaymentParameters = PARAMETERS): PaymentState {
  return step(startPayment(parameters).state, ROUTE_FOUND).state;
}

function failAt(hopIndex: number, failure: FailureMessage, state = inFlight()): PaymentTransition {
  return step(state, {
    type: 'htlc_failed',
    failure: { kind: 'failure', hopIndex, failure },
    nowSeconds: NOW,
  });
}

const NO_UPDATE = new Uint8Array(0);

describe('a payment', () => {
  test('routes, sends and is sent', () => {
    const started = startPayment(PARAMETERS);
    expect(started.effects).toEqual([{ kind: 'find_route' }]);
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
    const sent = step(sending.state, { type: 'htlc_fulfilled', preimage });
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
    expect(stepPayment(secp, inFlight(), { type: 'htlc_fulfilled', preimage: new Uint8Array(32) })).toEqual({
      ok: false,
      error: 'wrong_preimage',
    });
    const failed = failAt(2, { kind: 'incorrect_or_unknown_payment_details', htlcMsat: 1_000n, height: 1 });
    expect(failed.state.type).toBe('failed');
    expect(step(failed.state, { type: 'htlc_fulfilled', preimage }).state.type).toBe('sent');
  });

  test('refuses a route that breaks its limits', () => {
    const dear: Route = { ...ROUTE, hops: [hop(1, 10n, 1_101n), hop(3, 12n, 1_000n)] };
    const elsewhere: Route = { ...ROUTE, hops: [hop(1, 10n, 1_000n)] };
    for (const route of [dear, elsewhere, { ...ROUTE, hops: [] }]) {
      expect(stepPayment(secp, startPayment(PARAMETERS).state, { ...ROUTE_FOUND, route })).toEqual({
        ok: false,
        error: 'route_breaks_limits',
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
    expect(step(abandoned.state, { type: 'htlc_fulfilled', preimage }).state.type).toBe('sent');
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
        { kind: 'find_route' },
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
      expect(other.effects).toEqual([{ kind: 'find_route' }]);
    }
  });

  test('an undecodable failure, and a channel that did not take the HTLC', () => {
    const garbled = step(inFlight(), {
      type: 'htlc_failed',
      failure: { kind: 'undecodable' },
      nowSeconds: NOW,
    });
    expect(routeRequestParts(garbled.state).avoidedChannels).toEqual(
      new Set([directedKey(11n, 0), directedKey(12n, 0)]),
    );
    const refused = step(inFlight(), {
      type: 'htlc_failed',
      failure: { kind: 'not_added' },
      nowSeconds: NOW,
    });
    expect(routeRequestParts(refused.state).avoidedChannels).toEqual(new Set([directedKey(10n, 0)]));
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

test('under any inputs: an answer for every state, at most maxAttempts sends, one final event, no failure while in flight', () => {
  const failure: fc.Arbitrary<AttemptFailure> = fc.oneof(
    fc.constant({ kind: 'undecodable' } as const),
    fc.constant({ kind: 'not_added' } as const),
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
  const input: fc.Arbitrary<PaymentInput> = fc.oneof(
    fc.constant(ROUTE_FOUND),
    fc.record({
      type: fc.constant('htlc_failed' as const),
      failure,
      nowSeconds: fc.constantFrom(NOW, NOW + 100),
    }),
    fc.constant({ type: 'htlc_fulfilled', preimage } as const),
    fc.constant({ type: 'abandon' } as const),
    fc.constant({ type: 'route_not_found', error: { kind: 'no_first_hop' } } as const),
  );
  fc.assert(
    fc.property(fc.array(input, { maxLength: 15 }), (inputs) => {
      let { state } = startPayment(PARAMETERS);
      let sends = 0;
      let failed = 0;
      for (const next of inputs) {
        const result = stepPayment(secp, state, next);
        if (!result.ok) continue;
        const kinds = result.value.effects.map((effect) => effect.kind);
        sends += kinds.filter((kind) => kind === 'send_htlc').length;
        failed += kinds.filter((kind) => kind === 'payment_failed').length;
        expect(kinds.includes('payment_failed')).toBe(result.value.state.type === 'failed');
        expect(kinds.includes('send_htlc')).toBe(
          state.type === 'routing' && result.value.state.type === 'in_flight',
        );
        if (state.type === 'failed') expect(result.value.state.type).toBe('sent');
        state = result.value.state;
      }
      expect(sends).toBeLessThanOrEqual(PARAMETERS.maxAttempts);
      expect(failed).toBeLessThanOrEqual(1);
    }),
    { numRuns: 300 },
  );
});
