/** An intent that is in a channel's hands may be another's by the time of the commit, or gone. */
import type { HtlcSource } from '@fulmen/store';
import { expect, test } from 'vitest';
import { INTENT, owingPeer, UPSTREAM } from './testing/owing-peer.ts';

test.each<HtlcSource>([
  { ...UPSTREAM, htlcId: 10n },
  { type: 'payment', attemptId: new Uint8Array(32).fill(8) },
])(
  'an HTLC whose intent was taken back meanwhile is not added, and the rest of the turn stands: $type',
  async (source) => {
    const { lone } = owingPeer();
    lone.verdicts.push({ type: 'committed' }, { type: 'intent_lost', source });
    const lost = { ...INTENT, source, outgoingAmountMsat: 7_000_000n };
    // The first begins a turn; what comes until that ends is the next.
    for (const intent of [{ ...INTENT, source: { ...UPSTREAM, htlcId: 11n } }, lost, INTENT])
      lone.actor.post({ kind: 'forward', intent, alternatives: 'none' });
    await lone.idle();
    expect(lone.quarantines).toEqual([]);
    expect(lone.sent).toMatchObject([
      { type: 'update_add_htlc', id: 0n, amountMsat: INTENT.outgoingAmountMsat },
      { type: 'update_add_htlc', id: 1n, amountMsat: INTENT.outgoingAmountMsat },
    ]);
    expect(lone.letGo).toEqual([source]);
    // Whoever took it back has told its end.
    expect(lone.resolutions).toEqual([]);
    const [, refused, made] = lone.commits.map(({ commit }) =>
      commit.forwarding.intentClaims.map((claim) => claim.source),
    );
    expect(refused).toEqual([source, UPSTREAM]);
    expect(made).toEqual([UPSTREAM]);
  },
);
