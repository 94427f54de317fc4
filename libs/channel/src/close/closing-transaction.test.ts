/** The one transaction that both sign: which outputs it has, what it pays, and that it is what the signer would sign. */
import { toHex } from '@fulmen/codec';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { secp256k1 } from '@fulmen/crypto/default';
import { expect, test } from 'vitest';
import { buildClosingTransaction, closingFeeSat, closingSpec } from '../commitment/closing.ts';
import { MAX_FEERATE_SAT_PER_KW } from '../config.ts';
import { primaryFunding } from '../state.ts';
import { effectsOf, receive, take } from '../testing/expect.ts';
import type { TestNode } from '../testing/node.ts';
import { Pair, testScript } from '../testing/pair.ts';

/** Txids of what a node's broadcast_closing stands for. */
function agreedTxids(node: TestNode): readonly string[] {
  return effectsOf(node, 'broadcast_closing').map(({ closing }) => {
    const { dustLimitSat } = node.config;
    const built = buildClosingTransaction({ funding: primaryFunding(node.channel), closing, dustLimitSat });
    if (!built.ok) throw new RangeError(built.error.type);
    return toHex(built.value.txid);
  });
}

test('a closing_signed is answered for the transaction that the counterparty’s dust limit makes, which is broadcast', () => {
  const pair = new Pair(secp256k1, {
    pushMsat: 400_000n,
    alice: { config: { dustLimitSat: 546n } },
    bob: { config: { dustLimitSat: 354n } },
  });
  pair.bob.must({ type: 'shutdown' });
  pair.deliverAll();
  for (const node of [pair.alice, pair.bob]) expect(node.channel.phase.type).toBe('closing_mutual');
  expect(effectsOf(pair.bob, 'broadcast_closing')[0]?.closing.toHolderSat).toBe(0n);
  expect(agreedTxids(pair.bob)).toEqual(agreedTxids(pair.alice));
});

/** The funder signs a close without its own output; it has `leftSat` before the fee. The fundee is prepared before. */
function withoutFunder(leftSat: bigint, prepare: (fundee: TestNode) => void = () => undefined) {
  const fundingSat = 100_000n;
  const pair = new Pair(fakeSecp256k1, {
    fundingSat,
    pushMsat: 1000n * (fundingSat - leftSat),
    feerateSatPerKw: 253,
  });
  pair.bob.must({ type: 'shutdown' });
  pair.deliver('alice');
  pair.deliver('bob');
  const offer = take(pair.alice, 'closing_signed');
  const closing = {
    toHolderSat: 0n,
    toCounterpartySat: fundingSat - leftSat,
    holderScript: testScript(1),
    counterpartyScript: testScript(2),
    feeSat: offer.feeSatoshis,
  };
  const signature = pair.alice.signer.signClosing(pair.alice.registration, closing);
  prepare(pair.bob);
  return { pair, closing, error: receive(pair.bob, { ...offer, signature }) };
}

test.each([
  { when: 'at once', prepare: () => undefined },
  {
    when: 'when it thaws',
    prepare: (fundee: TestNode) => fundee.must({ type: 'monitor_update_in_progress', held: [] }),
  },
])(
  '$when, a closing_signed is answered for the transaction without the output that its owner gives up',
  ({ prepare }) => {
    const { pair, closing, error } = withoutFunder(9_000n, prepare);
    expect(error).toBeUndefined();
    pair.bob.completeMonitor();
    const funding = primaryFunding(pair.alice.channel);
    const built = buildClosingTransaction({ funding, closing, dustLimitSat: 354n });
    const { signature } = take(pair.bob, 'closing_signed');
    expect(
      built.ok && fakeSecp256k1.verify(built.value.sighash, signature, funding.counterpartyFundingPubkey),
    ).toBe(true);
  },
);

test('a closing_signed without an output that nobody gives up is not the close that was asked for', () => {
  const { pair, error } = withoutFunder(11_000n);
  expect(error).toMatchObject({ code: 'invalid_signature', reaction: 'warning_disconnect' });
  expect(pair.bob.channel.phase.type).toBe('negotiating_closing');
});

test('a closing_signed for more than the signer would sign is no fee, whoever pays it', () => {
  const pair = new Pair(fakeSecp256k1, { fundingSat: 10_000_000n });
  const scripts = [testScript(1), testScript(2)];
  const most = closingFeeSat(scripts, MAX_FEERATE_SAT_PER_KW);
  expect(
    pair.alice.input({ type: 'shutdown', feerates: { targetSatPerKw: MAX_FEERATE_SAT_PER_KW + 1 } })?.code,
  ).toBe('closing_fee');
  pair.alice.must({ type: 'shutdown', feerates: { targetSatPerKw: MAX_FEERATE_SAT_PER_KW } });
  pair.deliver('bob');
  pair.deliver('alice');
  const offer = take(pair.alice, 'closing_signed');
  expect([offer.feeSatoshis, offer.tlvs.feeRange?.maxFeeSatoshis]).toEqual([most, most]);
  const signed = (feeSat: bigint) => {
    const closing = closingSpec({
      funder: 'holder',
      holderBalanceMsat: primaryFunding(pair.alice.channel).holderBalanceMsat,
      counterpartyBalanceMsat: primaryFunding(pair.alice.channel).counterpartyBalanceMsat,
      holderScript: testScript(1),
      counterpartyScript: testScript(2),
      feeSat,
    });
    const signature = pair.alice.signer.signClosing(pair.alice.registration, closing);
    return receive(pair.bob, { ...offer, feeSatoshis: feeSat, signature, tlvs: {} });
  };
  expect(signed(most + 1n)).toMatchObject({ code: 'closing_fee', reaction: 'warning_disconnect' });
  expect(signed(most)).toBeUndefined();
  expect(pair.bob.channel.phase.type).toBe('closing_mutual');
});
