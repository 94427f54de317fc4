import { Pair } from '@fulmen/channel/testing/pair';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { primaryFunding } from '@fulmen/channel';
import type { Intent } from '@fulmen/store';
import { describe, expect, test } from 'vitest';
import { forwardPolicyOf } from './forward-terms.ts';

const policy = {
  feeBaseMsat: 0,
  feeProportionalMillionths: 0,
  cltvExpiryDelta: 40,
  htlcMinimumMsat: 1n,
  htlcMaximumMsat: 1_000_000_000n,
  updatedUnixMs: 0,
};

function intentTo(shortChannelId: bigint, source: 'htlc' | 'payment'): Intent {
  return {
    source:
      source === 'htlc'
        ? { type: 'htlc', channelId: new Uint8Array(32), htlcId: 0n }
        : { type: 'payment', attemptId: new Uint8Array(16) },
    sourceShard: 0,
    target: { type: 'scid', shortChannelId },
    targetShard: 0,
    paymentHash: new Uint8Array(32),
    incomingAmountMsat: 1_000_000n,
    incomingCltvExpiryHeight: 300,
    outgoingAmountMsat: 1_000_000n,
    outgoingCltvExpiryHeight: 200,
    createdUnixMs: 0,
    sharedSecret: new Uint8Array(32),
    onion: new Uint8Array(1366),
  };
}

test('a payment of our own that could not be signed in time is not offered', () => {
  const { channel: state } = new Pair(secp).bob;
  const at = (blockHeight: number) =>
    forwardPolicyOf(state, policy, intentTo(1n, 'payment'), { blockHeight, nowUnixMs: 0 });
  expect(at(196)).toBeUndefined();
  expect(at(197)).toMatchObject({ kind: 'expiry_too_soon' });
});

describe('terms that were not met', () => {
  const { channel: state } = new Pair(secp).bob;
  const { confirmation } = primaryFunding(state);
  const scid = confirmation.type === 'confirmed' ? confirmation.shortChannelId : 0n;
  const dear = { ...policy, feeBaseMsat: 1 };
  const channelUpdate = Uint8Array.of(1);
  const refusal = (name: bigint) =>
    forwardPolicyOf(state, dear, intentTo(name, 'htlc'), { blockHeight: 100, nowUnixMs: 0, channelUpdate });

  test('are told under the names of the channel', () => {
    const told = { kind: 'fee_insufficient', htlcMsat: 1_000_000n, channelUpdate };
    expect(refusal(scid)).toEqual(told);
    expect(refusal(state.aliasScid ?? 0n)).toEqual(told);
  });

  test('of a channel that stands in for another are not told: the named one had no room', () => {
    expect(refusal(scid + 1n)).toEqual({
      kind: 'temporary_channel_failure',
      channelUpdate: new Uint8Array(0),
    });
  });
});

test('a forward of less than the peer takes in an HTLC, or of more than it has in flight, is refused with the terms', () => {
  const { channel } = new Pair(secp).bob;
  const { parameters } = channel;
  const channelUpdate = Uint8Array.of(1);
  const refusal = (over: Partial<typeof parameters.counterparty>) => {
    const state = {
      ...channel,
      parameters: { ...parameters, counterparty: { ...parameters.counterparty, ...over } },
    };
    const intent = intentTo(channel.aliasScid ?? 0n, 'htlc');
    return forwardPolicyOf(state, policy, intent, { blockHeight: 100, nowUnixMs: 0, channelUpdate });
  };
  expect(refusal({ htlcMinimumMsat: 1_000_000n, maxHtlcValueInFlightMsat: 1_000_000n })).toBeUndefined();
  expect(refusal({ htlcMinimumMsat: 1_000_001n })).toEqual({
    kind: 'amount_below_minimum',
    htlcMsat: 1_000_000n,
    channelUpdate,
  });
  expect(refusal({ maxHtlcValueInFlightMsat: 999_999n })).toMatchObject({
    kind: 'temporary_channel_failure',
  });
});

describe('a channel named by its real scid', () => {
  const refusal = (
    scidAlias: 'scid_alias' | 'real_scid',
    source: 'htlc' | 'payment',
    name: 'real' | 'alias',
  ) => {
    const pair = new Pair(secp, { scidAlias });
    const state = pair.bob.channel;
    const { confirmation } = primaryFunding(state);
    if (confirmation.type !== 'confirmed' || state.aliasScid === undefined) throw new TypeError('no scid');
    const scid = name === 'real' ? confirmation.shortChannelId : state.aliasScid;
    return forwardPolicyOf(state, policy, intentTo(scid, source), { blockHeight: 100, nowUnixMs: 0 });
  };

  // BOLT 2: "MUST NOT allow incoming HTLCs to this channel using the real short_channel_id"
  test('takes no HTLC of others when its type hides it', () => {
    expect(refusal('scid_alias', 'htlc', 'real')).toEqual({ kind: 'unknown_next_peer' });
  });

  test('is open to its alias, to its own payments, and where nothing is hidden', () => {
    expect(refusal('scid_alias', 'htlc', 'alias')).toBeUndefined();
    expect(refusal('scid_alias', 'payment', 'real')).toBeUndefined();
    expect(refusal('real_scid', 'htlc', 'real')).toBeUndefined();
  });
});
