// Bounds of the node's own on what is in flight: the least amount, and the most dust.
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { describe, expect, test } from 'vitest';
import { MAX_DUST_EXPOSURE_SAT } from '../config.ts';
import { forged, receive } from '../testing/expect.ts';
import { ONION, Pair, addCommand } from '../testing/pair.ts';

describe('an amount', () => {
  test.each([
    ['below htlc_minimum_msat', 2_000n, 1_999n],
    ['of nothing, where there is no minimum', 0n, 0n],
  ])('%s is refused, and a millisatoshi more is taken', (_, htlcMinimumMsat, amountMsat) => {
    const { bob } = new Pair(fakeSecp256k1, { bob: { config: { htlcMinimumMsat } } });
    const offer = (amount: bigint) =>
      receive(
        bob,
        forged(bob, 'update_add_htlc', {
          id: 0n,
          amountMsat: amount,
          paymentHash: new Uint8Array(32),
          cltvExpiry: 500,
          onionRoutingPacket: ONION,
        }),
      );
    expect(offer(amountMsat)).toMatchObject({
      code: 'amount_below_minimum',
      reaction: 'warning_disconnect',
    });
    expect(offer(amountMsat + 1n)).toBeUndefined();
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
});
