/** Read from real witnesses of both sides, on each side's commitment and on a revoked one. */
import type { Tx } from '@fulmen/bitcoin';
import { preimageOf } from '@fulmen/channel/testing/pair';
import { toHex } from '@fulmen/codec';
import { describe, expect, test } from 'vitest';
import { claimTransactions, claimableOf } from '../testing/claims.ts';
import { TestChain } from '../testing/test-chain.ts';
import { type SignedCommitment, TestChannel } from '../testing/test-channel.ts';
import type { Claim } from '../types.ts';
import { claimantOf } from './claimant.ts';

const EXPIRY = 500;

function channelWithHtlcs(): TestChannel {
  const channel = new TestChannel({ format: 'anchors' });
  channel.add('alice', { seed: 1, amountMsat: 50_000_000n, cltvExpiryHeight: EXPIRY });
  channel.add('bob', { seed: 3, amountMsat: 40_000_000n, cltvExpiryHeight: EXPIRY });
  channel.settle();
  return channel;
}

/** Alice's claims after the commitment, with what she would spend them by. */
function claimed(channel: TestChannel, { tx }: SignedCommitment, height: number) {
  const chain = new TestChain();
  chain.fund(channel);
  chain.mine([tx]);
  chain.mineTo(height);
  const { settlement } = chain.settlement(channel, 'alice', new Map([['in:0', preimageOf(3)]]));
  return { claims: claimableOf(settlement), transactions: claimTransactions(channel, 'alice', settlement) };
}

/** Who claims it by the transaction that spends it, by the kind of the claim. */
function claimants(claims: readonly Claim[], transactions: readonly Tx[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (const claim of claims)
    for (const tx of transactions) {
      const inputIndex = tx.inputs.findIndex(
        ({ txid, vout }) => toHex(txid) === toHex(claim.outPoint.txid) && vout === claim.outPoint.outputIndex,
      );
      if (inputIndex >= 0) found[claim.kind.type] = claimantOf({ tx, inputIndex }, claim) ?? 'nobody';
    }
  return found;
}

describe('who claims an output', () => {
  test('of the holder’s commitment', () => {
    const channel = channelWithHtlcs();
    const commitment = channel.commitment('alice');
    const { claims, transactions } = claimed(channel, commitment, EXPIRY);
    expect(claimants(claims, transactions)).toEqual({
      anchor: 'holder',
      holder_delayed: 'holder',
      holder_htlc: 'holder',
    });
    const offered = channel.htlcOutput(commitment, 'outbound', 0n);
    const received = channel.htlcOutput(commitment, 'inbound', 0n);
    for (const spend of [
      channel.directClaim(commitment, offered.outputIndex, preimageOf(1)),
      channel.directClaim(commitment, received.outputIndex),
    ])
      expect(claimants(claims, [spend])).toEqual({ holder_htlc: 'counterparty' });
  });

  test('of the counterparty’s commitment', () => {
    const channel = channelWithHtlcs();
    const commitment = channel.commitment('bob');
    const { claims, transactions } = claimed(channel, commitment, EXPIRY);
    expect(claimants(claims, transactions)).toEqual({
      anchor: 'holder',
      counterparty_balance: 'holder',
      counterparty_htlc: 'holder',
    });
    const { outputIndex } = channel.htlcOutput(commitment, 'inbound', 0n);
    const theirs = channel.secondStage(commitment, [{ outputIndex, preimage: preimageOf(1) }]);
    expect(claimants(claims, [theirs])).toEqual({ counterparty_htlc: 'counterparty' });
  });

  test('of a revoked commitment', () => {
    const channel = channelWithHtlcs();
    const revoked = channel.commitment('bob');
    channel.fulfill('bob', 0n, 1);
    channel.settle();
    const { claims, transactions } = claimed(channel, revoked, 101);
    expect(claimants(claims, transactions)).toEqual({
      anchor: 'holder',
      counterparty_balance: 'holder',
      revoked_delayed: 'holder',
      revoked_htlc: 'holder',
    });
    const { outputIndex } = channel.htlcOutput(revoked, 'inbound', 0n);
    const theirs = channel.secondStage(revoked, [{ outputIndex, preimage: preimageOf(1) }]);
    expect(claimants(claims, [theirs])).toEqual({ revoked_htlc: 'counterparty' });
    // "<sig> <> <script>": the cheater, after its delay.
    const delayed = claims.find(({ kind }) => kind.type === 'revoked_delayed');
    const own = transactions.find((tx) => claimants(claims, [tx])['revoked_delayed'] !== undefined);
    const late = own?.inputs.map((input) => ({
      ...input,
      witness: input.witness.map((item, at) => (at === 1 ? new Uint8Array(0) : item)),
    }));
    expect(
      claimants(delayed === undefined ? [] : [delayed], [{ ...(own as Tx), inputs: late ?? [] }]),
    ).toEqual({ revoked_delayed: 'counterparty' });
  });

  test('of an anchor that anybody may spend', () => {
    const channel = channelWithHtlcs();
    const { claims, transactions } = claimed(channel, channel.commitment('bob'), 120);
    const anchors = claims.filter(({ kind }) => kind.type === 'anchor');
    const anybody = transactions.map((tx) => ({
      ...tx,
      inputs: tx.inputs.map((input) => ({
        ...input,
        witness: input.witness.map((item, at) => (at === 0 ? new Uint8Array(0) : item)),
      })),
    }));
    expect(claimants(anchors, anybody)).toEqual({ anchor: 'nobody' });
  });
});
