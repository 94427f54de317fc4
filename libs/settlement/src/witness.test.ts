/** Witnesses of every kind of claim: valid by the interpreter (claimTransaction runs it), and as heavy as was said. */
import { SIGHASH, derFromCompact, witnessStackLength } from '@fulmen/bitcoin';
import { preimageOf } from '@fulmen/channel/testing/pair';
import { describe, expect, test } from 'vitest';
import { answerClaim, claimTransaction, claimableOf } from './testing/claims.ts';
import { TestChain } from './testing/test-chain.ts';
import { TestChannel } from './testing/test-channel.ts';
import type { Claim } from './types.ts';
import { assembleWitness } from './witness.ts';

const EXPIRY = 500;
const PREIMAGES = new Map([['in:0', preimageOf(3)]]);

/** Every claim that a close of this commitment ever offers, by the time that all are mature. */
function claimsOf(channel: TestChannel, owner: 'alice' | 'bob', state: 'current' | 'revoked'): Claim[] {
  const number = channel.newestNumber(owner);
  const commitment = channel.commitment(owner, number);
  if (state === 'revoked') {
    channel.add('alice', { seed: 9, amountMsat: 2_000_000n, cltvExpiryHeight: EXPIRY });
    channel.settle();
  }
  const chain = new TestChain();
  chain.fund(channel);
  chain.mine([commitment.tx]);
  chain.mineTo(EXPIRY);
  const claims = claimableOf(chain.settlement(channel, 'alice', PREIMAGES).settlement);
  const seconds = claims.filter(({ kind }) => kind.type === 'holder_htlc');
  if (seconds.length === 0) return claims;
  for (const second of seconds) chain.mine([claimTransaction(channel, 'alice', [second])]);
  chain.mineTo(EXPIRY + 200);
  const delayed = claimableOf(chain.settlement(channel, 'alice', PREIMAGES).settlement);
  return [...claims, ...delayed];
}

describe.each(['static_remotekey', 'anchors'] as const)('%s', (format) => {
  test.each([
    ['alice', 'current'],
    ['bob', 'current'],
    ['bob', 'revoked'],
  ] as const)('the %s commitment, %s', (owner, state) => {
    const channel = new TestChannel({ format });
    channel.add('alice', { seed: 1, amountMsat: 50_000_000n, cltvExpiryHeight: EXPIRY });
    channel.add('bob', { seed: 3, amountMsat: 40_000_000n, cltvExpiryHeight: EXPIRY });
    channel.settle();
    const claims = claimsOf(channel, owner, state);
    const kinds = new Set(claims.map(({ kind }) => kind.type));
    const expected = (
      {
        'alice current': ['holder_delayed', 'holder_htlc'],
        'bob current': ['counterparty_balance', 'counterparty_htlc'],
        'bob revoked': ['counterparty_balance', 'revoked_delayed', 'revoked_htlc'],
      } as Readonly<Record<string, readonly string[]>>
    )[`${owner} ${state}`];
    expect(kinds).toEqual(new Set([...(expected ?? []), ...(format === 'anchors' ? ['anchor'] : [])]));
    for (const claim of claims) {
      const tx = claimTransaction(channel, 'alice', [claim]);
      const witness = tx.inputs[0]?.witness ?? [];
      const { signature } = answerClaim(channel, 'alice', claim, { tx, inputIndex: 0 });
      // Exact but for the bytes that this signature has fewer than the longest.
      const spared = 72 - derFromCompact(signature, SIGHASH.ALL).length;
      expect(claim.witnessWeight).toBe(witnessStackLength(witness) + spared);
      expect(spared).toBeLessThanOrEqual(3);
    }
  });
});

test('a signer that leaves the script out is refused', () => {
  const answer = { signature: new Uint8Array(64).fill(1), publicKey: new Uint8Array(33).fill(2) };
  expect(() =>
    assembleWitness({ kind: { type: 'anchor' } }, { ...answer, witnessScript: undefined }),
  ).toThrow('without its script');
});
