// What holds exactly at a bound of a close: its fee, its outputs, and the last feerate before it.
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { describe, expect, test } from 'vitest';
import {
  buildClosingTransaction,
  closingFeeSat,
  type ClosingOutputs,
  closingSpec,
} from '../commitment/closing.ts';
import { primaryFunding } from '../state.ts';
import { effectsOf, forged, receive, take, typesOf } from '../testing/expect.ts';
import { Pair, testScript } from '../testing/pair.ts';
import type { PairOptions } from '../testing/pair.ts';
import { testSecrets } from '../testing/signer.ts';

/** Alice, the funder, and Bob negotiate; what Alice offers is made up by each test. */
function negotiating(options: PairOptions): Pair {
  const pair = new Pair(fakeSecp256k1, options);
  pair.alice.must({ type: 'shutdown' });
  pair.deliver('bob');
  pair.deliver('alice');
  return pair;
}

/** Bob receives Alice's closing_signed. */
function offer(
  pair: Pair,
  feeSat: bigint,
  range: readonly [minFeeSatoshis: bigint, maxFeeSatoshis: bigint] | undefined,
  outputs: ClosingOutputs = 'above_dust',
) {
  const { holderBalanceMsat, counterpartyBalanceMsat, ...funding } = primaryFunding(pair.alice.channel);
  const built = buildClosingTransaction({
    funding,
    closing: closingSpec({
      funder: 'holder',
      holderBalanceMsat,
      counterpartyBalanceMsat,
      holderScript: testScript(1),
      counterpartyScript: testScript(2),
      feeSat,
    }),
    dustLimitSat: 0n,
    outputs,
  });
  if (!built.ok) throw new RangeError(built.error.type);
  const feeRange = range && { minFeeSatoshis: range[0], maxFeeSatoshis: range[1] };
  const message = forged(pair.bob, 'closing_signed', {
    feeSatoshis: feeSat,
    signature: fakeSecp256k1.sign(built.value.sighash, testSecrets('alice').funding),
    tlvs: feeRange === undefined ? {} : { feeRange },
  });
  return receive(pair.bob, message);
}

describe('a closing fee', () => {
  test('is found where two ranges have a single one in common', () => {
    const leastSat = closingFeeSat([testScript(1), testScript(2)], 1_500);
    const overlapping = (maxFeeSat: bigint) => {
      const pair = negotiating({ bob: { feerates: { closeMinimumSatPerKw: 1_500 } } });
      const error = offer(pair, 1n, [1n, maxFeeSat]);
      return { pair, error };
    };
    expect(overlapping(leastSat - 1n).error).toMatchObject({ code: 'closing_fee', reaction: 'warning' });
    const { pair, error } = overlapping(leastSat);
    expect(error).toBeUndefined();
    expect(take(pair.bob, 'closing_signed').feeSatoshis).toBe(leastSat);
  });

  test('may be all that the funder has', () => {
    const pair = negotiating({ fundingSat: 100_000n, pushMsat: 95_000_000n });
    expect(offer(pair, 5_001n, [1n, 100_000n])).toMatchObject({
      code: 'closing_fee',
      reaction: 'warning_disconnect',
    });
    expect(offer(pair, 5_000n, [1n, 100_000n])).toBeUndefined();
    expect(effectsOf(pair.bob, 'broadcast_closing')).toMatchObject([{ closing: { toCounterpartySat: 0n } }]);
  });
});

test.each([
  ['of as much as the dust limit is no dust', 354n, 'both', undefined],
  ['of a satoshi less is none of the close', 353n, 'both', 'fail_channel'],
  ['of a satoshi less is left out', 353n, 'counterparty_only', undefined],
] as const)('an output %s', (_, leftSat, outputs, reaction) => {
  const pair = negotiating({
    fundingSat: 100_000n,
    pushMsat: 1_000n * (99_000n - leftSat),
    feerateSatPerKw: 253,
  });
  // Alice’s “counterparty” is Bob: the one output that is left is his.
  expect(offer(pair, 1_000n, [1n, 1_000n], outputs)?.reaction).toBe(reaction);
  expect(effectsOf(pair.bob, 'broadcast_closing')).toHaveLength(reaction === undefined ? 1 : 0);
});

/** Bob's output may be missing where it is dust to Alice, and hers where it is less than dust can be to anybody. */
test.each([
  ['Bob’s, of as much as Alice’s dust limit', 'holder_only', 546n, 'warning_disconnect'],
  ['Bob’s, of a satoshi less', 'holder_only', 545n, undefined],
  [
    'Alice’s, of as much as the highest dust limit',
    'counterparty_only',
    99_000n - 10_000n,
    'warning_disconnect',
  ],
  ['Alice’s, of a satoshi less', 'counterparty_only', 99_000n - 9_999n, undefined],
] as const)('a close without an output: %s', (_, outputs, toBobSat, reaction) => {
  const pair = negotiating({
    fundingSat: 100_000n,
    pushMsat: 1_000n * toBobSat,
    feerateSatPerKw: 253,
    alice: { config: { dustLimitSat: 546n } },
  });
  expect(offer(pair, 1_000n, [1n, 1_000n], outputs)?.reaction).toBe(reaction);
  expect(effectsOf(pair.bob, 'broadcast_closing')).toHaveLength(reaction === undefined ? 1 : 0);
});

test('a signature for no close with dust, either, is a wrong signature', () => {
  const pair = negotiating({ fundingSat: 100_000n, pushMsat: 98_700_000n, feerateSatPerKw: 253 });
  const wrong = forged(pair.bob, 'closing_signed', {
    feeSatoshis: 1_000n,
    signature: new Uint8Array(64).fill(1),
  });
  expect(receive(pair.bob, wrong)).toMatchObject({
    code: 'invalid_signature',
    reaction: 'warning_disconnect',
  });
});

describe('update_fee before both shutdowns were exchanged', () => {
  const rise = ({ bob }: Pair) => receive(bob, forged(bob, 'update_fee', { feeratePerKw: 1_100 }));

  test('is taken when it crosses the holder’s shutdown', () => {
    const pair = new Pair(fakeSecp256k1);
    pair.bob.must({ type: 'shutdown' });
    expect(typesOf(pair.bob.outbox)).toEqual(['shutdown']);
    expect(rise(pair)).toBeUndefined();
  });

  test('is taken after a reconnection, too, where the peer has sent none', () => {
    const pair = new Pair(fakeSecp256k1);
    pair.bob.must({ type: 'shutdown' });
    pair.disconnect();
    pair.connect();
    pair.deliver('bob');
    expect(typesOf(pair.bob.outbox)).toContain('shutdown');
    expect(rise(pair)).toBeUndefined();
  });

  test('is taken while the holder’s shutdown is held', () => {
    const pair = new Pair(fakeSecp256k1);
    pair.bob.must({ type: 'monitor_update_in_progress', held: [] });
    pair.alice.must({ type: 'shutdown' });
    pair.deliver('bob');
    expect(pair.bob.channel.phase).toMatchObject({ type: 'shutting_down', holder: { type: 'pending' } });
    expect(rise(pair)).toBeUndefined();
  });
});
