import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { FeatureBits } from '@fulmen/codec';
import type { MessageOf } from '@fulmen/wire';
import { describe, expect, test } from 'vitest';
import type { TestNode } from '../testing/node.ts';
import { FEATURES } from '../testing/node.ts';
import { accepted, opened } from '../testing/opening.ts';
import { effectsOf, forged, receive, take, typesOf } from '../testing/expect.ts';
import { addCommand, Pair, testScript } from '../testing/pair.ts';
import type { NegotiatedFeatures } from '../context.ts';
import { decodeChannelType, encodeChannelType } from './channel-type.ts';
import { channelIdOf } from './establish.ts';
import type { OpenRequest } from './funder.ts';

describe('a channel type', () => {
  test('is the smallest bitmap, and nothing but a defined set', () => {
    expect(
      encodeChannelType({ commitmentFormat: 'anchors', scidAlias: 'real_scid', confirmations: 'confirmed' }),
    ).toEqual(Uint8Array.from([0x40, 0x10, 0x00]));
    expect(decodeChannelType(FeatureBits.fromBits([12]).encode())).toMatchObject({
      commitmentFormat: 'static_remotekey',
    });
    expect(decodeChannelType(FeatureBits.fromBits([12, 46, 50]).encode())).toEqual({
      commitmentFormat: 'static_remotekey',
      scidAlias: 'scid_alias',
      confirmations: 'zero_conf',
    });
    for (const bits of [[], [13], [22], [12, 23], [12, 20], [12, 22, 100]])
      expect(decodeChannelType(FeatureBits.fromBits(bits).encode())).toBeUndefined();
    expect(decodeChannelType(Uint8Array.from([0, 0x10, 0x00]))).toBeUndefined();
  });

  test.each<[string, Partial<OpenRequest>]>([
    ['anchors not negotiated', { features: { ...FEATURES, anchors: false } }],
    [
      'public with scid_alias',
      {
        announce: true,
        channelType: { commitmentFormat: 'anchors', scidAlias: 'scid_alias', confirmations: 'confirmed' },
      },
    ],
    [
      'zero-conf not negotiated',
      {
        features: { ...FEATURES, zeroConf: false },
        aliasScid: 1n,
        channelType: { commitmentFormat: 'anchors', scidAlias: 'real_scid', confirmations: 'zero_conf' },
      },
    ],
  ])('is not proposed when %s', (_, changes) => {
    expect(opened(changes).code).toBe('channel_type');
  });
});

describe('open_channel', () => {
  test.each<[string, Partial<OpenRequest>]>([
    ['large without the feature', { fundingSat: 1n << 24n }],
    ['tiny', { fundingSat: 999n }],
    ['pushing more than there is', { pushMsat: 1_000_000_001n }],
    ['unable to pay the fee', { pushMsat: 999_500_000n }],
    ['with dual funding negotiated', { features: { ...FEATURES, dualFund: true } }],
  ])('is not sent %s', (_, changes) => {
    expect(opened(changes).code).toBe('invalid_open');
  });

  test('may be large with the feature', () => {
    const features: NegotiatedFeatures = { ...FEATURES, largeChannels: true };
    const { message, code } = opened({ fundingSat: 1n << 30n, features });
    expect(code).toBeUndefined();
    expect(accepted(message, { features }).text).toBeUndefined();
    expect(accepted(message).text).toContain('option_support_large_channel');
  });

  const base = opened().message;
  const bad = Uint8Array.from([2, ...new Uint8Array(32).fill(255)]);
  test.each<[string, Partial<MessageOf<'open_channel'>>]>([
    ['chain_hash', { chainHash: new Uint8Array(32) }],
    ['483', { maxAcceptedHtlcs: 484 }],
    ['channel_reserve_satoshis', { dustLimitSatoshis: 600n, channelReserveSatoshis: 599n }],
    ['smaller than 354', { dustLimitSatoshis: 353n }],
    ['too large', { dustLimitSatoshis: 10_001n, channelReserveSatoshis: 20_000n }],
    ['to_self_delay', { toSelfDelay: 2017 }],
    ['htlc_minimum_msat', { htlcMinimumMsat: 1_000_000_000n }],
    ['public key', { fundingPubkey: bad }],
    ['public key', { firstPerCommitmentPoint: bad }],
    ['push_msat', { pushMsat: 1_000_000_001n }],
    ['fee', { pushMsat: 999_900_000n }],
    ['channel_type', { tlvs: { upfrontShutdownScript: new Uint8Array(0) } }],
    ['channel_type', { tlvs: { channelType: FeatureBits.fromBits([12, 20]).encode() } }],
    ['zero-conf', { tlvs: { channelType: FeatureBits.fromBits([12, 22, 50]).encode() } }],
    ['scid_alias', { channelFlags: 1, tlvs: { channelType: FeatureBits.fromBits([12, 22, 46]).encode() } }],
    ['feerate', { feeratePerKw: 252 }],
    ['feerate', { feeratePerKw: 4_000_000_000 >>> 0, pushMsat: 0n, fundingSatoshis: 15_000_000n }],
    ['upfront_shutdown_script', { tlvs: { ...base.tlvs, upfrontShutdownScript: new Uint8Array(25) } }],
    ['above its reserve', { fundingSatoshis: 2_100n, channelReserveSatoshis: 1_500n, pushMsat: 0n }],
    // 284 sat are the fee, and 660 sat the anchors: 341 sat are left.
    ['above its reserve', { fundingSatoshis: 1_285n, channelReserveSatoshis: 1_000n, feeratePerKw: 253 }],
  ])('is refused for its %s', (text, changes) => {
    expect(accepted({ ...base, ...changes }).text ?? 'accepted').toMatch(
      text === 'fee' || text === 'feerate' || text === 'above its reserve' ? /fee|reserve/ : new RegExp(text),
    );
  });

  test('for a channel without confirmations is accepted from whom this node trusts, and from nobody else', () => {
    const { message } = opened({
      aliasScid: 1n,
      channelType: { commitmentFormat: 'anchors', scidAlias: 'real_scid', confirmations: 'zero_conf' },
    });
    expect(accepted(message, { aliasScid: 2n }).text).toBe('open_channel: zero-conf is not accepted');
    const { node, text } = accepted(message, { aliasScid: 2n, zeroConf: 'trusted' });
    expect(text).toBeUndefined();
    expect(take(node, 'accept_channel').minimumDepth).toBe(0);
  });

  test('without upfront script commits to nothing', () => {
    const { node } = accepted({
      ...base,
      tlvs: {
        channelType: base.tlvs.channelType ?? new Uint8Array(0),
        upfrontShutdownScript: new Uint8Array(0),
      },
    });
    expect(
      node.state?.type === 'opening' &&
        node.state.phase.type === 'awaiting_funding_created' &&
        'upfrontShutdownScript' in node.state.phase.counterparty.parameters,
    ).toBe(false);
  });
});

describe('accept_channel', () => {
  function acceptOf(): { readonly alice: TestNode; readonly message: MessageOf<'accept_channel'> } {
    const { node, message } = opened();
    return { alice: node, message: take(accepted(message).node, 'accept_channel') };
  }

  test.each<[string, (message: MessageOf<'accept_channel'>) => MessageOf<'accept_channel'>]>([
    [
      'channel_type',
      (message) => ({
        ...message,
        tlvs: { ...message.tlvs, channelType: FeatureBits.fromBits([12]).encode() },
      }),
    ],
    ['channel_type', (message) => ({ ...message, tlvs: {} })],
    ['invalid_accept', (message) => ({ ...message, minimumDepth: 145 })],
    ['invalid_accept', (message) => ({ ...message, channelReserveSatoshis: 353n, dustLimitSatoshis: 353n })],
    [
      'invalid_accept',
      (message) => ({ ...message, dustLimitSatoshis: 10_000_000n, channelReserveSatoshis: 10_000_000n }),
    ],
    ['invalid_accept', (message) => ({ ...message, channelReserveSatoshis: 999_999n })],
  ])('is refused: %s', (code, change) => {
    const { alice, message } = acceptOf();
    expect(receive(alice, change(message))).toMatchObject({ code, reaction: 'fail_channel' });
    expect(receive(alice, message)).toBeUndefined();
    expect(effectsOf(alice, 'fund_channel')).toMatchObject([{ fundingValueSat: 1_000_000n }]);
  });
});

describe('the funding', () => {
  test('names the channel', () => {
    const id = channelIdOf(new Uint8Array(32).fill(0x11), 0x0102);
    expect(Array.from(id.subarray(29))).toEqual([0x11, 0x10, 0x13]);
  });

  test('is broadcast, and watched, only after a valid funding_signed', () => {
    const pair = new Pair(fakeSecp256k1);
    const types = pair.alice.effects.map(({ type }) => type);
    expect(types.indexOf('broadcast_funding')).toBeGreaterThan(types.indexOf('watch_channel'));
    expect(effectsOf(pair.alice, 'watch_funding')[0]?.scriptPubKey).toEqual(
      effectsOf(pair.bob, 'watch_funding')[0]?.scriptPubKey,
    );
    expect(effectsOf(pair.bob, 'watch_channel')[0]?.parameters.holder.selfDelayBlocks).toBe(144);
  });

  test('of another value or script fails the channel; of another channel is ignored', () => {
    const pair = new Pair(fakeSecp256k1, { confirmations: 'zero_conf' });
    const good = pair.confirmation(pair.alice, 3);
    expect(pair.alice.input({ ...good, valueSat: 999_999n })).toMatchObject({
      code: 'funding_mismatch',
      reaction: 'fail_channel',
    });
    expect(pair.alice.input({ ...good, scriptPubKey: testScript(1) })).toMatchObject({
      code: 'funding_mismatch',
      reaction: 'fail_channel',
    });
    expect(pair.alice.input({ ...good, fundingOutputIndex: 9 })).toMatchObject({ reaction: 'ignore' });
  });

  test('needs its depth; a zero-conf channel is open at once', () => {
    const pair = new Pair(fakeSecp256k1, { confirmations: 'zero_conf' });
    expect([pair.alice.channel.phase.type, pair.bob.channel.phase.type]).toEqual(['open', 'open']);
    expect(pair.alice.channel.counterpartyAliasScid).toBe(0x0200_0002n);
    const slow = new Pair(fakeSecp256k1, { bob: { config: { minimumDepth: 8 } } });
    expect(slow.bob.channel.phase.type).toBe('awaiting_funding_confirmations');
    slow.confirm(8);
    expect([slow.alice.channel.phase.type, slow.bob.channel.phase.type]).toEqual(['open', 'open']);
    expect(effectsOf(slow.bob, 'event').at(-1)?.event).toEqual({
      type: 'channel_ready',
      shortChannelId: (700_000n << 40n) | (3n << 16n) | 1n,
    });
  });

  test("that a reorganisation takes away fails the fundee's channel", () => {
    const pair = new Pair(fakeSecp256k1);
    const { fundingTxid } = pair.confirmation(pair.bob, 6);
    expect(pair.bob.input({ type: 'funding_reorganised_out', fundingTxid })).toMatchObject({
      code: 'funding_unconfirmed',
      reaction: 'fail_channel',
    });
    expect(pair.alice.input({ type: 'funding_reorganised_out', fundingTxid })).toBeUndefined();
    const slow = new Pair(fakeSecp256k1, { bob: { config: { minimumDepth: 8 } } });
    expect(slow.bob.channel.phase.type).toBe('awaiting_funding_confirmations');
    expect(slow.bob.input({ type: 'funding_reorganised_out', fundingTxid })).toBeUndefined();
  });
});

describe('a funding that never confirms', () => {
  test('ends the channel, and the peer hears of it', () => {
    const pair = new Pair(fakeSecp256k1);
    pair.bob.outbox.length = 0;
    pair.bob.must({ type: 'funding_lost', reason: 'it was replaced' });
    expect(pair.bob.channel.phase).toEqual({ type: 'closed', reason: 'it was replaced' });
    expect(typesOf(pair.bob.outbox)).toEqual(['error']);
    pair.bob.must({ type: 'funding_lost', reason: 'again' });
    expect(pair.bob.channel.phase).toMatchObject({ reason: 'it was replaced' });
  });

  test('is told to a peer that was away, when it is back', () => {
    const pair = new Pair(fakeSecp256k1);
    pair.disconnect();
    pair.bob.must({ type: 'funding_lost', reason: 'it was replaced' });
    pair.connect();
    expect(pair.bob.outbox).toEqual([]);
    expect(receive(pair.bob, take(pair.alice, 'channel_reestablish'))).toBeUndefined();
    expect(typesOf(pair.bob.outbox)).toEqual(['error']);
    pair.deliverAll();
    expect(pair.alice.channel.phase).toMatchObject({ type: 'closing_force' });
  });

  test('gives back what a channel without confirmations had offered', () => {
    const pair = new Pair(fakeSecp256k1, { confirmations: 'zero_conf' });
    pair.alice.must(addCommand(1, 5_000_000n));
    pair.settle();
    pair.alice.effects.length = 0;
    pair.alice.must({ type: 'funding_lost', reason: 'replaced' });
    expect(effectsOf(pair.alice, 'htlc_dropped')).toMatchObject([{ htlc: { id: 0n } }]);
    expect(effectsOf(pair.alice, 'event')).toMatchObject([{ event: { type: 'channel_closed' } }]);
    // Its own funding is gone for certain.
    expect(effectsOf(pair.alice, 'monitor_update')).toEqual([]);
  });

  test("the counterparty's may appear after all: what the holder has in it stays ready to be claimed", () => {
    const waiting = { bob: { config: { minimumDepth: 8 } } };
    const empty = new Pair(fakeSecp256k1, { ...waiting, pushMsat: 0n });
    empty.bob.effects.length = 0;
    empty.bob.must({ type: 'funding_lost', reason: 'nobody saw it' });
    expect(effectsOf(empty.bob, 'monitor_update')).toEqual([]);
    const paid = new Pair(fakeSecp256k1, { ...waiting, pushMsat: 5_000_000n });
    paid.bob.effects.length = 0;
    paid.bob.must({ type: 'funding_lost', reason: 'nobody saw it' });
    expect(paid.bob.channel.phase.type).toBe('closed');
    expect(effectsOf(paid.bob, 'monitor_update')).toMatchObject([
      { steps: [{ type: 'channel_force_closed', shouldBroadcast: 'broadcast' }] },
    ]);
  });

  test('is no reason to forget what the node was paid in a channel without confirmations', () => {
    const paid = new Pair(fakeSecp256k1, { confirmations: 'zero_conf', pushMsat: 5_000_000n });
    paid.bob.outbox.length = 0;
    paid.bob.must({ type: 'funding_lost', reason: 'it was not seen in 2016 blocks' });
    expect(paid.bob.channel.phase.type).toBe('open');
    expect(paid.bob.outbox).toEqual([]);
    const unpaid = new Pair(fakeSecp256k1, { confirmations: 'zero_conf', pushMsat: 0n });
    unpaid.bob.must({ type: 'funding_lost', reason: 'it was not seen in 2016 blocks' });
    expect(unpaid.bob.channel.phase.type).toBe('closed');
    // Its balance is others' money while it is in an HTLC.
    const busy = new Pair(fakeSecp256k1, { confirmations: 'zero_conf', pushMsat: 0n });
    busy.alice.must(addCommand(1, 5_000_000n));
    busy.settle();
    busy.bob.effects.length = 0;
    busy.bob.must({ type: 'funding_lost', reason: 'it was not seen in 2016 blocks' });
    expect(busy.bob.channel.phase.type).toBe('open');
    expect(busy.bob.channel.changes.htlcs).toHaveLength(1);
    expect(busy.bob.effects).toEqual([]);
  });

  test('leaves HTLCs with the chain once the channel was closed by force', () => {
    const pair = new Pair(fakeSecp256k1, { confirmations: 'zero_conf' });
    pair.bob.must(addCommand(1, 5_000_000n));
    pair.settle();
    pair.bob.must({ type: 'force_close', reason: 'an HTLC expired' });
    pair.bob.effects.length = 0;
    pair.bob.must({ type: 'funding_lost', reason: 'it was not seen in 2016 blocks' });
    expect(pair.bob.channel.phase.type).toBe('closing_force');
    expect(effectsOf(pair.bob, 'htlc_dropped')).toEqual([]);
  });
});

describe('an opening', () => {
  test('does not outlive its connection, nor an error', () => {
    const { node } = opened();
    node.must({ type: 'peer_disconnected' });
    expect(node.state).toMatchObject({ phase: { type: 'abandoned' } });
    const other = opened().node;
    other.must({ type: 'abandon_opening', reason: 'the user changed its mind' });
    expect(typesOf(other.outbox)).toEqual(['error']);
    node.checkRestore();
  });

  test('accepts only the message that is next', () => {
    const { node } = opened();
    const pair = new Pair(fakeSecp256k1);
    expect(receive(node, forged(pair.alice, 'update_fee', { feeratePerKw: 1 }))).toMatchObject({
      code: 'unexpected_message',
      reaction: 'warning',
    });
  });
});
