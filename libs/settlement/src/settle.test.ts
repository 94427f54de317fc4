/** Every kind of close, with real signatures and every witness run: whose it was, what comes home, how HTLCs ended. */
import { preimageOf } from '@fulmen/channel/testing/pair';
import { describe, expect, test } from 'vitest';
import { ANTI_REORG_DELAY_BLOCKS, IRREVOCABLE_DEPTH } from './constants.ts';
import { claimTransaction, claimTransactions, claimableOf } from './testing/claims.ts';
import { TestChain } from './testing/test-chain.ts';
import { TestChannel } from './testing/test-channel.ts';
import { outcomes, words } from './testing/words.ts';

const FORMATS = ['static_remotekey', 'anchors'] as const;
/** Of every HTLC here. */
const EXPIRY = 500;

/**
 * Alice offers 0 (kept), 1 (dust); bob offers 0 (preimage known), 1 (unknown), 2 (dust). All are on both newest
 * commitments, or, with `stage: 'next'`, alice has signed one more HTLC (2) that bob has not heard of.
 */
function channelWithHtlcs(format: (typeof FORMATS)[number]): TestChannel {
  const channel = new TestChannel({ format });
  channel.add('alice', { seed: 1, amountMsat: 50_000_000n, cltvExpiryHeight: EXPIRY });
  channel.add('alice', { seed: 2, amountMsat: 300_000n, cltvExpiryHeight: EXPIRY });
  channel.add('bob', { seed: 3, amountMsat: 40_000_000n, cltvExpiryHeight: EXPIRY });
  channel.add('bob', { seed: 4, amountMsat: 30_000_000n, cltvExpiryHeight: EXPIRY });
  channel.add('bob', { seed: 5, amountMsat: 300_000n, cltvExpiryHeight: EXPIRY });
  channel.settle();
  return channel;
}

const PREIMAGES = new Map([['in:0', preimageOf(3)]]);

describe.each(FORMATS)('%s', (format) => {
  const anchor = format === 'anchors' ? ['anchor: anchor'] : [];

  test("the holder's commitment: balance and HTLCs come home by second stages, each after its delay", () => {
    const channel = channelWithHtlcs(format);
    const chain = new TestChain();
    chain.fund(channel);
    chain.mine([channel.commitment('alice').tx]);
    let { settlement } = chain.settlement(channel, 'alice', PREIMAGES);
    expect(settlement.close).toMatchObject({ type: 'holder', height: 101 });
    expect(words(settlement).sort()).toEqual(
      [
        ...anchor,
        'htlc_offered_by_counterparty 0: holder_htlc',
        'htlc_offered_by_counterparty 1: unknown until 500',
        'htlc_offered_by_holder 0: at 501',
        'to_local: at 245',
      ].sort(),
    );
    expect(outcomes(settlement)).toEqual({ 'out:0': 'pending', 'out:1': 'pending' });

    const success = claimableOf(settlement).filter(({ kind }) => kind.type === 'holder_htlc');
    expect(success).toHaveLength(1);
    chain.mine([claimTransaction(channel, 'alice', success)]);
    ({ settlement } = chain.settlement(channel, 'alice', PREIMAGES));
    expect(words(settlement)).toContain('htlc_offered_by_counterparty 0: second_stage by holder, young');
    expect(words(settlement)).toContain('second_stage 0: at 246');

    // The commitment is at depth 6: dust is failed upstream.
    chain.mineTo(105);
    expect(outcomes(chain.settlement(channel, 'alice', PREIMAGES).settlement)['out:1']).toBe('pending');
    chain.mineTo(106);
    expect(outcomes(chain.settlement(channel, 'alice', PREIMAGES).settlement)).toEqual({
      'out:0': 'pending',
      'out:1': 'failed dust',
    });

    chain.mineTo(243);
    expect(words(chain.settlement(channel, 'alice', PREIMAGES).settlement)).toContain('to_local: at 245');
    chain.mineTo(244);
    ({ settlement } = chain.settlement(channel, 'alice', PREIMAGES));
    expect(words(settlement)).toContain('to_local: holder_delayed');
    chain.mine(claimTransactions(channel, 'alice', settlement));
    ({ settlement } = chain.settlement(channel, 'alice', PREIMAGES));
    expect(words(settlement)).toContain('second_stage 0: holder_delayed');
    chain.mine(claimTransactions(channel, 'alice', settlement));

    chain.mineTo(499);
    expect(words(chain.settlement(channel, 'alice', PREIMAGES).settlement)).toContain(
      'htlc_offered_by_holder 0: at 501',
    );
    chain.mineTo(500);
    ({ settlement } = chain.settlement(channel, 'alice', PREIMAGES));
    expect(claimableOf(settlement)[0]).toMatchObject({ locktimeHeight: 500, deadlineHeight: 539 });
    chain.mine(claimTransactions(channel, 'alice', settlement));
    chain.mineTo(501 + ANTI_REORG_DELAY_BLOCKS - 2);
    expect(outcomes(chain.settlement(channel, 'alice', PREIMAGES).settlement)['out:0']).toBe('pending');
    chain.mine();
    expect(outcomes(chain.settlement(channel, 'alice', PREIMAGES).settlement)['out:0']).toBe(
      'failed timeout',
    );
    chain.mineTo(501 + 144 - 1);
    chain.mine(claimTransactions(channel, 'alice', chain.settlement(channel, 'alice', PREIMAGES).settlement));
    chain.mineTo(645 + IRREVOCABLE_DEPTH - 2);
    expect(chain.settlement(channel, 'alice', PREIMAGES).settlement.stage).toBe('closed');
    chain.mine();
    const end = chain.settlement(channel, 'alice', PREIMAGES).settlement;
    expect(end.stage).toBe('resolved');
  });

  test.each(['counterparty', 'counterparty_next'] as const)(
    'a %s commitment: everything is claimed directly',
    (type) => {
      const channel = channelWithHtlcs(format);
      if (type === 'counterparty_next') {
        channel.add('alice', { seed: 6, amountMsat: 20_000_000n, cltvExpiryHeight: EXPIRY });
        channel.signUnheard('alice');
      }
      const chain = new TestChain();
      chain.fund(channel);
      chain.mine([channel.commitment('bob').tx]);
      let { settlement } = chain.settlement(channel, 'alice', PREIMAGES);
      const added = type === 'counterparty_next' ? ['htlc_offered_by_holder 2: at 501'] : [];
      expect(settlement.close?.type).toBe(type);
      expect(words(settlement).sort()).toEqual(
        [
          ...anchor,
          ...added,
          'htlc_offered_by_counterparty 0: counterparty_htlc',
          'htlc_offered_by_counterparty 1: unknown until 500',
          'htlc_offered_by_holder 0: at 501',
          'to_remote: counterparty_balance',
        ].sort(),
      );
      chain.mine(claimTransactions(channel, 'alice', settlement));
      chain.mineTo(EXPIRY);
      ({ settlement } = chain.settlement(channel, 'alice', PREIMAGES));
      chain.mine(claimTransactions(channel, 'alice', settlement));
      chain.mineTo(EXPIRY + ANTI_REORG_DELAY_BLOCKS);
      ({ settlement } = chain.settlement(channel, 'alice', PREIMAGES));
      expect(outcomes(settlement)).toEqual({
        'out:0': 'failed timeout',
        'out:1': 'failed dust',
        ...(added.length > 0 ? { 'out:2': 'failed timeout' } : {}),
      });
      chain.mineTo(EXPIRY + IRREVOCABLE_DEPTH);
      expect(chain.settlement(channel, 'alice', PREIMAGES).settlement.stage).toBe('resolved');
    },
  );
});
