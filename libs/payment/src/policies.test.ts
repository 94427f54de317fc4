/** Forwarding and final-hop policies, parts and scores. */
import { describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { sha256 } from '@fulmen/crypto';
import type { FinalHopRequest, InvoiceTerms } from './finalHopPolicy.ts';
import { checkFinalHop } from './finalHopPolicy.ts';
import type { ForwardRequest, OutgoingChannelTerms } from './forwardPolicy.ts';
import { PREVIOUS_POLICY_SECONDS, checkForward } from './forwardPolicy.ts';
import { addPart, isComplete, isTimedOut } from './mppSet.ts';
import type { Observation } from './scorer.ts';
import { DEFAULT_SCORING, LiquidityScorer } from './scorer.ts';

const HEIGHT = 700_000;
const NOW = 1_700_000_000;
const NO_UPDATE = new Uint8Array(0);
const POLICY = {
  feeBaseMsat: 1_000,
  feeProportionalMillionths: 100,
  cltvExpiryDelta: 80,
  htlcMinimumMsat: 1_000n,
  htlcMaximumMsat: 1_000_000_000n,
};
const OUTGOING: OutgoingChannelTerms = { policy: POLICY, status: 'enabled', channelUpdate: NO_UPDATE };
const FORWARD: ForwardRequest = {
  incomingAmountMsat: 10_002_000n,
  amountToForwardMsat: 10_000_000n,
  incomingCltvExpiryHeight: HEIGHT + 200,
  outgoingCltvExpiryHeight: HEIGHT + 120,
};

function forward(changes: Partial<ForwardRequest>, outgoing: OutgoingChannelTerms | undefined = OUTGOING) {
  const result = checkForward({ ...FORWARD, ...changes }, outgoing, HEIGHT, NOW);
  return result.ok ? 'ok' : result.error;
}

describe('forwarding', () => {
  test('exactly the asked fee and delta pass; one less fails with the amount or expiry that BOLT 4 names', () => {
    expect(forward({})).toBe('ok');
    expect(forward({ incomingAmountMsat: 10_001_999n })).toEqual({
      kind: 'fee_insufficient',
      htlcMsat: 10_001_999n,
      channelUpdate: NO_UPDATE,
    });
    expect(forward({ incomingCltvExpiryHeight: HEIGHT + 199 })).toEqual({
      kind: 'incorrect_cltv_expiry',
      cltvExpiryHeight: HEIGHT + 120,
      channelUpdate: NO_UPDATE,
    });
    expect(forward({ amountToForwardMsat: 999n })).toEqual({
      kind: 'amount_below_minimum',
      htlcMsat: 999n,
      channelUpdate: NO_UPDATE,
    });
    expect(forward({ amountToForwardMsat: 1_000_000_001n, incomingAmountMsat: 2n ** 40n })).toMatchObject({
      kind: 'temporary_channel_failure',
    });
  });

  test('an amount above what came in is refused', () => {
    expect(forward({ amountToForwardMsat: 11_000_000n })).toMatchObject({ kind: 'fee_insufficient' });
  });

  test('expiries too near and too far', () => {
    expect(
      forward({ outgoingCltvExpiryHeight: HEIGHT + 4, incomingCltvExpiryHeight: HEIGHT + 84 }),
    ).toMatchObject({ kind: 'expiry_too_soon' });
    expect(forward({ outgoingCltvExpiryHeight: HEIGHT + 5, incomingCltvExpiryHeight: HEIGHT + 85 })).toBe(
      'ok',
    );
    expect(forward({ incomingCltvExpiryHeight: HEIGHT + 2016 })).toBe('ok');
    expect(forward({ incomingCltvExpiryHeight: HEIGHT + 2017 })).toEqual({ kind: 'expiry_too_far' });
  });

  test('unknown and disabled channels', () => {
    expect(checkForward(FORWARD, undefined, HEIGHT, NOW)).toEqual({
      ok: false,
      error: { kind: 'unknown_next_peer' },
    });
    expect(forward({}, { ...OUTGOING, status: 'disabled' })).toEqual({
      kind: 'channel_disabled',
      disabledFlags: 0,
      channelUpdate: NO_UPDATE,
    });
  });

  test('the previous policy holds for ten minutes, as a whole', () => {
    const previous = {
      policy: { ...POLICY, feeBaseMsat: 0 },
      replacedAtSeconds: NOW - PREVIOUS_POLICY_SECONDS,
    };
    expect(forward({ incomingAmountMsat: 10_001_000n }, { ...OUTGOING, previous })).toBe('ok');
    const expired = { ...previous, replacedAtSeconds: NOW - PREVIOUS_POLICY_SECONDS - 1 };
    expect(forward({ incomingAmountMsat: 10_001_000n }, { ...OUTGOING, previous: expired })).toMatchObject({
      kind: 'fee_insufficient',
    });
    const stricter = { ...previous, policy: { ...previous.policy, cltvExpiryDelta: 81 } };
    expect(forward({ incomingAmountMsat: 10_001_000n }, { ...OUTGOING, previous: stricter })).toMatchObject({
      kind: 'fee_insufficient',
    });
  });
});

describe('final hop', () => {
  const paymentSecret = new Uint8Array(32).fill(1);
  const preimage = new Uint8Array(32).fill(2);
  const INVOICE: InvoiceTerms = {
    amountMsat: 1_000n,
    paymentSecret,
    minFinalCltvExpiryDelta: 50,
    expiresAtSeconds: NOW + 1,
    status: 'open',
  };
  const REQUEST: FinalHopRequest = {
    paymentHash: sha256(preimage),
    incomingAmountMsat: 1_000n,
    amountToForwardMsat: 1_000n,
    incomingCltvExpiryHeight: HEIGHT + 50,
    outgoingCltvExpiryHeight: HEIGHT + 50,
    paymentData: { paymentSecret, totalMsat: 1_000n },
  };
  const check = (
    changes: Partial<FinalHopRequest>,
    invoice: InvoiceTerms | undefined = INVOICE,
    keysend: 'accepted' | 'refused' = 'accepted',
  ) => {
    const result = checkFinalHop({ ...REQUEST, ...changes }, invoice, {
      currentHeight: HEIGHT,
      nowSeconds: NOW,
      keysend,
    });
    return result.ok ? result.value : result.error.kind;
  };
  const UNKNOWN = 'incorrect_or_unknown_payment_details';

  test('accepts what was asked, up to twice as much, and parts of it', () => {
    expect(check({})).toEqual({ kind: 'invoice', totalMsat: 1_000n });
    expect(check({ paymentData: { paymentSecret, totalMsat: 2_000n } })).toEqual({
      kind: 'invoice',
      totalMsat: 2_000n,
    });
    expect(check({ amountToForwardMsat: 10n, incomingAmountMsat: 10n })).toEqual({
      kind: 'invoice',
      totalMsat: 1_000n,
    });
    expect(
      check({ paymentData: { paymentSecret, totalMsat: 5n } }, { ...INVOICE, amountMsat: undefined }),
    ).toBe(UNKNOWN);
    expect(
      check(
        { incomingAmountMsat: 5n, amountToForwardMsat: 5n, paymentData: { paymentSecret, totalMsat: 5n } },
        { ...INVOICE, amountMsat: undefined },
      ),
    ).toEqual({ kind: 'invoice', totalMsat: 5n });
  });

  test('one answer for everything a prober could learn from', () => {
    const otherSecret = { paymentSecret: new Uint8Array(32), totalMsat: 1_000n };
    expect(check({ paymentData: otherSecret })).toBe(UNKNOWN);
    expect(check({ paymentData: { paymentSecret, totalMsat: 999n } })).toBe(UNKNOWN);
    expect(check({ paymentData: { paymentSecret, totalMsat: 2_001n } })).toBe(UNKNOWN);
    expect(check({ incomingCltvExpiryHeight: HEIGHT + 49, outgoingCltvExpiryHeight: HEIGHT + 49 })).toBe(
      UNKNOWN,
    );
    expect(check({}, { ...INVOICE, expiresAtSeconds: NOW })).toBe(UNKNOWN);
    expect(check({}, { ...INVOICE, status: 'paid' })).toBe(UNKNOWN);
    expect(check({}, { ...INVOICE, paymentMetadata: Uint8Array.of(1) })).toBe(UNKNOWN);
    expect(
      check({ paymentMetadata: Uint8Array.of(1) }, { ...INVOICE, paymentMetadata: Uint8Array.of(1) }),
    ).toMatchObject({ kind: 'invoice' });
    const unknown = checkFinalHop(REQUEST, undefined, {
      currentHeight: HEIGHT,
      nowSeconds: NOW,
      keysend: 'refused',
    });
    expect(unknown).toEqual({ ok: false, error: { kind: UNKNOWN, htlcMsat: 1_000n, height: HEIGHT } });
  });

  test('a hop that gives less than the onion says is accused', () => {
    expect(check({ incomingAmountMsat: 999n })).toBe('final_incorrect_htlc_amount');
    expect(check({ incomingCltvExpiryHeight: HEIGHT + 49 })).toBe('final_incorrect_cltv_expiry');
  });

  test('keysend needs the preimage of its own hash', () => {
    const { paymentData: _, ...spontaneous } = REQUEST;
    const context = { currentHeight: HEIGHT, nowSeconds: NOW, keysend: 'accepted' } as const;
    const ask = (keysendPreimage: Uint8Array) =>
      checkFinalHop({ ...spontaneous, keysendPreimage }, undefined, context);
    expect(ask(preimage)).toEqual({ ok: true, value: { kind: 'keysend', totalMsat: 1_000n } });
    expect(ask(new Uint8Array(32)).ok).toBe(false);
    expect(
      checkFinalHop({ ...spontaneous, keysendPreimage: preimage }, undefined, {
        ...context,
        keysend: 'refused',
      }).ok,
    ).toBe(false);
  });

  test('parts make a set: same secret, same total, until it is complete or 60 s have passed', () => {
    const at = { currentHeight: HEIGHT, nowSeconds: NOW };
    const data = { paymentSecret, totalMsat: 1_000n };
    const part = (amountMsat: bigint) => ({
      part: String(amountMsat),
      amountMsat,
      cltvExpiryHeight: HEIGHT + 50,
    });
    const first = addPart(undefined, part(400n), data, at);
    if (!first.ok) return expect.unreachable();
    expect(isComplete(first.value)).toBe(false);
    expect(isTimedOut(first.value, NOW + 59)).toBe(false);
    expect(isTimedOut(first.value, NOW + 60)).toBe(true);
    expect(addPart(first.value, part(600n), { ...data, totalMsat: 999n }, at).ok).toBe(false);
    const second = addPart(first.value, part(600n), data, at);
    if (!second.ok) return expect.unreachable();
    expect(isComplete(second.value)).toBe(true);
    expect(isTimedOut(second.value, NOW + 600)).toBe(false);
    expect(addPart(second.value, part(1n), data, at).ok).toBe(false);
  });
});

describe('scorer', () => {
  const CAPACITY = 1_000_000_000;
  const observed = (outcome: Observation['outcome'], direction: 0 | 1, amountMsat: bigint): Observation => ({
    shortChannelId: 1n,
    direction,
    amountMsat,
    capacityMsat: BigInt(CAPACITY),
    outcome,
  });

  test('a failure bounds from above, a passage from below, and the other direction mirrors', () => {
    const scorer = new LiquidityScorer();
    scorer.observe(observed('failed', 0, 600_000_000n), NOW);
    scorer.observe(observed('passed', 0, 200_000_000n), NOW);
    expect(scorer.bounds(1n, 0, CAPACITY, NOW)).toEqual({ lowerMsat: 200_000_000, upperMsat: 599_999_999 });
    expect(scorer.bounds(1n, 1, CAPACITY, NOW)).toEqual({ lowerMsat: 400_000_001, upperMsat: 800_000_000 });
    const view = scorer.at(NOW);
    const penalties = [100_000_000, 300_000_000, 500_000_000, 700_000_000].map((amount) =>
      view.penaltyMsat(1n, 0, amount, CAPACITY, CAPACITY),
    );
    expect(penalties).toEqual([...penalties].sort((a, b) => a - b));
    expect(penalties.at(-1)).toBeGreaterThan(DEFAULT_SCORING.impossiblePenaltyMsat);
  });

  test('knowledge fades by half each half-life', () => {
    const scorer = new LiquidityScorer();
    scorer.observe(observed('passed', 0, 200_000_000n), NOW);
    expect(scorer.bounds(1n, 0, CAPACITY, NOW + DEFAULT_SCORING.halfLifeSeconds).lowerMsat).toBe(100_000_000);
    scorer.prune(NOW + 10 * DEFAULT_SCORING.halfLifeSeconds + 1);
    expect(scorer.size).toBe(0);
  });

  test('bounds stay ordered within the capacity through any history, and encoding keeps them', () => {
    const observation = fc.record({
      shortChannelId: fc.bigInt(0n, 3n),
      direction: fc.constantFrom(0 as const, 1 as const),
      amountMsat: fc.bigInt(0n, 2n * BigInt(CAPACITY)),
      capacityMsat: fc.constantFrom(BigInt(CAPACITY), BigInt(CAPACITY) / 3n),
      outcome: fc.constantFrom('passed' as const, 'failed' as const, 'settled' as const),
    });
    fc.assert(
      fc.property(fc.array(fc.tuple(observation, fc.nat(10_000)), { maxLength: 40 }), (history) => {
        const scorer = new LiquidityScorer();
        let now = NOW;
        for (const [entry, seconds] of history) {
          now += seconds;
          scorer.observe(entry, now);
          for (const direction of [0, 1] as const) {
            const { lowerMsat, upperMsat } = scorer.bounds(
              entry.shortChannelId,
              direction,
              CAPACITY,
              now + 7,
            );
            expect(lowerMsat).toBeGreaterThanOrEqual(0);
            expect(upperMsat).toBeGreaterThanOrEqual(lowerMsat);
            expect(upperMsat).toBeLessThanOrEqual(CAPACITY);
          }
        }
        const bytes = scorer.encode();
        const decoded = LiquidityScorer.decode(bytes);
        if (!decoded.ok) return expect.unreachable(decoded.error);
        expect(decoded.value.encode()).toEqual(bytes);
      }),
      { numRuns: 100 },
    );
  });

  test('decoding never throws', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        const decoded = LiquidityScorer.decode(bytes);
        if (decoded.ok) expect(decoded.value.encode()).toEqual(bytes);
      }),
    );
  });
});
