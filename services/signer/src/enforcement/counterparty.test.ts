/** What the counterparty may bring about goes on, or closes the channel at least. */
import { decodeTx } from '@fulmen/bitcoin';
import { describe, expect, test } from 'vitest';
import { type Content, EMPTY_ITEM, FUNDING_SAT, specFor } from '../testing/channel.ts';
import { signHolderCommitment } from './holder-commitment.ts';
import { signItem } from './sign-item.ts';
import { played, addTwo } from './testing/deviations.ts';

describe('what the counterparty may bring about', () => {
  /** Alice's next commitment with a content that bob signs whatever his own signer would say. */
  async function signedByBob(change: (content: Content) => Content, format?: 'static_remotekey') {
    const { signer, channel } = await played(addTwo, format);
    const content = change(channel.content);
    const { limits } = signer.contexts.bob;
    const anything = { ...limits, maximumFeerateSatPerKw: 10_000_000, maximumDustExposureSat: FUNDING_SAT };
    const signed = signItem({ ...signer.contexts.bob, limits: anything }, signer.states.bob, {
      ...EMPTY_ITEM,
      revocations: channel.pending.bob,
      ...channel.counterpartyCommitment('bob', content, channel.number),
    });
    if (!signed.ok) throw new RangeError(signed.error.policy);
    return {
      signer,
      request: {
        spec: specFor('alice', content, channel.number),
        signatures: signed.value.answer.signatures,
      },
    };
  }
  const inbound = (count: number, amountMsat: bigint, cltvExpiryHeight: number) => (content: Content) => ({
    ...content,
    toCounterpartyMsat: content.toCounterpartyMsat - BigInt(count) * amountMsat,
    htlcs: [
      ...content.htlcs,
      ...Array.from({ length: count }, (_, i) => ({
        direction: 'inbound' as const,
        id: 500n + BigInt(i),
        amountMsat,
        paymentHash: new Uint8Array(32).fill(i + 1),
        cltvExpiryHeight,
      })),
    ],
  });

  test.each([
    ['an HTLC that expired long ago', inbound(1, 1_000n, 0), undefined],
    [
      'more dust than the policy allows the holder',
      (content: Content) => ({ ...inbound(9, 65_000_000n, 700)(content), feerateSatPerKw: 100_000 }),
      'static_remotekey' as const,
    ],
  ])('%s goes on', async (_name, change, format) => {
    const { signer, request } = await signedByBob(change, format);
    expect(signer.refusal('alice', { ...EMPTY_ITEM, holderCommitment: request })).toBeUndefined();
  });

  test('a fee that is not relayed does not go on: the funder cannot pay its feerate', async () => {
    const { signer, request } = await signedByBob(
      (content) => ({
        ...content,
        toHolderMsat: 200_000n,
        toCounterpartyMsat: content.toCounterpartyMsat + content.toHolderMsat - 200_000n,
      }),
      'static_remotekey',
    );
    const item = { ...EMPTY_ITEM, holderCommitment: request };
    expect(signer.refusal('alice', item)).toBe('policy-commitment-fee-range');
    const signed = signHolderCommitment(signer.contexts.alice, signer.states.alice, request);
    expect(signed.ok && decodeTx(signed.value.transaction).ok).toBe(true);
  });

  test('a feerate above all bounds does not go on, and closes the channel all the same', async () => {
    const { signer, request } = await signedByBob((content) => ({ ...content, feerateSatPerKw: 250_001 }));
    const item = { ...EMPTY_ITEM, holderCommitment: request };
    expect(signer.refusal('alice', item)).toBe('policy-commitment-fee-range');
    const signed = signHolderCommitment(signer.contexts.alice, signer.states.alice, request);
    expect(signed.ok && decodeTx(signed.value.transaction).ok).toBe(true);
  });
});
