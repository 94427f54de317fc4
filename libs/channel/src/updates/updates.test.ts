import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { describe, expect, test } from 'vitest';
import { MAX_FEERATE_SAT_PER_KW } from '../config.ts';
import type { ChannelInput } from '../input.ts';
import { summary } from '../summary.ts';
import { effectsOf, forged, receive, typesOf } from '../testing/expect.ts';
import { ONION, Pair, addCommand, preimageOf } from '../testing/pair.ts';
import type { PairOptions } from '../testing/pair.ts';
import { sha256 } from '@fulmen/crypto';

function open(options: PairOptions = {}): Pair {
  return new Pair(fakeSecp256k1, options);
}

/** An HTLC from alice to bob, irrevocably committed. */
function withHtlc(pair: Pair, seed = 1, amountMsat = 10_000_000n): bigint {
  const id = pair.alice.channel.changes.nextOutboundHtlcId;
  pair.alice.must(addCommand(seed, amountMsat));
  pair.settle();
  return id;
}

function codeOf(pair: Pair, input: ChannelInput): string | undefined {
  return pair.alice.input(input)?.code;
}

describe('an HTLC', () => {
  test('is accepted only when irrevocably committed on both sides', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 10_000_000n));
    pair.alice.must({ type: 'commit' });
    pair.deliver('bob'); // update_add_htlc
    pair.deliver('bob'); // commitment_signed
    expect(effectsOf(pair.bob, 'htlc_accepted')).toHaveLength(0);
    pair.deliver('alice'); // revoke_and_ack
    pair.bob.must({ type: 'commit' });
    pair.deliver('alice'); // commitment_signed
    expect(effectsOf(pair.bob, 'htlc_accepted')).toHaveLength(0);
    pair.deliver('bob'); // revoke_and_ack
    expect(effectsOf(pair.bob, 'htlc_accepted').map(({ htlc }) => htlc.id)).toEqual([0n]);
  });

  test('surfaces its preimage at update_fulfill_htlc, and its failure only once it is off both commitments', () => {
    const pair = open();
    withHtlc(pair, 1);
    withHtlc(pair, 2);
    pair.bob.must({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(1) });
    pair.bob.must({ type: 'fail_htlc', id: 1n, reason: new Uint8Array(292) });
    pair.deliverAll();
    expect(effectsOf(pair.alice, 'htlc_fulfilled')).toHaveLength(1);
    expect(effectsOf(pair.alice, 'htlc_failed')).toHaveLength(0);
    pair.bob.must({ type: 'commit' });
    pair.deliverAll();
    expect(effectsOf(pair.alice, 'htlc_failed')).toHaveLength(0);
    pair.settle();
    expect(effectsOf(pair.alice, 'htlc_failed')).toHaveLength(1);
    expect(effectsOf(pair.alice, 'htlc_settled').map(({ id, outcome }) => [id, outcome])).toEqual([
      [0n, 'fulfilled'],
      [1n, 'failed'],
    ]);
    expect(summary(pair.bob.ctx, pair.bob.channel).holderBalanceMsat).toBe(410_000_000n);
  });

  test('that arrives while a revocation is awaited batches into the next commitment', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 1_000_000n));
    pair.alice.must({ type: 'commit' });
    pair.alice.must(addCommand(2, 1_000_000n));
    pair.alice.must(addCommand(3, 1_000_000n));
    pair.alice.must({ type: 'commit' });
    expect(typesOf(pair.alice.outbox)).toEqual([
      'update_add_htlc',
      'commitment_signed',
      'update_add_htlc',
      'update_add_htlc',
    ]);
    pair.deliverAll();
    pair.alice.must({ type: 'commit' });
    expect(typesOf(pair.alice.outbox)).toEqual(['commitment_signed']);
  });

  test('with the hash of another is an HTLC of its own', () => {
    const pair = open();
    withHtlc(pair, 1);
    withHtlc(pair, 1);
    pair.bob.must({ type: 'fail_htlc', id: 0n, reason: new Uint8Array(8) });
    pair.bob.must({ type: 'fulfil_htlc', id: 1n, preimage: preimageOf(1) });
    pair.settle();
    expect(effectsOf(pair.alice, 'htlc_settled').map(({ id, outcome }) => [id, outcome])).toEqual([
      [0n, 'failed'],
      [1n, 'fulfilled'],
    ]);
  });

  test('keeps attribution data and path key on the way', () => {
    const pair = open();
    const pathKey = fakeSecp256k1.publicKeyOf(sha256(ONION));
    pair.alice.must({ ...addCommand(1, 1_000_000n), pathKey });
    pair.settle();
    expect(effectsOf(pair.bob, 'htlc_accepted')[0]?.htlc.pathKey).toEqual(pathKey);
    const attributionData = new Uint8Array(920).fill(5);
    pair.bob.must({ type: 'fail_htlc', id: 0n, reason: new Uint8Array(4), attributionData });
    pair.settle();
    expect(effectsOf(pair.alice, 'htlc_failed')[0]?.removal).toMatchObject({ attributionData });
  });
});

describe('the holder may not add', () => {
  test('below the minimum, beyond a height, or more than there is', () => {
    const pair = open();
    expect(codeOf(pair, addCommand(1, 0n))).toBe('amount_below_minimum');
    expect(codeOf(pair, addCommand(1, 1_000n, 500_000_000))).toBe('expiry_out_of_range');
    expect(codeOf(pair, addCommand(1, 700_000_000n))).toBe('insufficient_balance');
    expect(codeOf(pair, addCommand(1, 595_000_000n))).toBe('channel_reserve');
    expect(codeOf(pair, addCommand(1, 588_000_000n))).toBe('cannot_afford_commitment_fee');
    expect(pair.alice.channel.changes.htlcs).toEqual([]);
  });

  test('what would leave less than twice the fee: the fee spike buffer', () => {
    const pair = open();
    // 600,000 sat less 10,000 reserve, 660 anchors and the fee of 1124 + 2 * 172 weight at 2000 sat/kW.
    const mostMsat = (600_000n - 10_000n - 660n - ((1124n + 2n * 172n) * 2000n) / 1000n) * 1000n;
    expect(codeOf(pair, addCommand(1, mostMsat + 1n))).toBe('cannot_afford_commitment_fee');
    expect(summary(pair.alice.ctx, pair.alice.channel).outboundLiquidityMsat).toBe(mostMsat);
    expect(codeOf(pair, addCommand(1, mostMsat))).toBeUndefined();
    pair.settle();
  });

  test('less than the counterparty’s htlc_minimum_msat, whatever its own is', () => {
    const pair = open({
      alice: { config: { htlcMinimumMsat: 1n } },
      bob: { config: { htlcMinimumMsat: 5_000n } },
    });
    expect(codeOf(pair, addCommand(1, 4_999n))).toBe('amount_below_minimum');
    expect(codeOf(pair, addCommand(1, 5_000n))).toBeUndefined();
    pair.settle();
    expect(pair.bob.input(addCommand(2, 1n))?.code).toBeUndefined();
    pair.settle();
  });

  test('more HTLCs or value than the counterparty accepts', () => {
    const few = open({ bob: { config: { maxAcceptedHtlcs: 2 } } });
    few.alice.must(addCommand(1, 1_000n));
    few.alice.must(addCommand(2, 1_000n));
    expect(codeOf(few, addCommand(3, 1_000n))).toBe('too_many_htlcs');
    const little = open({ announce: true });
    expect(codeOf(little, addCommand(1, 250_000_001n))).toBe('max_htlc_value_in_flight');
    expect(codeOf(little, addCommand(1, 250_000_000n))).toBeUndefined();
  });

  test('more dust than the cap while a lower feerate is announced, and signed by nobody', () => {
    const pair = open({
      format: 'static_remotekey',
      feerateSatPerKw: 20_000,
      alice: { feerates: { maximumSatPerKw: 25_000 } },
      bob: { feerates: { maximumSatPerKw: 2_500 } },
    });
    receive(pair.bob, forged(pair.bob, 'update_fee', { feeratePerKw: 1_000 }));
    const codes = [1, 2, 3].map((seed) => pair.bob.input(addCommand(seed, 8_000_000n))?.code);
    expect(codes).toEqual([undefined, 'dust_exposure', 'dust_exposure']);
  });

  test('as fundee what the funder could not pay the fee for', () => {
    const pair = open({ fundingSat: 100_000n, pushMsat: 97_000_000n, feerateSatPerKw: 1500 });
    expect(pair.bob.input(addCommand(1, 10_000_000n))?.code).toBe('counterparty_cannot_afford_fee');
  });

  test('more dust than the cap', () => {
    const pair = open({ alice: { config: { dustExposureFeerateMultiple: 200n } } });
    // 200 * 5000 = 1,000,000 msat of HTLCs below 354 sat.
    for (let seed = 0; seed < 3; seed += 1) pair.alice.must(addCommand(seed, 330_000n));
    expect(codeOf(pair, addCommand(9, 330_000n))).toBe('dust_exposure');
    expect(codeOf(pair, addCommand(9, 5_000_000n))).toBeUndefined();
  });

  test('while the peer is away, the monitor behind, or the channel closing', () => {
    const pair = open();
    pair.disconnect();
    expect(codeOf(pair, addCommand(1, 1_000n))).toBe('peer_disconnected');
    pair.connect();
    pair.deliverAll();
    pair.alice.must({ type: 'monitor_update_in_progress', held: [] });
    expect(codeOf(pair, addCommand(1, 1_000n))).toBe('monitor_update_in_progress');
    pair.alice.completeMonitor();
    pair.alice.must({ type: 'shutdown' });
    expect(codeOf(pair, addCommand(1, 1_000n))).toBe('shutdown_in_progress');
  });
});

describe('the holder may not remove', () => {
  test.each<[string, ChannelInput]>([
    ['unknown_htlc', { type: 'fail_htlc', id: 5n, reason: new Uint8Array(1) }],
    ['wrong_preimage', { type: 'fulfil_htlc', id: 0n, preimage: preimageOf(2) }],
    [
      'bad_failure',
      { type: 'fail_malformed_htlc', id: 0n, sha256OfOnion: new Uint8Array(32), failureCode: 0x2002 },
    ],
    ['bad_failure', { type: 'fail_htlc', id: 0n, reason: new Uint8Array(61_000) }],
  ])('%s', (code, input) => {
    const pair = open();
    withHtlc(pair);
    expect(pair.bob.input(input)?.code).toBe(code);
  });

  test('an HTLC twice, or before it is irrevocably committed', () => {
    const pair = open();
    withHtlc(pair);
    pair.bob.must({ type: 'fail_htlc', id: 0n, reason: new Uint8Array(1) });
    expect(pair.bob.input({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(1) })?.code).toBe(
      'htlc_already_removed',
    );
    pair.alice.must(addCommand(2, 1_000_000n));
    pair.deliverAll();
    expect(pair.bob.input({ type: 'fulfil_htlc', id: 1n, preimage: preimageOf(2) })?.code).toBe(
      'htlc_not_committed',
    );
  });
});

describe('a preimage', () => {
  test('reaches the monitor in the step that learns it, connected or not', () => {
    const pair = open();
    withHtlc(pair);
    pair.disconnect();
    pair.bob.must({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(1) });
    expect(pair.bob.outbox).toEqual([]);
    expect(effectsOf(pair.bob, 'monitor_update').at(-1)?.steps).toEqual([
      { type: 'payment_preimage', htlc: { direction: 'inbound', id: 0n }, preimage: preimageOf(1) },
    ]);
    pair.connect();
    pair.settle();
    expect(effectsOf(pair.alice, 'htlc_fulfilled')).toHaveLength(1);
  });

  test('reaches the monitor of a channel that is being closed', () => {
    const pair = open();
    withHtlc(pair);
    pair.bob.must({ type: 'force_close', reason: 'test' });
    pair.bob.must({ type: 'fulfil_htlc', id: 0n, preimage: preimageOf(1) });
    expect(effectsOf(pair.bob, 'monitor_update').at(-1)?.steps[0]?.type).toBe('payment_preimage');
    expect(pair.bob.input({ type: 'fail_htlc', id: 0n, reason: new Uint8Array(1) })?.code).toBe(
      'htlc_already_removed',
    );
  });
});

describe('the counterparty is refused', () => {
  const add = {
    id: 0n,
    amountMsat: 1_000_000n,
    paymentHash: new Uint8Array(32),
    cltvExpiry: 500,
    onionRoutingPacket: ONION,
  };

  test.each([
    ['htlc_id', { ...add, id: 1n }],
    ['amount_below_minimum', { ...add, amountMsat: 0n }],
    ['expiry_out_of_range', { ...add, cltvExpiry: 500_000_000 }],
    ['insufficient_balance', { ...add, amountMsat: 599_000_000n }],
    ['insufficient_balance', { ...add, amountMsat: 1n << 63n }],
    ['invalid_point', { ...add, tlvs: { pathKey: Uint8Array.from([2, ...new Uint8Array(32).fill(255)]) } }],
  ])('update_add_htlc: %s', (code, fields) => {
    const pair = open();
    expect(receive(pair.bob, forged(pair.bob, 'update_add_htlc', fields))).toMatchObject({
      code,
      reaction: 'warning_disconnect',
    });
  });

  test('update_add_htlc beyond count and value in flight', () => {
    const pair = open({ bob: { config: { maxAcceptedHtlcs: 1, inFlightPercentUnannounced: 10 } } });
    expect(
      receive(pair.bob, forged(pair.bob, 'update_add_htlc', { ...add, amountMsat: 100_000_001n }))?.code,
    ).toBe('max_htlc_value_in_flight');
    expect(receive(pair.bob, forged(pair.bob, 'update_add_htlc', add))).toBeUndefined();
    expect(receive(pair.bob, forged(pair.bob, 'update_add_htlc', { ...add, id: 1n }))?.code).toBe(
      'too_many_htlcs',
    );
  });

  test('an HTLC that brings too much dust is accepted and must be failed', () => {
    const pair = open({ bob: { config: { dustExposureFeerateMultiple: 100n } } });
    for (let seed = 0; seed < 2; seed += 1) pair.alice.must(addCommand(seed, 300_000n));
    pair.settle();
    expect(effectsOf(pair.bob, 'htlc_accepted').map(({ mustFail }) => mustFail)).toEqual([
      'dust_exposure',
      'dust_exposure',
    ]);
  });

  test('removals of what is not there, twice, or with a wrong preimage', () => {
    const pair = open();
    withHtlc(pair);
    const fulfil = (id: bigint, seed: number) =>
      receive(
        pair.alice,
        forged(pair.alice, 'update_fulfill_htlc', { id, paymentPreimage: preimageOf(seed) }),
      );
    expect(fulfil(4n, 1)).toMatchObject({ code: 'unknown_htlc', reaction: 'warning_disconnect' });
    expect(fulfil(0n, 2)).toMatchObject({ code: 'wrong_preimage', reaction: 'warning_disconnect' });
    expect(
      receive(
        pair.alice,
        forged(pair.alice, 'update_fail_malformed_htlc', {
          id: 0n,
          sha256OfOnion: new Uint8Array(32),
          failureCode: 1,
        }),
      )?.code,
    ).toBe('bad_failure');
    expect(fulfil(0n, 1)).toBeUndefined();
    expect(fulfil(0n, 1)).toMatchObject({ code: 'htlc_already_removed', reaction: 'warning_disconnect' });
  });

  test('update_fee from the fundee, too low, absurd, or unaffordable', () => {
    const pair = open();
    const fee = (node: typeof pair.bob, feeratePerKw: number) =>
      receive(node, forged(node, 'update_fee', { feeratePerKw }));
    expect(fee(pair.alice, 1000)?.code).toBe('not_the_funder');
    expect(fee(pair.bob, 252)).toMatchObject({
      code: 'feerate_out_of_range',
      reaction: 'warning_disconnect',
    });
    expect(fee(pair.bob, 1_000_000)?.code).toBe('feerate_out_of_range');
    // Whatever the estimates say, never more than the signer signs.
    const dear = open({ fundingSat: 16_000_000n, bob: { feerates: { maximumSatPerKw: 250_000 } } });
    expect(fee(dear.bob, MAX_FEERATE_SAT_PER_KW + 1)?.code).toBe('feerate_out_of_range');
    expect(fee(dear.bob, MAX_FEERATE_SAT_PER_KW)).toBeUndefined();
    const poor = open({ fundingSat: 100_000n, pushMsat: 80_000_000n });
    expect(fee(poor.bob, 40_000)?.code).toBe('cannot_afford_commitment_fee');
    const legacy = open({ format: 'static_remotekey' });
    expect(fee(legacy.bob, 252)).toMatchObject({ reaction: 'fail_channel' });
  });
});

describe('update_fee', () => {
  test('goes the way of an HTLC and ends on both commitments', () => {
    const pair = open();
    pair.alice.must({ type: 'update_fee', feerateSatPerKw: 2500 });
    pair.settle();
    for (const node of [pair.alice, pair.bob])
      expect(node.channel.changes.feerates).toEqual([{ feerateSatPerKw: 2500, state: 'committed' }]);
  });

  test('is refused to the fundee, below the floor, and when not affordable', () => {
    const pair = open({ fundingSat: 100_000n, pushMsat: 80_000_000n });
    expect(pair.bob.input({ type: 'update_fee', feerateSatPerKw: 2000 })?.code).toBe('not_the_funder');
    expect(codeOf(pair, { type: 'update_fee', feerateSatPerKw: 100 })).toBe('feerate_out_of_range');
    expect(codeOf(pair, { type: 'update_fee', feerateSatPerKw: MAX_FEERATE_SAT_PER_KW + 1 })).toBe(
      'feerate_out_of_range',
    );
    expect(codeOf(pair, { type: 'update_fee', feerateSatPerKw: 40_000 })).toBe(
      'cannot_afford_commitment_fee',
    );
  });

  test('is refused when it would trim too much (static_remotekey)', () => {
    const pair = open({
      format: 'static_remotekey',
      alice: { config: { dustExposureFeerateMultiple: 2000n } },
    });
    for (let seed = 0; seed < 4; seed += 1) pair.alice.must(addCommand(seed, 4_000_000n));
    expect(codeOf(pair, { type: 'update_fee', feerateSatPerKw: 6000 })).toBe('dust_exposure');
    expect(codeOf(pair, { type: 'update_fee', feerateSatPerKw: 1500 })).toBeUndefined();
  });

  test("tolerates that simultaneous adds dip into the funder's buffer", () => {
    const pair = open({ fundingSat: 100_000n, pushMsat: 50_000_000n });
    const mostMsat = summary(pair.alice.ctx, pair.alice.channel).outboundLiquidityMsat;
    pair.alice.must(addCommand(1, mostMsat));
    for (let seed = 10; seed < 20; seed += 1) pair.bob.must(addCommand(seed, 1_000_000n));
    pair.settle();
    expect(pair.alice.channel.changes.htlcs).toHaveLength(11);
  });
});
