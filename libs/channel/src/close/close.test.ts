import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { secp256k1 } from '@fulmen/crypto/default';
import { p2wshScript } from '@fulmen/bitcoin';
import { describe, expect, test } from 'vitest';
import {
  assembleClosing,
  buildClosingTransaction,
  closingFeeSat,
  closingSpec,
} from '../commitment/closing.ts';
import { runInput } from '../commitment/testing/interpreter.ts';
import { persistDelta } from '../persist/delta.ts';
import { primaryFunding } from '../state.ts';
import { effectsOf, forged, receive, take, typesOf } from '../testing/expect.ts';
import { FEATURES } from '../testing/node.ts';
import { Pair, addCommand, preimageOf, testScript } from '../testing/pair.ts';
import type { PairOptions } from '../testing/pair.ts';

const FREE = { config: { upfrontShutdownScript: false } } as const;

function open(options: PairOptions = {}): Pair {
  return new Pair(fakeSecp256k1, options);
}

function expectClosed(pair: Pair): void {
  for (const node of [pair.alice, pair.bob]) {
    expect(node.channel.phase.type).toBe('closing_mutual');
    expect(effectsOf(node, 'broadcast_closing')).toHaveLength(1);
  }
}

describe('shutdown', () => {
  test("closes an idle channel for the funder's fee", () => {
    const pair = open();
    pair.alice.must({ type: 'shutdown' });
    pair.deliverAll();
    expectClosed(pair);
    const [closing] = effectsOf(pair.bob, 'broadcast_closing');
    expect(closing?.closing).toMatchObject({
      toHolderSat: 400_000n,
      holderScript: testScript(2),
      counterpartyScript: testScript(1),
    });
    expect((closing?.closing.toCounterpartySat ?? 0n) + (closing?.closing.feeSat ?? 0n)).toBe(600_000n);
    expect(effectsOf(pair.alice, 'monitor_update').at(-1)?.steps).toEqual([
      { type: 'shutdown_script', scriptPubKey: testScript(1) },
    ]);
  });

  test('waits for pending updates, and the close for every HTLC, dust included', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 1n));
    pair.settle();
    pair.alice.must(addCommand(2, 5_000_000n));
    pair.alice.must({ type: 'shutdown' });
    expect(typesOf(pair.alice.outbox)).toEqual(['update_add_htlc']);
    pair.alice.must({ type: 'commit' });
    expect(typesOf(pair.alice.outbox)).toEqual(['update_add_htlc', 'commitment_signed', 'shutdown']);
    pair.settle();
    expect(pair.alice.channel.phase.type).toBe('shutting_down');
    expect(pair.bob.input(addCommand(3, 1_000_000n))?.code).toBe('shutdown_in_progress');
    pair.alice.must({ type: 'update_fee', feerateSatPerKw: 1200 });
    pair.settle();
    pair.bob.must({ type: 'fulfil_htlc', id: 1n, preimage: preimageOf(2) });
    pair.settle();
    expect(pair.alice.channel.phase.type).toBe('shutting_down');
    pair.bob.must({ type: 'fail_htlc', id: 0n, reason: new Uint8Array(1) });
    pair.settle();
    expectClosed(pair);
    expect(effectsOf(pair.bob, 'broadcast_closing')[0]?.closing.toHolderSat).toBe(405_000n);
  });

  test('of both at once closes once', () => {
    const pair = open();
    pair.alice.must({ type: 'shutdown' });
    pair.bob.must({ type: 'shutdown' });
    pair.deliverAll();
    expectClosed(pair);
  });

  test('before channel_ready', () => {
    const pair = open({ alice: { config: { minimumDepth: 20 } }, bob: { config: { minimumDepth: 20 } } });
    expect(pair.alice.channel.phase.type).toBe('awaiting_funding_confirmations');
    pair.bob.must({ type: 'shutdown' });
    pair.deliverAll();
    expectClosed(pair);
  });

  test('must pay where the opening said; and forms are checked', () => {
    const pair = open();
    expect(pair.alice.input({ type: 'shutdown', script: testScript(9) })?.code).toBe('shutdown_script');
    expect(
      receive(pair.alice, forged(pair.alice, 'shutdown', { scriptpubkey: testScript(9) })),
    ).toMatchObject({ code: 'shutdown_script', reaction: 'warning_disconnect' });
    const free = open({ alice: FREE, bob: FREE });
    expect(
      receive(free.alice, forged(free.alice, 'shutdown', { scriptpubkey: new Uint8Array(25) }))?.code,
    ).toBe('shutdown_script');
    expect(free.bob.input({ type: 'shutdown', script: new Uint8Array(3) })?.code).toBe('shutdown_script');
    free.bob.must({ type: 'shutdown', script: testScript(9) });
    free.deliverAll();
    expect(effectsOf(free.alice, 'broadcast_closing')[0]?.closing.counterpartyScript).toEqual(testScript(9));
  });

  test('needs option_shutdown_anysegwit for taproot', () => {
    const taproot = Uint8Array.from([0x51, 32, ...new Uint8Array(32).fill(1)]);
    const pair = open({ alice: FREE, bob: FREE, features: { ...FEATURES, shutdownAnySegwit: false } });
    expect(pair.alice.input({ type: 'shutdown', script: taproot })?.code).toBe('shutdown_script');
  });

  test('twice is a warning, an HTLC after it more', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 1_000_000n));
    pair.settle();
    pair.alice.must({ type: 'shutdown' });
    pair.deliverAll();
    expect(receive(pair.bob, forged(pair.bob, 'shutdown', { scriptpubkey: testScript(1) }))?.reaction).toBe(
      'warning',
    );
    const add = {
      id: 1n,
      amountMsat: 1000n,
      paymentHash: new Uint8Array(32),
      cltvExpiry: 9,
      onionRoutingPacket: new Uint8Array(1366),
    };
    expect(receive(pair.bob, forged(pair.bob, 'update_add_htlc', add))?.code).toBe('update_after_shutdown');
  });

  test('is sent again after a reconnection, and the negotiation restarts', () => {
    const pair = open();
    pair.alice.must({ type: 'shutdown' });
    pair.deliver('bob');
    pair.deliver('alice');
    expect(pair.alice.channel.phase.type).toBe('negotiating_closing');
    pair.alice.restart();
    pair.disconnect();
    pair.connect();
    pair.deliver('alice');
    pair.deliver('bob');
    expect(typesOf(pair.alice.outbox)).toContain('shutdown');
    expect(typesOf(pair.bob.outbox)).toContain('shutdown');
    pair.deliverAll();
    expectClosed(pair);
  });
});

describe('after a reconnection', () => {
  test('update_fee is refused where the close had begun, before the shutdown comes again', () => {
    const pair = open({ bob: { feerates: { closeMinimumSatPerKw: 1500 } } });
    pair.alice.must({ type: 'shutdown' });
    pair.deliver('bob');
    pair.deliver('alice');
    pair.deliver('bob');
    expect(typesOf(pair.bob.outbox)).toEqual(['closing_signed']);
    pair.disconnect();
    pair.connect();
    pair.deliver('bob');
    expect(receive(pair.bob, forged(pair.bob, 'update_fee', { feeratePerKw: 1100 }))).toMatchObject({
      code: 'update_after_shutdown',
      reaction: 'warning_disconnect',
    });
  });

  test('update_fee is taken while an HTLC is there', () => {
    const pair = open();
    pair.bob.must(addCommand(1, 5_000_000n));
    pair.settle();
    pair.alice.must({ type: 'shutdown' });
    pair.deliverAll();
    pair.disconnect();
    pair.connect();
    pair.deliver('bob');
    expect(receive(pair.bob, forged(pair.bob, 'update_fee', { feeratePerKw: 1100 }))).toBeUndefined();
  });
});

describe('closing_signed', () => {
  test('makes a transaction that an interpreter accepts', () => {
    const pair = new Pair(secp256k1);
    pair.bob.must({ type: 'shutdown' });
    pair.deliverAll();
    expectClosed(pair);
    for (const node of [pair.alice, pair.bob]) {
      const [agreed] = effectsOf(node, 'broadcast_closing');
      if (agreed === undefined) throw new RangeError('not agreed');
      const funding = primaryFunding(node.channel);
      const built = buildClosingTransaction({
        funding,
        closing: agreed.closing,
        dustLimitSat: node.config.dustLimitSat,
      });
      if (!built.ok) throw new RangeError(built.error.type);
      const holderSignature = node.signer.signClosing(node.registration, agreed.closing);
      const transaction = assembleClosing(built.value, funding, {
        holderSignature,
        counterpartySignature: agreed.counterpartySignature,
      });
      expect(
        runInput(transaction, 0, {
          scriptPubKey: p2wshScript(built.value.fundingWitnessScript),
          valueSat: funding.fundingValueSat,
        }),
      ).toBe('ok');
    }
  });

  test('finds a fee in the overlap of two ranges', () => {
    const pair = open({ bob: { feerates: { closeMinimumSatPerKw: 1500 } } });
    pair.alice.must({ type: 'shutdown' });
    pair.deliverAll();
    expectClosed(pair);
    const [a] = effectsOf(pair.alice, 'broadcast_closing');
    const [b] = effectsOf(pair.bob, 'broadcast_closing');
    expect(a?.closing.feeSat).toBe(b?.closing.feeSat);
    expect(a?.closing.feeSat).toBeGreaterThan(1000n);
  });

  test('without overlap warns, and stays', () => {
    const pair = open({ bob: { feerates: { closeMinimumSatPerKw: 50_000 } } });
    pair.alice.must({ type: 'shutdown' });
    pair.deliver('bob');
    pair.deliver('alice');
    expect(receive(pair.bob, take(pair.alice, 'closing_signed'))).toMatchObject({
      code: 'closing_fee',
      reaction: 'warning',
    });
    expect(pair.bob.channel.phase.type).toBe('negotiating_closing');
  });

  test('keeps to the operator’s feerates', () => {
    const pair = open();
    const feerates = { targetSatPerKw: 500, maximumSatPerKw: 600 };
    pair.alice.must({ type: 'shutdown', feerates });
    pair.deliver('bob');
    pair.deliver('alice');
    const offer = take(pair.alice, 'closing_signed');
    const scripts = [testScript(1), testScript(2)];
    expect(offer.feeSatoshis).toBe(closingFeeSat(scripts, 500));
    expect(offer.tlvs.feeRange).toEqual({
      minFeeSatoshis: closingFeeSat(scripts, 500),
      maxFeeSatoshis: closingFeeSat(scripts, 600),
    });
  });

  test('that found no fee is tried again with other feerates, after a reconnection and a restart', () => {
    const pair = open({ bob: { feerates: { closeMinimumSatPerKw: 1500 } } });
    pair.alice.must({ type: 'shutdown', feerates: { targetSatPerKw: 300, maximumSatPerKw: 1000 } });
    pair.deliver('bob');
    pair.deliver('alice');
    expect(receive(pair.bob, take(pair.alice, 'closing_signed'))?.reaction).toBe('warning');
    pair.alice.must({ type: 'shutdown', feerates: { targetSatPerKw: 2000, maximumSatPerKw: 3000 } });
    expect(effectsOf(pair.alice, 'disconnect')).toHaveLength(1);
    pair.alice.restart();
    pair.disconnect();
    pair.connect();
    pair.deliverAll();
    expectClosed(pair);
    expect(effectsOf(pair.bob, 'broadcast_closing')[0]?.closing.feeSat).toBe(
      closingFeeSat([testScript(1), testScript(2)], 2000),
    );
  });

  test('of a fundee asks for the least feerate that its operator named', () => {
    const pair = open();
    pair.bob.must({ type: 'shutdown', feerates: { targetSatPerKw: 1200 } });
    pair.deliverAll();
    expectClosed(pair);
    const scripts = [testScript(1), testScript(2)];
    expect(effectsOf(pair.bob, 'broadcast_closing')[0]?.closing.feeSat).toBe(closingFeeSat(scripts, 1200));
  });

  test.each([
    ['below what is relayed', 'alice', { targetSatPerKw: 252 }],
    ['with a highest below the target', 'alice', { targetSatPerKw: 500, maximumSatPerKw: 499 }],
    ['with a highest for a fee that the peer pays', 'bob', { maximumSatPerKw: 499 }],
  ] as const)('takes no feerates %s', (_what, who, feerates) => {
    const pair = open();
    expect(pair[who].input({ type: 'shutdown', feerates })?.code).toBe('closing_fee');
    expect(pair[who].channel.phase.type).toBe('open');
  });

  test('with a wrong signature or an impossible fee closes the connection', () => {
    const pair = open();
    pair.alice.must({ type: 'shutdown' });
    pair.deliver('bob');
    pair.deliver('alice');
    const good = take(pair.alice, 'closing_signed');
    expect(receive(pair.bob, { ...good, signature: new Uint8Array(64).fill(1) })).toMatchObject({
      code: 'invalid_signature',
      reaction: 'warning_disconnect',
    });
    expect(receive(pair.bob, { ...good, feeSatoshis: 700_000n })).toMatchObject({
      code: 'closing_fee',
      reaction: 'warning_disconnect',
    });
  });

  test('without fee ranges converges', () => {
    const pair = open({
      alice: { feerates: { closeTargetSatPerKw: 8000, closeMinimumSatPerKw: 7900 } },
      bob: { feerates: { closeMinimumSatPerKw: 253 } },
    });
    pair.alice.must({ type: 'shutdown' });
    pair.deliver('bob');
    pair.deliver('alice');
    for (let i = 0; i < 20; i += 1) {
      for (const [from, to] of [
        [pair.alice, pair.bob],
        [pair.bob, pair.alice],
      ] as const) {
        const message = from.outbox.shift();
        if (message?.type === 'closing_signed') expect(receive(to, { ...message, tlvs: {} })).toBeUndefined();
      }
    }
    expectClosed(pair);
  });

  test('without fee ranges and without a fee that both accept warns, and does not close by force', () => {
    const pair = open({ bob: { feerates: { closeMinimumSatPerKw: 8_000, closeTargetSatPerKw: 8_000 } } });
    pair.alice.must({ type: 'shutdown', feerates: { targetSatPerKw: 300, maximumSatPerKw: 400 } });
    pair.deliver('bob');
    pair.deliver('alice');
    const errors = [];
    // Both come nearer for as long as they can.
    for (let i = 0; i < 200 && errors.length === 0; i += 1) {
      for (const [from, to] of [
        [pair.alice, pair.bob],
        [pair.bob, pair.alice],
      ] as const) {
        const message = from.outbox.shift();
        if (message?.type !== 'closing_signed') continue;
        const error = receive(to, { ...message, tlvs: {} });
        if (error !== undefined) errors.push(error);
      }
    }
    expect(errors).toMatchObject([{ code: 'closing_fee', reaction: 'warning' }]);
    for (const node of [pair.alice, pair.bob]) expect(node.channel.phase.type).toBe('negotiating_closing');
    pair.alice.must({ type: 'shutdown', feerates: { targetSatPerKw: 9_000 } });
    pair.disconnect();
    pair.connect();
    pair.deliverAll();
    expectClosed(pair);
  });

  // LND begins with what it thinks right, comes nearer by a tenth at each offer, and takes what is within three tenths.
  test.each([
    ['less', { theirs: 6_250, least: 1_750, most: 2_000 }],
    ['more', { theirs: 500, least: 7_500, most: 8_250 }],
  ])(
    'without fee ranges is repeated while a peer that wants %s comes nearer',
    (_, { theirs, least, most }) => {
      const pair = open();
      pair.alice.must({ type: 'shutdown', feerates: { targetSatPerKw: least, maximumSatPerKw: most } });
      pair.deliver('bob');
      pair.deliver('alice');
      const scripts = [testScript(1), testScript(2)];
      let theirsSat = closingFeeSat(scripts, theirs);
      for (let i = 0; i < 40 && pair.alice.channel.phase.type === 'negotiating_closing'; i += 1) {
        const { feeSatoshis, tlvs } = take(pair.alice, 'closing_signed');
        // A fee outside of the range beside it is one that the peer must fail the channel for.
        if (tlvs.feeRange) expect(feeSatoshis).toBeGreaterThanOrEqual(tlvs.feeRange.minFeeSatoshis);
        const isNear = feeSatoshis * 10n >= theirsSat * 7n && feeSatoshis * 10n <= theirsSat * 13n;
        const nearerSat = feeSatoshis < theirsSat ? theirsSat - theirsSat / 10n : theirsSat + theirsSat / 10n;
        if (isNear) theirsSat = feeSatoshis;
        else if (i > 0) theirsSat = nearerSat;
        const closing = closingSpec({
          funder: 'counterparty',
          holderBalanceMsat: 400_000_000n,
          counterpartyBalanceMsat: 600_000_000n,
          holderScript: testScript(2),
          counterpartyScript: testScript(1),
          feeSat: theirsSat,
        });
        const signature = pair.bob.signer.signClosing(pair.bob.registration, closing);
        expect(
          receive(pair.alice, forged(pair.bob, 'closing_signed', { feeSatoshis: theirsSat, signature })),
        ).toBeUndefined();
      }
      expect(pair.alice.channel.phase.type).toBe('closing_mutual');
      expect(theirsSat).toBeLessThanOrEqual(closingFeeSat(scripts, most));
      expect(theirsSat * 100n).toBeGreaterThanOrEqual(closingFeeSat(scripts, least) * 99n);
    },
  );

  test('without a fee range is accepted for a satoshi less, which is what rounding down makes', () => {
    const pair = open({
      alice: { feerates: { closeMinimumSatPerKw: 252, closeTargetSatPerKw: 252 } },
      bob: { feerates: { closeMinimumSatPerKw: 253, closeTargetSatPerKw: 253 } },
    });
    pair.alice.must({ type: 'shutdown' });
    pair.deliver('bob');
    pair.deliver('alice');
    const offer = take(pair.alice, 'closing_signed');
    expect(offer.feeSatoshis).toBe(closingFeeSat([testScript(1), testScript(2)], 253) - 1n);
    expect(receive(pair.bob, { ...offer, tlvs: {} })).toBeUndefined();
    expect(effectsOf(pair.bob, 'broadcast_closing')[0]?.closing.feeSat).toBe(offer.feeSatoshis);
  });

  test('before both shutdowns is unexpected', () => {
    const pair = open();
    const early = forged(pair.bob, 'closing_signed', { feeSatoshis: 1n, signature: new Uint8Array(64) });
    expect(receive(pair.bob, early)).toMatchObject({
      code: 'unexpected_message',
      reaction: 'warning_disconnect',
    });
  });
});

describe('a force close', () => {
  test('tells the peer, the monitor and the chain, and gives back what was never committed', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 1_000_000n));
    pair.alice.must({ type: 'force_close', reason: 'the user wants it' });
    expect(typesOf(pair.alice.outbox)).toEqual(['update_add_htlc', 'error']);
    expect(effectsOf(pair.alice, 'htlc_dropped')).toHaveLength(1);
    expect(effectsOf(pair.alice, 'force_close')).toMatchObject([
      { broadcast: 'broadcast', reason: 'the user wants it' },
    ]);
    expect(effectsOf(pair.alice, 'monitor_update').at(-1)?.steps).toMatchObject([
      { type: 'channel_force_closed', shouldBroadcast: 'broadcast' },
    ]);
    pair.deliverAll();
    expect(pair.bob.channel.phase.type).toBe('closing_force');
    pair.alice.must({ type: 'force_close', reason: 'again' });
    expect(effectsOf(pair.alice, 'force_close')).toHaveLength(1);
  });

  test('follows from what a peer must not do', () => {
    const pair = open();
    const error = receive(
      pair.alice,
      forged(pair.alice, 'revoke_and_ack', {
        perCommitmentSecret: new Uint8Array(32),
        nextPerCommitmentPoint: new Uint8Array(33),
      }),
    );
    if (error === undefined) throw new RangeError('accepted');
    pair.alice.react(error);
    expect(pair.alice.channel.phase.type).toBe('closing_force');
    expect(typesOf(pair.alice.outbox)).toEqual(['error']);
  });

  test("does not follow from a warning; a peer's text is made printable", () => {
    const pair = open();
    expect(receive(pair.alice, forged(pair.alice, 'warning', { data: new Uint8Array(3) }))).toBeUndefined();
    expect(pair.alice.channel.phase.type).toBe('open');
    receive(pair.alice, forged(pair.alice, 'error', { data: Uint8Array.from([104, 105, 10, 27, 200]) }));
    expect(pair.alice.channel.phase).toEqual({
      type: 'closing_force',
      reason: 'the peer failed the channel: hi???',
    });
  });

  test('while frozen leaves nothing owed', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 10_000_000n));
    pair.alice.must({ type: 'commit' });
    pair.bob.monitor = 'in_progress';
    pair.deliver('bob');
    pair.deliver('bob');
    pair.bob.must({ type: 'commit' });
    expect(typesOf(pair.bob.outbox)).toEqual([]);
    pair.bob.must({ type: 'force_close', reason: 'the user wants it' });
    pair.bob.completeMonitor();
    expect(typesOf(pair.bob.outbox)).toEqual(['error']);
  });

  test('after which messages are ignored', () => {
    const pair = open();
    pair.alice.must({ type: 'force_close', reason: 'x' });
    expect(receive(pair.alice, forged(pair.alice, 'update_fee', { feeratePerKw: 253 }))?.reaction).toBe(
      'ignore',
    );
    pair.alice.must({ type: 'closed', reason: 'all spent' });
    expect(pair.alice.channel.phase.type).toBe('closed');
  });

  test('HTLCs stay until the chain has settled the last of them', () => {
    const pair = open();
    pair.alice.must(addCommand(1, 1_000_000n, 500));
    pair.settle();
    pair.alice.must({ type: 'force_close', reason: 'x' });
    expect(pair.alice.channel.changes.htlcs).toHaveLength(1);
    const before = pair.alice.channel;
    pair.alice.must({ type: 'closed', reason: 'all spent' });
    expect(pair.alice.channel.changes.htlcs).toEqual([]);
    expect(persistDelta(before, pair.alice.channel).settledHtlcs).toEqual([
      { direction: 'outbound', id: 0n },
    ]);
  });
});
