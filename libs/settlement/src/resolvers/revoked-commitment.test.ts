/** A cheater gets nothing: not its balance, not the HTLCs, not what it moved on to second stages. */
import { preimageOf } from '@fulmen/channel/testing/pair';
import { describe, expect, test } from 'vitest';
import { IRREVOCABLE_DEPTH } from '../constants.ts';
import { claimTransaction, claimTransactions, claimableOf } from '../testing/claims.ts';
import { TestChain } from '../testing/test-chain.ts';
import { TestChannel, homeScript } from '../testing/test-channel.ts';
import type { SignedCommitment } from '../testing/test-channel.ts';
import { outcomes, words } from '../testing/words.ts';

const FORMATS = ['static_remotekey', 'anchors'] as const;
const EXPIRY = 500;

/** bob's commitment with alice's 0 and 1 (one hash, one amount), and bob's 0 and 1, is revoked; `depth` more states follow. */
function cheated(
  format: (typeof FORMATS)[number],
  depth: number,
): { readonly channel: TestChannel; readonly chain: TestChain; readonly revoked: SignedCommitment } {
  const channel = new TestChannel({ format });
  channel.add('alice', { seed: 1, amountMsat: 50_000_000n, cltvExpiryHeight: EXPIRY });
  channel.add('alice', { seed: 1, amountMsat: 50_000_000n, cltvExpiryHeight: EXPIRY });
  channel.add('bob', { seed: 3, amountMsat: 40_000_000n, cltvExpiryHeight: EXPIRY });
  channel.add('bob', { seed: 4, amountMsat: 30_000_000n, cltvExpiryHeight: EXPIRY });
  channel.settle();
  const number = channel.newestNumber('bob');
  for (let i = 0; i < depth; i++) {
    channel.add('alice', { seed: 100 + i, amountMsat: 2_000_000n, cltvExpiryHeight: EXPIRY });
    channel.settle();
    channel.fail('bob', BigInt(2 + i));
    channel.settle();
  }
  const chain = new TestChain();
  chain.fund(channel);
  const revoked = channel.commitment('bob', number);
  chain.mine([revoked.tx]);
  return { channel, chain, revoked };
}

describe.each(FORMATS)('%s', (format) => {
  test.each([1, 30])('revoked %i states ago: justice on everything, at once', (depth) => {
    const { channel, chain, revoked } = cheated(format, depth);
    let { settlement } = chain.settlement(channel, 'alice');
    expect(settlement.close).toMatchObject({ type: 'revoked', commitmentNumber: revoked.number });
    expect(words(settlement).sort()).toEqual(
      [
        ...(format === 'anchors' ? ['anchor: anchor'] : []),
        'htlc_offered_by_counterparty 0: revoked_htlc',
        'htlc_offered_by_counterparty 1: revoked_htlc',
        'htlc_offered_by_holder 0: revoked_htlc',
        'htlc_offered_by_holder 1: revoked_htlc',
        'to_local: revoked_delayed',
        'to_remote: counterparty_balance',
      ].sort(),
    );
    const deadlines = claimableOf(settlement).map(
      ({ kind, deadlineHeight }) => `${kind.type} ${deadlineHeight}`,
    );
    expect(deadlines).toContain('revoked_delayed 245');
    expect(deadlines).toContain('revoked_htlc 119');
    // All in one transaction, as a batch would.
    const claims = claimableOf(settlement);
    chain.mine([claimTransaction(channel, 'alice', claims)]);
    ({ settlement } = chain.settlement(channel, 'alice'));
    expect(new Set(words(settlement).map((word) => word.replace(/^.*: /, '')))).toEqual(
      new Set(['justice by holder, young', 'claim by holder, young']),
    );
    expect(outcomes(settlement)).toMatchObject({ 'out:0': 'pending', 'out:1': 'pending' });
    chain.mineTo(106);
    expect(outcomes(chain.settlement(channel, 'alice').settlement)).toMatchObject({ 'out:0': 'pending' });
    chain.mineTo(107);
    expect(outcomes(chain.settlement(channel, 'alice').settlement)).toMatchObject({
      'out:0': 'failed justice',
      'out:1': 'failed justice',
    });
    chain.mineTo(102 + IRREVOCABLE_DEPTH - 1);
    expect(chain.settlement(channel, 'alice').settlement.stage).toBe('resolved');
  });

  test('what the cheater moved to second stages is taken there, and its preimage goes upstream', () => {
    const { channel, chain, revoked } = cheated(format, 1);
    const taken = channel.htlcOutput(revoked, 'inbound', 1n);
    const success = channel.secondStage(revoked, [
      { outputIndex: taken.outputIndex, preimage: preimageOf(1) },
    ]);
    chain.mine([success]);
    chain.mineTo(EXPIRY);
    const expired = channel.htlcOutput(revoked, 'outbound', 0n);
    chain.mine([channel.secondStage(revoked, [{ outputIndex: expired.outputIndex }])]);
    let { settlement } = chain.settlement(channel, 'alice');
    expect(words(settlement)).toEqual(
      expect.arrayContaining([
        'htlc_offered_by_holder 1: preimage by counterparty, final',
        'htlc_offered_by_counterparty 0: timeout by counterparty, young',
        'second_stage 1: revoked_delayed',
        'second_stage 0: revoked_delayed',
        'htlc_offered_by_holder 0: revoked_htlc',
      ]),
    );
    // Twins: the one that was claimed is fulfilled, the other is not.
    expect(outcomes(settlement)).toMatchObject({ 'out:0': 'pending', 'out:1': 'fulfilled' });
    const stages = settlement.outputs.filter(({ kind }) => kind === 'second_stage');
    const deadlines = stages.map(({ htlc, status }) => [
      htlc?.id,
      status.type === 'claimable' ? status.claim.deadlineHeight : undefined,
    ]);
    expect(new Map(deadlines as [bigint, number][])).toEqual(
      new Map([
        [1n, 102 + 144],
        [0n, 501 + 144],
      ]),
    );
    chain.mine(claimTransactions(channel, 'alice', settlement));
    ({ settlement } = chain.settlement(channel, 'alice'));
    expect(words(settlement)).toContain('second_stage 1: justice by holder, young');
    chain.mineTo(502 + IRREVOCABLE_DEPTH);
    ({ settlement } = chain.settlement(channel, 'alice'));
    expect(settlement.stage).toBe('resolved');
    expect(outcomes(settlement)).toMatchObject({ 'out:0': 'failed justice', 'out:1': 'fulfilled' });
  });

  test('what the cheater brought home before justice came is spent by it', () => {
    const { channel, chain, revoked } = cheated(format, 1);
    const [toLocal] = revoked.built.outputs.filter(({ type }) => type === 'to_local');
    if (toLocal === undefined) throw new RangeError('no to_local');
    chain.mineTo(244);
    chain.mine([channel.delayedClaim(revoked, [{ txid: revoked.txid, ...toLocal }])]);
    expect(words(chain.settlement(channel, 'alice').settlement)).toContain(
      'to_local: claim by counterparty, young',
    );
  });
});

test('several second stages in one transaction, with outputs of the cheater behind them: every delayed output is taken', () => {
  const { channel, chain, revoked } = cheated('anchors', 1);
  const [first, second] = [0n, 1n].map((id) => channel.htlcOutput(revoked, 'inbound', id));
  if (first === undefined || second === undefined) throw new RangeError('no outputs');
  const aggregated = channel.secondStage(
    revoked,
    [
      { outputIndex: second.outputIndex, preimage: preimageOf(1) },
      { outputIndex: first.outputIndex, preimage: preimageOf(1) },
    ],
    [{ valueSat: 0n, script: homeScript('bob') }],
  );
  chain.mine([aggregated]);
  let { settlement } = chain.settlement(channel, 'alice');
  const stages = settlement.outputs.filter(({ kind }) => kind === 'second_stage');
  expect(stages.map(({ htlc, valueSat }) => `${htlc?.id} ${valueSat}`)).toEqual(['1 50000', '0 50000']);
  expect(outcomes(settlement)).toMatchObject({ 'out:0': 'fulfilled', 'out:1': 'fulfilled' });
  chain.mine(claimTransactions(channel, 'alice', settlement));
  ({ settlement } = chain.settlement(channel, 'alice'));
  expect(words(settlement).filter((word) => word.startsWith('second_stage'))).toEqual([
    'second_stage 1: justice by holder, young',
    'second_stage 0: justice by holder, young',
  ]);
});

test('an HTLC that was added after the revoked state is failed at depth: that transaction never had it', () => {
  const { channel, chain } = cheated('anchors', 1);
  channel.add('alice', { seed: 9, amountMsat: 20_000_000n, cltvExpiryHeight: EXPIRY });
  channel.settle();
  expect(outcomes(chain.settlement(channel, 'alice').settlement)['out:3']).toBe('pending');
  chain.mineTo(106);
  expect(outcomes(chain.settlement(channel, 'alice').settlement)['out:3']).toBe('failed not_on_commitment');
});
