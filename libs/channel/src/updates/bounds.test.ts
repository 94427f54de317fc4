// Bounds on what is in flight: what an HTLC may be, and how much may be dust.
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { describe, expect, test } from 'vitest';
import {
  MAX_DUST_EXPOSURE_SAT,
  MAX_FEERATE_SAT_PER_KW,
  MAX_MONEY_SAT,
  MIN_FEERATE_SAT_PER_KW,
} from '../config.ts';
import { effectsOf, forged, receive } from '../testing/expect.ts';
import { ONION, Pair, addCommand } from '../testing/pair.ts';

/** The peer's first HTLC. */
function offer(node: Pair['bob'], amountMsat: bigint): ReturnType<typeof receive> {
  const message = forged(node, 'update_add_htlc', {
    id: 0n,
    amountMsat,
    paymentHash: new Uint8Array(32),
    cltvExpiry: 500,
    onionRoutingPacket: ONION,
  });
  return receive(node, message);
}

describe('an amount', () => {
  test.each([
    ['below htlc_minimum_msat', 2_000n, 1_999n],
    ['of nothing, where there is no minimum', 0n, 0n],
  ])('%s is refused, and a millisatoshi more is taken', (_, htlcMinimumMsat, amountMsat) => {
    const { bob } = new Pair(fakeSecp256k1, { bob: { config: { htlcMinimumMsat } } });
    expect(offer(bob, amountMsat)).toMatchObject({
      code: 'amount_below_minimum',
      reaction: 'warning_disconnect',
    });
    expect(offer(bob, amountMsat + 1n)).toBeUndefined();
  });
});

describe('what is in flight', () => {
  test('may be as much as max_htlc_value_in_flight_msat, and not a millisatoshi more', () => {
    const { bob } = new Pair(fakeSecp256k1, { bob: { config: { inFlightPercentUnannounced: 10 } } });
    expect(offer(bob, 100_000_001n)).toMatchObject({
      code: 'max_htlc_value_in_flight',
      reaction: 'warning_disconnect',
    });
    expect(offer(bob, 100_000_000n)).toBeUndefined();
  });
});

describe('a feerate', () => {
  test('is taken when all beyond the reserve pays for it, and not for a millisatoshi less', () => {
    // 11,240 sat of fee, 660 sat of anchors, 1,000 sat of reserve.
    const rise = (missingMsat: bigint) => {
      const { bob } = new Pair(fakeSecp256k1, { fundingSat: 100_000n, pushMsat: 87_100_000n + missingMsat });
      return receive(bob, forged(bob, 'update_fee', { feeratePerKw: 10_000 }));
    };
    expect(rise(1n)).toMatchObject({
      code: 'cannot_afford_commitment_fee',
      reaction: 'warning_disconnect',
    });
    expect(rise(0n)).toBeUndefined();
  });
});

test.each([
  [MIN_FEERATE_SAT_PER_KW - 1, 'feerate_out_of_range'],
  [MIN_FEERATE_SAT_PER_KW, undefined],
  [1_000.5, 'feerate_out_of_range'],
  [MAX_FEERATE_SAT_PER_KW, undefined],
  [MAX_FEERATE_SAT_PER_KW + 1, 'feerate_out_of_range'],
])('a feerate of the holder’s, %d sat/kW: %s', (feerateSatPerKw, code) => {
  const feerates = { maximumSatPerKw: MAX_FEERATE_SAT_PER_KW };
  const { alice } = new Pair(fakeSecp256k1, { fundingSat: 16_000_000n, alice: { feerates } });
  expect(alice.input({ type: 'update_fee', feerateSatPerKw })?.code).toBe(code);
});

describe('an HTLC of the holder’s', () => {
  const good = addCommand(1, 2_000n);
  test.each<[string, ReturnType<typeof addCommand>]>([
    ['amount_below_minimum', { ...good, amountMsat: 1_999n }],
    ['insufficient_balance', { ...good, amountMsat: MAX_MONEY_SAT * 1_000n + 1n }],
    ['expiry_out_of_range', { ...good, cltvExpiryHeight: 0 }],
    ['expiry_out_of_range', { ...good, cltvExpiryHeight: 500.5 }],
    ['invalid_command', { ...good, paymentHash: new Uint8Array(31) }],
    ['invalid_command', { ...good, onionRoutingPacket: new Uint8Array(1_365) }],
  ])('is not offered: %s', (code, command) => {
    const { alice } = new Pair(fakeSecp256k1, { bob: { config: { htlcMinimumMsat: 2_000n } } });
    expect(alice.input(command)?.code).toBe(code);
    expect(alice.input(good)).toBeUndefined();
  });
});

describe('the exposure to dust', () => {
  /** At this feerate an HTLC of 50,000 sat is dust without anchors. */
  const FEERATE_SAT_PER_KW = 100_000;
  const DUST_SAT = 50_000n;
  const MOST = Number(MAX_DUST_EXPOSURE_SAT / DUST_SAT);

  /** By its estimates each side might have a million satoshis of it. */
  function dear(): Pair {
    const options = { feerates: { maximumSatPerKw: FEERATE_SAT_PER_KW } };
    return new Pair(fakeSecp256k1, {
      format: 'static_remotekey',
      fundingSat: 16_000_000n,
      pushMsat: 8_000_000_000n,
      feerateSatPerKw: FEERATE_SAT_PER_KW,
      alice: options,
      bob: options,
    });
  }

  test('is never more than what the signer puts up with, whatever the estimates', () => {
    const pair = dear();
    const codes = Array.from(
      { length: MOST + 1 },
      (_, seed) => pair.alice.input(addCommand(seed, DUST_SAT * 1_000n))?.code,
    );
    expect(codes).toEqual([...Array.from({ length: MOST }, () => undefined), 'dust_exposure']);
  });

  test('fails what goes beyond the cap, and nothing else', () => {
    // 100 * 5,000 msat.
    const pair = new Pair(fakeSecp256k1, { bob: { config: { dustExposureFeerateMultiple: 100n } } });
    const amounts = [300_000n, 300_000n, 5_000_000n];
    amounts.forEach((amountMsat, seed) => {
      pair.alice.must(addCommand(seed, amountMsat));
      pair.settle();
    });
    expect(effectsOf(pair.bob, 'htlc_accepted').map(({ mustFail }) => mustFail)).toEqual([
      undefined,
      'dust_exposure',
      undefined,
    ]);
  });

  test('bounds the feerate that the counterparty may set', () => {
    const pair = new Pair(fakeSecp256k1, {
      format: 'static_remotekey',
      // 2,000 * 5,000 msat.
      bob: { config: { dustExposureFeerateMultiple: 2_000n } },
    });
    for (let seed = 0; seed < 4; seed += 1) pair.alice.must(addCommand(seed, 4_000_000n));
    pair.settle();
    const fee = (feeratePerKw: number) => receive(pair.bob, forged(pair.bob, 'update_fee', { feeratePerKw }));
    expect(fee(6_000)).toMatchObject({ code: 'dust_exposure', reaction: 'warning_disconnect' });
    expect(fee(1_500)).toBeUndefined();
  });

  test('is no reason to refuse a lower feerate, which mends it', () => {
    const pair = new Pair(fakeSecp256k1, {
      format: 'static_remotekey',
      feerateSatPerKw: 6_000,
      bob: { config: { dustExposureFeerateMultiple: 2_000n } },
    });
    for (let seed = 0; seed < 4; seed += 1) pair.alice.must(addCommand(seed, 4_000_000n));
    pair.settle();
    const fee = (feeratePerKw: number) => receive(pair.bob, forged(pair.bob, 'update_fee', { feeratePerKw }));
    expect(fee(6_001)?.code).toBe('dust_exposure');
    expect(fee(5_900)).toBeUndefined();
  });
});
