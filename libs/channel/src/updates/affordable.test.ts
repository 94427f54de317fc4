import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { describe, expect, test } from 'vitest';
import { summary } from '../summary.ts';
import { forged, receive, take } from '../testing/expect.ts';
import { ONION, Pair, addCommand } from '../testing/pair.ts';
import type { PairOptions } from '../testing/pair.ts';

/** Without anchors an HTLC has an output from a lower feerate on, and the commitment that has it may cost more. */
function legacy(options: PairOptions): Pair {
  return new Pair(fakeSecp256k1, { format: 'static_remotekey', ...options });
}

/** HTLCs that the peer offers to `node`, one after another, until one is refused. */
function offer(
  node: Pair['bob'],
  count: number,
  amountMsat: bigint,
): { taken: number; code?: string; reaction?: string } {
  for (let taken = 0; taken < count; taken += 1) {
    const error = receive(
      node,
      forged(node, 'update_add_htlc', {
        id: BigInt(taken),
        amountMsat,
        paymentHash: new Uint8Array(32),
        cltvExpiry: 500,
        onionRoutingPacket: ONION,
      }),
    );
    if (error !== undefined) return { taken, code: error.code, reaction: error.reaction };
  }
  return { taken: count };
}

/** Trimmed at 2,000 sat/kW and not at 1,880 sat/kW, on each commitment. */
const BETWEEN_MSAT = 1_679_000n;

describe('a lower feerate', () => {
  const fall = (node: Pair['bob'], feeratePerKw: number) =>
    receive(node, forged(node, 'update_fee', { feeratePerKw }));

  test('that the counterparty cannot pay for all the HTLCs that it untrims is refused', () => {
    const { bob } = legacy({ pushMsat: 904_050_000n, feerateSatPerKw: 2_000 });
    expect(offer(bob, 50, BETWEEN_MSAT)).toEqual({ taken: 50 });
    expect(fall(bob, 1_880)).toMatchObject({
      code: 'cannot_afford_commitment_fee',
      reaction: 'warning_disconnect',
    });
  });

  test('below the reserve is taken: it is what mends that', () => {
    const { bob } = legacy({ pushMsat: 995_000_000n, feerateSatPerKw: 2_000 });
    expect(fall(bob, 1_880)).toBeUndefined();
    // Dearer than before, and paid for.
    const { bob: other } = legacy({ pushMsat: 985_000_000n, feerateSatPerKw: 2_000 });
    expect(offer(other, 2, BETWEEN_MSAT)).toEqual({ taken: 2 });
    expect(fall(other, 1_880)).toBeUndefined();
  });

  test('is not asked for by the holder when it untrims more than the holder can pay for', () => {
    const config = { dustExposureFeerateMultiple: 100_000n };
    const { alice } = legacy({
      pushMsat: 901_050_000n,
      feerateSatPerKw: 2_000,
      alice: { config },
      bob: { config },
    });
    for (let seed = 0; seed < 50; seed += 1) alice.must(addCommand(seed, BETWEEN_MSAT));
    expect(alice.input({ type: 'update_fee', feerateSatPerKw: 1_880 })?.code).toBe(
      'cannot_afford_commitment_fee',
    );
  });

  test('that is under way counts for what the holder adds, with the HTLCs that it untrims', () => {
    const { bob } = legacy({ fundingSat: 100_000n, pushMsat: 97_000_000n, feerateSatPerKw: 2_000 });
    expect(fall(bob, 1_880)).toBeUndefined();
    const codes = [1, 2].map((seed) => bob.input(addCommand(seed, 1_650_000n))?.code);
    expect(codes).toEqual([undefined, 'counterparty_cannot_afford_fee']);
    expect(summary(bob.ctx, bob.channel).outboundLiquidityMsat).toBe(0n);
  });
});

describe('a holder that is the funder', () => {
  test('takes no HTLC that leaves less for the fee than what is relayed', () => {
    const { alice } = legacy({ fundingSat: 100_000n, pushMsat: 98_200_000n });
    // 1,800 sat pay 253 sat/kW for 724 + 37 * 172 weight, and not for one HTLC more.
    expect(offer(alice, 50, 2_000_000n)).toEqual({
      taken: 37,
      code: 'cannot_afford_commitment_fee',
      reaction: 'warning_disconnect',
    });
  });

  test('takes no such commitment either, where both sides added at the same time', () => {
    const pair = legacy({
      pushMsat: 900_000_000n,
      feerateSatPerKw: 253,
      alice: { config: { maxAcceptedHtlcs: 483 } },
      bob: { config: { reserveFloorSat: 354n, reserveMillionths: 0n } },
    });
    pair.alice.must(addCommand(1, summary(pair.alice.ctx, pair.alice.channel).outboundLiquidityMsat));
    pair.alice.must({ type: 'commit' });
    for (let seed = 10; seed < 110; seed += 1) pair.bob.must(addCommand(seed, 3_000_000n));
    pair.bob.must({ type: 'commit' });
    // Without the holder's HTLC, of which the counterparty did not know.
    while (pair.deliver('alice'));
    const before = pair.alice.state;
    while (pair.deliver('bob'));
    pair.deliver('alice'); // revoke_and_ack
    expect(pair.alice.state).not.toBe(before);
    pair.bob.must({ type: 'commit' });
    expect(receive(pair.alice, take(pair.bob, 'commitment_signed'))).toMatchObject({
      code: 'cannot_afford_commitment_fee',
      reaction: 'fail_channel',
    });
  });
});
